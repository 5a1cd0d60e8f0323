"""Whether a VINet's map can be kept from being a code: a row for each way (docs/sealed.md)."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from protocols.shared import (
    Floats,
    Measured,
    living_maps,
    mask_scores,
    not_negative,
    occluded,
    records,
    retrained_scores,
    scores,
)
from vinet_bench.data.dataset import PARTS
from vinet_bench.localisation import Masks, iou, mass_accuracy
from vinet_bench.mask_forms import pixels_of
from vinet_bench.masks import top_k
from vinet_bench.methods import method
from vinet_bench.metrics import evidence_precision
from vinet_bench.plan import Plan
from vinet_bench.protocols import ProtocolInfo, TableRow
from vinet_bench.records import Cell, Record
from vinet_bench.report.layout import MASKED, METHOD, Figure, Layout
from vinet_bench.seeds import picture_generators
from vinet_bench.workshop import Workshop, natural_budget


@dataclass(frozen=True)
class Variant:
    """A way to seal a VINet, or what it is held against.

    changes: of the settings under `sealed`. method: whose maps the row has.
    """

    title: str
    block: str
    changes: Mapping[str, float | str] = field(default_factory=dict)
    method: str = "vinet-sealed"


_YARD, _OURS, _OTHERS = "yardsticks", "sealed", "sealed, other networks"
_ALONE, _STEPS = "one idea alone", "steps towards it"
# What the steps were taken with; the shallow U-Net came last.
_LOCAL: dict[str, float | str] = {"importance": "local"}
_FREE = _LOCAL | {"form": "free", "critic": 0.0}
# The paper's training but for the price, which rests while the classifier cannot do its work.
_BUDGET = _FREE | {"masks": "own", "target": "label", "complement": 0.0, "moves": 0.0}
_PRICE = _BUDGET | {"share": 0.0}
VARIANTS = {
    "vinet": Variant("VINet", _YARD, method="vinet"),
    "outline": Variant("Outline", _YARD, method="outline"),
    "centre": Variant("Centre", _YARD, method="centre"),
    "sealed": Variant("Sealed", _OURS),
    "local": Variant("Sealed, local network", _OTHERS, _LOCAL),
    "densenet": Variant("The same, DenseNet-121", _OTHERS, _LOCAL | {"classifier": "densenet121"}),
    "price": Variant("A price that follows the classifier", _ALONE, _PRICE),
    "budget": Variant("A fixed share", _ALONE, _BUDGET),
    "random-masks": Variant("Random masks", _ALONE, _PRICE | {"masks": "random"}),
    "swap-alone": Variant("Swap for noise", _ALONE, _PRICE | {"replace": "swap"}),
    "critic": Variant("A critic", _ALONE, _PRICE | {"critic": 1.0}),
    "views": Variant("Other views", _ALONE, _PRICE | {"views": True}),
    "samples": Variant("Four samples of noise", _ALONE, _PRICE | {"samples": 4}),
    "disc": Variant("A disc, no critic", _STEPS, _LOCAL | {"critic": 0.0}),
    "free": Variant("Any pixels, no critic", _STEPS, _FREE),
    "swap": Variant("The same, swap for noise", _STEPS, _FREE | {"replace": "swap"}),
    "label": Variant("The same, for the label", _STEPS, _FREE | {"target": "label"}),
    "random-only": Variant("The same, random masks only", _STEPS, _FREE | {"masks": "random"}),
    "complement": Variant("The same, whatever is left", _STEPS, _FREE | {"complement": 0.0}),
    "fine": Variant("The same, 16 x 16 cells", _STEPS, _FREE | {"cells": 16}),
    "unet": Variant("The same, U-Net", _STEPS, _FREE | {"importance": "unet"}),
}

READERS = {"kept": "pictures", "masks": "masks", "swapped": "swapped"}


def _figure(metric: str, heading: str, better: str = "", digits: int = 1) -> Figure:
    own = metric == "accuracy"  # an outline has no network
    return Figure(
        metric,
        metric,
        heading,
        digits,
        interval=True,
        core=own,
        kinds=METHOD if own else MASKED,
        better=better,
    )


class Sealing:
    """The ways to keep the class out of a map's shape, each a VINet of its own, beside the paper's
    and the annotated outline."""

    info = ProtocolInfo(
        name="sealing",
        title="Sealing",
        paper="after Jethani et al. 2021, arXiv 2103.01890",
        in_all=False,
        trainings=f"{len(VARIANTS) - 2} VINets and {3 * len(VARIANTS)} ResNet-18, a seed",
    )
    layout = Layout(
        "sealing",
        "sealing",
        "Sealing",
        "VINets on {data}, sealed in one way or another; kept, masks alone and swapped: a {network}"
        " trained on the reserved pixels, on their shape, and on another patient's.",
        (
            _figure("accuracy", "Accuracy %", "high"),
            Figure("fraction_kept", "fraction_kept", "Reserved %", 1, core=True, kinds=MASKED),
            _figure("masks_accuracy", "Masks alone %"),
            _figure("swapped_accuracy", "Swapped %"),
            _figure("kept_accuracy", "Kept %", "high"),
            _figure("probability_drop", "Drop at equal budget", "high"),
            _figure("mass", "Mass %", "high"),
            _figure("iou", "IoU %", "high"),
            _figure("equal_precision", "On evidence %", "high"),
            _figure("moved_precision", "The same, moved %", "high"),
            Figure("evidence_recall", "evidence_recall", kinds=MASKED),
            Figure("evidence_precision", "evidence_precision", kinds=MASKED),
            Figure("balanced_accuracy", "balanced_accuracy", kinds=METHOD),
        ),
        "VINet",
        own_rows=True,
        notes=(
            "Accuracy: the network's own, on what its map lets through. Masks alone: the majority"
            " class, and what the outline's masks tell, are what it must be held against. Drop: of"
            " the true class's probability where as many highest pixels of every row's map become"
            " zero as the sealed share holds. Mass, IoU: of the map, and of the reserved pixels. On"
            " evidence: so many of those highest pixels; moved: of pictures moved by a sixth of"
            " their side, where a map that knows the centre only is left behind.",
        ),
        # A row that keeps everything has the best accuracy and no map.
        judged_by="mass",
    )

    def row_names(self) -> Collection[str]:
        return list(VARIANTS)

    def rows(self, plan: Plan) -> Sequence[TableRow]:
        wanted = [n for n in VARIANTS if not plan.rows or n in plan.rows]
        return [
            TableRow(n, VARIANTS[n].title, method(VARIANTS[n].method).info.kind, VARIANTS[n].block)
            for n in wanted
        ]

    def cells(self, plan: Plan) -> Iterable[Cell]:
        for seed in plan.seeds:
            for row in self.rows(plan):
                name = VARIANTS[row.name].method
                budget = natural_budget(name)
                yield Cell(self.info.name, name, seed, budget, variant=row.name)

    def run(self, cell: Cell, workshop: Workshop) -> Iterable[Record]:
        wanted = workshop.settings.sealed.model_copy(update=dict(VARIANTS[cell.variant].changes))
        own, test = workshop.with_sealed(wanted), workshop.part("test")
        # The plan's share, whatever this row's own: else no two drops could be compared.
        count = pixels_of(workshop.settings.sealed.share, test.size)
        masks = {part: _masks(cell, own, part, count) for part in PARTS}
        found = mask_scores(masks["test"], test)
        found |= retrained_scores(own, cell.seed, masks, READERS)
        probabilities = own.explained_probabilities(cell.method, cell.seed, "test")
        if probabilities is not None:
            found |= scores(probabilities, test.labels)
        removed = own.highest(cell.method, cell.seed, "test", count)
        drop = occluded(own, cell.seed, removed, np.ones(len(test), np.bool_))
        found |= drop.renamed({"probability_drop": "probability_drop"})
        if test.evidence is not None and test.evidence.any():
            found |= _overlap(cell, own, masks["test"], test.evidence)
            found |= Measured({"equal_precision": _precision(removed, test.evidence)})
            found |= _moved(cell, own, count, test.evidence)
        return records(cell, workshop, found)


def _masks(cell: Cell, workshop: Workshop, part: str, count: int) -> Tensor:
    """A row's reserved pixels, (N, H, W) bool: Eq. 9's, or for a control so many."""
    if natural_budget(cell.method) == "equal":
        return workshop.highest(cell.method, cell.seed, part, count)
    return workshop.masks(cell.method, cell.seed, part, "threshold")


def _overlap(cell: Cell, workshop: Workshop, masks: Tensor, evidence: Masks) -> Measured:
    """Relevance mass and IoU. masks (N, H, W); evidence (N, H, W)."""
    scaling = method(cell.method).info.scaling
    relevance = not_negative(living_maps(workshop, cell.method, cell.seed), scaling)
    reserved = masks.numpy().astype(np.bool_)
    return Measured({"mass": mass_accuracy(relevance, evidence), "iou": iou(reserved, evidence)})


def _precision(masks: Tensor, evidence: Masks) -> Floats:
    return evidence_precision(masks.numpy().astype(np.bool_), evidence)


def _moved(cell: Cell, workshop: Workshop, count: int, evidence: Masks) -> Measured:
    """How many of the highest pixels are evidence where the pictures are moved, the mean over four
    directions; an oracle knows the pictures as they stand only."""
    if method(cell.method).info.kind == "oracle":
        return Measured()
    images = workshop.examples("test").images
    explain = workshop.explainer(cell.method, cell.seed)
    targets = workshop.targets(cell.method, cell.seed, "test")
    draws = picture_generators(images, "ties", cell.method)
    found = []
    for places in _steps(evidence.shape[1:]):
        chosen = top_k(explain(moved_by(images, places, "reflect"), targets), count, draws)
        truth = moved_by(torch.from_numpy(evidence)[:, None], places, "constant")
        found.append(_precision(chosen, truth[:, 0].numpy()))
    return Measured({"moved_precision": np.mean(found, axis=0)})


def _steps(size: Sequence[int]) -> list[tuple[int, int]]:
    """A sixth of the side down, up, right and left."""
    down, right = (side // 6 for side in size)
    return [(down, 0), (-down, 0), (0, right), (0, -right)]


def moved_by(
    images: Tensor, places: tuple[int, int], border: Literal["reflect", "constant"]
) -> Tensor:
    """Pictures moved by so many pixels down and right; what comes in is mirrored, or zero.
    (N, C, H, W) -> the same."""
    pads = [(0, 0), (0, 0), *((max(step, 0), max(-step, 0)) for step in places)]
    wide = torch.from_numpy(np.pad(images.numpy(), pads, mode=border))
    (top, left), (height, width) = ((max(-step, 0) for step in places), images.shape[-2:])
    return wide[..., top : top + height, left : left + width]
