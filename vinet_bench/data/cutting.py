"""Square axial slices around a nodule, with each reader's mask, cut from a scan."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from vinet_bench.data.headers import ScanError
from vinet_bench.data.hounsfield import AIR_HU, HU_WINDOW
from vinet_bench.data.pictures import resize_mask, resize_picture
from vinet_bench.data.readings import Box, LidcNodule, rasterised
from vinet_bench.data.scans import Scan


class Cut(BaseModel):
    """How slices are cut; everything that changes a pixel or a label."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    size: int = Field(128, ge=16, le=512, description="side in pixels")
    slices: Literal["largest", "all"] | Annotated[int, Field(ge=1)] = Field(
        "largest", description="of a nodule: the largest, all, or the k largest"
    )
    spacing_mm: float | None = Field(
        None, ge=0.05, le=10, description="of the pixels; native if none"
    )
    jitter: int = Field(
        16, ge=0, description="the nodule's centre is off by at most so many pixels"
    )
    label: Literal["median", "mean"] = "median"
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _nodule_stays_inside(self) -> Self:
        if 2 * self.jitter >= self.size:
            raise ValueError(f"it should be below half of the size ({self.size})")
        return self


@dataclass(frozen=True)
class CutSlice:
    """One slice of a nodule: image (H, W) uint8, readers (H, W) uint8, a bit for each reader.

    k: its place in the scan. spacing_mm: of the cut picture, x and y.
    """

    image: NDArray[np.uint8]
    readers: NDArray[np.uint8]
    k: int
    z_mm: float
    spacing_mm: tuple[float, float]


def consensus(readers: NDArray[np.uint8], count: int | NDArray[np.int64]) -> NDArray[np.bool_]:
    """The pixels that half of `count` readers or more outlined. readers (..., H, W), a bit each.

    >>> consensus(np.array([[0b000, 0b001, 0b101]], np.uint8), 3)
    array([[False, False,  True]])
    """
    return np.asarray(2 * np.bitwise_count(readers).astype(np.int64) >= count) & (readers > 0)


def malignancy(scores: Sequence[int], how: Literal["median", "mean"] = "median") -> int:
    """The readers' median (or mean) malignancy, 1 to 5, halves rounded up.

    >>> malignancy([2, 3]), malignancy([1, 1, 5]), malignancy([1, 1, 5], "mean")
    (3, 1, 2)
    """
    centre = np.median(scores) if how == "median" else np.mean(scores)
    return int(np.floor(centre + 0.5))


def human_ceiling(scores: Iterable[Sequence[int]]) -> float:
    """The share of single readings that equal the median of the same nodule's other readers.

    >>> round(human_ceiling([[3, 3, 3], [1, 2, 3]]), 2)
    0.67
    """
    agree = [
        score == malignancy([*of[:i], *of[i + 1 :]])
        for of in map(list, scores)
        for i, score in enumerate(of)
    ]
    return float(np.mean(agree))


def cut_nodule(scan: Scan, nodule: LidcNodule, cut: Cut) -> list[CutSlice]:
    """The wanted slices of a nodule, from below. Raises ScanError if they cannot be had."""
    hull = _hull(nodule)
    if not _holds(scan, hull):
        raise ScanError("the nodule lies outside the volume")
    places = {z: scan.slice_at(nodule.x, nodule.y, z) for z in _chosen(nodule, hull, cut)}
    if None in places.values():
        raise ScanError("the nodule lies outside the volume")
    if len(set(places.values())) < len(places):
        raise ScanError("its outlines are nearer to each other than the scan's slices")
    window = _window(scan, nodule, hull, cut)
    return [_cut(scan, nodule, z, k, window) for z, k in places.items() if k is not None]


def _hull(nodule: LidcNodule) -> Box:
    """The smallest box that holds every reader's outlines."""
    boxes = [reading.box for reading in nodule.readings]
    left, top = min(b.left for b in boxes), min(b.top for b in boxes)
    right, bottom = max(b.left + b.width for b in boxes), max(b.top + b.height for b in boxes)
    return Box(left, top, right - left, bottom - top)


def _holds(scan: Scan, hull: Box) -> bool:
    across, down, _ = scan.size
    inside = hull.left >= 0 and hull.top >= 0
    return inside and hull.left + hull.width <= across and hull.top + hull.height <= down


