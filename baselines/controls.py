"""Controls: what a method must beat, and the outline that knows the answer."""

from dataclasses import replace
from functools import partial
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_gradient_magnitude
from torch import Tensor, nn

from baselines.base import NetworkMethod, draw
from vinet_bench.data.dataset import SliceDataset
from vinet_bench.errors import UserError
from vinet_bench.masks import scale
from vinet_bench.methods import MethodInfo, SaliencyMethod
from vinet_bench.seeds import picture_generators, picture_hash

_control = partial(
    MethodInfo,
    explains="nothing",
    kind="control",
    sign="unsigned",
    forwards=0,
    class_specific=False,
)


class Random(NetworkMethod):
    """A uniform random number for every pixel, drawn from the picture's content."""

    info = _control(
        name="random",
        title="Random",
        paper="Hooker et al. 2019, arXiv 1806.10758",
    )

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        draws = picture_generators(images, "random control")
        return draw(draws, images[:, 0])


class Centre(NetworkMethod):
    """The nearness to the picture's centre: what photographers and croppers give away."""

    info = _control(
        name="centre",
        title="Centre",
        paper="Judd et al. 2009, doi 10.1109/ICCV.2009.5459462",
    )

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        y, x = (torch.linspace(-1, 1, n, device=images.device) for n in images.shape[-2:])
        gaussian = torch.exp(-(y[:, None] ** 2 + x[None, :] ** 2))
        return gaussian.expand(len(images), -1, -1)


class Intensity(NetworkMethod):
    """The brightness itself: dense tissue in a dark lung."""

    info = _control(
        name="intensity",
        title="Intensity",
        paper="the picture itself",
    )

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        return images.mean(dim=1)


class Edges(NetworkMethod):
    """The magnitude of the Gaussian gradient (sigma 1 pixel): edges, whatever the network."""

    info = _control(
        name="edges",
        title="Edges",
        paper="Adebayo et al. 2018, arXiv 1810.03292",
    )

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        pictures = images.mean(dim=1).cpu().numpy()
        return torch.from_numpy(
            np.stack([gaussian_gradient_magnitude(picture, sigma=1.0) for picture in pictures])
        )


class Blurred:
    """Another method's map brought to [0, 1] and blurred (Gaussian, sigma 1/32 of the side): what
    smoothness alone is worth to a protocol."""

    def __init__(self, inner: SaliencyMethod) -> None:
        self.inner = inner
        self.info = replace(
            inner.info,
            name=f"blurred:{inner.info.name}",
            title=f"{inner.info.title} (blurred)",
            paper="Song et al. 2023, arXiv 2304.13836",
            kind="oracle" if inner.info.kind == "oracle" else "control",
            scaling="as-is",
            sign="unsigned",
        )

    def fit(self, model: nn.Module, data: SliceDataset) -> Self:
        self.inner.fit(model, data)
        return self

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        maps = scale(self.inner.explain(images, targets), self.inner.info.scaling)
        sigma = max(images.shape[-2:]) / 32
        smooth = gaussian_filter(maps.detach().cpu().numpy(), sigma, axes=(1, 2))
        return torch.from_numpy(smooth)


class _Drawn:
    """A mask that the data set gives: a yardstick that no method has."""

    info: MethodInfo

    def masks(self, data: SliceDataset) -> NDArray[np.bool_]:
        """(N, H, W). Raises UserError if the data set has none."""
        raise TypeError(f"{type(self).__name__} names no masks")

    def fit(self, model: nn.Module, data: SliceDataset) -> Self:
        pictures = torch.from_numpy(data.pictures())
        self.known = {
            picture_hash(picture): mask
            for picture, mask in zip(pictures, self.masks(data), strict=True)
        }
        return self

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        masks = np.stack([self.known[picture_hash(image)] for image in images])
        return torch.from_numpy(masks.astype(np.float32))


class Outline(_Drawn):
    """The evidence mask."""

    info = MethodInfo(
        name="outline",
        title="Outline",
        paper="the data set's annotation",
        explains="nothing",
        kind="oracle",
        scaling="as-is",
        sign="unsigned",
        forwards=0,
        class_specific=False,
        needs="evidence",
    )

    def masks(self, data: SliceDataset) -> NDArray[np.bool_]:
        if data.evidence is None:
            raise UserError(f"the data set {data.name} has no masks: leave 'outline' out")
        return data.evidence


class Reader(_Drawn):
    """What one of several readers outlined; number from 1."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.info = replace(
            Outline.info, name=f"reader-{number}", title=f"Reader {number}", needs="readers"
        )

    def masks(self, data: SliceDataset) -> NDArray[np.bool_]:
        if data.readers is None:
            raise UserError(
                f"the data set {data.name} has no single readers: leave '{self.info.name}' out"
            )
        return (data.readers >> (self.number - 1) & 1).astype(np.bool_)
