"""How sure a figure is: pure functions, arrays in, intervals and p-values out.

Pictures of one patient are alike, so patients are drawn, swapped and counted, never pictures
(Field and Welsh 2007). docs/statistics.md says how the methods were chosen, and how well they hold.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from vinet_bench.bootstrap import pivots
from vinet_bench.patient_clusters import (
    Clusters,
    Floats,
    clustered,
    divide,
    effective_patients,
    patient_variance,
    seed_variance,
)

LEVEL = 0.05  # of a test, after Holm's correction where there are several
TAIL = 0.975  # below the upper end of a 95 % interval
LEAST = 0.1  # of the interaction, below which no variance of a mean is taken to be
FEW = 8  # with fewer patients there are too few different resamples for an end at 2.5 %
CELLS = 1_000_000  # signs at a time, to bound the memory


@dataclass(frozen=True)
class Intervals:
    """A mean for each row and the ends of its interval. (M,) each."""

    mean: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Agreement:
    """Kendall's tau-b of two rankings, its two-sided p-value, and how many rows it is over."""

    tau: float
    p: float
    n: int


# ---- intervals


def clustered_intervals(
    scores: ArrayLike,
    patients: ArrayLike,
    classes: ArrayLike | None = None,
    seed: int = 0,
    resamples: int = 10_000,
) -> Intervals:
    """Each row's mean over pictures and seeds, and its 95 % interval for other patients and seeds.

    scores (M, S, N) or (M, N), NaN where a picture has none; patients (N,) -> (M,) each. With
    classes (N,) the mean is over each class's own mean: of hits, the balanced accuracy. With one
    seed the interval is for other patients and the same trained networks. The ends are NaN with
    fewer than two patients. Raises ValueError for other shapes and infinite scores.
    """
    clusters = clustered(scores, patients, classes)
    mean = clusters.pooled.means()[:, 0]
    ways = _deviations(clusters, seed, resamples)
    low, high = np.mean([np.quantile(d, [1 - TAIL, TAIL], axis=0) for d in ways], axis=0)
    # A mean is never beyond its scores; nor is it left out where all pivots have one sign.
    values = np.asarray(scores, dtype=np.float64).reshape(len(mean), -1)
    least, most = np.fmin.reduce(values, axis=1), np.fmax.reduce(values, axis=1)
    low, high = mean - np.maximum(high, 0), mean - np.minimum(low, 0)
    return Intervals(*(np.clip(ends, least, most) for ends in (mean, low, high)))


def _deviations(clusters: Clusters, seed: int, resamples: int) -> tuple[Floats, Floats]:
    """What row means may be off by, over other patients and seeds. (R, M), (R, M).

    Two ways to add the seeds to the patients: Behrens and Fisher's, somewhat too wide, and with
    Satterthwaite's degrees of freedom, somewhat too narrow (docs/statistics.md). With one seed both
    are the patients' pivots alone.
    """
    first, second, third = np.random.default_rng(seed).spawn(3)
    seeds = seed_variance(clusters)
    # The interaction is in both, and counts once. Seeds that are equal by chance take nothing away.
    shared = seeds.interaction
    least = np.nan_to_num(np.maximum(LEAST * shared - seeds.between, 0))
    patients = np.maximum(patient_variance(clusters) - shared, least)
    df, seed_df = np.maximum(effective_patients(clusters) - 1, 1), np.maximum(seeds.seeds - 1, 1)
    squares = patients**2 / df + seeds.between**2 / seed_df
    whole_df = np.where(squares > 0, divide((patients + seeds.between) ** 2, squares), df)
    z, levels = stats.norm.ppf(TAIL), _levels(resamples, second)
    unit = _unit_pivots(clusters, pivots(clusters, resamples, first), third)
    unit, between = unit * np.sqrt(patients), np.sqrt(seeds.between)
    wide = unit * stats.t.ppf(TAIL, df) + between * _student(levels, seed_df)
    narrow = unit * z + between * stats.norm.ppf(levels)[:, None]
    narrow *= stats.t.ppf(TAIL, whole_df) / z
    return wide, narrow


def _unit_pivots(clusters: Clusters, drawn: Floats, rng: np.random.Generator) -> Floats:
    """Pivots in units of Student's quantile, and Student's own for few patients. (R, M)."""
    df = np.maximum(clusters.patients - 1, 1)
    few = clusters.patients < FEW
    chosen = np.where(few, _student(_levels(len(drawn), rng), df), drawn) if few.any() else drawn
    unit: Floats = chosen / stats.t.ppf(TAIL, df)
    return unit


def _student(levels: Floats, df: NDArray[np.int64]) -> Floats:
    """Student's quantiles. (R,), (M,) -> (R, M)."""
    different, index = np.unique(df, return_inverse=True)
    quantiles: Floats = stats.t.ppf(levels[:, None], different)[:, index]
    return quantiles


def _levels(count: int, rng: np.random.Generator) -> Floats:
    """Evenly spread probabilities in random order, a smoother draw than a uniform one."""
    return rng.permutation((np.arange(count) + 0.5) / count)


# ---- tests