def _chosen(nodule: LidcNodule, hull: Box, cut: Cut) -> list[float]:
    """The heights z in mm of the slices to cut, from below: where half the readers agree."""
    heights = sorted({z for reading in nodule.readings for z in reading.z_mm})
    readers = len(nodule.readings)
    areas = {z: int(consensus(_bits(nodule, z, hull), readers).sum()) for z in heights}
    held = sorted((z for z in heights if areas[z]), key=lambda z: -areas[z])
    if not held:
        raise ScanError("half of the readers agree on no pixel")
    count = {"largest": 1, "all": len(held)}.get(str(cut.slices)) or int(cut.slices)
    return sorted(held[:count])


def _bits(nodule: LidcNodule, z_mm: float, box: Box) -> NDArray[np.uint8]:
    """Each pixel's readers, a bit each, (H, W)."""
    return _packed([rasterised(r.at(z_mm), box) for r in nodule.readings])


def _packed(masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.uint8]:
    bits = np.zeros(masks[0].shape, dtype=np.uint8)
    for place, mask in enumerate(masks):
        bits |= mask.astype(np.uint8) << place
    return bits


@dataclass(frozen=True)
class _Window:
    """What becomes the picture, in the scan's pixels from its corner: left, top, width, height."""

    left: float
    top: float
    width: float
    height: float
    size: int

    @property
    def box(self) -> Box:
        """The whole pixels that it touches."""
        left, top = int(np.floor(self.left)), int(np.floor(self.top))
        right = int(np.ceil(self.left + self.width))
        return Box(left, top, right - left, int(np.ceil(self.top + self.height)) - top)

    @property
    def inner(self) -> tuple[float, float, float, float]:
        """Its corners within `box`, as Pillow takes them."""
        left, top = self.left - self.box.left, self.top - self.box.top
        return left, top, left + self.width, top + self.height


def _window(scan: Scan, nodule: LidcNodule, hull: Box, cut: Cut) -> _Window:
    """Around the nodule's centre, off it by the seeded jitter; it holds the nodule's outlines and
    stays within the slice, where it fits."""
    text = f"{cut.seed} {nodule.series} {nodule.number}".encode()
    rng = np.random.default_rng(list(hashlib.sha256(text).digest()))
    offsets = rng.integers(-cut.jitter, cut.jitter, 2, endpoint=True)
    corners, sides = [], []
    for axis, centre in enumerate((nodule.x, nodule.y)):
        scale = 1.0 if cut.spacing_mm is None else cut.spacing_mm / scan.spacing_mm[axis]
        side = cut.size * scale
        start = centre + 0.5 + offsets[axis] * scale - side / 2
        start = round(start) if cut.spacing_mm is None else start
        start = _moved(start, side, hull[axis], hull[axis] + hull[axis + 2], holding=True)
        corners.append(_moved(start, side, 0, scan.size[axis], holding=False))
        sides.append(side)
    return _Window(corners[0], corners[1], sides[0], sides[1], cut.size)


def _moved(start: float, side: float, low: int, high: int, holding: bool) -> float:
    """The start of [start, start + side), moved as little as makes it hold (or lie within)
    [low, high); as it is where that cannot be."""
    least, most = (high - side, low) if holding else (low, high - side)
    return float(min(max(start, least), most)) if least <= most else float(start)


def _cut(scan: Scan, nodule: LidcNodule, z_mm: float, k: int, window: _Window) -> CutSlice:
    low, high = HU_WINDOW
    hu = resize_picture(_padded(scan, window.box, k), window.size, window.inner)
    # Not by `windowed`, which rounds otherwise: a few pixels in a million would change.
    grey = np.rint((hu.clip(low, high) - low) * (255 / (high - low))).astype(np.uint8)
    masks = [rasterised(r.at(z_mm), window.box) for r in nodule.readings]
    resized = [resize_mask(mask, window.size, window.inner) for mask in masks]
    across, down = scan.spacing_mm[:2]
    scale = window.width / window.size, window.height / window.size
    spacing = across * scale[0], down * scale[1]
    return CutSlice(grey, _packed(resized), k, z_mm, spacing)


def _padded(scan: Scan, box: Box, k: int) -> NDArray[np.float32]:
    """The scan's HU in the box, air where it reaches over the slice's edge."""
    across, down, _ = scan.size
    left, top = max(box.left, 0), max(box.top, 0)
    right, bottom = min(box.left + box.width, across), min(box.top + box.height, down)
    hu = np.full((box.height, box.width), AIR_HU, dtype=np.float32)
    there = scan.region(Box(left, top, right - left, bottom - top), k)
    there = np.nan_to_num(there, nan=AIR_HU)
    hu[top - box.top : bottom - box.top, left - box.left : right - box.left] = there
    return hu
