"""Headers of scans from strangers, checked as text before a library opens the files."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vinet_bench.data.tables import shown

MOST = (4096, 4096, 20_000)  # pixels across, down, slices
MOST_VOXELS = 2**29  # of what must be decoded whole: 2048 slices of 512 x 512
SPACINGS_MM = (1e-3, 1e3)
LONGEST_HEADER, LONGEST_LINE = 65_536, 1000  # bytes; MetaIO cuts longer lines in two
BYTES = {
    **{"MET_CHAR": 1, "MET_UCHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2, "MET_INT": 4},
    **{"MET_UINT": 4, "MET_FLOAT": 4, "MET_DOUBLE": 8},
}
# MetaIO splits at ':' too: such a key would hide a field from our checks.
FIELD = re.compile(r"[\w|]+", re.ASCII)
# It ends lines at \n alone, Python at these too: one would hide a field from the other.
CONTROLS = re.compile(rb"[^\n\t -~]")
DATA_FIELD = re.compile(rb"^[ \t]*ElementDataFile[^\n]*(\n|\Z)", re.MULTILINE)


class ScanError(Exception):
    """A scan that cannot be used: one line that names the file and says what to do."""


def bad(path: Path, text: str) -> ScanError:
    """A ScanError that names the file."""
    return ScanError(f"{shown(path.name)} {text}")


@dataclass(frozen=True)
class MhdHeader:
    """What a .mhd header says: pixels in x and y and slices, and in mm their spacing and origin."""

    size: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]


def read_mhd(path: Path) -> MhdHeader:
    """A header and its data file, whole and beside it. Raises ScanError; reads no pixels."""
    fields = _fields(path, _start(path, whole=True))
    _check_form(path, fields)
    size = _whole(path, fields, "DimSize")
    if not all(1 <= n <= most for n, most in zip(size, MOST, strict=True)):
        raise bad(path, f"has the DimSize {_text(fields, 'DimSize')}: no CT is that large or small")
    _check_data(path, fields, size)
    spacing = _numbers(path, fields, "ElementSpacing", 3)
    origin = _numbers(path, fields, _first(fields, "Offset", "Position", "Origin"), 3)
    _numbers(path, fields, _first(fields, "TransformMatrix", "Rotation", "Orientation"), 9)
    if not is_spacing(spacing):
        raise bad(path, f"has the ElementSpacing {_text(fields, 'ElementSpacing')}: mend it")
    x, y, z = spacing
    return MhdHeader((size[0], size[1], size[2]), (x, y, z), (origin[0], origin[1], origin[2]))


def check_mha(path: Path) -> None:
    """Raises ScanError for a .mha file whose pixels are not in itself, or not all there."""
    start = _start(path, whole=False)
    found = DATA_FIELD.search(start)
    if found is None:
        raise bad(path, "cannot be read as a scan (damaged?): export it again")
    fields = _fields(path, start[: found.end()])
    if (name := fields.get("ElementDataFile", "")) != "LOCAL":
        raise bad(
            path, f"has the ElementDataFile '{shown(name)}', refused: a .mha holds its pixels"
        )
    _check_form(path, fields, ("2", "3"), ("false", "true"))
    size = _whole(path, fields, "DimSize", int(fields["NDims"]))
    if not all(1 <= n <= most for n, most in zip(size, MOST, strict=False)):
        raise bad(path, f"has the DimSize {_text(fields, 'DimSize')}: no CT is that large or small")
    needed = math.prod(size) * _bytes(path, fields)
    there = path.stat().st_size - found.end()
    if fields.get("CompressedData", "False").lower() == "true":
        (needed,) = _whole(path, fields, "CompressedDataSize", 1)
    if not 1 <= needed <= there:
        raise bad(path, f"has {there} bytes of pixels and its header needs {needed}: copy it again")


def is_spacing(sides_mm: Sequence[float]) -> bool:
    """Whether these can be the sides of a voxel."""
    return all(SPACINGS_MM[0] <= side <= SPACINGS_MM[1] for side in sides_mm)


def _start(path: Path, whole: bool) -> bytes:
    """The first bytes of a file. Raises ScanError, if it must be whole also for a longer one, of
    which the rest would hide fields."""
    if not path.is_file():
        raise bad(path, "is no file: copy it again")
    try:
        with path.open("rb") as file:
            start = file.read(LONGEST_HEADER + 1)
    except OSError as problem:
        raise bad(path, f"cannot be opened ({problem.strerror}): check its rights") from None
    if whole and len(start) > LONGEST_HEADER:
        raise bad(path, f"has a header of over {LONGEST_HEADER} bytes: copy it again")
    return start


def _fields(path: Path, text: bytes) -> dict[str, str]:
    """The fields of a MetaImage header, each once."""
    text = text.replace(b"\r\n", b"\n")
    if CONTROLS.search(text):
        raise bad(path, "is no MetaImage header: copy it again")
    fields: dict[str, str] = {}
    for line in filter(str.strip, text.decode("ascii").split("\n")):
        key, equals, value = line.partition("=")
        odd = not equals or not FIELD.fullmatch(key.strip()) or len(line) > LONGEST_LINE
        if odd or key.strip() in fields:
            raise bad(path, f"has the line '{shown(line)}', unknown or twice: copy it again")
        fields[key.strip()] = value.strip()
    return fields


def _first(fields: Mapping[str, str], *names: str) -> str:
    """The first of a field's names that stands in the header, else the usual one."""
    return next((name for name in names if name in fields), names[0])


