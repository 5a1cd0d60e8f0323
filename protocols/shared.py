"""What several protocols share: rows, records, and what a network is shown."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from vinet_bench.data.dataset import SliceDataset
from vinet_bench.errors import CellError
from vinet_bench.masks import fraction, keep
from vinet_bench.metrics import (
    accuracy,
    balanced_accuracy,
    commonest_class_share,
    evidence_precision,
    evidence_recall,
    probability_drops,
)
from vinet_bench.models import check_alive
from vinet_bench.records import Cell, Record
from vinet_bench.stats import patient_bootstrap
from vinet_bench.training import Examples
from vinet_bench.workshop import Workshop

REFERENCES = ("original", "majority")


def records(cell: Cell, figures: Mapping[str, float], n: int) -> list[Record]:
    """One record for each figure."""
    return [Record(cell, metric, float(value), n) for metric, value in figures.items()]


def scores(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, float]:
    """What every row carries. (N, K), (N,). Raises CellError for what is no probability."""
    if not np.isfinite(probabilities).all():
        raise CellError("the network diverged: its predictions are no numbers")
    return {
        "accuracy": accuracy(probabilities, labels),
        "balanced_accuracy": balanced_accuracy(probabilities, labels),
        "commonest_class_share": commonest_class_share(probabilities),
    }


def reference(cell: Cell, workshop: Workshop) -> list[Record]:
    """Original: a ResNet-18 on untouched pictures. Majority: the commonest training class."""
    labels = workshop.part("test").labels
    if cell.method == "original":
        figures = scores(workshop.original_probabilities(cell.seed), labels)
        return records(cell, figures | {"fraction_kept": 1.0}, len(labels))
    commonest = np.bincount(workshop.part("train").labels).argmax()
    always = np.eye(workshop.data.num_classes, dtype=np.float32)[np.full(len(labels), commonest)]
    return records(cell, scores(always, labels), len(labels))


def shown(trained_on: str, workshop: Workshop, part: str, masks: Tensor) -> Examples:
    """What a retrained network is shown of a part: 'pictures', 'masks' or 'swapped' (see Cell)."""
    examples = workshop.examples(part)
    if trained_on == "masks":
        return Examples(_masks_as_pictures(masks, workshop.settings.mask_size), examples.labels)
    if trained_on == "swapped":
        masks = masks[workshop.other_patients(part)]
    return Examples(keep(examples.images, masks), examples.labels)


def _masks_as_pictures(masks: Tensor, size: int) -> Tensor:
    """Masks as grey pictures (0..255), area-averaged. (N, H, W) -> (N, 1, size, size)."""
    grey = masks[:, None].float() * 255
    return F.interpolate(grey, size=(size, size), mode="area").round().to(torch.uint8)


def mask_figures(masks: Tensor, test: SliceDataset) -> dict[str, float]:
    """S, the share of empty masks, and the overlap with the evidence where it is known."""
    figures = {
        "fraction_kept": fraction(masks),
        "empty_masks": (~masks.flatten(1).any(dim=1)).double().mean().item(),
    }
    if test.evidence is not None and test.evidence.any():
        reserved = masks.numpy().astype(np.bool_)
        figures["evidence_recall"] = evidence_recall(reserved, test.evidence)
        figures["evidence_precision"] = evidence_precision(reserved, test.evidence)
    return figures


def probability_drop(workshop: Workshop, seed: int, after: NDArray[np.float32]) -> dict[str, float]:
    """The mean fall of the true class's probability on occluded test pictures, with its interval.

    after (N, K): the original network's probabilities for the occluded pictures.
    """
    test = workshop.part("test")
    drops = probability_drops(workshop.original_probabilities(seed), after, test.labels)
    low, high = patient_bootstrap(drops, test.patients)
    return {
        "probability_drop": float(drops.mean()),
        "probability_drop_low": low,
        "probability_drop_high": high,
    }


def own_map(workshop: Workshop, seed: int, part: str) -> Tensor:
    """M of the workshop's VINet, (N, H, W). Raises CellError if a test picture's is constant."""
    check_alive(workshop.maps("vinet", seed, "test"))
    return workshop.maps("vinet", seed, part)
