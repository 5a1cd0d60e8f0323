"""Hounsfield units as grey: the lung window that all data is seen in."""

import numpy as np
from numpy.typing import NDArray

HU_WINDOW = (-1000.0, 400.0)  # black and white
AIR_HU = HU_WINDOW[0]


def windowed(hu: NDArray[np.float32] | NDArray[np.int16]) -> NDArray[np.float32]:
    """-1000..400 HU as 0..1, what lies beyond cut off.

    >>> windowed(np.array([-1024, -1000, -300, 3071], dtype=np.int16)).tolist()
    [0.0, 0.0, 0.5, 1.0]
    """
    low, high = HU_WINDOW
    unit = (hu.astype(np.float32).clip(low, high) - low) / (high - low)
    return unit.astype(np.float32)
