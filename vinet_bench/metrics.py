"""Figures from predictions and masks: arrays in, numbers out."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Labels = NDArray[np.int64]
Masks = NDArray[np.bool_]


def accuracy(probabilities: Floats, labels: Labels) -> float:
    """The share of pictures whose most probable class is the label. (N, K), (N,).

    >>> accuracy(np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([0, 1]))
    0.5
    """
    return float((probabilities.argmax(axis=1) == labels).mean())


def balanced_accuracy(probabilities: Floats, labels: Labels) -> float:
    """The mean over the classes present of each one's own accuracy. (N, K), (N,).

    >>> balanced_accuracy(np.array([[1, 0], [1, 0], [1, 0], [1, 0]]), np.array([0, 0, 0, 1]))
    0.5
    """
    hits = probabilities.argmax(axis=1) == labels
    return float(np.mean([hits[labels == c].mean() for c in np.unique(labels)]))


def quadratic_weighted_kappa(probabilities: Floats, labels: Labels) -> float:
    """Cohen's kappa of ordered classes, a miss weighed by its squared distance. (N, K), (N,).

    Cohen 1968: 1 is agreement, 0 is chance. NaN where labels and predictions are one class alone.

    >>> quadratic_weighted_kappa(np.eye(3)[[0, 1, 2, 1]], np.array([0, 1, 2, 2])).__round__(3)
    0.8
    """
    from sklearn.metrics import cohen_kappa_score

    given = probabilities.argmax(axis=1)
    if len(np.union1d(given, labels)) == 1:
        return float("nan")
    classes = np.arange(probabilities.shape[1])  # the weights need those without pictures too
    return float(cohen_kappa_score(labels, given, labels=classes, weights="quadratic"))


def expected_calibration_error(probabilities: Floats, labels: Labels, bins: int = 15) -> float:
    """The mean gap between confidence and accuracy over equal-width bins. (N, K), (N,).

    Guo et al. 2017, Eq. 3: bins (m/bins, (m+1)/bins] of the most probable class's probability,
    weighed by their pictures.

    >>> expected_calibration_error(np.array([[0.75, 0.25], [0.25, 0.75]]), np.array([0, 0]))
    0.25
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    gaps = (probabilities.argmax(axis=1) == labels) - confidence
    places = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return float(np.abs(np.bincount(places, weights=gaps, minlength=bins)).sum() / len(labels))


def brier_score(probabilities: Floats, labels: Labels) -> float:
    """The squared distance of the probabilities from the label's 0 and 1, 0 to 2. (N, K), (N,).

    Brier 1950, Eq. 2: summed over the classes, so that for two it is twice the binary score.

    >>> brier_score(np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([0, 0]))
    0.25
    """
    truth = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities - truth) ** 2).sum(axis=1).mean())


def commonest_class_share(probabilities: Floats) -> float:
    """The share of the pictures that are given the class given most often; 1 is a collapse. (N, K).

    >>> commonest_class_share(np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3]]))
    0.75
    """
    return float(np.bincount(probabilities.argmax(axis=1)).max() / len(probabilities))


def probability_drops(before: Floats, after: Floats, labels: Labels) -> Floats:
    """By how much the true class's probability falls in each picture. (N, K), (N, K), (N,) -> (N,).

    >>> probability_drops(np.array([[0.75, 0.25]]), np.array([[0.5, 0.5]]), np.array([0]))
    array([0.25])
    """
    rows = np.arange(len(labels))
    return before[rows, labels] - after[rows, labels]


def evidence_recall(masks: Masks, evidence: Masks) -> float:
    """The share of the evidence that a mask holds, averaged over pictures with any. (N, H, W).

    >>> evidence_recall(np.array([[[True, False]]]), np.array([[[True, True]]]))
    0.5
    """
    return _overlap(masks, evidence, of=evidence)


def evidence_precision(masks: Masks, evidence: Masks) -> float:
    """The share of a mask that is evidence, 0 for an empty mask, averaged likewise. (N, H, W).

    >>> evidence_precision(np.array([[[True, True]]]), np.array([[[True, False]]]))
    0.5
    """
    return _overlap(masks, evidence, of=masks)


def _overlap(masks: Masks, evidence: Masks, of: Masks) -> float:
    common, whole = (m.sum(axis=(1, 2)) for m in (masks & evidence, of))
    shares = np.divide(common, whole, out=np.zeros(len(masks)), where=whole > 0)
    return float(shares[evidence.any(axis=(1, 2))].mean())


def importance_loss(maps: Floats) -> float:
    """L_M (Gu et al. 2020, Eq. 8): the mean of M. (N, H, W).

    >>> importance_loss(np.array([[[0.0, 1.0]], [[0.0, 0.0]]]))
    0.25
    """
    return float(maps.mean(dtype=np.float64))


def extremes(maps: Floats) -> tuple[float, float]:
    """The shares of the pixels below 0.1 and above 0.9 (Gu et al. 2020, Sec. IV-E). (N, H, W).

    >>> extremes(np.array([[[0.0, 0.1], [0.95, 1.0]]]))
    (0.25, 0.5)
    """
    return float((maps < 0.1).mean()), float((maps > 0.9).mean())


def value_shares(maps: Floats, bins: int) -> Floats:
    """The share of the pixels in each of `bins` equal steps from 0 to 1. (N, H, W) -> (bins,).

    >>> value_shares(np.array([[[0.0, 0.4], [0.5, 1.0]]]), 2)
    array([0.5, 0.5])
    """
    counts, _ = np.histogram(maps, bins=bins, range=(0, 1))
    shares: Floats = counts / maps.size
    return shares
