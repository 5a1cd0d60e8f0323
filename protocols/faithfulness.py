"""Infidelity and sensitivity-n: does a map say by how much the output falls without some pixels?"""

from collections.abc import Collection, Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from protocols.shared import (
    Measured,
    fewer_pictures,
    living_maps,
    of_all,
    records,
    whole_map_cells,
)
from vinet_bench.faithfulness import correlations, infidelities
from vinet_bench.machine import Machine, as_pictures
from vinet_bench.masks import remove
from vinet_bench.methods import method
from vinet_bench.networks_needed import Network, behind_maps, original
from vinet_bench.perturbations import random_squares, random_subsets
from vinet_bench.plan import Plan
from vinet_bench.prediction import predict_logits
from vinet_bench.protocols import ProtocolInfo
from vinet_bench.records import Cell, Record
from vinet_bench.report.layout import MASKED, METHOD, Figure, Layout
from vinet_bench.seeds import picture_generators
from vinet_bench.workshop import Workshop

SHARES = (0.01, 0.1, 0.3)  # n of sensitivity-n, as shares of the pixels
SQUARES = "squares"


def _figure(metric: str, heading: str, better: str, kinds: frozenset[str] = MASKED) -> Figure:
    return Figure(
        metric, metric, heading, 3, interval=True, kinds=kinds, better=better, percent=False
    )


class Faithfulness:
    """Infidelity over random squares (Yeh et al. 2019) and sensitivity-n over random sets of
    exactly n pixels (Ancona et al. 2018), both against the fall of a logit when the pixels
    become air.

    Of the original ResNet-18, which is the same for every row, and of the network that the method
    explains; each time the logit of the class that this network gives the untouched picture.
    """

    info = ProtocolInfo(
        name="faithfulness",
        title="Infidelity and sensitivity-n",
        paper="Yeh et al. 2019, arXiv 1901.09392; Ancona et al. 2018, arXiv 1711.06104",
        in_all=False,
    )
    layout = Layout(
        "faithfulness",
        "faithfulness",
        "Infidelity and sensitivity-n",
        "Whether maps foretell the fall of a logit on {data} when pixels become air. Infidelity:"
        " squared error over random squares at each map's best scale, in squared logits."
        " Sensitivity-n: correlation over random sets of 1, 10 and 30 % of the pixels, averaged."
        " First of a {network} trained on the original pictures, then of the network explained.",
        (
            _figure("infidelity", "Infidelity", "low"),
            _figure("sensitivity_n", "Sensitivity-n", "high"),
            _figure("own_infidelity", "Infidelity, own net", "", METHOD),
            _figure("own_sensitivity_n", "Sensitivity-n, own net", "high", METHOD),
            *(
                Figure(
                    f"{whose}sensitivity_{share:g}", f"{whose}sensitivity_{share:g}", kinds=kinds
                )
                for whose, kinds in (("", MASKED), ("own_", METHOD))
                for share in SHARES
            ),
        ),
    )

    def cells(self, plan: Plan) -> Iterable[Cell]:
        return whole_map_cells(self.info.name, plan)

    def networks(self, cell: Cell, plan: Plan) -> Collection[Network]:
        return {*original(cell), *behind_maps(cell)}

    def run(self, cell: Cell, workshop: Workshop) -> Iterable[Record]:
        chosen = fewer_pictures(workshop)
        maps = living_maps(workshop, cell.method, cell.seed)[chosen]
        sets = _sets(workshop, chosen)
        sums = map_sums(maps, sets)
        found = _scores("", sums, _falls(workshop, cell.seed, "original", chosen, sets))
        explained = method(cell.method).info.explains
        if explained != "nothing":
            found |= _scores("own_", sums, _falls(workshop, cell.seed, explained, chosen, sets))
        return records(cell, workshop, of_all(found, chosen, workshop))


def _sets(workshop: Workshop, chosen: Tensor) -> dict[str, Tensor]:
    """By kind the sets of pixels that are removed, (P, N, H, W) bool: the same for every method."""
    images = as_pictures(workshop.examples("test").images[chosen])
    side, count = (images.shape[-2], images.shape[-1]), workshop.settings.evaluation.subsets

    def draws(kind: str) -> list[torch.Generator]:
        return picture_generators(images, "faithfulness", kind)

    drawn = {SQUARES: [random_squares(side, count, g) for g in draws(SQUARES)]}
    for share in SHARES:
        kind, n = f"{share:g}", max(1, round(share * side[0] * side[1]))
        drawn[kind] = [random_subsets(side, n, count, g) for g in draws(kind)]
    return {kind: torch.stack(masks, dim=1) for kind, masks in drawn.items()}


def map_sums(maps: Tensor, sets: Mapping[str, Tensor]) -> dict[str, NDArray[np.float64]]:
    """The map's sum over each set, (N, P)."""
    wide = maps.double()
    return {
        kind: torch.stack([(wide * mask).sum(dim=(1, 2)) for mask in masks], dim=1).numpy()
        for kind, masks in sets.items()
    }


def _falls(
    workshop: Workshop, seed: int, which: str, chosen: Tensor, sets: Mapping[str, Tensor]
) -> Mapping[str, NDArray[np.float64]]:
    """By how much the logit of a network's first choice falls without each set, (N, P).

    which: 'original' or what a method explains. They are the same for every method and kept.
    """
    model = workshop.original(seed) if which == "original" else workshop.explained(which, seed)
    parts = {
        "network": which,
        "seed": seed,
        "settings": workshop.settings.model_dump(mode="json"),
    }
    images = as_pictures(workshop.examples("test").images[chosen])

    def make() -> dict[str, NDArray[np.float64]]:
        return logit_falls(model, images, sets, workshop.machine, seed)

    return workshop.remembered("falls", parts, make)


def logit_falls(
    model: nn.Module, images: Tensor, sets: Mapping[str, Tensor], machine: Machine, seed: int
) -> dict[str, NDArray[np.float64]]:
    """By kind of set (P, N, H, W), the fall of the logit of the class that is given the untouched
    pictures, (N, P). A VINet's noise is that of the untouched picture."""

    def logits(pictures: Tensor) -> Tensor:
        return predict_logits(model, pictures, machine, seed, images).double()

    before = logits(images)
    classes = before.argmax(dim=1, keepdim=True)

    def fall(masks: Tensor) -> Tensor:
        return (before - logits(remove(images, masks))).gather(1, classes)

    return {
        kind: torch.cat([fall(masks) for masks in several], dim=1).numpy()
        for kind, several in sets.items()
    }


def _scores(
    whose: str, sums: Mapping[str, NDArray[np.float64]], falls: Mapping[str, NDArray[np.float64]]
) -> Measured:
    by_size = {f"{s:g}": correlations(sums[f"{s:g}"], falls[f"{s:g}"]) for s in SHARES}
    return Measured(
        {
            f"{whose}infidelity": infidelities(sums[SQUARES], falls[SQUARES]),
            f"{whose}sensitivity_n": np.mean(list(by_size.values()), axis=0),
            **{f"{whose}sensitivity_{size}": found for size, found in by_size.items()},
        }
    )
