"""Whether maps lie where the evidence is annotated."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from torch import Tensor, from_numpy

from protocols.shared import (
    Floats,
    Measured,
    living_maps,
    not_negative,
    ranks,
    records,
    whole_map_cells,
)
from vinet_bench.errors import CellError
from vinet_bench.localisation import (
    THIRDS,
    Masks,
    average_precision,
    consensus_of_present,
    dice,
    iou,
    mass_accuracy,
    pointing_hits,
    rank_accuracy,
    readers_of,
    size_thirds,
)
from vinet_bench.masks import as_many, most_relevant, ranking
from vinet_bench.methods import method
from vinet_bench.networks_needed import Network, behind_maps
from vinet_bench.plan import Plan
from vinet_bench.protocols import ProtocolInfo, TableRow
from vinet_bench.records import Cell, Record
from vinet_bench.report.layout import MASKED, Figure, Layout
from vinet_bench.seeds import picture_generators
from vinet_bench.workshop import Workshop

HUMAN = TableRow("readers", "Reader against the others", "oracle")
METRICS = {
    "pointing": "Pointing %",
    "mass": "Mass %",
    "rank": "Rank %",
    "iou": "IoU %",
    "dice": "Dice %",
    "precision": "AP %",
}


def _figures() -> tuple[Figure, ...]:
    printed = [
        Figure(key, key, heading, interval=True, core=True, kinds=MASKED, better="high")
        for key, heading in METRICS.items()
    ]
    one_reader = [Figure(f"reader_{key}", f"reader_{key}", kinds=MASKED) for key in METRICS]
    by_size = [
        Figure(f"{key}_{third}", f"{key}_{third}", kinds=MASKED)
        for key in METRICS
        for third in THIRDS
    ]
    return (*printed, *one_reader, *by_size)


class Localisation:
    """Maps against the annotated evidence of each test picture: pointing game (Zhang et al. 2018),
    relevance mass and rank accuracy (Arras et al. 2022), IoU, Dice and average precision."""

    info = ProtocolInfo(
        name="localisation",
        title="Localisation",
        paper="Zhang et al. 2018; Arras et al. 2022",
        in_all=False,
        needs="evidence",
    )
    layout = Layout(
        "localisation",
        "localisation",
        "Localisation",
        "Localisation on {data}: raw maps against the annotated evidence, picture by picture.",
        _figures(),
        notes=(
            "Pointing: the highest pixel lies on the evidence, or within 3 % of the side of it."
            " Mass: the share of the scaled map's sum on the evidence. Rank: the share of the"
            " evidence among as many highest pixels as it has; IoU and Dice are of those pixels"
            " too, so that Dice is Rank for a map. AP: average precision of the pixels.",
            "Reader against the others: each reader's outline as it is drawn, against the pixels"
            " that half of the other readers outlined; the mean over a picture's readers. In the"
            " CSV file: reader_ (against one reader, the mean over them) and _small, _medium,"
            " _large (thirds of the pictures by the evidence's area).",
        ),
    )

    def more_rows(self, plan: Plan) -> Sequence[TableRow]:
        return [HUMAN] if plan.readers else []

    def cells(self, plan: Plan) -> Iterable[Cell]:
        yield from whole_map_cells(self.info.name, plan)
        for row in self.more_rows(plan):
            for seed in plan.seeds:
                yield Cell(self.info.name, row.name, seed, budget="everything", variant=row.name)

    def networks(self, cell: Cell, plan: Plan) -> Collection[Network]:
        return () if cell.variant == HUMAN.name else behind_maps(cell)

    def run(self, cell: Cell, workshop: Workshop) -> Iterable[Record]:
        test = workshop.part("test")
        if test.evidence is None or not test.evidence.any():
            raise CellError(f"no evidence is annotated in the test part of {test.name}")
        readers = [] if test.readers is None else readers_of(test.readers)
        if cell.variant == HUMAN.name:
            found = _one_against_others(readers, workshop.examples("test").images)
            return records(cell, workshop, _with_sizes(found, test.evidence))
        where = _Maps(cell, workshop)
        found = where.against(test.evidence)
        one_reader = _mean([where.against(outline) for outline in readers])
        measured = _with_sizes(found, test.evidence)
        measured |= Measured({f"reader_{key}": value for key, value in one_reader.items()})
        return records(cell, workshop, measured)


class _Maps:
    """A method's maps of the test part, to be held against any outlines."""

    def __init__(self, cell: Cell, workshop: Workshop) -> None:
        self.raw = living_maps(workshop, cell.method, cell.seed)
        self.ranks = ranks(workshop, cell.method, cell.seed)
        self.relevance = not_negative(self.raw, method(cell.method).info.scaling)

    def against(self, evidence: Masks) -> dict[str, Floats]:
        """Each metric's scores, (N,). evidence (N, H, W)."""
        top = _as_many(self.ranks, evidence)
        return {
            "pointing": pointing_hits(most_relevant(self.ranks, 1).numpy(), evidence),
            "mass": mass_accuracy(self.relevance, evidence),
            "rank": rank_accuracy(top, evidence),
            "iou": iou(top, evidence),
            "dice": dice(top, evidence),
            "precision": average_precision(self.raw.numpy(), evidence),
        }


