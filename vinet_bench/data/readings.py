"""What LIDC's radiologists said of each nodule, and which readings are of one nodule.

Data: LIDC-IDRI (CC BY 3.0). Armato et al. 2011, Med. Phys. 38(2), 915-931, doi 10.1118/1.3528204.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

RATINGS = (
    *("malignancy", "subtlety", "internal_structure", "calcification", "sphericity"),
    *("margin", "lobulation", "spiculation", "texture"),
)
MOST_READERS = 4  # LIDC's four radiologists each outline a nodule once
FEWEST_READERS = 3  # what LUNA16 keeps (Setio et al. 2017, doi 10.1016/j.media.2017.06.015)
STRICTER, STRICTEST = 0.9, 0.01

Bools = NDArray[np.bool_]


class Box(NamedTuple):
    """A rectangle of whole pixels in an axial slice."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Outline:
    """One closed outline in one slice: z in mm, points (P, 2) int16 as x, y in pixels.

    inclusion: whether it encloses pixels of the nodule, or a hole in it.
    """

    z_mm: float
    inclusion: bool
    points: NDArray[np.int16]


class Spacing(NamedTuple):
    """Millimetres from pixel to pixel and from slice to slice."""

    pixel: float
    slice: float


@dataclass(frozen=True)
class Reading:
    """One radiologist's ratings, in the order of RATINGS, and outlines of one nodule."""

    ratings: tuple[int, ...]
    outlines: tuple[Outline, ...]

    @property
    def malignancy(self) -> int:
        return self.ratings[0]

    def at(self, z_mm: float) -> tuple[Outline, ...]:
        """The outlines in the slice at z, to a micrometre."""
        return tuple(o for o in self.outlines if abs(o.z_mm - z_mm) < 1e-3)

    @cached_property
    def z_mm(self) -> tuple[float, ...]:
        """The slices that have an outline, from below."""
        return tuple(sorted({round(o.z_mm, 3) for o in self.outlines}))

    @cached_property
    def box(self) -> Box:
        """The smallest box that holds all outlines."""
        points = np.concatenate([outline.points for outline in self.outlines])
        left, top = points.min(axis=0).tolist()
        right, bottom = points.max(axis=0).tolist()
        return Box(left, top, right - left + 1, bottom - top + 1)

    @cached_property
    def pixels(self) -> NDArray[np.float64]:
        """The nodule's pixels in all slices, (P, 3): x, y, z in pixels, pixels, mm."""
        places = []
        for z in self.z_mm:
            rows, columns = np.nonzero(rasterised(self.at(z), self.box))
            x, y = columns + self.box.left, rows + self.box.top
            places.append(np.column_stack((x, y, np.full(len(x), z))))
        return np.concatenate(places).astype(np.float64)

    @cached_property
    def centre(self) -> NDArray[np.float64]:
        """x, y in pixels and z in mm of the centre of mass; of the outline if it holds nothing."""
        if len(self.pixels):
            return np.asarray(self.pixels.mean(axis=0))
        points = [np.insert(o.points.mean(axis=0), 2, o.z_mm) for o in self.outlines]
        return np.asarray(np.mean(points, axis=0))

    def diameter_mm(self, spacing: Spacing) -> float:
        """The diameter of a sphere of the same volume, as in LUNA16's annotations."""
        volume = len(self.pixels) * spacing.pixel**2 * spacing.slice
        return float((6 * volume / np.pi) ** (1 / 3))


def rasterised(outlines: Iterable[Outline], box: Box) -> Bools:
    """The pixels of a box (H, W) that a reader's outlines in one slice give to the nodule.

    An outline runs through the first pixels outside, whether it includes or excludes (LIDC's
    annotated XML file of March 2010; Armato et al. 2011): its own pixels never count, and a hole
    takes its outline with it.
    """
    inside = np.zeros((box.height, box.width), dtype=np.bool_)
    holes = np.zeros_like(inside)
    for outline in outlines:
        if outline.inclusion:
            inside |= _drawn(outline.points, box, edge=0)
        else:
            holes |= _drawn(outline.points, box, edge=1)
    return inside & ~holes


