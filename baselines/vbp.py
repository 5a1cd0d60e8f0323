"""VisualBackProp (Bojarski et al. 2018, arXiv 1611.05418) in one forward pass."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.base import NetworkMethod
from vinet_bench.methods import MethodInfo


class VisualBackProp(NetworkMethod):
    """The channel means of every ReLU's output, multiplied from the deepest to the first.

    Between two of them the map goes up through a deconvolution with the geometry of the layer
    in between and all weights 1; the class plays no part.
    """

    info = MethodInfo(
        name="vbp",
        title="VBP",
        paper="Bojarski et al. 2018, arXiv 1611.05418",
        scaling="minmax",
        sign="unsigned",
        class_specific=False,
    )

    @torch.no_grad()
    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        layers = list(self.gap.features)
        outputs = [images]
        for layer in layers:
            outputs.append(layer(outputs[-1]))
        vbp = torch.ones_like(outputs[-1][:, :1])
        for layer, before, after in reversed(list(zip(layers, outputs, outputs[1:], strict=False))):
            if isinstance(layer, nn.ReLU):
                # Only proportions matter, and 13 products leave float32's range.
                vbp = _unit_maximum(vbp * after.mean(dim=1, keepdim=True))
            else:
                vbp = _ones_deconvolution(vbp, layer, before.shape[-2:])
        return vbp[:, 0]


def _unit_maximum(x: Tensor) -> Tensor:
    top = x.amax(dim=(1, 2, 3), keepdim=True)
    return torch.where(top > 0, x / top.clamp(min=torch.finfo(x.dtype).tiny), x)


def _ones_deconvolution(x: Tensor, layer: nn.Module, size: torch.Size) -> Tensor:
    """Up through a convolution or pooling, all weights 1. (B, 1, h, w) -> (B, 1, *size)."""
    if not isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        raise TypeError(f"VBP knows convolution, pooling and ReLU, not {type(layer).__name__}")
    kernel, stride, padding = (_pair(v) for v in (layer.kernel_size, layer.stride, layer.padding))
    lost = [
        want - ((have - 1) * s - 2 * p + k)
        for want, have, s, p, k in zip(size, x.shape[-2:], stride, padding, kernel, strict=True)
    ]
    ones = torch.ones(1, 1, *kernel, device=x.device, dtype=x.dtype)
    return F.conv_transpose2d(x, ones, stride=stride, padding=padding, output_padding=lost)


def _pair(value: object) -> tuple[int, int]:
    return cast(tuple[int, int], value if isinstance(value, tuple) else (value, value))
