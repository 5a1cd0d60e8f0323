"""A reader of masks alone, against which an importance network can be trained."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

PLACES = 4  # a side


class Reversed(torch.autograd.Function):
    """The same values, and the gradient's negative (Ganin & Lempitsky 2015, arXiv 1409.7495)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return -ctx.weight * grad, None


def reverse_gradient(x: Tensor, weight: float) -> Tensor:
    """x itself; the gradient that flows back through it is multiplied by -weight."""
    reversed_: Tensor = Reversed.apply(x, weight)
    return reversed_


def mask_critic(num_classes: int) -> nn.Module:
    """Classes from masks alone, (B, 1, H, W) in [0, 1] -> (B, K): four strided convolutions and
    their means in 4 x 4 places: where a mask lies may be the message."""
    channels = (1, 16, 32, 64, 64)
    blocks = [
        block
        for a, b in pairwise(channels)
        for block in (nn.Conv2d(a, b, 3, stride=2, padding=1), nn.ReLU())
    ]
    head = nn.Linear(channels[-1] * PLACES**2, num_classes)
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(PLACES), nn.Flatten(), head)