def _drawn(points: NDArray[np.int16], box: Box, edge: int) -> Bools:
    """The filled outline, with (edge 1) or without (edge 0) the pixels that it runs through."""
    canvas = Image.new("L", (box.width, box.height))
    pen = ImageDraw.Draw(canvas)
    corners = (points.astype(np.int32) - (box.left, box.top)).ravel().tolist()
    closed = corners + corners[:2]
    if len(points) > 2:
        pen.polygon(corners, fill=1)
    pen.line(closed, fill=edge)
    pen.point(closed, fill=edge)
    return np.asarray(canvas) > 0


@dataclass(frozen=True)
class LidcNodule:
    """The readings of one nodule. x, y in pixels and z in mm of its centre, the readers' mean.

    diameter_mm: the readers' mean diameter (of a sphere of the same volume).
    """

    series: str
    number: int
    x: float
    y: float
    z_mm: float
    diameter_mm: float
    readings: tuple[Reading, ...]


class Readings(Protocol):
    """Where LIDC's readings come from."""

    @property
    def source(self) -> str:
        """What a report calls it."""
        ...

    @property
    def patients(self) -> Mapping[str, str]:
        """Each series' patient, as far as the source knows it."""
        ...

    @property
    def faults(self) -> Sequence[tuple[str, str]]:
        """Files that could not be used, each with the reason."""
        ...

    def series(self) -> Collection[str]:
        """Every series that has a reading."""
        ...

    def nodules(self, series: str, spacing: Spacing) -> tuple[LidcNodule, ...]:
        """The nodules of a series that three or more readers outlined."""
        ...


def clustered(
    series: str, readings: Sequence[Reading], spacing: Spacing, fewest: int = FEWEST_READERS
) -> tuple[LidcNodule, ...]:
    """The nodules of a series that `fewest` readers or more outlined, from below (z, y, x).

    LUNA16's rule: readings whose centres are closer than the sum of their radii are of one nodule
    (Setio et al. 2017). A group of more than four readings cannot be one nodule: within it the
    distance is multiplied by 0.9 until no group is larger.
    """
    groups = [g for g in _groups(readings, spacing) if len(g) >= fewest]
    nodules = [_nodule(series, [readings[i] for i in group], spacing) for group in groups]
    nodules.sort(key=lambda nodule: (nodule.z_mm, nodule.y, nodule.x))
    return tuple(replace(nodule, number=n) for n, nodule in enumerate(nodules, start=1))


def _groups(readings: Sequence[Reading], spacing: Spacing) -> list[list[int]]:
    """The readings of each nodule, by index."""
    if not readings:
        return []
    scale = np.array([spacing.pixel, spacing.pixel, 1])
    centres = np.array([reading.centre for reading in readings]) * scale
    radii = np.array([reading.diameter_mm(spacing) / 2 for reading in readings])
    from scipy.spatial.distance import cdist  # half of what `list methods` would wait for

    nearness = cdist(centres, centres) / np.maximum(radii[:, None] + radii, spacing.pixel)
    return _linked(list(range(len(readings))), nearness, 1.0)


def _linked(members: list[int], nearness: NDArray[np.float64], limit: float) -> list[list[int]]:
    """Groups linked by a nearness below the limit, which falls where a group is too large.

    More than four readings that no distance parts are no nodule that LIDC's rules allow: left out.
    """
    if limit < STRICTEST:
        return []
    near = nearness[np.ix_(members, members)] < limit
    from scipy.sparse.csgraph import connected_components

    count, labels = connected_components(near, directed=False)
    groups = [
        [m for m, label in zip(members, labels, strict=True) if label == k] for k in range(count)
    ]
    whole = [g for g in groups if len(g) <= MOST_READERS]
    for group in groups:
        if len(group) > MOST_READERS:
            whole += _linked(group, nearness, limit * STRICTER)
    return whole


def _nodule(series: str, readings: list[Reading], spacing: Spacing) -> LidcNodule:
    x, y, z = np.mean([reading.centre for reading in readings], axis=0).tolist()
    diameter = float(np.mean([reading.diameter_mm(spacing) for reading in readings]))
    return LidcNodule(series, 0, x, y, z, diameter, tuple(readings))
