"""What several protocols share: rows, records, and what a network is shown."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from vinet_bench.data.dataset import PARTS, SliceDataset
from vinet_bench.errors import CellError
from vinet_bench.machine import Examples
from vinet_bench.masks import keep, per_picture, ranking, remove, scale
from vinet_bench.methods import in_order
from vinet_bench.metrics import (
    balanced_hits,
    brier_scores,
    commonest_class_share,
    evidence_precision,
    evidence_recall,
    expected_calibration_error,
    hits,
    probability_drops,
    quadratic_weighted_kappa,
)
from vinet_bench.networks_needed import Network, original
from vinet_bench.plan import Plan
from vinet_bench.records import Cell, Record
from vinet_bench.report.layout import MASKED, Figure
from vinet_bench.seeds import few_by_content, picture_generators
from vinet_bench.workshop import Workshop

REFERENCES = ("original", "majority")
Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Measured:
    """What a cell gave. pictures: by metric a score of each test picture, (N,), NaN where it has
    none; their mean is the figure. figures: what no single picture has. kept: what is stored with
    the scores and is no figure, (N, ...)."""

    pictures: Mapping[str, Floats] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    kept: Mapping[str, Floats] = field(default_factory=dict)

    def __or__(self, other: "Measured") -> "Measured":
        return Measured(
            {**self.pictures, **other.pictures},
            {**self.figures, **other.figures},
            {**self.kept, **other.kept},
        )

    def spread(self, where: NDArray[np.bool_]) -> "Measured":
        """The scores of some pictures, those at `where` (N,), as scores of all: NaN elsewhere."""

        def wide(scores: Floats) -> Floats:
            every = np.full((len(where), *scores.shape[1:]), np.nan, scores.dtype)
            every[where] = scores
            return every

        pictures, kept = (
            {name: wide(scores) for name, scores in found.items()}
            for found in (self.pictures, self.kept)
        )
        return Measured(pictures, self.figures, kept)

    def only(self, where: NDArray[np.bool_]) -> "Measured":
        """Without the scores of the other pictures. where (N,)."""
        pictures = {m: np.where(where, scores, np.nan) for m, scores in self.pictures.items()}
        return Measured(pictures, self.figures, self.kept)

    def renamed(self, names: Mapping[str, str]) -> "Measured":
        """These scores alone, under other names."""
        return Measured({new: self.pictures[old] for old, new in names.items()})


def records(cell: Cell, workshop: Workshop, measured: Measured) -> list[Record]:
    """One record for each figure; the scores behind them are stored under the cell's key.

    A test picture that the method did not explain has no score (see Workshop.tested).
    """
    if in_order([cell.method]):  # not a reference, nor a protocol's own row
        measured = measured.only(workshop.tested(cell.method))
    workshop.keep_scores(cell, {**measured.kept, **measured.pictures})
    known = {m: s for m, s in measured.pictures.items() if not np.isnan(s).all()}
    means = {metric: float(np.nanmean(scores)) for metric, scores in known.items()}
    counts = [np.isfinite(scores).sum() for scores in known.values()]
    n = int(max(counts, default=len(workshop.part("test"))))
    return [
        Record(cell, metric, value, n) for metric, value in {**means, **measured.figures}.items()
    ]


def scores(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> Measured:
    """What every row carries. (N, K), (N,). Raises CellError for what is no probability."""
    if not np.isfinite(probabilities).all():
        raise CellError("the network diverged: its predictions are no numbers")
    return Measured(
        {
            "accuracy": hits(probabilities, labels),
            "balanced_accuracy": balanced_hits(probabilities, labels),
            "brier_score": brier_scores(probabilities, labels),
        },
        {
            "commonest_class_share": commonest_class_share(probabilities),
            "calibration_error": expected_calibration_error(probabilities, labels),
            "quadratic_kappa": quadratic_weighted_kappa(probabilities, labels),
        },
        {"probabilities": probabilities},
    )


def reference_cells(protocol: str, seed: int) -> Iterable[Cell]:
    """The references' rows of one seed."""
    for name in REFERENCES:
        yield Cell(protocol, name, seed, budget="everything")


def reference_networks(cell: Cell) -> Collection[Network]:
    """What a reference's cell needs trained: the majority nothing."""
    return original(cell) if cell.method == "original" else ()


def reference(cell: Cell, workshop: Workshop) -> list[Record]:
    """Original: a ResNet-18 on untouched pictures. Majority: the commonest training class."""
    labels = workshop.part("test").labels
    if cell.method == "original":
        everything = Measured({"fraction_kept": np.ones(len(labels))})
        result = workshop.original_result(cell.seed)
        found = scores(result.probabilities, labels) | Measured(figures=result.convergence)
        return records(cell, workshop, found | everything)
    commonest = np.bincount(workshop.part("train").labels).argmax()
    always = np.eye(workshop.data.num_classes, dtype=np.float32)[np.full(len(labels), commonest)]
    return records(cell, workshop, scores(always, labels))


def shown(trained_on: str, workshop: Workshop, part: str, masks: Tensor) -> Examples:
    """What a retrained network is shown of a part: 'pictures', 'masks' or 'swapped' (see Cell), or
    'removed', the pictures without the masked pixels."""
    examples, size = workshop.examples(part), workshop.settings.mask_size
    images = examples.images
    see = {
        "pictures": lambda: per_picture(keep, images, masks),
        "removed": lambda: per_picture(remove, images, masks),
        "masks": lambda: per_picture(lambda some: _masks_as_pictures(some, size), masks),
        "swapped": lambda: per_picture(
            lambda some, others: keep(some, masks[others]), images, workshop.other_patients(part)
        ),
    }
    return Examples(see[trained_on](), examples.labels)


