"""Bootstrap-t pivots of means of clustered scores, whole patients drawn."""

from collections.abc import Iterator

import numpy as np

from vinet_bench.patient_clusters import Clusters, Floats, divide

CELLS = 200_000  # counts at a time, so that they stay in the cache


def pivots(clusters: Clusters, resamples: int, rng: np.random.Generator) -> Floats:
    """(resample's mean - mean) / the resample's own standard error. (M, S, P, K) -> (R, M).

    Seeds are pooled. The errors are the linear ones of the ratio estimator (Davison and Hinkley
    1997, Sec. 5.2, over patients). A resample of equal patients has no error: 0 stands for it.
    """
    pooled = clusters.pooled
    counts = pooled.counts[:, 0].transpose(1, 0, 2)
    sums = pooled.sums[:, 0].transpose(1, 0, 2) - pooled.class_means()[:, 0] * counts
    shares = pooled.class_shares()[:, 0]
    typical = np.einsum("pmk,mk->pm", sums, divide(shares, counts.sum(axis=0)))
    tiny = 1e-12 * (typical**2).sum(axis=0)  # what rounding leaves of a variance of 0
    if (counts == counts[:, :1]).all():
        counts = counts[:, :1]  # of the same pictures, as most tables are: added up once
    columns = _columns(sums, counts)
    return np.concatenate(
        [
            _studentized(_drawn(drawn, columns), shares, tiny)
            for drawn in _draws(len(sums), resamples, rng)
        ]
    )


def _draws(patients: int, resamples: int, rng: np.random.Generator) -> Iterator[Floats]:
    """How often each patient is drawn. Yields (r, P)."""
    step = max(CELLS // patients, 1)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        picks = rng.integers(patients, size=(rows, patients))
        picks += np.arange(rows)[:, None] * patients
        counts = np.bincount(picks.ravel(), minlength=rows * patients)
        yield counts.reshape(rows, patients).astype(np.float64)


def _columns(sums: Floats, counts: Floats) -> list[Floats]:
    """What is added up over the patients drawn: sums, counts, and the products of all pairs of
    classes. (P, M, K), (P, M or 1, K) -> (P, M or 1, K) twice, (P, M or 1, K, K) three times."""
    pairs = ((sums, sums), (sums, counts), (counts, counts))
    return [sums, counts, *(a[..., :, None] * b[..., None, :] for a, b in pairs)]


def _drawn(drawn: Floats, columns: list[Floats]) -> list[Floats]:
    """Sums over the patients drawn, in one product. (r, P), [(P, ...)] -> (r, ...) each."""
    flat = [values.reshape(len(values), -1) for values in columns]
    ends = np.cumsum([values.shape[1] for values in flat])
    added = np.split(drawn @ np.concatenate(flat, axis=1), ends[:-1], axis=1)
    return [
        found.reshape(len(drawn), *values.shape[1:])
        for found, values in zip(added, columns, strict=True)
    ]


def _studentized(added: list[Floats], shares: Floats, tiny: Floats) -> Floats:
    """What _drawn adds of _columns, (M, K), (M,) -> (r, M)."""
    sums, sizes, ss, sc, cc = added
    weights, moves = divide(shares, sizes), divide(sums, sizes)
    # A patient's part is sum_k w_k (sum_k - move_k count_k); its square, summed over those drawn,
    # needs the products of all pairs of classes.
    rows, columns = moves[..., :, None], moves[..., None, :]
    squares = ss - sc * columns - sc.swapaxes(-1, -2) * rows + cc * rows * columns
    squares *= weights[..., :, None] * weights[..., None, :]
    variances = squares.sum(axis=(-1, -2))
    means = (moves * shares).sum(axis=-1)
    return divide(means, np.sqrt(np.where(variances > tiny, variances, 0)))
