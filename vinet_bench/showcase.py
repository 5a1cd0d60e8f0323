"""What a report's gallery shows: a few test pictures and every method's map of them, as bytes."""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vinet_bench.masks import scale
from vinet_bench.methods import method
from vinet_bench.seeds import few_by_content
from vinet_bench.workshop import Workshop

CASES = (4, 24)
PIXELS = 6_000_000  # of all maps together: a page that is sent by mail stays below 15 MB
SHOWN_SCALING = "minmax"  # of a method whose maps are ranked and never scaled


def showcase(workshop: Workshop, names: Iterable[str]) -> dict[str, NDArray[np.generic]]:
    """Of C test pictures that their content chooses, costly methods' own first: places (C,) in the
    test part; pictures, and map:NAME for each method whose maps the first seed has, (C, H, W)
    uint8; evidence (C, H, W), where it is annotated. Nothing is explained here. With
    cross-validation the pictures are those that the first seed tests.
    """
    seed = workshop.plan.seeds[0]
    workshop = workshop.at(seed)
    test = workshop.part("test")
    found = {name: workshop.kept_maps(name, seed, "test") for name in names}
    kept = {name: maps for name, maps in found.items() if maps is not None}
    if not kept:
        return {}
    chosen = few_by_content(workshop.examples("test").images, _cases(len(kept), test.size))
    places = chosen.numpy()
    shown: dict[str, NDArray[np.generic]] = {
        "places": places,
        "pictures": _bytes(torch.from_numpy(test.pictures(places)[:, 0])),
    }
    if test.evidence is not None:
        shown["evidence"] = test.evidence[places].astype(np.uint8)
    return shown | {f"map:{name}": _shown(name, maps[chosen]) for name, maps in kept.items()}


def _cases(methods: int, size: tuple[int, int]) -> int:
    fewest, most = CASES
    return max(fewest, min(most, PIXELS // (methods * size[0] * size[1])))


def _shown(name: str, maps: Tensor) -> NDArray[np.uint8]:
    """Scaled to [0, 1] as the method asks; a picture that a costly one did not explain is 0."""
    info = method(name).info
    policy = SHOWN_SCALING if info.kind == "control" else info.scaling
    return _bytes(scale(maps, policy).nan_to_num(0.0))


def _bytes(shares: Tensor) -> NDArray[np.uint8]:
    whole: NDArray[np.uint8] = (shares.clamp(0, 1) * 255).round().byte().numpy()
    return whole
