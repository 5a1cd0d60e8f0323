"""Scores summed over each patient's pictures, and the variances of their means."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Clusters:
    """Sums and numbers of the scores of each row, seed, patient and class. (M, S, P, K) both."""

    sums: Floats
    counts: Floats

    @property
    def pooled(self) -> "Clusters":
        """All seeds as one. (M, 1, P, K)."""
        return Clusters(self.sums.sum(1, keepdims=True), self.counts.sum(1, keepdims=True))

    @property
    def patients(self) -> NDArray[np.int64]:
        """How many patients have a score in each row. (M,)."""
        found: NDArray[np.int64] = (self.counts.sum(axis=(1, 3)) > 0).sum(axis=1)
        return found

    def class_means(self) -> Floats:
        """Each seed's mean in each class, 0 for a class without scores. (M, S, K)."""
        return divide(self.sums.sum(axis=2), self.counts.sum(axis=2))

    def class_shares(self) -> Floats:
        """What each class weighs in a seed's mean, the same for all that have scores. (M, S, K)."""
        present = (self.counts.sum(axis=2) > 0).astype(np.float64)
        return divide(present, present.sum(axis=-1, keepdims=True))

    def means(self) -> Floats:
        """Each seed's mean over its classes, NaN for a seed without scores. (M, S)."""
        means = (self.class_means() * self.class_shares()).sum(axis=-1)
        return np.where(self.counts.sum(axis=(2, 3)) > 0, means, np.nan)


def clustered(scores: ArrayLike, patients: ArrayLike, classes: ArrayLike | None) -> Clusters:
    """Scores by patient and class. (M, S, N) or (M, N), (N,), (N,) or None for one class.

    A NaN is a picture without a score. Raises ValueError for other shapes and infinite scores.
    """
    values = np.asarray(scores, dtype=np.float64)
    values = values[:, None] if values.ndim == 2 else values
    who = np.asarray(patients)
    what = np.zeros(len(who), dtype=np.int64) if classes is None else np.asarray(classes)
    if values.ndim != 3 or not values.shape[2] == len(who) == len(what) > 0:
        raise ValueError(
            f"scores {np.shape(scores)} need a last axis as long as patients {who.shape} and "
            f"classes {what.shape}, at least 1"
        )
    if np.isinf(values).any():
        raise ValueError("a score is infinite; a picture without a score is NaN")
    scored = ~np.isnan(values)
    return Clusters(
        _grouped(np.where(scored, values, 0), who, what), _grouped(scored.astype(float), who, what)
    )


def _grouped(values: Floats, patients: NDArray[np.generic], classes: NDArray[np.generic]) -> Floats:
    """Sums over the pictures of each patient and class. (M, S, N) -> (M, S, P, K)."""
    names, patient = np.unique(patients, return_inverse=True)
    labels, label = np.unique(classes, return_inverse=True)
    cell = patient * len(labels) + label
    order = np.argsort(cell, kind="stable")
    cells, starts = np.unique(cell[order], return_index=True)
    sums = np.zeros((*values.shape[:2], len(names) * len(labels)))
    sums[..., cells] = np.add.reduceat(values[..., order], starts, axis=-1)
    return sums.reshape(*values.shape[:2], len(names), len(labels))


def divide(above: Floats, below: Floats) -> Floats:
    """Elementwise, 0 where the divisor is 0."""
    above, below = np.broadcast_arrays(above, below)
    return np.divide(above, below, out=np.zeros(above.shape), where=below != 0)


def patient_variance(clusters: Clusters) -> Floats:
    """The delete-one-patient jackknife's variance of each row's mean over all seeds. (M,).

    Miller 1974; like CR3 of MacKinnon and White 1985, it is the less biased the fewer and the more
    unequal the patients. A class that only the left-out patient has keeps its mean. NaN with
    fewer than two patients.
    """
    sums, counts = clusters.pooled.sums[:, 0], clusters.pooled.counts[:, 0]
    own = clusters.pooled.class_means()
    others = counts.sum(axis=1, keepdims=True) - counts
    left = np.where(others > 0, divide(sums.sum(axis=1, keepdims=True) - sums, others), own)
    means = (left * clusters.pooled.class_shares()).sum(axis=-1)
    present = counts.any(axis=-1)
    n = present.sum(axis=1)
    centre = divide((means * present).sum(axis=1), n)
    squares = ((means - centre[:, None]) ** 2 * present).sum(axis=1)
    return np.where(n > 1, divide((n - 1) * squares, n), np.nan)


