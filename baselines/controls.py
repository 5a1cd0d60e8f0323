"""Controls: what a method must beat, and the outline that knows the answer."""

from typing import Self

import numpy as np
import torch
from scipy.ndimage import gaussian_gradient_magnitude
from torch import Tensor, nn

from baselines.base import NetworkMethod
from vinet_bench.data.dataset import SliceDataset
from vinet_bench.errors import UserError
from vinet_bench.methods import MethodInfo
from vinet_bench.seeds import picture_generators, picture_hash


class Random(NetworkMethod):
    """A uniform random number for every pixel, drawn from the picture's content."""

    info = MethodInfo(
        name="random",
        title="Random",
        paper="Hooker et al. 2019, arXiv 1806.10758",
        explains="nothing",
        kind="control",
    )

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        draws = picture_generators(images, "random control")
        return torch.stack([torch.rand(images.shape[-2:], generator=g) for g in draws])


class Centre(NetworkMethod):
    """The nearness to the picture's centre: what photographers and croppers give away."""

    info = MethodInfo(
        name="centre",
        title="Centre",
        paper="Judd et al. 2009, doi 10.1109/ICCV.2009.5459462",
        explains="nothing",
        kind="control",
    )

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        y, x = (torch.linspace(-1, 1, n, device=images.device) for n in images.shape[-2:])
        gaussian = torch.exp(-(y[:, None] ** 2 + x[None, :] ** 2))
        return gaussian.expand(len(images), -1, -1)


class Edges(NetworkMethod):
    """The magnitude of the Gaussian gradient (sigma 1 pixel): edges, whatever the network."""

    info = MethodInfo(
        name="edges",
        title="Edges",
        paper="Adebayo et al. 2018, arXiv 1810.03292",
        explains="nothing",
        kind="control",
    )

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        pictures = images[:, 0].cpu().numpy()
        return torch.from_numpy(
            np.stack([gaussian_gradient_magnitude(picture, sigma=1.0) for picture in pictures])
        )


class Outline:
    """The evidence mask that the data set gives: a yardstick that no method has."""

    info = MethodInfo(
        name="outline",
        title="Outline",
        paper="the data set's annotation",
        explains="nothing",
        kind="oracle",
        scaling="as-is",
    )

    def fit(self, model: nn.Module, data: SliceDataset) -> Self:
        if data.evidence is None:
            raise UserError(f"the data set {data.name} has no masks: leave 'outline' out")
        pictures = torch.from_numpy(data.pictures())
        self.known = {
            picture_hash(picture): mask
            for picture, mask in zip(pictures, data.evidence, strict=True)
        }
        return self

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        masks = np.stack([self.known[picture_hash(image)] for image in images])
        return torch.from_numpy(masks.astype(np.float32))
