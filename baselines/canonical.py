"""A network with the same outputs for which relevance has rules (zennit's canonizers): BatchNorm
folded into the convolution before it, a residual sum as a module of its own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

import torch
from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn
from zennit.canonizers import AttributeCanonizer, Canonizer, SequentialMergeBatchNorm
from zennit.layer import Sum

from baselines.heads import random_picture
from vinet_bench.errors import UserError

TOLERANCE = 1e-4  # of the largest logit, by which folding may change the logits


class FoldBatchNorm(SequentialMergeBatchNorm):  # type: ignore[misc]
    """zennit leaves the epsilon under the root, which 20 layers would make seen."""

    def register(self, linears: tuple[nn.Module, ...], batch_norm: nn.BatchNorm2d) -> None:
        super().register(linears, batch_norm)
        self.epsilon, batch_norm.eps = batch_norm.eps, 0.0

    def remove(self) -> None:
        super().remove()
        self.batch_norm.eps = self.epsilon


class ResidualSums(AttributeCanonizer):  # type: ignore[misc]
    """timm's ResNet blocks with their sum as a module; zennit's own knows torchvision's blocks."""

    def __init__(self) -> None:
        super().__init__(_with_sum)

    def copy(self) -> Self:
        return type(self)()


def _with_sum(name: str, module: nn.Module) -> dict[str, object] | None:
    if type(module) not in (BasicBlock, Bottleneck):
        return None
    summed = Sum()
    return {"canonizer_sum": summed, "forward": _block(module, summed)}


def _block(block: nn.Module, summed: Sum) -> Callable[[Tensor], Tensor]:
    """The block's branch and skip (He et al. 2016), added by `summed`."""
    names = [name for name, _ in block.named_children()]
    last = next(name for name in reversed(names) if name.startswith("act"))
    branch = [n for n in names if n not in (last, "downsample")]

    def forward(x: Tensor) -> Tensor:
        children = dict(block.named_children())
        out = x
        for name in branch:
            out = children[name](out)
        skip = children["downsample"](x) if "downsample" in children else x
        total: Tensor = children[last](summed(torch.stack([out, skip], dim=-1)))
        return total

    return forward


def canonizers() -> list[Canonizer]:
    """Fresh ones, which leave a network without BatchNorm and residual blocks as it is."""
    return [FoldBatchNorm(), ResidualSums()]


@contextmanager
def canonical(model: nn.Module, size: tuple[int, int]) -> Iterator[nn.Module]:
    """The network with all canonizers applied, and as it was afterwards.

    Raises UserError if its logits for a picture of this size change, or a BatchNorm stays.
    """
    picture = random_picture(model, size)
    with torch.no_grad():
        before = model(picture)
    applied = [one for canonizer in canonizers() for one in canonizer.apply(model)]
    try:
        with torch.no_grad():
            change = (model(picture) - before).abs().max().item()
        norms = ((n, m) for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d))
        left = [name for name, norm in norms if norm.eps]
        if left or not change <= TOLERANCE * before.abs().max().item():
            where = f" ('{left[0]}' stands behind no convolution)" if left else ""
            raise UserError(
                "cannot fold the BatchNorm of the explained network into its convolutions"
                f"{where}: explain another (--explain)"
            )
        yield model
    finally:
        for one in reversed(applied):
            one.remove()
