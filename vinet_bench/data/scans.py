"""CT scans on disk, read slice by slice: MetaImage (LUNA16) and DICOM series (LIDC).

Files come from strangers: headers are checked as text before a library opens them, and nothing
larger than the asked region is ever in memory.
"""

import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vinet_bench.data.dicom_elements import check_elements
from vinet_bench.data.headers import MOST, ScanError, bad, is_spacing, read_mhd
from vinet_bench.data.readings import Box
from vinet_bench.data.tables import shown

META = (".mhd", ".mha")  # MetaImage; all else is DICOM, whatever its name

Floats = NDArray[np.float64]
Pixels = NDArray[np.float32]


class Scan(Protocol):
    """A series of axial slices, from which regions are read."""

    @property
    def series(self) -> str:
        """SeriesInstanceUID."""
        ...

    @property
    def patient(self) -> str | None:
        """The patient that the file names, if it does."""
        ...

    @property
    def size(self) -> tuple[int, int, int]:
        """Pixels in x and y, and slices."""
        ...

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """From pixel to pixel in x and y, and from slice to slice."""
        ...

    def slice_at(self, x: float, y: float, z_mm: float) -> int | None:
        """The slice in which the pixel (x, y) lies at z, or None outside the volume."""
        ...

    def region(self, box: Box, k: int) -> Pixels:
        """HU of a box within slice k, (H, W). Raises ScanError if it does not read."""
        ...


# ---- MetaImage


@dataclass(frozen=True)
class MhdScan:
    """One .mhd header with its uncompressed .raw; its name is the series, as in LUNA16.

    origin_mm (3,) and axes (3, 3): world = origin + axes @ (spacing * index), in x, y, z.
    """

    path: Path
    series: str
    size: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_mm: Floats
    axes: Floats
    patient: str | None = None

    def to_world(self, x: float, y: float, z_mm: float) -> Floats:
        """World coordinates (3,) in mm of the pixel (x, y) at the height z."""
        return np.append(self._at(x, y, self._slice(x, y, z_mm))[:2], z_mm)

    def slice_at(self, x: float, y: float, z_mm: float) -> int | None:
        k = round(self._slice(x, y, z_mm))
        return k if 0 <= k < self.size[2] else None

    def _at(self, x: float, y: float, k: float) -> Floats:
        return np.asarray(self.origin_mm + self.axes @ (np.array(self.spacing_mm) * (x, y, k)))

    def _slice(self, x: float, y: float, z_mm: float) -> float:
        rise = float(self.axes[2, 2]) * self.spacing_mm[2]
        return float((z_mm - self._at(x, y, 0)[2]) / rise)

    def region(self, box: Box, k: int) -> Pixels:
        return extract(self.path, (box.left, box.top, k), box)


def open_mhd(path: Path) -> MhdScan:
    """Checks the header and its data file. Raises ScanError; reads no pixels."""
    header = read_mhd(path)
    geometry = read_information(path)
    axes = np.array(geometry.GetDirection()).reshape(3, 3)
    read = (geometry.GetSize(), geometry.GetSpacing(), geometry.GetOrigin())
    if not np.allclose(read, (header.size, header.spacing_mm, header.origin_mm)):
        raise bad(path, "is read otherwise than it is written: copy it again")
    if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-3) or abs(axes[2, 2]) < 0.999:
        raise bad(path, "has a TransformMatrix whose third axis is not the body's: not axial")
    return MhdScan(
        path=path,
        series=path.stem,
        size=header.size,
        spacing_mm=tuple(geometry.GetSpacing()),
        origin_mm=np.array(geometry.GetOrigin()),
        axes=axes,
    )


# ---- DICOM


@dataclass(frozen=True)
class DicomSlice:
    """What one file's header says. z_mm: of ImagePositionPatient."""

    path: Path
    z_mm: float
    size: tuple[int, int]
    spacing_mm: tuple[float, float]


@dataclass(frozen=True)
class DicomScan:
    """A series of axial DICOM files, from below; slices may be missing between them."""

    series: str
    patient: str | None
    slices: tuple[DicomSlice, ...]
    spacing_mm: tuple[float, float, float]

    @property
    def size(self) -> tuple[int, int, int]:
        return (*self.slices[0].size, len(self.slices))

    def slice_at(self, x: float, y: float, z_mm: float) -> int | None:
        heights = np.array([s.z_mm for s in self.slices])
        k = int(np.abs(heights - z_mm).argmin())
        return k if abs(heights[k] - z_mm) <= self.spacing_mm[2] / 2 else None

    def region(self, box: Box, k: int) -> Pixels:
        return extract(self.slices[k].path, (box.left, box.top, 0), box)


SERIES, PATIENT, POSITION = "0020|000e", "0010|0020", "0020|0032"
ORIENTATION = "0020|0037"


