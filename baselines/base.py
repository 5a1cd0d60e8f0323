"""What most methods share: they hold the network that they explain."""

from typing import Self

import torch
from torch import Tensor, nn

from vinet_bench.data.dataset import SliceDataset

AT_ONCE = 32  # pictures in one forward pass; more of them are slower on a processor


class NetworkMethod:
    """A method that needs nothing but the trained network."""

    model: nn.Module

    def fit(self, model: nn.Module, data: SliceDataset) -> Self:
        self.model = model
        return self


def one_hot(logits: Tensor, targets: Tensor) -> Tensor:
    """1 at each target, (B, K)."""
    return torch.zeros_like(logits).scatter_(1, targets[:, None], 1.0)


def input_channels(model: nn.Module) -> int:
    """How many channels the network's first convolution takes; 1 without any."""
    return next((int(p.shape[1]) for p in model.parameters() if p.dim() == 4), 1)


def draw(generators: list[torch.Generator], like: Tensor, normal: bool = False) -> Tensor:
    """A random number for every pixel of every picture, each from its own generator.

    like (B, ...) -> the same shape; uniform in [0, 1), or normal.
    """
    make = torch.randn if normal else torch.rand
    numbers = [make(like.shape[1:], generator=g, dtype=like.dtype) for g in generators]
    return torch.stack(numbers).to(like.device)
