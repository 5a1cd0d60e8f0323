"""The uncertainty of a figure: pure functions, arrays in, intervals out."""

import numpy as np
from numpy.typing import NDArray


def patient_bootstrap(
    scores: NDArray[np.floating],
    patients: NDArray[np.str_],
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> tuple[float, float]:
    """The percentile interval of a mean when whole patients are drawn, not slices.

    scores (N,), patients (N,) -> (low, high). Slices of one patient are alike, so that drawing
    slices would promise too narrow an interval (Field and Welsh 2007, cluster bootstrap).
    """
    _, cluster = np.unique(patients, return_inverse=True)
    sums = np.bincount(cluster, weights=scores)
    sizes = np.bincount(cluster)
    draws = np.random.default_rng(seed).multinomial(
        len(sums), np.full(len(sums), 1 / len(sums)), size=resamples
    )
    means = (draws @ sums) / (draws @ sizes)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
