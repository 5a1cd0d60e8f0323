"""CT scans on disk, read slice by slice: MetaImage (LUNA16) and DICOM series (LIDC).

Files come from strangers: headers are checked as text before a library opens them, and nothing
larger than the asked region is ever in memory.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vinet_bench.data.readings import Box
from vinet_bench.data.tables import shown

Floats = NDArray[np.float64]
Pixels = NDArray[np.float32]

MOST = (4096, 4096, 20_000)  # pixels across, down, slices
BYTES = {
    **{"MET_CHAR": 1, "MET_UCHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2, "MET_INT": 4},
    **{"MET_UINT": 4, "MET_FLOAT": 4, "MET_DOUBLE": 8},
}


# MetaIO splits at ':' too: such a key would hide a field from our checks.
FIELD = re.compile(r"[\w|]+", re.ASCII)


class ScanError(Exception):
    """A scan that cannot be used: one line that names the file and says what to do."""


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
        return _extract(self.path, (box.left, box.top, k), box)


def open_mhd(path: Path) -> MhdScan:
    """Checks the header and its data file. Raises ScanError; reads no pixels."""
    header = _header(path)
    _check_form(path, header)
    size = _whole(path, header, "DimSize")
    if not all(1 <= n <= most for n, most in zip(size, MOST, strict=True)):
        raise _bad(
            path, f"has the DimSize {_text(header, 'DimSize')}: no CT is that large or small"
        )
    _check_data(path, header, size)
    spacing = _numbers(path, header, "ElementSpacing", 3)
    origin = _numbers(path, header, _first(header, "Offset", "Position", "Origin"), 3)
    _numbers(path, header, _first(header, "TransformMatrix", "Rotation", "Orientation"), 9)
    if min(spacing) <= 0:
        raise _bad(path, f"has the ElementSpacing {_text(header, 'ElementSpacing')}: mend it")
    geometry = _read_information(path)
    axes = np.array(geometry.GetDirection()).reshape(3, 3)
    read = (geometry.GetSize(), geometry.GetSpacing(), geometry.GetOrigin())
    if not np.allclose(read, (size, spacing, origin)):
        raise _bad(path, "is read otherwise than it is written: copy it again")
    if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-3) or abs(axes[2, 2]) < 0.999:
        raise _bad(path, "has a TransformMatrix whose third axis is not the body's: not axial")
    return MhdScan(
        path=path,
        series=path.stem,
        size=(size[0], size[1], size[2]),
        spacing_mm=tuple(geometry.GetSpacing()),
        origin_mm=np.array(geometry.GetOrigin()),
        axes=axes,
    )


def _bad(path: Path, text: str) -> ScanError:
    return ScanError(f"{shown(path.name)} {text}")


def _header(path: Path) -> dict[str, str]:
    """The fields of a MetaImage header, each once."""
    try:
        lines = path.read_bytes()[:65536].decode("ascii").splitlines()
    except UnicodeDecodeError:
        raise _bad(path, "is no MetaImage header: copy it again") from None
    except OSError as problem:
        raise _bad(path, f"cannot be opened ({problem.strerror}): check its rights") from None
    fields: dict[str, str] = {}
    for line in filter(str.strip, lines):
        key, equals, value = line.partition("=")
        if not equals or key.strip() in fields or not FIELD.fullmatch(key.strip()):
            raise _bad(path, f"has the line '{shown(line)}', unknown or twice: copy it again")
        fields[key.strip()] = value.strip()
    return fields


def _first(header: dict[str, str], *names: str) -> str:
    """The first of a field's names that stands in the header, else the usual one."""
    return next((name for name in names if name in header), names[0])


def _text(header: dict[str, str], key: str) -> str:
    return shown(header.get(key, ""))


def _numbers(path: Path, header: dict[str, str], key: str, count: int) -> list[float]:
    try:
        values = [float(word) for word in header.get(key, "").split()]
    except ValueError:
        values = []
    if len(values) != count or not all(map(math.isfinite, values)):
        raise _bad(path, f"has '{key} = {_text(header, key)}', not {count} numbers: mend it")
    return values


def _whole(path: Path, header: dict[str, str], key: str) -> list[int]:
    values = _numbers(path, header, key, 3)
    if any(value != int(value) for value in values):
        raise _bad(path, f"has '{key} = {_text(header, key)}', not whole numbers: mend it")
    return [int(value) for value in values]


def _check_form(path: Path, header: dict[str, str]) -> None:
    """Raises ScanError for all but three dimensions of plain binary numbers."""
    if header.get("NDims") != "3":
        raise _bad(path, f"has the NDims '{_text(header, 'NDims')}': a scan has 3")
    if header.get("BinaryData", "True").lower() != "true":
        raise _bad(path, "holds numbers as text (BinaryData): write it as binary data")
    if header.get("CompressedData", "False").lower() != "false":
        raise _bad(path, "is compressed, so that no region can be read: write it uncompressed")
    if header.get("ElementNumberOfChannels", "1") != "1":
        raise _bad(path, "has several channels: CT has one")


