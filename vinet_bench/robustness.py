"""How far maps move when pictures change a little: arrays in, figures of each picture out."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def relative_changes(maps: Floats, others: Floats) -> Floats:
    """||other - map|| / ||map|| (Yeh et al. 2019, Def. 3.1 over the map's norm, as captum has it).

    (N, H, W) twice -> (N,). A map that is 0 everywhere is divided by 1.

    >>> relative_changes(np.array([[[3.0, 4.0]]]), np.array([[[3.0, 9.0]]]))
    array([1.])
    """
    moved, norms = (
        np.sqrt((values.astype(np.float64) ** 2).sum(axis=(1, 2)))
        for values in (others - maps, maps)
    )
    found: Floats = moved / np.where(norms > 0, norms, 1.0)
    return found
