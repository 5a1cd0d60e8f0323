"""VisualBackProp (Bojarski et al. 2018, arXiv 1611.05418) in one forward pass."""

from collections.abc import Sequence
from itertools import product
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.base import NetworkMethod
from baselines.heads import random_picture
from vinet_bench.data.dataset import SliceDataset
from vinet_bench.errors import UserError
from vinet_bench.hooks import evaluating, output_hooks
from vinet_bench.methods import MethodInfo
from vinet_bench.places import Point, passages

RELUS = ("ReluBackward0", "HardtanhBackward0")
PASSED_ON = ("CatBackward0", "MaxPool2DWithIndicesBackward0", "AvgPool2DBackward0")
LAYERS = (nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d, nn.AvgPool2d)


class VisualBackProp(NetworkMethod):
    """The channel means of every ReLU's output, multiplied from the deepest to the first.

    Between two of them the map goes up through a deconvolution with the geometry of the layer
    in between and all weights 1; the class plays no part. A network that is no chain of layers
    has no such geometry: there the map goes up bilinearly, between the outputs of ReLUs through
    which all of the picture flows (a ResNet's stem and blocks).
    """

    info = MethodInfo(
        name="vbp",
        title="VBP",
        paper="Bojarski et al. 2018, arXiv 1611.05418",
        variant="bilinear between blocks where the network is no chain of layers",
        scaling="minmax",
        sign="unsigned",
        class_specific=False,
    )

    def fit(self, model: nn.Module, data: SliceDataset) -> Self:
        self.chain = _chain(model)
        self.stages = () if self.chain else _stages(model, data.size)
        return super().fit(model, data)

    @torch.no_grad()
    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        if self.chain:
            return self._through_layers(self.chain, images)
        outputs = _outputs(self.model, self.stages, images)
        vbp = images.new_ones(len(images), 1, 1, 1)
        for stage in reversed(self.stages):
            mean = outputs[stage].mean(dim=1, keepdim=True)
            vbp = _unit_maximum(_up(vbp, mean.shape[-2:]) * mean)
        return _up(vbp, images.shape[-2:])[:, 0]

    def _through_layers(self, layers: list[nn.Module], images: Tensor) -> Tensor:
        # Means are taken at once: maps that are kept cost as much as a quarter of the pass.
        x, seen = images, list[tuple[nn.Module, torch.Size, Tensor | None]]()
        for layer in layers:
            size, x = x.shape[-2:], layer(x)
            mean = x.mean(dim=1, keepdim=True) if isinstance(layer, nn.ReLU) else None
            seen.append((layer, size, mean))
        vbp = torch.ones_like(x[:, :1])
        for layer, size, mean in reversed(seen):
            if mean is None:
                vbp = _ones_deconvolution(vbp, layer, size)
            else:
                # Only proportions matter, and 13 products leave float32's range.
                vbp = _unit_maximum(vbp * mean)
        return vbp[:, 0]


def _chain(model: nn.Module) -> list[nn.Module]:
    """The layers of a VGG, from the picture to the last maps; of other networks none."""
    features = getattr(model, "features", None)
    known = isinstance(features, nn.Sequential) and all(isinstance(m, LAYERS) for m in features)
    return list(features) if known and isinstance(features, nn.Sequential) else []


def _stages(model: nn.Module, size: tuple[int, int]) -> tuple[Point, ...]:
    """Where all of the picture flows out of a ReLU. Raises UserError if it does so nowhere."""
    example = random_picture(model, size)
    points = passages(model, example)
    makers = _makers(model, points, example)
    found = [
        point
        for point in points
        if _from_relus(makers[point])
        and not isinstance(model.get_submodule(point.module), nn.MaxPool2d | nn.AvgPool2d)
    ]
    if not found or found[0].size == (1, 1):
        raise UserError(
            "multiplies the outputs of ReLUs through which all of the picture flows, and the"
            " explained network has none"
        )
    return tuple(found)


def _makers(model: nn.Module, points: Sequence[Point], example: Tensor) -> dict[Point, Any]:
    """The operation that made each point's output, as a node of the autograd graph: seen at once,
    since an operation in place that follows would take its place."""
    places = {(point.module, point.call): point for point in points}
    makers: dict[Point, Any] = {}

    def note(name: str, call: int, output: Tensor) -> None:
        if (name, call) in places:
            makers[places[name, call]] = output.grad_fn

    names = [point.module for point in points]
    with torch.enable_grad(), evaluating(model), output_hooks(model, note, names):
        model(example.detach().requires_grad_().clone())
    return makers


def _from_relus(node: Any) -> bool:
    """Whether a tensor is what a ReLU let through, or such side by side or pooled: told by the
    operation, since a convolution's output may be above 0 by chance."""
    if node is None:
        return False
    if node.name() in RELUS:
        # ReLU6 is a Hardtanh from 0 to 6.
        return float(getattr(node, "_saved_min_val", 0)) == 0
    return node.name() in PASSED_ON and all(_from_relus(n) for n, _ in node.next_functions)


@torch.no_grad()
def _outputs(model: nn.Module, points: Sequence[Point], images: Tensor) -> dict[Point, Tensor]:
    """The maps at each point, (B, C, h, w)."""
    places, maps = {(point.module, point.call): point for point in points}, dict[Point, Tensor]()

    def keep(name: str, call: int, output: Tensor) -> None:
        if (name, call) in places:
            point = places[name, call]
            maps[point] = point.to_maps(output)

    with evaluating(model), output_hooks(model, keep, [point.module for point in points]):
        model(images)
    return maps


def _up(x: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _unit_maximum(x: Tensor) -> Tensor:
    top = x.amax(dim=(1, 2, 3), keepdim=True)
    return torch.where(top > 0, x / top.clamp(min=torch.finfo(x.dtype).tiny), x)


def _ones_deconvolution(x: Tensor, layer: nn.Module, size: torch.Size) -> Tensor:
    """Up through a convolution or pooling, all weights 1. (B, 1, h, w) -> (B, 1, *size)."""
    if not isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        return x  # BatchNorm: a factor for each channel, and no geometry
    kernel, stride, padding = (_pair(v) for v in (layer.kernel_size, layer.stride, layer.padding))
    if stride == (1, 1):
        return _window_sums(x, kernel, padding)
    lost = [
        want - ((have - 1) * s - 2 * p + k)
        for want, have, s, p, k in zip(size, x.shape[-2:], stride, padding, kernel, strict=True)
    ]
    ones = torch.ones(1, 1, *kernel, device=x.device, dtype=x.dtype)
    return F.conv_transpose2d(x, ones, stride=stride, padding=padding, output_padding=lost)


def _window_sums(x: Tensor, kernel: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """A deconvolution of stride 1, all weights 1, in its order of adding, so that bits agree: for
    one channel oneDNN's takes 60 times as long. (B, 1, h, w) -> (B, 1, H, W)."""
    top, left = (k - 1 - p for k, p in zip(kernel, padding, strict=True))
    wide = F.pad(x, (left, left, top, top))
    height, width = (n - k + 1 for n, k in zip(wide.shape[-2:], kernel, strict=True))
    found = wide.new_zeros(*x.shape[:2], height, width)
    for i, j in product(reversed(range(kernel[0])), reversed(range(kernel[1]))):
        found += wide[..., i : i + height, j : j + width]
    return found


def _pair(value: object) -> tuple[int, int]:
    return cast(tuple[int, int], value if isinstance(value, tuple) else (value, value))