def effective_patients(clusters: Clusters) -> Floats:
    """How many equally large patients weigh as much as these (Kish 1965). (M,)."""
    counts = clusters.pooled.counts[:, 0]
    shares = divide(counts, counts.sum(axis=1, keepdims=True)) * clusters.pooled.class_shares()
    return divide(np.ones(len(counts)), (shares.sum(axis=-1) ** 2).sum(axis=1))


@dataclass(frozen=True)
class SeedVariance:
    """Variances of each row's mean between seeds, and that of seeds by patients, which is in it and
    in the variance between patients; and the number of seeds. (M,) each, 0 and 0 for one seed.
    Of folds, where seeds have no patient in common: what their means vary more than patients tell,
    0, and the number of folds."""

    between: Floats
    interaction: Floats
    seeds: NDArray[np.int64]


def seed_variance(clusters: Clusters) -> SeedVariance:
    """Two-way analysis of variance, seeds by patients, or one-way of folds of patients."""
    crossed, folds = _crossed_variance(clusters), _folds_of_patients(clusters)
    count: NDArray[np.int64] = (folds.sum(axis=1) > 0).sum(axis=1)
    several = count > 1
    if not several.any():
        return crossed
    nested = _fold_variance(clusters, folds, count)
    return SeedVariance(
        np.where(several, nested.between, crossed.between),
        np.where(several, nested.interaction, crossed.interaction),
        np.where(several, nested.seeds, crossed.seeds),
    )


def _folds_of_patients(clusters: Clusters) -> Floats:
    """Seeds that share a patient, also by way of other seeds, are one fold, which is named by its
    first seed: 1 where a patient is in it, else 0. (M, P, S)."""
    seen = (clusters.counts.sum(axis=3) > 0).astype(np.float64)
    together = seen @ seen.swapaxes(1, 2) > 0
    for _ in range(seen.shape[1].bit_length()):
        together |= together.astype(np.float64) @ together > 0
    names = together.argmax(axis=2)  # (M, S)
    own = np.take_along_axis(names, seen.argmax(axis=1), axis=1)
    return np.where(own[..., None] == np.arange(seen.shape[1]), seen.max(axis=1)[..., None], 0.0)


def _fold_variance(clusters: Clusters, folds: Floats, count: NDArray[np.int64]) -> SeedVariance:
    """One-way analysis of variance of folds, whose patients have other networks: what the folds'
    parts of the mean vary more than their patients alone would (Searle, Casella and McCulloch 1992,
    Sec. 3.5). folds (M, P, S), count (M,)."""
    parts = np.einsum("mp,mps->ms", influence(clusters.pooled)[:, 0], folds)
    whole = divide(count * (parts**2).sum(axis=1), np.asarray(count - 1, np.float64))
    excess = np.nan_to_num(np.maximum(whole - patient_variance(clusters), 0))
    return SeedVariance(excess, np.zeros(len(excess)), count)


def _crossed_variance(clusters: Clusters) -> SeedVariance:
    """Two-way analysis of variance, seeds by patients (Dorfman, Berbaum and Metz 1992, where
    readers stand for our seeds and cases for our patients)."""
    seen = clusters.counts.sum(axis=(2, 3)) > 0
    n = seen.sum(axis=1)
    seed_means = np.where(seen, clusters.means(), 0)
    deviations = (seed_means - divide(seed_means.sum(axis=1), n)[:, None]) * seen
    between = divide((deviations**2).sum(axis=1), n * (n - 1))
    residuals = influence(clusters) * seen[..., None]
    residuals -= divide(residuals.sum(axis=1), n[:, None])[:, None] * seen[..., None]
    p = clusters.patients
    interaction = divide((residuals**2).sum(axis=(1, 2)) * p, n * (n - 1) * (p - 1))
    return SeedVariance(between, interaction, n)


def influence(clusters: Clusters) -> Floats:
    """By how much each patient moves each seed's mean, to first order. (M, S, P)."""
    weights = divide(clusters.class_shares(), clusters.counts.sum(axis=2))[:, :, None]
    residuals = clusters.sums - clusters.class_means()[:, :, None] * clusters.counts
    moves: Floats = (residuals * weights).sum(axis=-1)
    return moves