def _check_data(path: Path, header: dict[str, str], size: Sequence[int]) -> None:
    """Raises ScanError unless the data file lies beside the header and holds what it promises."""
    name = header.get("ElementDataFile", "")
    kind = header.get("ElementType", "")
    if kind not in BYTES:
        raise _bad(path, f"has the ElementType '{_text(header, 'ElementType')}': use MET_SHORT")
    if not name or name in ("LOCAL", "LIST", ".", "..") or "%" in name or set(name) & set("/\\:"):
        raise _bad(
            path, f"has the ElementDataFile '{shown(name)}', refused: name one file beside it"
        )
    data = path.parent / name
    if not data.is_file():
        raise _bad(path, f"names {shown(name)}, which is missing: copy it too")
    needed, there = math.prod(size) * BYTES[kind], data.stat().st_size
    if there < needed:
        raise ScanError(
            f"{shown(name)} has {there} bytes and its header needs {needed}: copy it again"
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
        return _extract(self.slices[k].path, (box.left, box.top, 0), box)


SERIES, PATIENT, POSITION = "0020|000e", "0010|0020", "0020|0032"
ORIENTATION = "0020|0037"
TRANSFER_SYNTAX, SEQUENCE_END = b"\x02\x00\x10\x00UI", b"\xfe\xff\xdd\xe0"
UNCOMPRESSED = (b"", b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.2")


def open_dicom(folder: Path, wanted: Iterable[str]) -> tuple[list[DicomScan], list[ScanError]]:
    """The wanted series that lie in one folder, and what is wrong with the others of them."""
    chosen = set(wanted)
    slices: dict[str, list[DicomSlice]] = defaultdict(list)
    patients: dict[str, set[str]] = defaultdict(set)
    errors: list[ScanError] = []
    for path in dicom_files(folder):
        try:
            header = _read_information(path)
            series = _tag(header, SERIES)
            if series in chosen:
                slices[series].append(_dicom_slice(path, header))
                patients[series].add(_tag(header, PATIENT))
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


def _tag(header: Any, tag: str) -> str:
    """A tag's text; bytes that are no UTF-8 stand as escapes, so that it can be written."""
    text = str(header.GetMetaData(tag)).strip("\0 ") if header.HasMetaDataKey(tag) else ""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _dicom_slice(path: Path, header: Any) -> DicomSlice:
    width, height = header.GetSize()[:2]
    if max(width, height) > MOST[0]:
        raise _bad(path, f"has {width} x {height} pixels: no CT is that large")
    if header.GetNumberOfComponents() != 1:
        raise _bad(path, "has colours: CT has none")
    _check_whole(path)
    across, down = header.GetSpacing()[:2]
    try:
        height_mm = float(_tag(header, POSITION).split("\\")[2])
        turn = [float(word) for word in _tag(header, ORIENTATION).split("\\")]
    except (ValueError, IndexError):
        raise _bad(path, "has no ImagePositionPatient or orientation: no slice of a CT") from None
    if len(turn) != 6 or not np.allclose(np.abs(turn), (1, 0, 0, 0, 1, 0), atol=1e-3):
        raise _bad(path, "is not axial: only axial series can be cut")
    return DicomSlice(path, height_mm, (width, height), (across, down))


def _check_whole(path: Path) -> None:
    """Raises ScanError for a compressed file that was cut off, which GDCM fills up with zeros."""
    with path.open("rb") as file:
        start = file.read(1024)
        file.seek(max(0, file.seek(0, 2) - 1024))
        end = file.read()
    syntax = start.partition(TRANSFER_SYNTAX)[2][2:66].partition(b"\x02\x00")[0].strip(b"\0 ")
    if syntax not in UNCOMPRESSED and SEQUENCE_END not in end:
        raise _bad(path, "ends too early: copy it again")


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
    reader.SetImageIO("MetaImageIO" if path.suffix.lower() == ".mhd" else "GDCMImageIO")
    return reader


def _read_information(path: Path) -> Any:
    """A reader that has read the header."""
    reader = _reader(path)
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        raise _bad(path, "cannot be read (damaged?): copy it again") from None
    return reader


def _extract(path: Path, corner: tuple[int, int, int], box: Box) -> Pixels:
    """One slice's region as (H, W) float32; only its rows are read from an uncompressed file."""
    import SimpleITK

    reader = _reader(path)
    reader.SetExtractIndex(list(corner))
    reader.SetExtractSize([box.width, box.height, 1])
    try:
        pixels: Pixels = SimpleITK.GetArrayFromImage(reader.Execute())[0].astype(np.float32)
    except RuntimeError:
        raise _bad(path, "cannot be read (damaged?): copy it again") from None
    return pixels
