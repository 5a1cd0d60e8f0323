"""Where maps lie against annotated evidence: arrays in, a figure of each picture out.

A picture without evidence has no figure (NaN). Ranks decide everything but the relevance mass.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from vinet_bench.data.dataset import reader_masks

Floats = NDArray[np.floating]
Masks = NDArray[np.bool_]
TOLERANCE = (
    0.03  # of the shorter side: the 15 pixels of Zhang et al. 2018 on pictures of VOC's size
)
THIRDS = ("small", "medium", "large")


def pointing_hits(points: Masks, evidence: Masks) -> Floats:
    """The pointing game (Zhang et al. 2018, Sec. 4.1): 1 where a picture's one marked pixel lies
    on the evidence or within the tolerance of it. (N, H, W) twice -> (N,).

    The tolerance is 3 % of the shorter side, rounded: 1 pixel of 32, 2 of 64, 4 of 128.

    >>> point = np.zeros((1, 32, 32), bool); point[0, 5, 5] = True
    >>> pointing_hits(point, np.roll(point, 1, axis=2)), pointing_hits(point, np.roll(point, 2, 2))
    (array([1.]), array([0.]))
    """
    reach = round(TOLERANCE * min(evidence.shape[1:]))
    near = [distance_transform_edt(~mask) <= reach if mask.any() else mask for mask in evidence]
    hit = (points & np.stack(near)).any(axis=(1, 2)).astype(np.float64)
    return _where_evidence(evidence, hit)


def mass_accuracy(relevance: Floats, evidence: Masks) -> Floats:
    """Relevance mass accuracy (Arras et al. 2022, Eq. 1): the share of a map's sum on the evidence.

    relevance (N, H, W), not negative -> (N,); a map that is 0 everywhere has 0. Raises ValueError
    for a negative value, of which a share says nothing.

    >>> mass_accuracy(np.array([[[3.0, 1.0]]]), np.array([[[True, False]]]))
    array([0.75])
    """
    if (relevance < 0).any():
        raise ValueError("relevance mass needs maps without negative values: scale them first")
    inside = np.where(evidence, relevance, 0).sum(axis=(1, 2), dtype=np.float64)
    whole = relevance.sum(axis=(1, 2), dtype=np.float64)
    shares = np.divide(inside, whole, out=np.zeros(len(whole)), where=whole > 0)
    return _where_evidence(evidence, shares)


def rank_accuracy(top: Masks, evidence: Masks) -> Floats:
    """Relevance rank accuracy (Arras et al. 2022, Eq. 2): the share of the evidence that a map's
    highest pixels hold, as many as the evidence has. (N, H, W) twice -> (N,).

    >>> rank_accuracy(np.array([[[True, True, False]]]), np.array([[[False, True, True]]]))
    array([0.5])
    """
    return _share((top & evidence).sum(axis=(1, 2)), evidence.sum(axis=(1, 2)), evidence)


def iou(masks: Masks, evidence: Masks) -> Floats:
    """Intersection over union (Jaccard 1901). (N, H, W) twice -> (N,).

    >>> iou(np.array([[[True, True, False]]]), np.array([[[False, True, True]]])).round(3)
    array([0.333])
    """
    common, either = (m.sum(axis=(1, 2)) for m in (masks & evidence, masks | evidence))
    return _share(common, either, evidence)


def dice(masks: Masks, evidence: Masks) -> Floats:
    """Dice's (1945) coefficient; at equal area it is the rank accuracy. (N, H, W) twice -> (N,).

    >>> dice(np.array([[[True, True, False]]]), np.array([[[False, True, True]]]))
    array([0.5])
    """
    common, one, other = (m.sum(axis=(1, 2)) for m in (masks & evidence, masks, evidence))
    return _share(2 * common, one + other, evidence)


def average_precision(maps: Floats, evidence: Masks) -> Floats:
    """Area under each picture's precision-recall curve of its pixels (scikit-learn's, without
    interpolation; tied pixels enter together). (N, H, W) twice -> (N,).

    >>> average_precision(np.array([[[3.0, 2.0, 1.0]]]), np.array([[[True, False, True]]])).round(3)
    array([0.833])
    """
    from sklearn.metrics import average_precision_score  # a second to import

    return np.array(
        [
            average_precision_score(mask.ravel(), values.ravel()) if mask.any() else np.nan
            for values, mask in zip(maps, evidence, strict=True)
        ]
    )


def size_thirds(evidence: Masks) -> dict[str, Masks]:
    """Which pictures have a small, a medium or a large piece of evidence: thirds of the pictures
    that have any, by area. (N, H, W) -> (N,) by name.

    >>> areas = np.arange(4)[:, None, None] > np.arange(3)[None, None]  # 0, 1, 2 and 3 pixels
    >>> {name: chosen.nonzero()[0].tolist() for name, chosen in size_thirds(areas).items()}
    {'small': [1], 'medium': [2], 'large': [3]}
    """
    areas = evidence.sum(axis=(1, 2))
    bounds = np.quantile(areas[areas > 0], [1 / 3, 2 / 3]) if areas.any() else np.zeros(2)
    third = np.searchsorted(bounds, areas)
    return {name: (third == i) & (areas > 0) for i, name in enumerate(THIRDS)}


def readers_of(bits: NDArray[np.uint8]) -> list[Masks]:
    """Each reader's outlines; a reader who outlined nothing anywhere is left out.

    bits (N, H, W), bit r set where reader r outlined -> (N, H, W) for each reader.
    """
    return [mask for mask in reader_masks(bits) if mask.any()]


def consensus_of_present(readers: list[Masks]) -> Masks:
    """The pixels that half of the readers or more outlined, of those who outlined anything in the
    picture. (N, H, W) each -> (N, H, W).

    >>> one, other = np.array([[[True, True]]]), np.array([[[True, False]]])
    >>> consensus_of_present([one, other]), consensus_of_present([other, other, one])
    (array([[[ True,  True]]]), array([[[ True, False]]]))
    """
    votes = np.sum(readers, axis=0, dtype=np.int64)
    present = np.sum([r.any(axis=(1, 2)) for r in readers], axis=0)[:, None, None]
    found: Masks = (2 * votes >= present) & (votes > 0)
    return found


def _share(part: NDArray[np.int64], whole: NDArray[np.int64], evidence: Masks) -> Floats:
    return _where_evidence(evidence, part / np.maximum(whole, 1))


def _where_evidence(evidence: Masks, figures: Floats) -> Floats:
    found: Floats = np.where(evidence.any(axis=(1, 2)), figures, np.nan)
    return found