def paired_permutation(
    differences: ArrayLike,
    patients: ArrayLike,
    classes: ArrayLike | None = None,
    seed: int = 0,
    resamples: int = 10_000,
) -> Floats:
    """Two-sided p-values of mean differences, whole patients' signs flipped together.

    differences (M, S, N) or (M, N) of a row minus the reference, NaN where either has no score;
    patients (N,), classes (N,) as above -> (M,). All 2^P flips where that is no more than
    `resamples`, else p = (1 + extreme) / (1 + resamples) (Winkler et al. 2014, whole-block sign
    flips; Good 2005). The networks stay as they are: seeds are not drawn. NaN without scores.
    """
    pooled = clustered(differences, patients, classes).pooled
    parts = _parts(pooled)
    observed = np.abs(parts.sum(axis=1))
    least = observed - 1e-9 * np.abs(parts).sum(axis=1)  # a tie stays a tie after rounding
    patient_count = parts.shape[1]
    exact = 2**patient_count <= resamples
    flips = _all_flips(patient_count) if exact else _flips(patient_count, resamples, seed)
    extreme = np.sum([(np.abs(f @ parts.T) >= least).sum(axis=0) for f in flips], axis=0)
    p = extreme / 2**patient_count if exact else (1 + extreme) / (1 + resamples)
    return np.where(pooled.patients > 0, p, np.nan)


def clustered_test(
    differences: ArrayLike,
    patients: ArrayLike,
    classes: ArrayLike | None = None,
    seed: int = 0,
    resamples: int = 10_000,
) -> Floats:
    """Two-sided p-values of mean differences over other patients and other seeds.

    Arguments as paired_permutation -> (M,). The larger of its p-value, which holds for the networks
    as they are, and with several seeds of one that counts what differs between trainings, by the
    wider of clustered_intervals' two ways: their middle is too bold so far out as Holm looks.
    """
    by_patients = paired_permutation(differences, patients, classes, seed, resamples)
    clusters = clustered(differences, patients, classes)
    several = (clusters.patients > 1) & (seed_variance(clusters).seeds > 1)
    if not several.any():
        return by_patients
    mean = clusters.pooled.means()[:, 0]
    wide, _ = _deviations(clusters, seed, resamples)
    beyond = np.minimum((wide >= mean).sum(axis=0), (wide <= mean).sum(axis=0))
    by_seeds = np.minimum(2 * (1 + beyond) / (1 + resamples), 1)
    return np.where(several, np.maximum(by_patients, by_seeds), by_patients)


def _parts(pooled: Clusters) -> Floats:
    """What each patient adds to a row's mean. (M, P)."""
    weights = divide(pooled.class_shares(), pooled.counts.sum(axis=2))[:, 0, None]
    parts: Floats = (pooled.sums[:, 0] * weights).sum(axis=-1)
    return parts


def _all_flips(patients: int) -> list[Floats]:
    """Every row of signs once. [(2^P, P)]."""
    bits = np.arange(2**patients)[:, None] >> np.arange(patients) & 1
    return [(1 - 2 * bits).astype(np.float64)]


def _flips(patients: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Random rows of signs. Yields (r, P)."""
    rng = np.random.default_rng(seed)
    step = max(CELLS // patients, 1)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        yield (1 - 2 * rng.integers(0, 2, (rows, patients), np.int8)).astype(np.float64)


def holm(p: ArrayLike) -> Floats:
    """Holm's (1979) adjusted p-values over all tests made; NaN, no test, stays NaN. (M,) -> (M,).

    >>> holm([0.01, np.nan, 0.04, 0.03]).round(2).tolist()
    [0.03, nan, 0.06, 0.06]
    """
    adjusted = np.array(p, dtype=np.float64)
    order = np.argsort(adjusted)[: (~np.isnan(adjusted)).sum()]  # NaN comes last
    steps = adjusted[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def smallest_difference(
    differences: ArrayLike,
    patients: ArrayLike,
    classes: ArrayLike | None = None,
    power: float = 0.8,
    level: float = LEVEL,
) -> Floats:
    """The smallest true mean difference that a test at `level` finds with probability `power`.

    Arguments as paired_permutation -> (M,): (t(1 - level / 2) + t(power)) times the patients'
    standard error (Cohen 1988, Sec. 2.4), at the effective number of patients less one. Infinite
    where even one sign in all patients is no less likely than `level`: below 6 patients for 0.05.
    """
    clusters = clustered(differences, patients, classes)
    df = np.maximum(effective_patients(clusters) - 1, 1)
    quantiles = stats.t.ppf(1 - level / 2, df) + stats.t.ppf(power, df)
    found = quantiles * np.sqrt(patient_variance(clusters))
    return np.where(2.0 ** (1 - clusters.patients) > level, np.inf, found)


def ranking_agreement(a: ArrayLike, b: ArrayLike) -> Agreement:
    """Kendall's tau-b (1945) between two columns of figures, rows with a NaN left out. (M,), (M,).

    tau and p are NaN where fewer than two rows are left or a column is constant.

    >>> ranking_agreement([0.9, 0.8, 0.7, np.nan], [0.6, 0.5, 0.1, 0.3]).tau
    1.0
    """
    pairs = np.stack([np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)])
    pairs = pairs[:, ~np.isnan(pairs).any(axis=0)]
    if pairs.shape[1] < 2:
        return Agreement(np.nan, np.nan, pairs.shape[1])
    outcome = stats.kendalltau(*pairs, variant="b")
    return Agreement(float(outcome.statistic), float(outcome.pvalue), pairs.shape[1])
