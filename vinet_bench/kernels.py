"""Which of a GPU's kernels torch may choose from."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.backends import cudnn

from vinet_bench.environment import environment

WORKSPACE = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}


@contextmanager
def same_kernels() -> Iterator[None]:
    """Only kernels whose sums are the same twice; an operation that has none is a RuntimeError.

    cuBLAS reads its workspace from the environment, when the process first uses it.
    """
    flags = cudnn.deterministic, cudnn.benchmark
    strict, warns = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    try:
        cudnn.deterministic, cudnn.benchmark = True, False
        torch.use_deterministic_algorithms(True)
        with environment(WORKSPACE):
            yield
    finally:
        torch.use_deterministic_algorithms(strict, warn_only=warns)
        cudnn.deterministic, cudnn.benchmark = flags
