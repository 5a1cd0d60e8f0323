"""Figures from predictions and masks: arrays in, numbers out."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

Floats = NDArray[np.floating]
Labels = NDArray[np.int64]
Masks = NDArray[np.bool_]


def hits(probabilities: Floats, labels: Labels) -> Floats:
    """1 for each picture whose most probable class is its label, else 0. (N, K), (N,) -> (N,).

    >>> hits(np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([0, 1]))
    array([1., 0.])
    """
    found: Floats = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    return found


def balanced_hits(probabilities: Floats, labels: Labels) -> Floats:
    """Hits weighted so that their mean is the balanced accuracy: that of the classes' own
    accuracies, over the classes present. (N, K), (N,) -> (N,).

    >>> float(balanced_hits(np.array([[1, 0]] * 4), np.array([0, 0, 0, 1])).mean())
    0.5
    """
    _, place, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    weights: Floats = len(labels) / (len(sizes) * sizes[place])
    return hits(probabilities, labels) * weights


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


def brier_scores(probabilities: Floats, labels: Labels) -> Floats:
    """Each picture's squared distance from the label's 0 and 1, 0 to 2. (N, K), (N,) -> (N,).

    Brier 1950, Eq. 2: summed over the classes, so that for two it is twice the binary score.

    >>> brier_scores(np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([0, 0]))
    array([0.5, 0. ])
    """
    truth = np.eye(probabilities.shape[1])[labels]
    found: Floats = ((probabilities - truth) ** 2).sum(axis=1)
    return found


def commonest_class_share(probabilities: Floats) -> float:
    """The share of the pictures that are given the class given most often; 1 is a collapse. (N, K).

    >>> commonest_class_share(np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3]]))
    0.75
    """
    return float(np.bincount(probabilities.argmax(axis=1)).max() / len(probabilities))


def class_probabilities(probabilities: Floats, classes: Labels) -> Floats:
    """Each picture's probability of its class. (N, K), (N,) -> (N,).

    >>> class_probabilities(np.array([[0.75, 0.25], [0.5, 0.5]]), np.array([0, 1]))
    array([0.75, 0.5 ])
    """
    return probabilities[np.arange(len(classes)), classes]


def probability_drops(before: Floats, after: Floats, labels: Labels) -> Floats:
    """By how much the true class's probability falls in each picture. (N, K), (N, K), (N,) -> (N,).

    >>> probability_drops(np.array([[0.75, 0.25]]), np.array([[0.5, 0.5]]), np.array([0]))
    array([0.25])
    """
    return class_probabilities(before, labels) - class_probabilities(after, labels)


def evidence_recall(masks: Masks, evidence: Masks) -> Floats:
    """The share of each picture's evidence that its mask holds, NaN without any. (N, H, W) -> (N,).

    >>> evidence_recall(np.array([[[True, False]]]), np.array([[[True, True]]]))
    array([0.5])
    """
    return _overlap(masks, evidence, of=evidence)


def evidence_precision(masks: Masks, evidence: Masks) -> Floats:
    """The share of each mask that is evidence, 0 for an empty mask, NaN likewise.

    >>> evidence_precision(np.array([[[True, True]]]), np.array([[[True, False]]]))
    array([0.5])
    """
    return _overlap(masks, evidence, of=masks)


def _overlap(masks: Masks, evidence: Masks, of: Masks) -> Floats:
    common, whole = (m.sum(axis=(1, 2)) for m in (masks & evidence, of))
    shares = np.divide(common, whole, out=np.zeros(len(masks)), where=whole > 0)
    found: Floats = np.where(evidence.any(axis=(1, 2)), shares, np.nan)
    return found


def importance_losses(maps: Floats) -> Floats:
    """L_M of each picture (Gu et al. 2020, Eq. 8): the mean of M. (N, H, W) -> (N,).

    >>> importance_losses(np.array([[[0.0, 1.0]], [[0.0, 0.0]]]))
    array([0.5, 0. ])
    """
    found: Floats = maps.mean(axis=(1, 2), dtype=np.float64)
    return found


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


def curve_areas(places: Sequence[float] | Floats, scores: Floats) -> Floats:
    """The area under each picture's curve by the trapezoid rule, as a share of the range of the
    places: the mean height. places (S,) rising, two or more; scores (S, N) -> (N,).

    >>> curve_areas([0.0, 0.2, 1.0], np.array([[1.0], [1.0], [0.0]])).round(3)
    array([0.6])
    """
    x = np.asarray(places, np.float64)
    found: Floats = np.trapezoid(scores, x, axis=0) / (x[-1] - x[0])
    return found


def mean_rank_correlation(maps: Floats, others: Floats) -> float:
    """Spearman's correlation of each pair of maps, averaged. (N, H, W) twice.

    >>> mean_rank_correlation(np.array([[[0, 1, 2]]]), np.array([[[0, 5, 9]]]))
    1.0
    """
    return float(np.mean(rank_correlations(maps, others)))


def rank_correlations(maps: Floats, others: Floats) -> Floats:
    """Spearman's correlation of each pair of maps. (N, H, W) twice -> (N,).

    A constant map has no order: it counts as 1 beside its equal, else as 0.

    >>> rank_correlations(np.array([[[0, 1, 2]]]), np.array([[[9, 5, 0]]]))
    array([-1.])
    """
    return np.array([_rank_correlation(a, b) for a, b in zip(maps, others, strict=True)])


def structural_similarities(maps: Floats, others: Floats) -> Floats:
    """SSIM (Wang et al. 2004, Gaussian window of sigma 1.5) of each pair of maps, each brought to
    [0, 1] by its range; a constant map becomes 0. (N, H, W) twice, sides of 11 or more -> (N,).

    >>> ramp = np.arange(256.0).reshape(1, 16, 16)
    >>> structural_similarities(ramp, 3 * ramp + 1)
    array([1.])
    """
    from skimage.metrics import structural_similarity  # half a second to import

    return np.array(
        [
            structural_similarity(  # type: ignore[no-untyped-call]
                _over_range(a), _over_range(b), data_range=1.0, gaussian_weights=True, sigma=1.5,
                use_sample_covariance=False,
            )
            for a, b in zip(maps, others, strict=True)
        ]
    )  # fmt: skip


def _over_range(values: Floats) -> Floats:
    low, high = values.min(), values.max()
    found: Floats = (values.astype(np.float64) - low) / (high - low if high > low else 1)
    return found


def _rank_correlation(one: Floats, other: Floats) -> float:
    if one.min() == one.max() or other.min() == other.max():
        return float(np.array_equal(one, other))
    return float(spearmanr(one, other, axis=None).statistic)