def _masks_as_pictures(masks: Tensor, size: int) -> Tensor:
    """Masks as grey pictures (0..255), area-averaged. (N, H, W) -> (N, 1, size, size)."""
    grey = masks[:, None].float() * 255
    return F.interpolate(grey, size=(size, size), mode="area").round().to(torch.uint8)


def retrained_scores(
    workshop: Workshop, seed: int, masks: Mapping[str, Tensor], names: Mapping[str, str]
) -> Measured:
    """Accuracies of networks trained and tested on what these parts' masks leave, as
    NAME_accuracy. names: what each is trained on (see `shown`)."""
    found, labels = Measured(), workshop.part("test").labels
    for name, trained_on in names.items():
        examples = {part: shown(trained_on, workshop, part, masks[part]) for part in PARTS}
        result = workshop.retrained(examples, seed, masks_alone=trained_on == "masks")
        found |= scores(result.probabilities, labels).renamed({"accuracy": f"{name}_accuracy"})
    return found


def mask_scores(masks: Tensor, test: SliceDataset) -> Measured:
    """S, empty masks, and the overlap with the evidence where it is known. masks (N, H, W)."""
    reserved = masks.numpy()
    found: dict[str, Floats] = {
        "fraction_kept": reserved.mean(axis=(1, 2), dtype=np.float64),
        "empty_masks": np.asarray(~reserved.any(axis=(1, 2)), np.float64),
    }
    if test.evidence is not None and test.evidence.any():
        found["evidence_recall"] = evidence_recall(reserved, test.evidence)
        found["evidence_precision"] = evidence_precision(reserved, test.evidence)
    return Measured(found)


def occluded(workshop: Workshop, seed: int, masks: Tensor, where: NDArray[np.bool_]) -> Measured:
    """What the original network says of test pictures whose masked pixels became zero (Eq. 10),
    and by how much the true class's probability fell. masks (N, H, W); where (N,): which pictures.
    """
    images, labels = workshop.examples("test").images, workshop.part("test").labels[where]
    places = torch.from_numpy(np.flatnonzero(where))
    left = per_picture(lambda some: remove(images[some], masks[some]), places)
    after = workshop.predict_original(seed, left)
    drops = probability_drops(workshop.original_probabilities(seed)[where], after, labels)
    return (scores(after, labels) | Measured({"probability_drop": drops})).spread(where)


def own_map(workshop: Workshop, seed: int, part: str) -> Tensor:
    """M of the workshop's VINet, (N, H, W). Raises CellError if a test picture's is constant."""
    workshop.living("vinet", seed, "test")
    return workshop.maps("vinet", seed, part)


def whole_map_figure(metric: str, heading: str, better: str) -> Figure:
    """A column of a table of whole maps; better: 'high' or 'low'."""
    return Figure(metric, metric, heading, 1, interval=True, kinds=MASKED, better=better)


def whole_map_cells(protocol: str, plan: Plan, again: bool = False) -> Iterable[Cell]:
    """A cell for each seed and method; no budget is chosen, since all of the map counts.

    again: for protocols that retrain, or explain a picture many times, for which costly methods
    must be asked for by name.
    """
    for seed in plan.seeds:
        for name in plan.retrained() if again else plan.methods:
            yield Cell(protocol, name, seed, budget="everything")


def living_maps(workshop: Workshop, name: str, seed: int) -> Tensor:
    """Raw test maps, (N, H, W), 0 for pictures that the method did not explain: `records` leaves
    their scores out. Raises CellError if VINet's own of a picture is constant."""

    def known(some: Tensor, tested: Tensor) -> Tensor:
        return torch.where(tested[:, None, None], some, 0.0)

    maps = workshop.living(name, seed, "test")
    return per_picture(known, maps, torch.from_numpy(workshop.tested(name)))


def not_negative(maps: Tensor, scaling: str) -> Floats:
    """Maps scaled by a policy, (N, H, W), of which shares can be taken. Raises CellError if it
    leaves values below 0."""

    def scaled(some: Tensor) -> Tensor:
        found = scale(some, scaling)
        if (found < 0).any():
            raise CellError(
                f"maps scaled '{scaling}' have values below 0, of which no share is taken"
            )
        return found

    return per_picture(scaled, maps).numpy()


def ranks(workshop: Workshop, name: str, seed: int) -> Tensor:
    """Each test pixel's place in its map's order, (N, H, W); ties as in `Workshop.masks`."""

    def ranked(maps: Tensor, images: Tensor) -> Tensor:
        return ranking(maps, picture_generators(images, "ties", name))

    maps, images = living_maps(workshop, name, seed), workshop.examples("test").images
    return per_picture(ranked, maps, images)


def fewer_pictures(workshop: Workshop) -> Tensor:
    """The test pictures that costly protocols look at, as sorted indices: chosen by their content,
    so that neither their order nor another picture's row matters."""
    return few_by_content(workshop.examples("test").images, workshop.settings.evaluation.pictures)


def of_all(measured: Measured, chosen: Tensor, workshop: Workshop) -> Measured:
    """Scores of the chosen test pictures as scores of all of them: NaN for the others."""
    where = np.zeros(len(workshop.part("test")), np.bool_)
    where[chosen.numpy()] = True
    return measured.spread(where)
