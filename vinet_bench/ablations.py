"""What the paper says does not work (Gu et al. 2020, Sec. III), and the released code's places."""

from typing import Any

import torch
from torch import Tensor, nn

from vinet_bench.errors import CellError
from vinet_bench.hooks import evaluating, output_hooks
from vinet_bench.places import Point, downsampling_points
from vinet_bench.settings import VINetTraining
from vinet_bench.vinet import Rules, destroy, resize_map

RELEASED = ("conv1", "layer1", "layer2")


def sigmoid_map(m0: Tensor, shift: float = 0.0) -> Tensor:
    """The obvious way to [0, 1], which may become empty (Sec. III-A). (B, 1, H, W) -> the same."""
    return torch.sigmoid(m0.float() + shift)


def multiply(p: Tensor, m: Tensor, noise: Tensor, antialias: bool = False) -> Tensor:
    """P M: a small M only makes P small, and nothing is removed (Sec. III-C). As destroy()."""
    return (p.float() * resize_map(m.float(), p.shape[-2:], antialias)).to(p.dtype)


def absolute_noise(p: Tensor, m: Tensor, noise: Tensor, antialias: bool = False) -> Tensor:
    """P M + N (1 - M) without Eq. 3 and 5: features can outgrow it (Sec. III-C). As destroy()."""
    m = resize_map(m.float(), p.shape[-2:], antialias)
    return torch.lerp(noise, p.float(), m).to(p.dtype)


def mean_noise(p: Tensor, m: Tensor, noise: Tensor, antialias: bool = False) -> Tensor:
    """Eq. 3 to 5 with every N at its mean, 1/2. As destroy()."""
    return destroy(p, m, torch.full_like(noise, 0.5), antialias)


def nothing_destroyed(p: Tensor, m: Tensor, noise: Tensor, antialias: bool = False) -> Tensor:
    """P itself, whatever the map. As destroy()."""
    return p


@torch.no_grad()
def released_points(model: nn.Module, example: Tensor) -> tuple[Point, ...]:
    """Where the authors' released code destroys: after a ResNet's conv1, layer1 and layer2.

    Raises CellError for a classifier that has no such modules. example (B, C, H, W).
    """
    lacking = set(RELEASED) - {name for name, _ in model.named_modules()}
    if lacking:
        raise CellError(f"destruction=released is for a ResNet: no module {min(lacking)!r}")
    points: list[Point] = []

    def note(name: str, call: int, output: Any) -> None:
        points.append(Point(name, call, (output.shape[2], output.shape[3])))

    with evaluating(model), output_hooks(model, note, RELEASED):
        model(example)
    return tuple(points)


_ACTIVATIONS = {"sigmoid": sigmoid_map}
_DESTRUCTIONS = {"zero": multiply, "absolute-noise": absolute_noise}
_PLACES = {"released": released_points}


def rules_of(wanted: VINetTraining) -> Rules:
    """The rules that settings name: the paper's but for what is an ablation."""
    paper = Rules()
    return Rules(
        _ACTIVATIONS.get(wanted.activation, paper.activation),
        _DESTRUCTIONS.get(wanted.replace, paper.destruction),
        _PLACES.get(wanted.destruction, downsampling_points),
    )
