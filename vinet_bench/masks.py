"""From raw maps to masks and masked pictures: the only place where polarity exists."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from vinet_bench.data.stacks import made


def per_picture(change: Callable[..., Tensor], *stacks: Tensor) -> Tensor:
    """change(*stacks), a few pictures at a time, in a mapped file where it is large.

    stacks (N, ...) on the CPU; what `change` makes of a picture depends on no other. -> (N, ...).
    """

    def make(some: slice) -> NDArray[Any]:
        found: NDArray[Any] = change(*(stack[some] for stack in stacks)).numpy()
        return found

    return torch.from_numpy(made(len(stacks[0]), make))


def _as_is(maps: Tensor) -> Tensor:
    return maps


def _minmax(maps: Tensor) -> Tensor:
    low = maps.amin(dim=(1, 2), keepdim=True)
    return _over_maximum(maps - low)


def _positive(maps: Tensor) -> Tensor:
    return _over_maximum(maps.clamp(min=0))


def _absolute(maps: Tensor) -> Tensor:
    return _over_maximum(maps.abs())


def _over_maximum(maps: Tensor) -> Tensor:
    low, top = (end(dim=(1, 2), keepdim=True) for end in (maps.amin, maps.amax))
    return torch.where(top > low, maps / top.clamp(min=torch.finfo(maps.dtype).tiny), 0.0)


SCALINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "as-is": _as_is,
    "minmax": _minmax,
    "positive": _positive,
    "absolute": _absolute,
}


def scale(maps: Tensor, policy: str) -> Tensor:
    """Raw maps brought to [0, 1] by a named policy, per map.

    maps (B, H, W) float32. 'as-is' changes nothing; 'minmax' maps the range; 'positive' cuts
    negative values and divides by the maximum; 'absolute' does so with absolute values.
    A map that is constant, or has nothing positive, becomes 0: nothing is reserved, never NaN.
    """
    return SCALINGS[policy](maps)


def constant(maps: Tensor) -> Tensor:
    """Which maps have one value only. (B, H, W) -> (B,) bool."""
    return maps.amax(dim=(1, 2)) == maps.amin(dim=(1, 2))


def reserved(scaled: Tensor, threshold: float) -> Tensor:
    """The pixels that floor(I + T) counts (Eq. 9): those with I >= 1 - T.

    scaled (B, H, W) float32 in [0, 1] -> (B, H, W) bool. Raises TypeError for another type.
    """
    if scaled.dtype != torch.float32:
        raise TypeError("Eq. 9 needs float32 maps: at float16 a pixel of 0.1 falls on either side")
    # 1 - T is taken in double and rounded once: 1 - float32(0.9) lies above float32(0.1).
    return scaled >= torch.tensor(1.0 - threshold, dtype=torch.float32, device=scaled.device)


def thresholded(maps: Tensor, policy: str, threshold: float) -> Tensor:
    """The pixels that Eq. 9 counts in raw maps once they are scaled. (N, H, W) -> (N, H, W)."""
    return per_picture(lambda some: reserved(scale(some, policy), threshold), maps)


def ranking(maps: Tensor, generators: list[Generator]) -> Tensor:
    """Each pixel's place in its map's order, 0 for the highest; ties by a seeded shuffle.

    maps (B, H, W), one CPU generator for each -> (B, H, W) int64.
    """
    flat = maps.flatten(1).cpu()
    places = torch.arange(flat.shape[1])
    ranks = torch.empty(flat.shape, dtype=torch.int64)
    for row, values, generator in zip(ranks, flat, generators, strict=True):
        shuffle = torch.randperm(len(values), generator=generator)
        order = values[shuffle].argsort(descending=True, stable=True)
        row[shuffle[order]] = places
    return ranks.view(maps.shape)


def top_k(maps: Tensor, k: int, generators: list[Generator]) -> Tensor:
    """Exactly the k highest pixels of each map, ties broken as in `ranking`.

    maps (B, H, W), one CPU generator for each -> (B, H, W) bool.
    """
    return most_relevant(ranking(maps, generators), k)


def most_relevant(ranks: Tensor, k: int) -> Tensor:
    """The k first pixels of each ranking. (B, H, W) int64 -> (B, H, W) bool."""
    return ranks < k


def as_many(ranks: Tensor, counts: Sequence[int]) -> Tensor:
    """As `most_relevant`, with a k for each ranking."""
    return ranks < torch.tensor(counts)[:, None, None]


def least_relevant(ranks: Tensor, k: int) -> Tensor:
    """The k last pixels of each ranking: all that the most relevant leave. As `most_relevant`."""
    return ranks >= ranks[0].numel() - k


ORDERS = {"morf": most_relevant, "lerf": least_relevant}  # which pixels go first


def tied(maps: Tensor, k: int) -> Tensor:
    """The share of each map's k highest pixels that only the shuffle of `top_k` chose.

    maps (B, H, W) -> (B,) float64: 0 where the k-th value is there once, or is not shared by a
    pixel that is left out.
    """
    flat = maps.flatten(1).cpu()
    if k == 0:
        return torch.zeros(len(flat), dtype=torch.float64)
    bound = flat.topk(k, dim=1).values[:, -1:]
    above, equal = (flat > bound).sum(dim=1), (flat == bound).sum(dim=1)
    chosen = k - above
    return torch.where(equal > chosen, chosen, 0).double() / k


def fraction(masks: Tensor) -> float:
    """The share of the pixels that masks hold, averaged over pictures (S of Eq. 9)."""
    return int(masks.count_nonzero()) / masks.numel()


def keep(images: Tensor, masks: Tensor) -> Tensor:
    """The pictures with all but the masked pixels at zero (air). (B, 1, H, W), (B, H, W) bool."""
    return images.masked_fill(~masks[:, None], 0)


def remove(images: Tensor, masks: Tensor) -> Tensor:
    """The pictures with the masked pixels at zero (air; Eq. 10). (B, 1, H, W), (B, H, W) bool."""
    return images.masked_fill(masks[:, None], 0)


def replace(images: Tensor, masks: Tensor, others: Tensor) -> Tensor:
    """The pictures with the masked pixels taken from others of their shape and type.

    (B, 1, H, W), (B, H, W) bool, (B, 1, H, W) -> (B, 1, H, W).
    """
    return torch.where(masks[:, None], others, images)
