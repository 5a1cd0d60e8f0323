"""A VINet whose map cannot be a code: a fixed share of the pixels, and a classifier that learns to
read from random masks (docs/sealed.md)."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from vinet_bench.hooks import evaluating
from vinet_bench.settings import SealedTraining
from vinet_bench.vinet import VINet, VINetOutput, destroy, normalized_softplus, uniform_noise

SOFTNESS = 0.25  # standard deviations of M0 over which importance falls from 1 to 0
EDGE = 0.1  # 1 - T of Eq. 9 at the paper's T: what is reserved lies above it
_GAP = 1e-3  # by how much at least
DONORS = 64  # training pictures whose pixels take the place of destroyed ones under `swap`
VIEWS = ((), (2,), (3,), (2, 3))  # the axes along which a view is flipped
COARSEST = 2  # cells a side of the coarsest random masks


def in_cells(m0: Tensor, cells: int) -> Tensor:
    """M0 averaged over so many cells a side, and smooth between their centres: no pixel of it can
    carry what its cell does not. (B, 1, H, W) -> the same."""
    coarse = F.adaptive_avg_pool2d(m0.float(), cells)
    return F.interpolate(coarse, size=m0.shape[-2:], mode="bilinear", align_corners=False)


def pixels_of(share: float, size: Sequence[int]) -> int:
    """How many pixels of a picture (height, width) a share is, one at least and not all."""
    pixels = math.prod(size)
    return min(max(1, round(share * pixels)), pixels - 1)


def highest(scores: Tensor, k: int) -> Tensor:
    """The k highest pixels of each picture. (B, 1, H, W) -> the same, bool."""
    flat = scores.flatten(1)
    chosen = torch.zeros_like(flat, dtype=torch.bool)
    return chosen.scatter_(1, flat.topk(k, dim=1).indices, True).view_as(scores)


def above_edge(m0: Tensor, k: int) -> Tensor:
    """M0 in its own standard deviations above the edge between its k highest pixels and the rest.
    (B, 1, H, W) -> the same; a constant M0 is 0 everywhere."""
    deviation, mean = torch.std_mean(m0, dim=(1, 2, 3), keepdim=True)
    z = (m0 - mean) / (deviation + 1e-6)
    edges = z.flatten(1).topk(k + 1, dim=1).values[:, -2:].mean(dim=1)
    return z - edges[:, None, None, None]


def soft_highest(m0: Tensor, k: int) -> Tensor:
    """The k highest pixels as numbers, 1 and 0, with the gradient of a sigmoid around the edge
    (straight through, Bengio et al. 2013, arXiv 1308.3432). (B, 1, H, W) -> the same."""
    soft = torch.sigmoid(above_edge(m0, k) / SOFTNESS)
    return highest(m0, k).float() + (soft - soft.detach())


def graded(m0: Tensor, k: int) -> Tensor:
    """Importance in [0, 1] of which Eq. 9 reserves exactly k pixels at T = 0.9: 1/10 at the edge.
    (B, 1, H, W) -> the same, float32."""
    m = torch.sigmoid(above_edge(m0, k) / SOFTNESS + math.log(EDGE / (1 - EDGE)))
    sided = torch.where(highest(m0, k), m.clamp(min=EDGE + _GAP), m.clamp(max=EDGE - _GAP))
    flat = m0.amax(dim=(1, 2, 3), keepdim=True) == m0.amin(dim=(1, 2, 3), keepdim=True)
    return torch.where(flat, 0.0, sided)


def random_masks(like: Tensor, smallest: float, finest: int, generator: Generator) -> Tensor:
    """Masks that know nothing of the pictures: the highest pixels of smooth noise, of 2 x 2 to
    finest x finest cells, their share log-uniform from the smallest to 1.

    like (B, 1, H, W) -> (B, 1, H, W), 0 or 1.
    """
    return torch.cat([_random_mask(p, smallest, finest, generator) for p in like])


def _random_mask(picture: Tensor, smallest: float, finest: int, generator: Generator) -> Tensor:
    draw = torch.rand(2, generator=generator, device=generator.device).tolist()
    cells = round(COARSEST * (finest / COARSEST) ** draw[0])
    share = smallest ** draw[1]
    size = picture.shape[-2:]
    noise = torch.rand(1, 1, cells, cells, generator=generator, device=generator.device)
    smooth = F.interpolate(noise, size=tuple(size), mode="bilinear", align_corners=False)
    return highest(smooth.to(picture.device), pixels_of(share, size)).float()


class SealedVINet(VINet):
    """A VINet that destroys at the input only, where its map is below the fixed share.

    From there nothing that the map does not show reaches the classifier, but for the range of grey
    values that noise lies in (Eq. 3); so later places would hide nothing more. donors
    (DONORS, 1, H, W): training pictures, for `swap`. critic: masks (B, 1, H, W) -> (B, K), used in
    training alone.
    """

    def __init__(
        self,
        importance: nn.Module,
        classifier: nn.Module,
        example: Tensor,
        wanted: SealedTraining,
        critic: nn.Module | None = None,
    ) -> None:
        super().__init__(importance, classifier, example, multi_scale=False)
        self.wanted = wanted
        self.critic = critic
        self.donors: Tensor
        self.register_buffer("donors", torch.zeros(DONORS, *example.shape[1:]))

    def scores(self, images: Tensor, views: Sequence[tuple[int, ...]] = VIEWS[:1]) -> Tensor:
        """M0 in cells, the mean over these flipped views. (B, C, H, W) -> (B, 1, H, W)."""
        found = [self.importance(images.flip(axes)).float().flip(axes) for axes in views]
        return in_cells(torch.stack(found).mean(dim=0), self.wanted.cells)

    def importance_map(self, images: Tensor) -> Tensor:
        scores = self.scores(images, VIEWS if self.wanted.views else VIEWS[:1])
        if not self.wanted.share:
            return normalized_softplus(scores, self.wanted.shift)
        return graded(scores, pixels_of(self.wanted.share, scores.shape[-2:]))

    def mask(self, scores: Tensor) -> Tensor:
        """What the classifier is shown, with a gradient: 1 and 0, or Eq. 1 without a share."""
        if not self.wanted.share:
            return normalized_softplus(scores, self.wanted.shift)
        return soft_highest(scores, pixels_of(self.wanted.share, scores.shape[-2:]))

    def forward(self, images: Tensor, generators: Generator | Sequence[Generator]) -> VINetOutput:
        m = self.importance_map(images)
        shown = (m > EDGE).float() if self.wanted.share else m
        return VINetOutput(self.classify(images, shown, generators), m)

    def classify(
        self, images: Tensor, m: Tensor, generators: Generator | Sequence[Generator]
    ) -> Tensor:
        logits: Tensor = self.classifier(_FILLS[self.wanted.replace](self, images, m, generators))
        return logits

    @torch.no_grad()
    def remember(self, images: Tensor) -> None:
        """Takes training pictures among the donors, the oldest of which go."""
        self.donors = torch.cat([images.to(self.donors), self.donors])[:DONORS].contiguous()


Fill = Callable[[SealedVINet, Tensor, Tensor, Generator | Sequence[Generator]], Tensor]


def _noise(
    model: SealedVINet, images: Tensor, m: Tensor, draws: Generator | Sequence[Generator]
) -> Tensor:
    return destroy(images, m, uniform_noise(images, draws))


def _air(
    model: SealedVINet, images: Tensor, m: Tensor, draws: Generator | Sequence[Generator]
) -> Tensor:
    return images * m


def _swap(
    model: SealedVINet, images: Tensor, m: Tensor, draws: Generator | Sequence[Generator]
) -> Tensor:
    return torch.lerp(model.donors[_chosen(len(images), draws)], images, m)


def _chosen(count: int, draws: Generator | Sequence[Generator]) -> Tensor:
    if isinstance(draws, Generator):
        return torch.randint(DONORS, (count,), generator=draws, device=draws.device)
    return torch.cat([torch.randint(DONORS, (1,), generator=d, device=d.device) for d in draws])


_FILLS: dict[str, Fill] = {"noise": _noise, "air": _air, "swap": _swap}


@contextmanager
def only_asked(model: nn.Module) -> Iterator[None]:
    """A network that answers as in a test and learns nothing from it; gradients flow through."""
    wanted = [p for p in model.parameters() if p.requires_grad]
    with evaluating(model):
        for parameter in wanted:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in wanted:
                parameter.requires_grad_(True)