def _as_many(ranks: Tensor, evidence: Masks) -> Masks:
    """As many highest pixels of each map as its evidence has. (N, H, W) twice -> (N, H, W)."""
    found: Masks = as_many(ranks, evidence.sum(axis=(1, 2)).tolist()).numpy()
    return found


def _one_against_others(readers: list[Masks], images: Tensor) -> dict[str, Floats]:
    """The human ceiling, (N,) each: the mean over the readers of a picture; NaN with only one."""
    if len(readers) < 2:
        raise CellError("fewer than two readers outlined anything in the test part")
    found = []
    for place, outline in enumerate(readers):
        others = consensus_of_present([r for other, r in enumerate(readers) if other != place])
        scores = _outline_against(outline, others, images)
        drawn = outline.any(axis=(1, 2))
        found.append({key: np.where(drawn, value, np.nan) for key, value in scores.items()})
    return _mean(found)


def _outline_against(outline: Masks, others: Masks, images: Tensor) -> dict[str, Floats]:
    """An outline as a map of ones; IoU and Dice of it as it is drawn."""
    raw = from_numpy(outline.astype(np.float32))
    order = ranking(raw, picture_generators(images, "ties", HUMAN.name))
    return {
        "pointing": pointing_hits(most_relevant(order, 1).numpy(), others),
        "mass": mass_accuracy(raw.numpy(), others),
        "rank": rank_accuracy(_as_many(order, others), others),
        "iou": iou(outline, others),
        "dice": dice(outline, others),
        "precision": average_precision(raw.numpy(), others),
    }


def _mean(found: Sequence[Mapping[str, Floats]]) -> dict[str, Floats]:
    """The mean over readers of each picture's scores, NaN where no reader has one."""
    if not found:
        return {}
    stacks = {key: np.stack([scores[key] for scores in found]) for key in found[0]}
    known = {key: ~np.isnan(stack) for key, stack in stacks.items()}
    return {
        key: np.where(
            known[key].any(axis=0),
            np.nansum(stack, axis=0) / np.maximum(known[key].sum(axis=0), 1),
            np.nan,
        )
        for key, stack in stacks.items()
    }


def _with_sizes(scores: Mapping[str, Floats], evidence: Masks) -> Measured:
    """The scores, and those of each third of the pictures by size, (N,) with NaN elsewhere."""
    thirds = {
        f"{key}_{third}": np.where(chosen, value, np.nan)
        for key, value in scores.items()
        for third, chosen in size_thirds(evidence).items()
    }
    return Measured({**scores, **thirds})
