"""A complete method of a third party: input times gradient where the picture is bright."""

from typing import Self

import torch
from torch import Tensor, nn

from vinet_bench.data.dataset import SliceDataset
from vinet_bench.methods import MethodInfo


class Brightest:
    """Input x gradient of the class's logit, where the picture is brighter than on average."""

    info = MethodInfo(
        name="brightest",
        title="Brightest",
        paper="an example",
        forwards=1,
        backwards=1,
    )

    def fit(self, model: nn.Module, data: SliceDataset) -> Self:
        self.model = model
        return self

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        pictures = images.clone().requires_grad_()
        score = self.model(pictures).gather(1, targets[:, None]).sum()
        (gradient,) = torch.autograd.grad(score, pictures)
        bright = images > images.mean(dim=(1, 2, 3), keepdim=True)
        return (bright * images * gradient).sum(dim=1)