def _text(fields: Mapping[str, str], key: str) -> str:
    return shown(fields.get(key, ""))


def _numbers(path: Path, fields: Mapping[str, str], key: str, count: int) -> list[float]:
    try:
        values = [float(word) for word in fields.get(key, "").split()]
    except ValueError:
        values = []
    if len(values) != count or not all(map(math.isfinite, values)):
        raise bad(path, f"has '{key} = {_text(fields, key)}', not {count} numbers: mend it")
    return values


def _whole(path: Path, fields: Mapping[str, str], key: str, count: int = 3) -> list[int]:
    values = _numbers(path, fields, key, count)
    if any(value != int(value) for value in values):
        raise bad(path, f"has '{key} = {_text(fields, key)}', not whole numbers: mend it")
    return [int(value) for value in values]


def _check_form(
    path: Path,
    fields: Mapping[str, str],
    dimensions: Sequence[str] = ("3",),
    compressed: Sequence[str] = ("false",),
) -> None:
    """Raises ScanError for all but plain binary numbers of these dimensions."""
    if fields.get("NDims") not in dimensions:
        raise bad(path, f"has the NDims '{_text(fields, 'NDims')}': a scan has 3")
    if fields.get("BinaryData", "True").lower() != "true":
        raise bad(path, "holds numbers as text (BinaryData): write it as binary data")
    if fields.get("CompressedData", "False").lower() not in compressed:
        raise bad(path, "is compressed, so that no region can be read: write it uncompressed")
    if fields.get("ElementNumberOfChannels", "1") != "1":
        raise bad(path, "has several channels: CT has one")
    if fields.get("HeaderSize", "0") not in ("0", "-1"):
        raise bad(path, "skips bytes of its data file (HeaderSize): write it without a header")


def _bytes(path: Path, fields: Mapping[str, str]) -> int:
    """Of a voxel."""
    if (kind := fields.get("ElementType", "")) not in BYTES:
        raise bad(path, f"has the ElementType '{_text(fields, 'ElementType')}': use MET_SHORT")
    return BYTES[kind]


def _check_data(path: Path, fields: Mapping[str, str], size: Sequence[int]) -> None:
    """Raises ScanError unless the data file lies beside the header and holds what it promises."""
    name = fields.get("ElementDataFile", "")
    each = _bytes(path, fields)
    if not name or name in ("LOCAL", "LIST", ".", "..") or "%" in name or set(name) & set("/\\:"):
        raise bad(
            path, f"has the ElementDataFile '{shown(name)}', refused: name one file beside it"
        )
    data = path.parent / name
    try:
        there = data.stat().st_size if data.is_file() else None
    except OSError:  # a name too long
        there = None
    if there is None:
        raise bad(path, f"names {shown(name)}, which is missing: copy it too")
    if data.resolve().parent not in (path.parent.resolve(), path.resolve().parent):
        raise bad(path, f"names {shown(name)}, a link that leaves its folder: copy the file itself")
    needed = math.prod(size) * each
    if there < needed:
        raise ScanError(
            f"{shown(name)} has {there} bytes and its header needs {needed}: copy it again"
        )
