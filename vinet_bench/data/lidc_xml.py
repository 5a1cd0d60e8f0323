"""LIDC's own XML files: each reader's ratings and outlines, straight from the source."""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser, parse

import numpy as np

from vinet_bench.data.headers import MOST
from vinet_bench.data.readings import LidcNodule, Outline, Reading, Spacing, clustered
from vinet_bench.data.tables import shown
from vinet_bench.errors import UserError

LARGEST_BYTES = 2**26  # LIDC's own files have less than 2**22
MOST_READINGS, MOST_PIXELS = 1000, 2**24  # of a file; pixels of its outlines' boxes
HIGHEST_RATING = 6

# LIDC's elements in the order of readings.RATINGS.
CHARACTERISTICS = (
    *("malignancy", "subtlety", "internalStructure", "calcification", "sphericity"),
    *("margin", "lobulation", "spiculation", "texture"),
)


class _NoDoctype(TreeBuilder):
    """LIDC's files declare no entities, which are what can name another file or grow endlessly."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("it has a DOCTYPE, which is refused")


@dataclass(frozen=True)
class XmlReadings:
    """Readings by series, clustered when they are asked for, with the scan's own spacing."""

    by_series: Mapping[str, tuple[Reading, ...]]
    source: str
    faults: tuple[tuple[str, str], ...]
    patients: Mapping[str, str] = field(default_factory=dict)  # the files do not name them

    def series(self) -> Collection[str]:
        return self.by_series

    def nodules(self, series: str, spacing: Spacing) -> tuple[LidcNodule, ...]:
        """LUNA16's rule over the readings of all sessions."""
        return clustered(series, self.by_series.get(series, ()), spacing)


def read_xml_folder(folder: Path, patients: Mapping[str, str]) -> XmlReadings:
    """All .xml files below a folder; those of chest radiographs are passed over.

    patients: of the series that are known, since the files do not name them. Raises UserError if
    there is no file to read; a damaged one, or a series that has two, is a fault.
    """
    paths = sorted(path for path in folder.rglob("*.xml") if path.is_file())
    if not paths:
        raise UserError(f"--lidc-xml {folder}: there is no .xml file: give LIDC's XML folder")
    files: dict[str, list[tuple[Path, tuple[Reading, ...]]]] = defaultdict(list)
    faults: list[tuple[str, str]] = []
    for path in paths:
        try:
            found = _read_file(path)
        except (ParseError, ValueError, LookupError, OSError) as problem:
            reason = f"{shown(path.name)} is no XML file of LIDC ({problem}): copy it again"
            faults.append((str(path), " ".join(reason.split())))
            continue
        if found is not None:
            files[found[0]].append((path, found[1]))
    for series, several in files.items():
        if len(several) > 1:
            reason = f"series {shown(series)} has {len(several)} XML files: remove all but one"
            faults += [(str(path), reason) for path, _ in several]
    digest = hashlib.sha256()
    for path in paths:
        for chunk in _chunks(path):
            digest.update(chunk)
    single = {series: found[0][1] for series, found in files.items() if len(found) == 1}
    return XmlReadings(
        single, f"LIDC's XML files ({digest.hexdigest()[:16]})", tuple(faults), patients
    )


def _chunks(path: Path) -> Iterator[bytes]:
    """A file's content, however large; none of one that cannot be opened: a fault already."""
    with suppress(OSError), path.open("rb") as file:
        while chunk := file.read(2**20):
            yield chunk


def _read_file(path: Path) -> tuple[str, tuple[Reading, ...]] | None:
    """The series and its readings in the order of the sessions; None for a radiograph's file."""
    if path.stat().st_size > LARGEST_BYTES:
        raise ValueError(f"it is larger than {LARGEST_BYTES >> 20} MiB")
    root = parse(path, XMLParser(target=_NoDoctype())).getroot()
    if _name(root) != "LidcReadMessage":
        if _name(root) == "IdriReadMessage":
            return None
        raise ValueError(f"its root is {shown(_name(root))}, not LidcReadMessage")
    series = _word(root, "ResponseHeader", "SeriesInstanceUid")
    sessions = _children(root, "readingSession")
    marks = [mark for s in sessions for mark in _children(s, "unblindedReadNodule")]
    readings = tuple(reading for mark in marks if (reading := _reading(mark)) is not None)
    # Outlines are filled in their reading's box, so that a few far points could fill the memory.
    pixels = sum(r.box.width * r.box.height * len(r.z_mm) for r in readings)
    if len(readings) > MOST_READINGS or pixels > MOST_PIXELS:
        raise ValueError(f"{len(readings)} readings around {pixels} pixels: no lung holds them")
    return series, readings


def _reading(mark: Element) -> Reading | None:
    """None for a nodule below 3 mm, which has a point and no ratings."""
    rated = next(_children(mark, "characteristics"), None)
    if rated is None or not any(_name(child) == "malignancy" for child in rated):
        return None
    ratings = tuple(int(_word(rated, name)) for name in CHARACTERISTICS)
    if not 1 <= ratings[0] <= 5 or not 0 <= min(ratings) <= max(ratings) <= HIGHEST_RATING:
        raise ValueError(f"ratings of {shown(str(ratings))}; a malignancy is 1 to 5")
    outlines = sorted(map(_outline, _children(mark, "roi")), key=lambda outline: outline.z_mm)
    return Reading(ratings, tuple(outlines)) if outlines else None


def _outline(roi: Element) -> Outline:
    z, inclusion = float(_word(roi, "imageZposition")), _word(roi, "inclusion").upper() == "TRUE"
    edges = _children(roi, "edgeMap")
    points = [(int(_word(e, "xCoord")), int(_word(e, "yCoord"))) for e in edges]
    if not points or not np.isfinite(z) or not 0 <= np.min(points) <= np.max(points) < MOST[0]:
        raise ValueError("an outline without points, or outside any picture")
    return Outline(z, inclusion, np.array(points, dtype=np.int16))


def _name(element: Element) -> str:
    """The tag without its namespace, which differs between LIDC's files."""
    return element.tag.rpartition("}")[2]


def _children(element: Element, name: str) -> Iterator[Element]:
    return (child for child in element if _name(child) == name)


def _word(element: Element, *names: str) -> str:
    """The text below, by the names of the elements on the way. Raises ValueError."""
    for name in names:
        found = next(_children(element, name), None)
        if found is None:
            raise ValueError(f"no {name} in a {_name(element)}")
        element = found
    return (element.text or "").strip()
