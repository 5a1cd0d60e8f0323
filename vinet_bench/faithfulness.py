"""Whether a map foretells the fall of a network's output: arrays in, a figure of each picture."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def infidelities(sums: Floats, falls: Floats) -> Floats:
    """Infidelity of each picture (Yeh et al. 2019, Def. 2.1) at its map's best scale (their Prop.
    on optimal scaling, captum's normalize=True): the mean of (beta * sum - fall)^2 over the sets.

    sums (N, P): a map's sum over each set of pixels; falls (N, P): by how much the output falls
    without the set -> (N,). A map whose sums are 0 predicts no fall.

    >>> infidelities(np.array([[1.0, 2.0], [1.0, 1.0]]), np.array([[3.0, 6.0], [0.0, 2.0]]))
    array([0., 1.])
    """
    squares, products = (sums**2).mean(axis=1), (sums * falls).mean(axis=1)
    scale = np.divide(products, squares, out=np.zeros(len(sums)), where=squares > 0)
    found: Floats = ((scale[:, None] * sums - falls) ** 2).mean(axis=1)
    return found


def correlations(sums: Floats, falls: Floats) -> Floats:
    """Sensitivity-n of each picture for one n (Ancona et al. 2018, Def. 1): Pearson's correlation
    of the map's sum over sets of n pixels with the fall without them. (N, P), (N, P) -> (N,).

    A map whose sums are all equal predicts nothing: 0; likewise an output that never moves.

    >>> correlations(np.array([[1.0, 2.0, 3.0], [1.0, 1.0, 1.0]]), np.array([[6.0, 4.0, 2.0]] * 2))
    array([-1.,  0.])
    """
    one, other = (values - values.mean(axis=1, keepdims=True) for values in (sums, falls))
    norms = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    # Below this the spread is that of rounding.
    tiny = 1e-12 * np.sqrt((sums**2).sum(axis=1) * (falls**2).sum(axis=1))
    products = (one * other).sum(axis=1)
    found: Floats = np.divide(products, norms, out=np.zeros(len(sums)), where=norms > tiny)
    return found