def open_dicom(folder: Path, wanted: Iterable[str]) -> tuple[list[DicomScan], list[ScanError]]:
    """The wanted series that lie in one folder, and what is wrong with the others of them."""
    chosen = set(wanted)
    slices: dict[str, list[DicomSlice]] = defaultdict(list)
    patients: dict[str, set[str]] = defaultdict(set)
    errors: list[ScanError] = []
    for path in dicom_files(folder):
        try:
            header = read_information(path)
            series = tag(header, SERIES)
            if series in chosen:
                slices[series].append(_dicom_slice(path, header))
                patients[series].add(tag(header, PATIENT))
        except ScanError as error:
            errors.append(error)
    scans = []
    for series, found in slices.items():
        try:
            scans.append(_series(series, patients[series], found))
        except ScanError as error:
            errors.append(error)
    return scans, errors


def dicom_files(folder: Path) -> list[Path]:
    """The files of a folder that are named as DICOM files are."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() == ".dcm" and p.is_file())


def tag(header: Any, tag: str) -> str:
    """A tag's text; bytes that are no UTF-8 stand as escapes, so that it can be written."""
    text = str(header.GetMetaData(tag)).strip("\0 ") if header.HasMetaDataKey(tag) else ""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _dicom_slice(path: Path, header: Any) -> DicomSlice:
    width, height = header.GetSize()[:2]
    if max(width, height) > MOST[0]:
        raise bad(path, f"has {width} x {height} pixels: no CT is that large")
    if math.prod(header.GetSize()[2:]) != 1:
        raise bad(path, "has several frames: a CT series has a file for each slice")
    if header.GetNumberOfComponents() != 1:
        raise bad(path, "has colours: CT has none")
    across, down = header.GetSpacing()[:2]
    if not is_spacing((across, down)):
        raise bad(path, f"has pixels of {across:g} x {down:g} mm: export it again")
    try:
        height_mm = float(tag(header, POSITION).split("\\")[2])
        turn = [float(word) for word in tag(header, ORIENTATION).split("\\")]
    except (ValueError, IndexError):
        raise bad(path, "has no ImagePositionPatient or orientation: no slice of a CT") from None
    if not math.isfinite(height_mm):
        raise bad(path, f"has the height {height_mm} in ImagePositionPatient: export it again")
    if len(turn) != 6 or not np.allclose(np.abs(turn), (1, 0, 0, 0, 1, 0), atol=1e-3):
        raise bad(path, "is not axial: only axial series can be cut")
    return DicomSlice(path, height_mm, (width, height), (across, down))


def _series(series: str, patients: set[str], slices: list[DicomSlice]) -> DicomScan:
    slices.sort(key=lambda s: s.z_mm)
    name = f"series {shown(series)}"
    first = slices[0]
    if len(patients) > 1:
        raise ScanError(f"{name} names {len(patients)} patients: sort its files out")
    if any((s.size, s.spacing_mm) != (first.size, first.spacing_mm) for s in slices):
        raise ScanError(f"{name} has slices of several sizes or spacings: sort its files out")
    steps = np.diff([s.z_mm for s in slices])
    if len(slices) < 2:
        raise ScanError(f"{name} has one file only: copy the whole series")
    if steps.min() < 1e-3:
        raise ScanError(f"{name} has two files at one height: is it there twice? remove one")
    patient = next(iter(patients))
    thick = (*first.spacing_mm, float(np.median(steps)))
    return DicomScan(series, patient or None, tuple(slices), thick)


# ---- SimpleITK


def _reader(path: Path) -> Any:
    import SimpleITK  # here, since `--help` must not wait for it

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)  # GDCM tells the terminal of every file
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("MetaImageIO" if path.suffix.lower() in META else "GDCMImageIO")
    return reader


def read_information(path: Path) -> Any:
    """A reader that has read the header. Raises ScanError."""
    reader = _reader(path)
    try:
        if path.suffix.lower() not in META:
            check_elements(path)
        with _no_stderr():
            reader.ReadImageInformation()
    except (RuntimeError, OSError):
        raise bad(path, "cannot be read (damaged?): copy it again") from None
    return reader


def extract(path: Path, corner: tuple[int, int, int], box: Box) -> Pixels:
    """One slice's region as (H, W) float32; only its rows are read from an uncompressed file.

    Raises ScanError.
    """
    import SimpleITK

    reader = read_information(path)
    dimensions = reader.GetDimension()
    reader.SetExtractIndex(list(corner)[:dimensions])
    reader.SetExtractSize([box.width, box.height, 1][:dimensions])
    try:
        with _no_stderr():
            values = SimpleITK.GetArrayFromImage(reader.Execute())
    except RuntimeError:
        raise bad(path, "cannot be read (damaged?): copy it again") from None
    pixels: Pixels = values.reshape(box.height, box.width).astype(np.float32)
    return pixels


@contextmanager
def _no_stderr() -> Iterator[None]:
    """ITK's readers write to the process's stderr themselves; the error says all there is."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
