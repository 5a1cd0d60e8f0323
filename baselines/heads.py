"""Where a network's last maps are, and what its head makes of them: seen, not guessed by name."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from baselines.base import input_channels
from vinet_bench.errors import UserError
from vinet_bench.hooks import evaluating, output_hooks
from vinet_bench.places import Point, passages, row_by_row


@dataclass(frozen=True)
class LastMaps:
    """The deepest maps on which the logits depend, and the module that gives them.

    linear: the layer of the head where that is global average pooling and this one layer.
    """

    point: Point
    module: nn.Module
    linear: nn.Linear | None

    @property
    def pooled_linear(self) -> nn.Linear:
        """Raises UserError where the head is another."""
        if self.linear is None:
            raise UserError(
                "needs global average pooling and one linear layer behind the last maps, which the"
                " explained network's head is not: explain another (--explain)"
            )
        return self.linear


def last_maps(model: nn.Module, size: tuple[int, int]) -> LastMaps:
    """Looked for with random pictures of this size (height, width). Raises UserError where no maps
    are found, or maps of 1 x 1, which say nothing of places."""
    example = random_picture(model, size)
    for point in reversed(passages(model, example)):
        maps, logits = _seen(model, point, example)
        if _depends(maps, logits):
            break
    else:
        raise UserError("the explained network has no maps through which all of the picture flows")
    if point.call or not row_by_row(model, example, point):
        raise UserError(f"cannot tell the places in the last maps, of the module '{point.module}'")
    if point.size == (1, 1):
        height, width = size
        raise UserError(
            f"the explained network's last maps are 1 x 1 for pictures of {height} x {width}: take"
            " larger pictures (--size)"
        )
    return LastMaps(point, model.get_submodule(point.module), _pooled_linear(model, maps, logits))


def random_picture(model: nn.Module, size: tuple[int, int]) -> Tensor:
    """(1, C, H, W) in [0, 1), always the same, on the network's device and of its type."""
    drawn = torch.rand(1, input_channels(model), *size, generator=Generator().manual_seed(0))
    return drawn.to(next(model.parameters()))


def _seen(model: nn.Module, point: Point, images: Tensor) -> tuple[Tensor, Tensor]:
    """Maps (B, C, h, w) at the point, a part of the logits' graph, and the logits."""
    maps: dict[int, Tensor] = {}

    def through(name: str, call: int, output: Tensor) -> Tensor:
        maps[call] = point.to_maps(output)
        return point.from_maps(maps[call], output)

    with torch.enable_grad(), evaluating(model), output_hooks(model, through, [point.module]):
        logits = model(images.clone().requires_grad_())
    return maps[point.call], logits


def _depends(maps: Tensor, logits: Tensor) -> bool:
    """Behind the last block of a transformer the class token alone is read, and no place."""
    (gradient,) = torch.autograd.grad(logits.square().sum(), maps, allow_unused=True)
    return gradient is not None and bool(gradient.any())


@torch.no_grad()
def _pooled_linear(model: nn.Module, maps: Tensor, logits: Tensor) -> nn.Linear | None:
    """The layer that makes the logits of the maps' means, to float32's rounding."""
    shape = (logits.shape[1], maps.shape[1])
    for layer in reversed(list(model.modules())):
        if isinstance(layer, nn.Linear) and tuple(layer.weight.shape) == shape:
            error = (layer(maps.mean(dim=(2, 3))) - logits).abs().max()
            if error <= 1e-4 * logits.abs().max():
                return layer
    return None
