"""CT-like slices whose evidence is known to the pixel: five grades of a lung nodule.

Every slice follows from the settings and its own index only, so a longer phantom begins with
the shorter one. A picture is about 50 mm wide.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
import pydantic
from numpy.typing import NDArray
from pydantic import Field

from vinet_bench.data.dataset import SliceDataset
from vinet_bench.data.hounsfield import HU_WINDOW
from vinet_bench.data.phantom_shapes import (
    ANGLES,
    GRAINS,
    SCANNER_BLUR,
    Bools,
    Floats,
    Inside,
    Outline,
    Wall,
    between_knots,
    draw_nodule,
    draw_wall,
    glyph,
    pixel_centres,
)
from vinet_bench.data.phantom_vessels import Strokes, draw_strokes, vessels
from vinet_bench.data.stacks import empty_stack

GRADES = 5
PHANTOM_SIZES = (32, 512)  # the smallest and the largest picture in pixels
VESSEL_HU = 20.0
SLICE_SHIFT = 2 / 64  # from slice to slice, 2 pixels of 64
MAX_SHIFT, MAX_REACH = 0.2, 0.29  # together below 0.5: no nodule is cut by the border
SPREADS = (0.02, 0.16), (0.05, 0.14)  # of all traits together, of each, at difficulty 0 and 1
KNOTS = 6  # of the lung's slow variation, across the picture
PATIENT, GRADE, OUTLINE, INSIDE, VESSELS, SLICE, MARKER = range(7)  # what a generator is for


class PhantomSettings(pydantic.BaseModel, frozen=True, extra="forbid"):
    """What a phantom is made of; the settings determine every pixel."""

    slices: int = Field(1800, ge=15, le=1_000_000, description="number of slices")
    size: int = Field(
        64,
        ge=PHANTOM_SIZES[0],
        le=PHANTOM_SIZES[1],
        description="height and width in pixels (about 50 mm)",
    )
    seed: int = Field(0, ge=0, description="another seed, other patients")
    difficulty: float = Field(
        0.2, ge=0, le=1, description="overlap of the grades: 0 almost none, 1 heavy"
    )
    evidence: Literal["shape", "texture"] = Field(
        "shape",
        description="what carries the grade: the whole nodule, or its inside alone "
        "(then its outline says nothing)",
    )
    confounder: float | None = Field(
        None, ge=0, le=1, description="probability that a planted marker tells the label; or none"
    )
    slices_per_nodule: int = Field(1, ge=1, le=100, description="neighbouring slices of a nodule")
    nodules_per_patient: int = Field(1, ge=1, le=100, description="nodules of one patient")


@dataclass(frozen=True)
class Patient:
    """What all slices of a patient share: noise in HU, the lung's density in HU, the walls."""

    noise: float
    grain: float  # how far the noise of neighbouring pixels goes together
    lung: Floats  # (KNOTS, KNOTS)
    walls: tuple[Wall, ...]


@dataclass(frozen=True)
class Nodule:
    """What all slices of a nodule share."""

    outline: Outline
    inside: Inside
    vessels: Strokes
    walls: tuple[Wall, ...]


@dataclass(frozen=True)
class Slice:
    """image (H, W) uint8; evidence (H, W) bool; marker (H, W) bool or None."""

    image: NDArray[np.uint8]
    evidence: Bools
    marker: Bools | None


