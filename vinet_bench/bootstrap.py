"""Bootstrap-t pivots of means of clustered scores, whole patients drawn."""

from collections.abc import Iterator

import numpy as np

from vinet_bench.clusters import Clusters, Floats, divide

CELLS = 50_000  # counts at a time, so that they stay in the cache


def pivots(clusters: Clusters, resamples: int, rng: np.random.Generator) -> Floats:
    """(resample's mean - mean) / the resample's own standard error. (M, S, P, K) -> (R, M).

    Seeds are pooled. The errors are the linear ones of the ratio estimator (Davison and Hinkley
    1997, Sec. 5.2, over patients). A resample of equal patients has no error: 0 stands for it.
    """
    pooled = clusters.pooled
    counts = pooled.counts[:, 0].transpose(1, 0, 2)
    sums = pooled.sums[:, 0].transpose(1, 0, 2) - pooled.class_means()[:, 0] * counts
    shares = pooled.class_shares()[:, 0]
    return np.concatenate(
        [_studentized(drawn, sums, counts, shares) for drawn in _draws(len(sums), resamples, rng)]
    )


def _draws(patients: int, resamples: int, rng: np.random.Generator) -> Iterator[Floats]:
    """How often each patient is drawn. Yields (r, P)."""
    step = max(CELLS // patients, 1)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        picks = rng.integers(patients, size=(rows, patients), dtype=np.int32)
        picks += np.arange(rows, dtype=np.int32)[:, None] * patients
        counts = np.bincount(picks.ravel(), minlength=rows * patients)
        yield counts.reshape(rows, patients).astype(np.float64)


def _studentized(drawn: Floats, sums: Floats, counts: Floats, shares: Floats) -> Floats:
    """(r, P), sums about the class means (P, M, K), (P, M, K), (M, K) -> (r, M)."""
    sizes = _drawn(drawn, counts)
    weights, moves = divide(shares, sizes), divide(_drawn(drawn, sums), sizes)  # (r, M, K)
    # A patient's part is sum_k w_k (sum_k - move_k count_k); its square, summed over those drawn,
    # needs the products of all pairs of classes.
    ss, sc, cc = (
        _drawn(drawn, a[..., :, None] * b[..., None, :])
        for a, b in ((sums, sums), (sums, counts), (counts, counts))
    )
    rows, columns = moves[..., :, None], moves[..., None, :]
    squares = ss - sc * columns - sc.swapaxes(-1, -2) * rows + cc * rows * columns
    variances = np.einsum("rmkl,rmk,rml->rm", squares, weights, weights, optimize=True)
    means = (moves * shares).sum(axis=-1)
    typical = np.einsum("pmk,mk->pm", sums, divide(shares, counts.sum(axis=0)))
    tiny = 1e-12 * (typical**2).sum(axis=0)  # what rounding leaves of a variance of 0
    return divide(means, np.sqrt(np.where(variances > tiny, variances, 0)))


def _drawn(drawn: Floats, values: Floats) -> Floats:
    """Sums over the patients drawn. (r, P), (P, ...) -> (r, ...)."""
    return (drawn @ values.reshape(len(values), -1)).reshape(len(drawn), *values.shape[1:])
