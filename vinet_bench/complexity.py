"""How spread out a map is: non-negative maps in, a figure of each out.

Each map is read as shares of its own sum; one without relevance counts as spread evenly.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def _shares(maps: Floats) -> Floats:
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    if (flat < 0).any():
        raise ValueError("shares of relevance need maps without negative values")
    sums = flat.sum(axis=1, keepdims=True)
    shares: Floats = np.where(sums > 0, flat, 1) / np.where(sums > 0, sums, flat.shape[1])
    return shares


def entropies(maps: Floats) -> Floats:
    """The entropy of the shares, as a share of the largest (Bhatt et al. 2020, arXiv 2005.00631,
    Eq. 7): 0 for one pixel, 1 for an even map. (N, H, W) -> (N,). Raises ValueError for negatives.

    >>> entropies(np.array([[[1.0, 1.0, 0.0, 0.0]]]))
    array([0.5])
    """
    shares = _shares(maps)
    logarithms = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    found: Floats = -(shares * logarithms).sum(axis=1) / np.log(shares.shape[1])
    return np.abs(found)  # -0.0 for a single pixel


def ginis(maps: Floats) -> Floats:
    """Gini's index of the shares (Chalasani et al. 2020, arXiv 1810.06583): 0 for an even map,
    1 - 1/n for one of n pixels. (N, H, W) -> (N,). Raises ValueError for negatives.

    >>> ginis(np.array([[[0.0, 0.0, 0.0, 1.0]]]))
    array([0.75])
    """
    shares = np.sort(_shares(maps), axis=1)
    n = shares.shape[1]
    weights = (n - np.arange(1, n + 1) + 0.5) / n
    found: Floats = 1 - 2 * (shares * weights).sum(axis=1)
    return found


def effective_areas(maps: Floats, held: float = 0.9) -> Floats:
    """The smallest share of the pixels that holds so much of the relevance. (N, H, W) -> (N,).

    Raises ValueError for negatives.

    >>> effective_areas(np.array([[[0.5, 0.3, 0.1, 0.1]]]))
    array([0.75])
    """
    highest = -np.sort(-_shares(maps), axis=1)
    reached = highest.cumsum(axis=1) < held - 1e-12  # a sum of 0.9 may fall short by rounding
    found: Floats = (reached.sum(axis=1) + 1) / highest.shape[1]
    return found
