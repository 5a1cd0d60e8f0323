"""Eq. 3 to 5 with a gradient of their own, a few samples at a time, so that they stay in the cache.

Autograd keeps and fills several arrays of the features' size; written out there are the result and
the gradient alone.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

DELTA = 1e-8  # d of Eq. 3
CELLS = 2**18  # numbers at a time on the CPU: 1 MB of float32, which its caches hold


class Destruction(torch.autograd.Function):
    """p (B, C, h, w), m (B, 1, h, w) float32, noise (B, C, h, w) float32 -> (B, C, h, w) in p's
    type and layout, computed in float32."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, m: Tensor, noise: Tensor) -> Tensor:
        noise = _laid_out_as(p, noise)
        out = torch.empty_like(p)
        low, high = (p.new_empty(p.shape[:2], dtype=torch.float32)[..., None, None] for _ in "lh")
        for part in _parts(p):
            x = p[part].float()
            low[part], high[part] = (
                x.amin(dim=(2, 3), keepdim=True),
                x.amax(dim=(2, 3), keepdim=True),
            )
            out[part] = _replacement(low[part], high[part], noise[part]).lerp_(x, m[part])
        ctx.save_for_backward(p, m, noise, low, high)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        p, m, noise, low, high = ctx.saved_tensors
        for_p, for_m = ctx.needs_input_grad[:2]
        to_p, to_m = (torch.empty_like(p) if for_p else None), torch.empty_like(m)
        grad = _laid_out_as(p, grad)
        for part in _parts(p):
            g, x, ends = grad[part].float(), p[part].float(), (low[part], high[part])
            if to_p is not None:
                to_p[part] = _to_features(g, x, m[part], noise[part], *ends)
            if for_m:
                moves = _replacement(*ends, noise[part]).sub_(x).mul_(g)
                to_m[part] = -moves.sum(dim=1, keepdim=True)
        return to_p, to_m if for_m else None, None


def _replacement(low: Tensor, high: Tensor, noise: Tensor) -> Tensor:
    """What stands where M is 0: noise in the channel's range."""
    return torch.addcmul(low, high - low + DELTA, noise)


def _to_features(
    g: Tensor, x: Tensor, m: Tensor, noise: Tensor, low: Tensor, high: Tensor
) -> Tensor:
    """The features' gradient: where they are kept, and as the range's ends, which equals share."""
    lost = g * (1 - m)
    whole = lost.sum(dim=(2, 3), keepdim=True)
    to_high = lost.mul_(noise).sum(dim=(2, 3), keepdim=True)
    found, there = g * m, lost
    for end, change in ((low, whole - to_high), (high, to_high)):
        torch.eq(x, end, out=there)  # as numbers: truth values are ten times slower
        found.addcmul_(there, change / there.sum(dim=(2, 3), keepdim=True))
    return found


def _laid_out_as(like: Tensor, other: Tensor) -> Tensor:
    """The same values in another's order of memory: passes over two orders are slow."""
    if other.stride() == like.stride() or (other.is_contiguous() and like.is_contiguous()):
        return other
    turned = torch.empty_like(like, dtype=other.dtype)
    last = like.is_contiguous(memory_format=torch.channels_last)
    if not (last and other.is_contiguous() and other.device.type == "cpu"):
        return turned.copy_(other)
    # Of a matrix torch turns whole blocks, of more dimensions number by number: four times slower.
    for to, sample in zip(turned, other, strict=True):
        to.flatten(1).t().copy_(sample.flatten(1).t())
    return turned


def _parts(p: Tensor) -> Iterator[slice]:
    """A few samples at a time on the CPU, all at once on a GPU."""
    step = max(1, CELLS // p[0].numel()) if p.device.type == "cpu" else len(p)
    return (slice(start, start + step) for start in range(0, len(p), step))
