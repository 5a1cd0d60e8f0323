"""The phantom's brushes: chest wall, nodule and marker, drawn on a grid of pixels.

Places and lengths are in widths of the picture (0..1, y down), so a scene is one scene at any
resolution; densities are in HU.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

SCANNER_BLUR = 0.008  # standard deviation of the scanner's point spread, half a pixel of 64
SOFT_TISSUE_HU, FAT_HU = 40.0, -90.0
ANGLES = np.linspace(-np.pi, np.pi, 181, dtype=np.float32)  # where a nodule's radius is tabulated
GRAINS = 9  # knots across a nodule of its grain, fine enough to be seen at 64 pixels


def pixel_centres(size: int) -> Floats:
    """Where the pixels of one row lie. -> (size,), widths."""
    return ((np.arange(size) + 0.5) / size).astype(np.float32)


def smoothstep(ramp: NDArray[np.floating]) -> Floats:
    """0 below 0, 1 above 1, smooth between. Any shape -> the same."""
    clipped: Floats = np.clip(ramp, 0, 1).astype(np.float32, copy=False)
    return clipped * clipped * (3 - 2 * clipped)


def weights_of_knots(positions: Floats, knots: int) -> Floats:
    """Weights that take `knots` values to positions in 0..1. (N,) -> (N, knots), rows sum to 1."""
    places = np.clip(positions, 0, 1)[:, None] * (knots - 1)
    return smoothstep(1 - np.abs(places - np.arange(knots, dtype=np.float32)))


def between_knots(values: Floats, down: Floats, across: Floats) -> Floats:
    """A smooth field through random values. (k, k), places in 0..1 (H,), (W,) -> (H, W)."""
    rows, columns = (weights_of_knots(places, len(values)) for places in (down, across))
    field: Floats = np.matmul(np.matmul(rows, values), columns.T)
    return field


@dataclass(frozen=True)
class Wall:
    """One border between lung and soft tissue, seen from the picture's centre.

    angle (rad): where it lies. distance: from the centre. curvature: of a parabola, above 0 it
    closes round the lung. waves, phase: its unevenness. rib: place along the wall, or None.
    """

    angle: float
    distance: float
    curvature: float
    waves: float
    phase: float
    rib: float | None

    def depth(self, y: Floats, x: Floats) -> tuple[Floats, Floats]:
        """How deep in the tissue a point lies (below 0: lung), and its place along the wall."""
        cosine, sine = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        out = cosine * (x - 0.5) + sine * (y - 0.5)
        along = cosine * (y - 0.5) - sine * (x - 0.5)
        uneven = np.float32(self.waves) * np.sin(9 * along + np.float32(self.phase))
        bent = np.float32(self.curvature) * along * along
        return out - np.float32(self.distance) + bent + uneven, along


def draw_wall(hu: Floats, wall: Wall, rows: Floats, columns: Floats) -> Floats:
    """The picture with soft tissue, fat and a rib beyond the border. (H, W) -> (H, W), HU."""
    depth, along = wall.depth(rows[:, None], columns[None, :])
    share = smoothstep(depth / 0.03 + 0.5)
    fat = smoothstep((depth - 0.28) / 0.08)
    muscle = SOFT_TISSUE_HU + 25 * np.sin(24 * depth + 5 * along)
    tissue = muscle + fat * np.float32(FAT_HU - SOFT_TISSUE_HU)
    if wall.rib is not None:
        ellipse = ((depth - 0.1) / 0.045) ** 2 + ((along - np.float32(wall.rib)) / 0.2) ** 2
        cortex_and_marrow = 150 + 450 * np.clip(ellipse, 0, 1)
        tissue = tissue + smoothstep(2.5 - 2 * ellipse) * (cortex_and_marrow - tissue)
    mixed: Floats = hu + share * (tissue - hu)
    return mixed


@dataclass(frozen=True)
class Outline:
    """A star-shaped nodule: its centre, its radius at ANGLES, its margin's width (all widths)."""

    y: float
    x: float
    radii: Floats
    softness: float


@dataclass(frozen=True)
class Inside:
    """What fills a nodule: densities in HU, extents as fractions of the typical radius.

    density of the whole, core_density up to core_extent, calcium_density up to calcium_extent,
    grain (GRAINS, GRAINS): added to all of it.
    """

    density: float
    core_density: float
    core_extent: float
    calcium_density: float
    calcium_extent: float
    grain: Floats

    def fill(self, fraction: Floats, down: Floats, across: Floats) -> Floats:
        """The density inside, HU. Fractions of the radius (H, W), places (H,), (W,) -> (H, W)."""
        core = smoothstep((np.float32(self.core_extent) - fraction) / 0.25 + 0.5)
        calcium = smoothstep((np.float32(self.calcium_extent) - fraction) / 0.25 + 0.5)
        grain = between_knots(self.grain, down, across)
        hu = np.float32(self.density) + core * np.float32(self.core_density - self.density)
        filled: Floats = hu + grain + calcium * (np.float32(self.calcium_density) - hu)
        return filled


def draw_nodule(hu: Floats, outline: Outline, inside: Inside, centres: Floats) -> Bools:
    """Paint a nodule into `hu` (H, H), in place, and give its pixels. -> (H, H), never empty.

    The pixels follow from the outline alone, so what is inside cannot change them.
    """
    size, reach = len(centres), float(outline.radii.max())
    box_y, box_x = (_span(c, reach + outline.softness, size) for c in (outline.y, outline.x))
    down, across = centres[box_y] - np.float32(outline.y), centres[box_x] - np.float32(outline.x)
    distance = np.hypot(down[:, None], across[None, :])
    angle = np.arctan2(down[:, None], across[None, :])
    radius = np.interp(angle, ANGLES, outline.radii).astype(np.float32)
    share = smoothstep((radius - distance) / np.float32(2 * outline.softness) + 0.5)
    typical = np.float32(2 * np.median(outline.radii))
    # Fractions of the typical radius, not of each direction's: a core has no spicules.
    filled = inside.fill(distance / (typical / 2), down / typical + 0.5, across / typical + 0.5)
    hu[box_y, box_x] += share * (filled - hu[box_y, box_x])
    pixels = np.zeros((size, size), bool)
    pixels[box_y, box_x] = distance < radius
    # A nodule smaller than the grid's gaps still owns the pixel that its centre falls into.
    pixels[int(outline.y * size), int(outline.x * size)] = True
    return pixels


def _span(centre: float, reach: float, size: int) -> slice:
    """The pixels of one axis within reach of a centre."""
    return slice(
        max(0, int((centre - reach) * size)), min(size, int(np.ceil((centre + reach) * size)) + 1)
    )


GLYPHS: tuple[Bools, ...] = tuple(
    np.array([[pixel == "#" for pixel in row] for row in drawing.split()])
    for drawing in (
        "..#.. ..#.. ##### ..#.. ..#..",  # a plus
        "#...# .#.#. ..#.. .#.#. #...#",  # a cross
        "##### #...# #...# #...# #####",  # a square
        "##### ..... ##### ..... #####",  # three bars, lying
        "#.#.# #.#.# #.#.# #.#.# #.#.#",  # three bars, standing
    )
)


def glyph(shape: int, size: int) -> Bools:
    """One of the five marker shapes for a picture of that size. -> (h, h), h = 5 at 64 pixels."""
    scale = max(1, size // 64)
    return np.kron(GLYPHS[shape], np.ones((scale, scale), bool)).astype(bool)
