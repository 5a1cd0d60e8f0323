"""Methods of captum that hide parts of a picture and see what the network then says.

The library is imported where it is used: that takes a second, and `list methods` needs none of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from baselines.base import AT_ONCE, NetworkMethod
from vinet_bench.methods import MethodInfo
from vinet_bench.seeds import picture_generators

if TYPE_CHECKING:
    from captum.attr import Lime

CELLS = 8  # superpixels across a picture
SAMPLES = 256  # perturbed pictures, for 64 superpixels


class Occlusion(NetworkMethod):
    """How far the class's logit falls where a square of air hides the picture, averaged over the
    squares that cover a pixel (captum). The square is an eighth of the side, the step half that."""

    info = MethodInfo(
        name="occlusion",
        title="Occlusion map",
        paper="Zeiler & Fergus 2014, arXiv 1311.2901",
        variant="squares of an eighth of the side, half overlapping, air",
        forwards=226,
        costly=True,
    )
    cells = CELLS  # squares side by side across a picture

    @torch.no_grad()
    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        from captum import attr

        channels, *size = images.shape[1:]
        square = tuple(max(n // self.cells, 1) for n in size)
        maps: Tensor = attr.Occlusion(self.model).attribute(
            images,
            target=targets,
            sliding_window_shapes=(channels, *square),
            strides=(channels, *(max(n // 2, 1) for n in square)),
            perturbations_per_eval=max(AT_ONCE // len(images), 1),
        )
        return maps.sum(dim=1)


def superpixels(size: torch.Size) -> Tensor:
    """A regular grid of 8 x 8 cells, numbered by row. (H, W) -> (1, 1, H, W) int64."""
    row, column = (torch.arange(n) * CELLS // n for n in size)
    return (row[:, None] * CELLS + column)[None, None]


@contextmanager
def _seeded(image: Tensor, purpose: str) -> Iterator[None]:
    """captum draws from torch's global state: here from a copy that the picture seeds."""
    (draw,) = picture_generators(image[None], purpose)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw.initial_seed())
        yield


class _Surrogate(NetworkMethod):
    """A linear model of which superpixels are there; captum fits one for each picture in turn."""

    samples = SAMPLES

    def attribution(self) -> "Lime":
        raise TypeError(f"{type(self).__name__} names no method of captum")

    @torch.no_grad()
    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        method, cells = self.attribution(), superpixels(images.shape[-2:]).to(images.device)
        maps = []
        for image, target in zip(images, targets, strict=True):
            with _seeded(image, type(self).__name__):
                maps.append(
                    method.attribute(
                        image[None],
                        target=int(target),
                        feature_mask=cells,
                        n_samples=self.samples,
                        perturbations_per_eval=AT_ONCE,
                    )
                )
        return torch.cat(maps).to(images.dtype).mean(dim=1)


class LIME(_Surrogate):
    """The weights of a ridge regression on which of 64 superpixels are there, near ones first."""

    info = MethodInfo(
        name="lime",
        title="LIME",
        paper="Ribeiro et al. 2016, arXiv 1602.04938",
        variant="64 square superpixels, air, 256 samples, ridge 1",
        forwards=256,
        costly=True,
    )

    def attribution(self) -> "Lime":
        from captum._utils.models.linear_model import SkLearnRidge
        from captum.attr import Lime

        return Lime(self.model, SkLearnRidge(alpha=1.0))


class KernelSHAP(_Surrogate):
    """Shapley values of 64 superpixels for the class's logit, by a weighted regression."""

    info = MethodInfo(
        name="kernel-shap",
        title="Kernel SHAP",
        paper="Lundberg & Lee 2017, arXiv 1705.07874",
        variant="64 square superpixels, air, 256 samples",
        forwards=256,
        costly=True,
    )

    def attribution(self) -> "Lime":
        from captum.attr import KernelShap

        return KernelShap(self.model)
