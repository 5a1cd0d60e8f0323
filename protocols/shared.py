"""The rows that both of the paper's protocols have."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vinet_bench.metrics import accuracy, balanced_accuracy, commonest_class_share
from vinet_bench.records import Cell, Record
from vinet_bench.workshop import Workshop

REFERENCES = ("original", "majority")


def records(cell: Cell, figures: Mapping[str, float], n: int) -> list[Record]:
    """One record for each figure."""
    return [Record(cell, metric, float(value), n) for metric, value in figures.items()]


def scores(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, float]:
    """What every row carries. (N, K), (N,)."""
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