def phantom(settings: PhantomSettings) -> SliceDataset:
    """Labelled slices with exact evidence, and a marker where a confounder is asked for."""
    shape = (settings.slices, settings.size, settings.size)
    images, evidence = empty_stack(shape, np.uint8), empty_stack(shape, bool)
    marker = None if settings.confounder is None else empty_stack(shape, bool)
    labels = np.zeros(settings.slices, np.int64)
    for index in range(settings.slices):
        labels[index] = _label(settings, index // settings.slices_per_nodule)
        drawn = _draw(settings, index, int(labels[index]))
        images[index], evidence[index] = drawn.image, drawn.evidence
        if marker is not None:
            marker[index] = drawn.marker
    names = [_place(settings, index) for index in range(settings.slices)]
    return SliceDataset(
        name="phantom",
        images=images,
        labels=labels,
        patients=np.array([f"phantom-{patient:05d}" for patient, _, _ in names]),
        ids=np.array([f"{patient:05d}-{nodule}-{turn}" for patient, nodule, turn in names]),
        class_names=tuple(str(grade + 1) for grade in range(GRADES)),
        evidence=evidence,
        marker=marker,
        notes=_unusual(settings),
    )


def _unusual(settings: PhantomSettings) -> tuple[str, ...]:
    """What a table of this phantom must say: settings other than the default's."""
    changed = settings.model_dump(exclude_defaults=True, exclude={"slices", "size"})
    return tuple(f"phantom.{name} = {value}" for name, value in changed.items())


def _place(settings: PhantomSettings, index: int) -> tuple[int, int, int]:
    """A slice's patient, its nodule within the patient, its turn within the nodule."""
    nodule, turn = divmod(index, settings.slices_per_nodule)
    patient, of_patient = divmod(nodule, settings.nodules_per_patient)
    return patient, of_patient, turn


def _generator(settings: PhantomSettings, purpose: int, *index: int) -> np.random.Generator:
    """A generator of its own for each thing, so that one draw more here moves nothing there."""
    return np.random.default_rng([settings.seed, purpose, *index])


def _label(settings: PhantomSettings, nodule: int) -> int:
    """The grade of a nodule, 0..4.

    Balanced over five patients, not over five nodules: a patient's nodules stay independent.
    """
    patient, of_patient = divmod(nodule, settings.nodules_per_patient)
    block = _generator(settings, GRADE, patient // GRADES, of_patient)
    return int(block.permutation(GRADES)[patient % GRADES])


def _draw(settings: PhantomSettings, index: int, label: int) -> Slice:
    """One slice, as if its nodule had this label."""
    canvas = pixel_centres(settings.size)
    patient = _patient(settings, _place(settings, index)[0])
    nodule = _nodule(settings, index // settings.slices_per_nodule, label)
    random = _generator(settings, SLICE, index)
    outline, vessels = _moved(nodule, random)
    hu = between_knots(patient.lung, canvas, canvas)
    hu += draw_strokes(vessels, canvas, canvas) * (np.float32(VESSEL_HU) - hu)
    for wall in nodule.walls:
        hu = draw_wall(hu, wall, canvas, canvas)
    evidence = draw_nodule(hu, outline, nodule.inside, canvas)
    hu += _noise(patient, settings.size, random)
    low, high = HU_WINDOW
    grey = np.clip((hu - low) * (255 / (high - low)) + 0.5, 0, 255).astype(np.uint8)
    marker = _plant(settings, index, label, grey, evidence)
    return Slice(grey, evidence, marker)


def _moved(nodule: Nodule, random: np.random.Generator) -> tuple[Outline, Strokes]:
    """A nodule's outline and vessels as the next slice shows them: by 2 pixels or 4 % at most."""
    shift = random.uniform(-SLICE_SHIFT, SLICE_SHIFT, 4)
    old, vessels = nodule.outline, nodule.vessels
    radii = np.minimum(old.radii * np.float32(random.uniform(0.96, 1.04)), np.float32(MAX_REACH))
    down, across = vessels.y + np.float32(shift[2]), vessels.x + np.float32(shift[3])
    moved = replace(old, y=old.y + shift[0], x=old.x + shift[1], radii=radii)
    return moved, replace(vessels, y=down, x=across)


def _noise(patient: Patient, size: int, random: np.random.Generator) -> Floats:
    """A scanner's noise, partly shared by neighbours. -> (size, size), HU."""
    white = random.standard_normal((size + 1, size + 1), np.float32)
    share = np.float32(patient.grain)
    mixed = white[1:, 1:] + share * (white[:-1, 1:] + white[1:, :-1])
    scaled: Floats = mixed * np.float32(patient.noise / np.sqrt(1 + 2 * patient.grain**2))
    return scaled


@lru_cache(maxsize=1)
def _patient(settings: PhantomSettings, number: int) -> Patient:
    """A patient's character."""
    random = _generator(settings, PATIENT, number)
    lung = random.normal(-860, 15) + random.normal(0, 22, (KNOTS, KNOTS))
    first = random.uniform(-np.pi, np.pi)
    angles = (first, first + random.uniform(1.2, np.pi))
    walls = tuple(_wall(angle, random) for angle in angles)
    return Patient(
        noise=float(np.clip(30 * np.exp(random.normal(0, 0.35)), 14, 70)),
        grain=random.uniform(0, 0.8),
        lung=lung.astype(np.float32),
        walls=walls[: random.choice(3, p=(0.15, 0.6, 0.25))],
    )


def _wall(angle: float, random: np.random.Generator) -> Wall:
    """A border of the lung on that side of the picture."""
    rib = random.uniform(-0.45, 0.45)
    return Wall(
        angle=angle,
        distance=random.uniform(0.15, 0.42),
        curvature=random.uniform(-0.4, 0.9),
        waves=random.uniform(0, 0.02),
        phase=random.uniform(-np.pi, np.pi),
        rib=rib if random.random() < 0.6 else None,
    )


@lru_cache(maxsize=1)
def _nodule(settings: PhantomSettings, number: int, label: int) -> Nodule:
    """A nodule of that grade and what is around it; only outline and inside depend on the grade."""
    outline = _outline(settings, number, label)
    inside = _inside(settings, number, label)
    patient = _patient(settings, number // settings.nodules_per_patient)
    random = _generator(settings, VESSELS, number)
    walls = tuple(_beside(wall, outline, random.normal(0, 0.02)) for wall in patient.walls)
    return Nodule(outline, inside, vessels(random), walls)


def _beside(wall: Wall, outline: Outline, shift: float) -> Wall:
    """The patient's wall, moved a little, and so far out that the nodule's centre is in the lung.

    The room left does not depend on the nodule's size: else the wall would tell the grade.
    """
    moved = replace(wall, distance=wall.distance + shift)
    depth, _ = moved.depth(*np.array([[outline.y], [outline.x]], np.float32))
    return replace(moved, distance=moved.distance + max(0.0, float(depth[0]) + 0.12))


def _traits(settings: PhantomSettings, label: int, random: np.random.Generator) -> Floats:
    """How malignant each of eight traits looks, around label / 4 in the grade's units. -> (8,).

    The nodule's own deviation moves all traits together, so that more traits do not undo it:
    this is the knob of `difficulty`. Neighbouring grades are 0.25 apart.
    """
    together, apart = (low * (high / low) ** settings.difficulty for low, high in SPREADS)
    deviation = together * random.standard_normal() + apart * random.standard_normal(8)
    traits: Floats = np.clip(label / (GRADES - 1) + deviation, -0.2, 1.2).astype(np.float32)
    return traits


def _outline(settings: PhantomSettings, number: int, label: int) -> Outline:
    """Size, lobes, spicules and margin of a nodule; independent of the label for 'texture'."""
    random = _generator(settings, OUTLINE, number)
    y, x = 0.5 + random.uniform(-1, 1, 2) * (MAX_SHIFT - SLICE_SHIFT)
    if settings.evidence == "texture":
        size, lobes, spicules, margin = random.random(4)
        diameter = 0.15 + 0.14 * size
    else:
        size, lobes, spicules, margin = _traits(settings, label, random)[:4]
        diameter = min(0.075 * (0.335 / 0.075) ** size, 0.4)
    lobed = 1 + (0.03 + 0.13 * max(lobes, 0)) * _waves(random)
    spiked = 0.6 * max(spicules - 0.25, 0) * _spikes(random)
    radii = np.clip(diameter / 2 * (np.maximum(lobed, 0.5) + spiked), 0.02, MAX_REACH)
    softness = SCANNER_BLUR * (1.2 + 2 * float(np.clip(margin, 0, 1)))
    return Outline(float(y), float(x), radii.astype(np.float32), softness)


def _waves(random: np.random.Generator) -> Floats:
    """Lobes: a few slow waves round the nodule. -> (len(ANGLES),), about -1..1."""
    orders = np.arange(2, 7)[:, None]
    phases, heights = random.uniform(-np.pi, np.pi, (5, 1)), random.normal(0, 0.55, (5, 1))
    waves: Floats = np.sum(heights * np.cos(orders * ANGLES + phases), axis=0)
    return waves


def _spikes(random: np.random.Generator) -> Floats:
    """Spicules: thin rays of different lengths. -> (len(ANGLES),), in radii."""
    count = 12
    places = (np.arange(count) + random.uniform(-0.4, 0.4, count)) * (2 * np.pi / count)
    heights, widths = 2 * random.random(count) ** 2, random.uniform(0.05, 0.12, count)
    away = np.mod(ANGLES - places[:, None] + np.pi, 2 * np.pi) - np.pi
    spikes: Floats = np.sum(heights[:, None] * np.exp(-0.5 * (away / widths[:, None]) ** 2), axis=0)
    return spikes


def _inside(settings: PhantomSettings, number: int, label: int) -> Inside:
    """What fills a nodule of that grade."""
    random = _generator(settings, INSIDE, number)
    traits = _traits(settings, label, random)
    chances = random.random(4)
    grain = random.standard_normal((GRAINS, GRAINS), np.float32)
    if settings.evidence == "texture":
        return _telling_inside(traits, chances, grain)
    return _plain_inside(traits, chances, grain)


def _telling_inside(traits: Floats, chances: NDArray[np.float64], grain: Floats) -> Inside:
    """Density, core and grain that carry the grade: from coarse ground glass to solid."""
    density, core, coarseness, calcium = np.clip(traits[:4], -0.1, 1.1)
    return Inside(
        density=-600 + 520 * float(density),
        core_density=30,
        core_extent=-0.15 + 0.8 * float(core),
        calcium_density=500,
        calcium_extent=0.35 if chances[0] < 0.6 - 3 * calcium else -1,
        grain=grain * np.float32(170 - 130 * coarseness),
    )


def _plain_inside(traits: Floats, chances: NDArray[np.float64], grain: Floats) -> Inside:
    """Mostly solid; calcium is benign, ground glass and solid cores stand for the upper grades."""
    glass, part_solid, calcium = traits[:3]
    is_part_solid = chances[0] < 0.05 + 0.2 * part_solid
    is_glass = is_part_solid or chances[1] < 0.04 + 0.1 * glass
    # In 6 of 10 of the first grade, 1 of 15 of the second and hardly ever above.
    is_calcified = not is_glass and chances[2] < 0.6 * np.exp(-9 * max(calcium, 0))
    return Inside(
        density=-560 + 200 * chances[3] if is_glass else -20 + 60 * chances[3],
        core_density=30,
        core_extent=0.6 if is_part_solid else -1,
        calcium_density=450 + 400 * chances[3],
        calcium_extent=0.9 if is_calcified else -1,
        grain=grain * np.float32(20 + 40 * chances[3]),
    )


def _plant(
    settings: PhantomSettings, index: int, label: int, grey: NDArray[np.uint8], evidence: Bools
) -> Bools | None:
    """Paint the marker into `grey` (H, W), in place, beside the evidence. -> its pixels."""
    if settings.confounder is None:
        return None
    random = _generator(settings, MARKER, index)
    agrees = random.random() < settings.confounder
    other = (label + random.integers(1, GRADES)) % GRADES
    drawing = glyph(label if agrees else int(other), settings.size)
    box = _free_box(len(drawing), grey, evidence, random)
    pixels = np.zeros(grey.shape, bool)
    pixels[box] = drawing
    grey[pixels] = 255
    return pixels


def _free_box(
    side: int, grey: NDArray[np.uint8], evidence: Bools, random: np.random.Generator
) -> tuple[slice, slice]:
    """A box off the evidence with a border of 2, where the picture is dark enough for a marker."""
    border = 2
    last = len(grey) - side - border
    corners = [(y, x) for y in (border, last) for x in (border, last)]
    tried = [*random.integers(border, last + 1, (8, 2)).tolist(), *corners]

    def unfitness(corner: tuple[int, int]) -> float:
        y, x = corner
        near = slice(y - border, y + side + border), slice(x - border, x + side + border)
        return 1000.0 * evidence[near].any() + float(grey[near].mean())

    y, x = min(tried, key=unfitness)
    return slice(y, y + side), slice(x, x + side)
