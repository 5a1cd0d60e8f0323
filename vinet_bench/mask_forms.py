"""What a sealed VINet's masks may look like: of any share, of a fixed one, or one disc."""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from vinet_bench.settings import SealedTraining
from vinet_bench.vinet import normalized_softplus

SOFTNESS = 0.25  # standard deviations of M0 over which importance falls from 1 to 0
EDGE = 0.1  # 1 - T of Eq. 9 at the paper's T: what is reserved lies above it
_GAP = 1e-3  # by how much at least
_OFF = (0.013, 0.007)  # pixels from a disc's middle: no two pixels are as far, all discs alike
COARSEST = 2  # cells a side of the coarsest random masks


class Form(Protocol):
    """A kind of mask: as the classifier is shown it, as it is given out, and drawn at random."""

    def mask(self, m0: Tensor) -> Tensor:
        """What the classifier is shown in training, with a gradient. (B, 1, H, W) -> the same."""
        ...

    def importance(self, m0: Tensor) -> Tensor:
        """The map, in [0, 1]. (B, 1, H, W) -> the same, float32."""
        ...

    def random(self, like: Tensor, smallest: float, generator: Generator) -> Tensor:
        """Masks that know nothing of the pictures, 0 or 1; their shares are log-uniform from the
        smallest to 1. (B, 1, H, W) -> the same."""
        ...


class _InCells:
    """What the forms share whose edge may run anywhere, but is no finer than a cell."""

    def __init__(self, wanted: SealedTraining) -> None:
        self.wanted = wanted

    def random(self, like: Tensor, smallest: float, generator: Generator) -> Tensor:
        return random_masks(like, smallest, self.wanted.cells, generator)


class Priced(_InCells):
    """Eq. 1 in cells: it keeps what it likes, and pays for it."""

    def mask(self, m0: Tensor) -> Tensor:
        return normalized_softplus(in_cells(m0, self.wanted.cells), self.wanted.shift)

    importance = mask


class Free(_InCells):
    """The highest pixels of M0 in cells: always as many, wherever they lie."""

    def mask(self, m0: Tensor) -> Tensor:
        return soft_highest(*self._in_cells(m0))

    def importance(self, m0: Tensor) -> Tensor:
        return graded(*self._in_cells(m0))

    def _in_cells(self, m0: Tensor) -> tuple[Tensor, int]:
        return in_cells(m0, self.wanted.cells), pixels_of(self.wanted.share, m0.shape[-2:])


class Disc:
    """One disc, always as large, where it holds the most of M0: only its place can say anything."""

    def __init__(self, wanted: SealedTraining) -> None:
        self.share = wanted.share

    def mask(self, m0: Tensor) -> Tensor:
        held, disc, k = self._held(m0)
        chances = (held / SOFTNESS).flatten(1).softmax(dim=1).view_as(held)
        soft = F.conv_transpose2d(chances, disc)
        return highest(nearness(held, m0.shape[-2:]), k).float() + (soft - soft.detach())

    def importance(self, m0: Tensor) -> Tensor:
        held, _, k = self._held(m0)
        near = nearness(held, m0.shape[-2:])
        # A constant M0 holds as much everywhere and has no place: its map is constant, too.
        return graded(torch.where(_constant(m0), 0.0, near), k)

    def _held(self, m0: Tensor) -> tuple[Tensor, Tensor, int]:
        """What discs hold of M0, the disc, and its number of pixels."""
        k = pixels_of(self.share, m0.shape[-2:])
        disc = disc_of(k, m0.shape[-2:]).to(m0.device)
        return held_by(m0, disc), disc, k

    def random(self, like: Tensor, smallest: float, generator: Generator) -> Tensor:
        size = like.shape[-2:]
        chances = torch.rand(len(like), 1, *size, generator=generator, device=generator.device)
        draws = torch.rand(len(like), generator=generator, device=generator.device).tolist()
        near = nearness(chances.to(like.device), size)
        counts = [pixels_of(smallest**draw, size) for draw in draws]
        return torch.cat([highest(near[i : i + 1], k) for i, k in enumerate(counts)]).float()


_FORMS: dict[str, type[Free | Disc]] = {"free": Free, "disc": Disc}


def form_of(wanted: SealedTraining) -> Form:
    """The kind of mask that these settings ask for."""
    return _FORMS[wanted.form](wanted) if wanted.share else Priced(wanted)


def disc_of(k: int, size: Sequence[int]) -> Tensor:
    """The k pixels nearest to the middle of an odd square that fits into a picture of this size
    (height, width), or all that fit. -> (1, 1, d, d), 0 or 1."""
    reach = min(math.ceil(math.sqrt(k / math.pi)), (min(size) - 1) // 2)
    side = 2 * reach + 1
    middle = torch.ones(1, 1, 1, 1)
    return highest(nearness(middle, (side, side)), min(k, side * side)).float()


def held_by(m0: Tensor, disc: Tensor) -> Tensor:
    """How much of M0 a disc holds around each place where it lies inside the picture, in standard
    deviations of that; the nearer to its middle the more it counts, lest a small spot lie anywhere
    in it. (B, 1, H, W), (1, 1, d, d) -> (B, 1, H - d + 1, W - d + 1)."""
    near = nearness(torch.ones(1, 1, 1, 1, device=disc.device), disc.shape[-2:])
    weights = disc * (1 + near / (1 + disc.shape[-1] // 2)).clamp(min=0)
    held = F.conv2d(m0.float(), weights / weights.sum())
    deviation, mean = torch.std_mean(held, dim=(1, 2, 3), keepdim=True, correction=0)
    return (held - mean) / (deviation + 1e-6)


def nearness(places: Tensor, size: Sequence[int]) -> Tensor:
    """Minus each pixel's distance in pixels to the highest of the places, which are the middle of a
    picture of this size (height, width). (B, 1, h, w) -> (B, 1, height, width)."""
    (height, width), (h, w) = size, places.shape[-2:]
    best = places.flatten(1).argmax(dim=1)
    rows = best // w + (height - h) // 2
    columns = best % w + (width - w) // 2
    down = torch.arange(height, device=places.device) - rows[:, None]
    right = torch.arange(width, device=places.device) - columns[:, None]
    far = torch.hypot(down[:, :, None] + _OFF[0], right[:, None, :] + _OFF[1])
    return -far[:, None]


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
    return torch.where(_constant(m0), 0.0, sided)


def _constant(m0: Tensor) -> Tensor:
    """(B, 1, H, W) -> (B, 1, 1, 1), bool."""
    return m0.amax(dim=(1, 2, 3), keepdim=True) == m0.amin(dim=(1, 2, 3), keepdim=True)


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
