"""Counting arithmetic, which is the same on every machine, where time is not."""

from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class _Counter(TorchDispatchMode):
    """torch's own FlopCounterMode also hooks into modules, and fails under autograd.grad of a leaf
    (LRP, integrated gradients); its formulas are used here without it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out


def count_operations(work: Callable[[], object]) -> int:
    """The floating-point operations of convolutions and matrix products, forwards and backwards.

    >>> import torch
    >>> count_operations(lambda: torch.ones(2, 3) @ torch.ones(3, 4))  # 2 * 3 * 4 times two
    48
    """
    counter = _Counter()
    with counter:
        work()
    return counter.total
