"""What most methods share: they hold the network that they explain."""

from typing import Self

import torch
from torch import Tensor, nn

from vinet_bench.data.dataset import SliceDataset


class NetworkMethod:
    """A method that needs nothing but the trained network."""

    model: nn.Module

    def fit(self, model: nn.Module, data: SliceDataset) -> Self:
        self.model = model
        return self


def one_hot(logits: Tensor, targets: Tensor) -> Tensor:
    """1 at each target, (B, K)."""
    return torch.zeros_like(logits).scatter_(1, targets[:, None], 1.0)
