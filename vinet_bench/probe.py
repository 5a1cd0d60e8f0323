"""What a mask gives away by itself, read by a forest: the floor under the mask-only network, which
may have failed to learn."""

import numpy as np
from numpy.typing import NDArray

Masks = NDArray[np.bool_]
Labels = NDArray[np.int64]
GRID = 8
TREES = 100
SMALLEST_LEAF = 3


def areas(masks: Masks) -> NDArray[np.float64]:
    """The share of reserved pixels as the only feature. (N, H, W) -> (N, 1)."""
    found: NDArray[np.float64] = masks.mean(axis=(1, 2))[:, None]
    return found


def shares_in_cells(masks: Masks) -> NDArray[np.float64]:
    """The share of reserved pixels in each cell of an 8 x 8 grid. (N, H, W) -> (N, 64).

    >>> float(shares_in_cells(np.ones((1, 16, 16), bool)).min())
    1.0
    """
    rows, columns = (np.arange(GRID) * side // GRID for side in masks.shape[1:])
    sums = np.add.reduceat(np.add.reduceat(masks.astype(np.float64), rows, 1), columns, 2)
    height, width = (
        np.diff(np.append(starts, side))
        for starts, side in zip((rows, columns), masks.shape[1:], strict=True)
    )
    found: NDArray[np.float64] = (sums / (height[:, None] * width)).reshape(len(masks), -1)
    return found


def forest_predictions(
    train: NDArray[np.float64], labels: Labels, test: NDArray[np.float64], seed: int
) -> Labels:
    """The classes that a random forest reads off features. (A, F), (A,), (B, F) -> (B,)."""
    from sklearn.ensemble import RandomForestClassifier  # a second to import

    forest = RandomForestClassifier(TREES, min_samples_leaf=SMALLEST_LEAF, random_state=seed)
    found: Labels = forest.fit(train, labels).predict(test).astype(np.int64)
    return found
