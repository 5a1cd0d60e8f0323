"""A small LUNA16 and a small LIDC, written with real series, outlines and positions."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from vinet_bench.data.lidc_table import shipped_readings
from vinet_bench.data.readings import RATINGS, LidcNodule

SIDE = 512
HEADER = ("seriesuid", "coordX", "coordY", "coordZ", "diameter_mm")
STRAIGHT = (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)
TURNED = (-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0)  # as LUNA16's scans of prone patients
UPSIDE_DOWN = (1.0, 0, 0, 0, 1.0, 0, 0, 0, -1.0)  # the first slice is the highest


def coded_hu(x: Any, y: Any, k: Any) -> NDArray[np.int16]:
    """HU that look random, so that a picture tells where it was cut; some beyond the window."""
    mixed = (np.asarray(x) * 7919 + np.asarray(y) * 104_729 + np.asarray(k) * 1_299_709) % 2**32
    mixed = (mixed * 2_654_435_761 % 2**32) >> 12
    return np.asarray(-1100 + mixed % 1600, dtype=np.int16)


def windowed(hu: NDArray[Any]) -> NDArray[np.uint8]:
    """-1000..400 HU as 0..255, written another way than the code does."""
    return np.asarray(np.round(np.interp(hu, (-1000, 400), (0, 255))), dtype=np.uint8)


@dataclass(frozen=True)
class SmallScan:
    """A phantom volume around the real nodules of a series."""

    series: str
    nodules: tuple[LidcNodule, ...]
    image: Any
    bottom_mm: float
    slices: int
    upside_down: bool

    def k(self, z_mm: float) -> int:
        """The slice at z, counted by hand."""
        step = round((z_mm - self.bottom_mm) / float(self.image.GetSpacing()[2]))
        return self.slices - 1 - step if self.upside_down else step

    def world(self, nodule: LidcNodule) -> tuple[float, float, float]:
        """Where SimpleITK says that the nodule's centre lies."""
        step = (nodule.z_mm - self.bottom_mm) / self.image.GetSpacing()[2]
        k = self.slices - 1 - step if self.upside_down else step
        x, y, z = self.image.TransformContinuousIndexToPhysicalPoint((nodule.x, nodule.y, k))
        return x, y, z


def step_of(nodules: Sequence[LidcNodule]) -> float:
    """From slice to slice, as the outlines tell."""
    heights = sorted({z for n in nodules for r in n.readings for z in r.z_mm})
    return float(np.diff(heights).min())


def small_series(count: int) -> list[str]:
    """Series with one to three nodules in at most 40 slices, which keeps the volumes small."""
    found = []
    for series, nodules in sorted(shipped_readings().by_series.items()):
        heights = [z for n in nodules for r in n.readings for z in r.z_mm]
        if len(set(heights)) < 4 or len(nodules) > 3:
            continue
        if (max(heights) - min(heights)) / step_of(nodules) < 40:
            found.append(series)
    return found[:: len(found) // count][:count]


def small_scan(
    series: str, direction: Sequence[float] = STRAIGHT, pixel: tuple[float, float] = (0.7, 0.7)
) -> SmallScan:
    nodules = shipped_readings().by_series[series]
    heights = [z for n in nodules for r in n.readings for z in r.z_mm]
    step, bottom = step_of(nodules), min(heights) - 2 * step_of(nodules)
    slices = round((max(heights) - bottom) / step) + 3
    k, y, x = np.ogrid[:slices, :SIDE, :SIDE]
    image = SimpleITK.GetImageFromArray(coded_hu(x, y, k))
    upside_down = direction[8] < 0
    image.SetSpacing((*pixel, step))
    image.SetDirection(direction)
    image.SetOrigin((-180.5, 171.25, bottom + (slices - 1) * step if upside_down else bottom))
    return SmallScan(series, nodules, image, bottom, slices, upside_down)


@dataclass
class SmallLuna:
    """A folder as LUNA16's: subset*/*.mhd and annotations.csv."""

    folder: Path
    scans: dict[str, SmallScan] = field(default_factory=dict)
    rows: list[tuple[str, float, float, float, float]] = field(default_factory=list)

    def add(self, scan: SmallScan, subset: int = 0) -> Path:
        place = self.folder / f"subset{subset}"
        place.mkdir(parents=True, exist_ok=True)
        path = place / f"{scan.series}.mhd"
        SimpleITK.WriteImage(scan.image, str(path), useCompression=False)
        self.scans[scan.series] = scan
        self.rows += [(scan.series, *scan.world(n), n.diameter_mm) for n in scan.nodules]
        return path

    def write_annotations(self) -> None:
        with (self.folder / "annotations.csv").open("w", newline="") as file:
            csv.writer(file).writerows([HEADER, *self.rows])


def write_dicom(
    folder: Path, scan: SmallScan, patient: str, compressed: bool = False
) -> list[Path]:
    """The scan as a DICOM series, a file a slice, with LIDC's tags."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k in range(scan.slices):
        image = scan.image[:, :, k]
        position = scan.image.TransformIndexToPhysicalPoint((0, 0, k))
        turn = scan.image.GetDirection()
        tags = {
            "0008|0060": "CT",
            "0010|0020": patient,
            "0020|000d": "1.2.3",
            "0020|000e": scan.series,
            "0008|0018": f"1.2.3.{k + 1}",
            "0020|0013": str(k + 1),
            "0020|0032": "\\".join(f"{p:.6f}" for p in position),
            "0020|0037": "\\".join(f"{turn[i]:.6f}" for i in (0, 3, 6, 1, 4, 7)),
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer = SimpleITK.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetUseCompression(compressed)
        paths.append(folder / f"{k + 1:03d}.dcm")
        writer.SetFileName(str(paths[-1]))
        writer.Execute(image)
    return paths


def write_xml(path: Path, series: str, nodules: Sequence[LidcNodule]) -> None:
    """The readings as LIDC writes them: a session for each reader."""
    names = [{"internal_structure": "internalStructure"}.get(name, name) for name in RATINGS]
    sessions = ""
    for reader in range(4):
        marks = ""
        for nodule in nodules:
            if reader >= len(nodule.readings):
                continue
            reading = nodule.readings[reader]
            rated = "".join(f"<{n}>{r}</{n}>" for n, r in zip(names, reading.ratings, strict=True))
            rois = "".join(
                f"<roi><imageZposition>{o.z_mm:.6f} </imageZposition>"
                f"<inclusion>{'TRUE' if o.inclusion else 'FALSE'}</inclusion>"
                + "".join(
                    f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>"
                    for x, y in o.points.tolist()
                )
                + "</roi>"
                for o in reading.outlines
            )
            marks += (
                f"<unblindedReadNodule><noduleID>{nodule.number}</noduleID>"
                f"<characteristics>{rated}</characteristics>{rois}</unblindedReadNodule>"
            )
        small = (  # a nodule below 3 mm: a point without ratings
            "<unblindedReadNodule><noduleID>s</noduleID><roi><imageZposition>0</imageZposition>"
            "<inclusion>TRUE</inclusion><edgeMap><xCoord>9</xCoord><yCoord>9</yCoord></edgeMap>"
            "</roi></unblindedReadNodule>"
        )
        sessions += f"<readingSession>{marks}{small}</readingSession>"
    text = (
        '<?xml version="1.0" encoding="UTF-8"?><LidcReadMessage xmlns="http://www.nih.gov">'
        f"<ResponseHeader><SeriesInstanceUid>{escape(series)}</SeriesInstanceUid></ResponseHeader>"
        f"{sessions}</LidcReadMessage>"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
