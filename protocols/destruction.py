"""Fig. 6 and the claims without a table: one VINet a row, each with one thing changed."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from protocols.shared import (
    Measured,
    mask_scores,
    occluded,
    own_map,
    records,
    retrained_scores,
    scores,
)
from vinet_bench.ablations import mean_noise, nothing_destroyed
from vinet_bench.data.dataset import PARTS
from vinet_bench.masks import thresholded
from vinet_bench.metrics import extremes, importance_losses, value_shares
from vinet_bench.plan import Plan
from vinet_bench.prediction import predict
from vinet_bench.protocols import ProtocolInfo, TableRow
from vinet_bench.records import Cell, Record
from vinet_bench.report.layout import BINS
from vinet_bench.vinet import VINet
from vinet_bench.workshop import Workshop

_AT_TEST = {"mean": mean_noise, "none": nothing_destroyed}


@dataclass(frozen=True)
class Variant:
    """A VINet with one thing changed.

    changes: of the settings under `vinet`. scaling: of M before Eq. 9. at_test: 'noise', as in
    training; 'mean', all noise at 1/2; 'none', nothing is destroyed.
    """

    title: str
    block: str
    changes: Mapping[str, float | str] = field(default_factory=dict)
    scaling: str = "as-is"
    at_test: str = "noise"


def _alpha(value: float) -> Variant:
    return Variant(f"a = {value:g}", "a", {"alpha": value})


_PLACES, _CLAIMS, _TEST = "where destruction acts", "what the paper rules out", "after training"
VARIANTS = {
    "multi": Variant("Multi-scale", _PLACES, {"destruction": "multi"}),
    "single": Variant("Single-scale", _PLACES, {"destruction": "single"}),
    "released": Variant("Released code's places", _PLACES, {"destruction": "released"}),
    **{f"a={value:g}": _alpha(value) for value in (0.05, 0.25, 1.0, 2.0)},
    "shift=0": Variant("M0 + 0", "shift", {"shift": 0.0}),
    "shift=20": Variant("M0 + 20", "shift", {"shift": 20.0}),
    "sigmoid": Variant("Sigmoid for Eq. 1", _CLAIMS, {"activation": "sigmoid"}),
    "multiply": Variant("Times M, no noise", _CLAIMS, {"replace": "zero"}),
    "absolute-noise": Variant("Noise of absolute scale", _CLAIMS, {"replace": "absolute-noise"}),
    "mean-noise": Variant("Noise at its mean in the test", _TEST, at_test="mean"),
    "no-noise": Variant("Nothing destroyed in the test", _TEST, at_test="none"),
    "minmax": Variant("M min-max scaled", _TEST, scaling="minmax"),
}


def _count() -> tuple[int, int]:
    """How many VINets, and how many sets of masks, differ from the plan's own."""
    trained = [v for v in VARIANTS.values() if v.changes]
    return len(trained), len(trained) + sum(v.scaling != "as-is" for v in VARIANTS.values())


class Destruction:
    """Multi-scale beside single-scale destruction (Gu et al. 2020, Fig. 6), what a, the shift and
    noise at test time do, and the forms that the paper says fail (Sec. III-A, III-C)."""

    info = ProtocolInfo(
        name="destruction",
        title="Destruction",
        paper="Gu et al. 2020, Fig. 6, Sec. III-A, III-C, IV-E",
        in_all=False,
        trainings="{} VINets and {} times 2 ResNet-18, a seed".format(*_count()),
    )

    def row_names(self) -> Collection[str]:
        return list(VARIANTS)

    def rows(self, plan: Plan) -> Sequence[TableRow]:
        wanted = [n for n in VARIANTS if not plan.rows or n in plan.rows]
        return [TableRow(n, VARIANTS[n].title, block=VARIANTS[n].block) for n in wanted]

    def cells(self, plan: Plan) -> Iterable[Cell]:
        for seed in plan.seeds:
            for row in self.rows(plan):
                yield Cell(self.info.name, "vinet", seed, variant=row.name)

    def run(self, cell: Cell, workshop: Workshop) -> Iterable[Record]:
        variant, test = VARIANTS[cell.variant], workshop.part("test")
        changed = workshop.settings.vinet.model_copy(update=dict(variant.changes))
        own = workshop.with_vinet(changed)
        maps = {part: own_map(own, cell.seed, part) for part in PARTS}
        masks = {
            part: thresholded(raw, variant.scaling, own.plan.threshold)
            for part, raw in maps.items()
        }
        found = scores(_probabilities(own, cell.seed, variant.at_test), test.labels)
        found |= Measured({"importance_loss": importance_losses(maps["test"].numpy())})
        found |= mask_scores(masks["test"], test)
        if variant.changes:  # else the map is one that another row has
            found |= Measured(figures=_values(maps["test"]))
        readers = {"kept": "pictures", "masks": "masks"}
        found |= retrained_scores(own, cell.seed, masks, readers)
        removed = occluded(own, cell.seed, masks["test"], np.ones(len(test), np.bool_))
        names = {"accuracy": "occluded_accuracy", "probability_drop": "probability_drop"}
        found |= removed.renamed(names)
        return records(cell, workshop, found)


def _probabilities(workshop: Workshop, seed: int, at_test: str) -> NDArray[np.float32]:
    """The VINet's own on the test part, (N, K), with the destruction of training or another."""
    model = cast(VINet, workshop.explained("vinet", seed))
    if at_test in _AT_TEST:
        model = copy(model)  # of the rules; the weights stay shared
        model.rules = model.rules._replace(destruction=_AT_TEST[at_test])
    return predict(model, workshop.examples("test").images, workshop.machine, seed).numpy()


def _values(maps: Tensor) -> dict[str, float]:
    """How the map's values are spread: near 0, near 1, and a histogram (Sec. IV-E)."""
    low, high = extremes(maps.numpy())
    shares = {f"values_{i:02d}": s for i, s in enumerate(value_shares(maps.numpy(), BINS))}
    return {"near_zero": low, "near_one": high} | shares
