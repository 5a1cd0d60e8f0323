"""Retraining at several budgets: what the highest pixels suffice for, and what goes with them."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from typing import get_args

import numpy as np

from protocols.shared import (
    REFERENCES,
    Floats,
    Measured,
    records,
    reference,
    reference_cells,
    reference_networks,
    shown,
    whole_map_cells,
)
from vinet_bench.data.dataset import PARTS
from vinet_bench.errors import CellError
from vinet_bench.machine import Examples
from vinet_bench.metrics import curve_areas, hits
from vinet_bench.networks_needed import Network, behind_maps, explained_on, fold_names, retrained
from vinet_bench.plan import Plan
from vinet_bench.protocols import ProtocolInfo
from vinet_bench.records import Cell, Record
from vinet_bench.report.layout import MASKED, Figure, Layout
from vinet_bench.settings import Percent
from vinet_bench.workshop import Workshop

PERCENTS: tuple[int, ...] = get_args(Percent)
# What each curve's networks see: see `shared.shown`.
CURVES = {"kar": "pictures", "roar": "removed", "masks": "masks"}
_TITLES = {"kar": "Kept", "roar": "Removed", "masks": "Masks alone"}
_BETTER = {"kar": "high", "roar": "low", "masks": ""}


def _figures() -> tuple[Figure, ...]:
    untouched = Figure(
        "accuracy", "accuracy", "Untouched %", core=True, kinds=frozenset({"reference"})
    )
    areas = [
        Figure(
            f"{curve}_area", f"{curve}_area", f"{title} area %", interval=True, kinds=MASKED,
            better=_BETTER[curve],
        )
        for curve, title in _TITLES.items()
    ]  # fmt: skip
    points = [
        Figure(f"{curve}_{percent}", f"{curve}_{percent}", f"{title} {percent}", 1, kinds=MASKED)
        for curve, title in _TITLES.items()
        for percent in PERCENTS
    ]
    folds = Figure("folds", "folds", "Folds", 0, kinds=MASKED, percent=False)
    least = Figure("least_train_accuracy", "least_train_accuracy", kinds=MASKED)
    return (untouched, *areas, *points, folds, least)


class BudgetCurves:
    """Keep and retrain (KAR), remove and retrain (ROAR, Hooker et al. 2019): a ResNet-18 trained
    from scratch on the exactly k highest pixels of each map, and one without them; beside both a
    network on the masks alone, which serves both since their masks are complements."""

    info = ProtocolInfo(
        name="budget-curves",
        title="Budget curves",
        paper="Hooker et al. 2019, arXiv 1806.10758",
        in_all=False,
        trainings="3 ResNet-18 a method, budget and seed; count them with --dry-run",
    )
    layout = Layout(
        "budget-curves",
        "budget-curves",
        "Budget curves",
        "Accuracy in percent on {data} of a {network} trained from scratch on the given percent of"
        " each map's highest pixels (kept), on the others (removed), and on the masks alone.",
        _figures(),
        notes=(
            "Exactly as many pixels in every row, ties broken by each picture's own shuffle. Area:"
            " under the curve between the lowest and the highest budget, over its width: kept, more"
            " is better; removed, less. Masks alone: what the kept pixels' places tell without any"
            " picture; kept and removed pixels have complementary masks, so it holds for both. A"
            " method is worth what kept says beyond masks alone, and beyond the controls. Folds:"
            " the maps of the training pictures come from networks that did not see them.",
        ),
        rankings=(("kar_area", "roar_area"),),
    )

    def cells(self, plan: Plan) -> Iterable[Cell]:
        for seed in plan.seeds:
            yield from reference_cells(self.info.name, seed)
        yield from whole_map_cells(self.info.name, plan, again=True)

    def networks(self, cell: Cell, plan: Plan) -> Collection[Network]:
        if cell.method in REFERENCES:
            return reference_networks(cell)
        curves = plan.settings.curves
        own = {retrained(cell, f"{curve} {p}") for curve in CURVES for p in curves.percents}
        folds = {
            replace(network, what=explained_on(name))
            for network in behind_maps(cell)
            for name in fold_names(curves.cross_fit)
        }
        return own | folds | behind_maps(cell)

    def run(self, cell: Cell, workshop: Workshop) -> Iterable[Record]:
        if cell.method in REFERENCES:
            return reference(cell, workshop)
        percents, folds = workshop.settings.curves.percents, workshop.settings.curves.cross_fit
        points: dict[str, Floats] = {}
        learnt = []
        for percent in percents:
            for curve, examples in _shown(cell, workshop.cross_fitted(folds), percent):
                alone = CURVES[curve] == "masks"
                result = workshop.retrained(examples, cell.seed, masks_alone=alone)
                if not np.isfinite(result.probabilities).all():
                    raise CellError(f"the network of {curve} {percent} % diverged")
                labels = workshop.part("test").labels
                points[f"{curve}_{percent}"] = hits(result.probabilities, labels)
                learnt.append(result.convergence["train_accuracy"])
        figures = {"least_train_accuracy": min(learnt)} | ({"folds": folds} if folds else {})
        found = Measured(points | _areas(points, percents), figures)
        return records(cell, workshop, found)


def _shown(
    cell: Cell, workshop: Workshop, percent: int
) -> Iterator[tuple[str, dict[str, Examples]]]:
    """Curve by curve what a network is trained and tested on, by part."""
    height, width = workshop.data.size
    count = round(percent / 100 * height * width)
    masks = {part: workshop.highest(cell.method, cell.seed, part, count) for part in PARTS}
    for curve, sees in CURVES.items():
        yield curve, {part: shown(sees, workshop, part, masks[part]) for part in PARTS}


def _areas(points: dict[str, Floats], percents: tuple[int, ...]) -> dict[str, Floats]:
    """The area under each curve, (N,); none under a single point."""
    if len(percents) < 2:
        return {}
    return {
        f"{curve}_area": curve_areas(percents, np.stack([points[f"{curve}_{p}"] for p in percents]))
        for curve in CURVES
    }
