"""Pictures and labels as networks take them, and where and how they are computed with."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from vinet_bench.kernels import same_kernels


@dataclass(frozen=True)
class Examples:
    """Pictures (N, 1, H, W), uint8 (0..255) or floating (0..1), and labels (N,) int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def pictures(self, indices: Tensor | slice) -> Tensor:
        """Some of the pictures as float32 in [0, 1]."""
        return as_pictures(self.images[indices])


def as_pictures(images: Tensor) -> Tensor:
    """uint8 (0..255) or floating (0..1) pictures as float32 in [0, 1]."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


@dataclass(frozen=True)
class Machine:
    """Where networks run, whether training computes in bfloat16, and on the CPU with how many
    threads (0: as many as torch takes): sums in another order end in other last bits.

    deterministic: on a GPU only kernels that give the same bits twice; a CPU has no others.
    """

    device: torch.device
    bfloat16: bool
    threads: int = 0
    deterministic: bool = False

    @contextmanager
    def computing(self) -> Iterator[None]:
        """With the threads and the kernels that the results depend on, and before as after."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads or before)
        try:
            with same_kernels() if self.fixed_kernels else nullcontext():
                yield
        finally:
            torch.set_num_threads(before)

    @property
    def fixed_kernels(self) -> bool:
        """Whether some of the device's kernels are left out, so that figures may differ by it."""
        return self.deterministic and self.device.type == "cuda"

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)
