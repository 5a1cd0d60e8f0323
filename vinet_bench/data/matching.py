"""Which of LIDC's nodules a row of LUNA16's annotations.csv is; nothing is guessed."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from vinet_bench.data.readings import LidcNodule
from vinet_bench.data.tables import read_rows, shown
from vinet_bench.errors import UserError

COLUMNS = ("seriesuid", "coordX", "coordY", "coordZ", "diameter_mm")


@dataclass(frozen=True)
class Annotation:
    """A row of annotations.csv: world coordinates and diameter in mm; the header is row 1."""

    row: int
    series: str
    place_mm: tuple[float, float, float]
    diameter_mm: float


@dataclass(frozen=True)
class Match:
    """What became of an annotation: its nodule, or the reason why there is none."""

    annotation: Annotation
    nodule: LidcNodule | None
    distance_mm: float
    reason: str = ""


def read_annotations(path: Path) -> list[Annotation]:
    """LUNA16's nodules. Raises UserError that names the row or the column."""
    if not path.is_file():
        raise UserError(f"{path} does not exist: give LUNA16's annotations.csv with --annotations")
    return [_annotation(path, row, cells) for row, cells in read_rows(path, COLUMNS)]


def _annotation(path: Path, row: int, cells: dict[str, str]) -> Annotation:
    where = f"{shown(path.name)} row {row}"
    if not cells["seriesuid"]:
        raise UserError(f"{where}: the seriesuid is empty: fill it in, or remove the row")
    x, y, z, diameter = (_number(where, column, cells[column]) for column in COLUMNS[1:])
    if diameter <= 0:
        raise UserError(f"{where}: the diameter_mm {diameter:g} is not above 0: mend it")
    return Annotation(row, cells["seriesuid"], (x, y, z), diameter)


def _number(where: str, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{where}: the {column} '{shown(text)}' is no number: mend it")
    return value


def match_all(
    annotations: Sequence[Annotation],
    nodules: Sequence[LidcNodule],
    to_world: Callable[[float, float, float], NDArray[np.float64]],
) -> list[Match]:
    """Matches one scan's annotations with its nodules by distance in mm.

    An annotation's nodule is the one whose centre lies within the annotation's radius. Where two
    do, or two annotations claim one nodule, the match is ambiguous and there is none.
    to_world: pixel x, y and z in mm to world coordinates (3,).
    """
    if not nodules:
        reason = "LIDC has no nodule of three or more readers in this series"
        return [Match(a, None, math.nan, reason) for a in annotations]
    places = np.array([a.place_mm for a in annotations])
    centres = np.array([to_world(n.x, n.y, n.z_mm) for n in nodules])
    distances = cdist(places, centres)
    within = distances <= np.array([[a.diameter_mm / 2] for a in annotations])
    claims = within.sum(axis=0)
    return [
        _match(annotation, nodules, distances[i], within[i], claims)
        for i, annotation in enumerate(annotations)
    ]


def _match(
    annotation: Annotation,
    nodules: Sequence[LidcNodule],
    distances: NDArray[np.float64],
    within: NDArray[np.bool_],
    claims: NDArray[np.int64],
) -> Match:
    nearest = int(distances.argmin())
    distance = float(distances[nearest])
    count = int(within.sum())
    if count == 0:
        reason = f"unmatched: LIDC's nearest nodule is {distance:.1f} mm away, outside the radius"
    elif count > 1:
        reason = f"ambiguous: {count} of LIDC's nodules lie within the radius"
    elif claims[nearest] > 1:
        reason = f"ambiguous: {claims[nearest]} annotations lie on one of LIDC's nodules"
    else:
        return Match(annotation, nodules[nearest], distance)
    return Match(annotation, None, distance, reason)
