"""The lengths that a DICOM file claims, checked against the file before a library believes them.

GDCM reserves what an element claims to hold, up to 4 GiB, before it finds the file shorter.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from vinet_bench.data.headers import MOST, ScanError, bad

SHORT = frozenset(
    b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split()  # 2 bytes of length
)
LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())  # 4 bytes
ITEM, ITEM_END, SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
PIXELS, SYNTAX = (0x7FE0, 0x0010), (0x0002, 0x0010)
UNDEFINED, DEEPEST, LONGEST_UID = 0xFFFFFFFF, 16, 64
IMPLICIT, BIG = b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.2"
DEFLATED, KNOWN = b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2"

JPEG, JPEG_2000 = b"\xff\xd8", b"\xff\x4f\xff\x51"
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}  # JPEG's, and JPEG-LS's
CODED_HEADER = 65_536  # bytes in which a decoder's own size must stand

Tag = tuple[int, int]


@dataclass(frozen=True)
class _Element:
    tag: Tag
    sequence: bool
    length: int


def check_elements(path: Path) -> None:
    """Raises ScanError for a file that ends too early, and for one that is no DICOM, or deflated:
    that may grow a thousandfold before anything of it can be checked."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(128)
            if file.read(4) != b"DICM":
                raise _damaged(path)
            _Walk(path, file, size).file()
    except OSError:
        raise _damaged(path) from None


def _coded_side(start: bytes) -> int:
    """The longer side in pixels that a compressed picture claims itself, 0 if none: its decoder
    makes room for that, whatever the DICOM header says."""
    if start.startswith(JPEG_2000) and len(start) >= 16:
        return int(max(struct.unpack(">II", start[8:16])))
    place = len(JPEG) if start.startswith(JPEG) else len(start)
    while place + 9 <= len(start):
        marker, length = struct.unpack(">xBH", start[place : place + 4])
        if marker in FRAMES:
            return int(max(struct.unpack(">HH", start[place + 5 : place + 9])))
        place += 2 + length
    return 0


def _damaged(path: Path) -> ScanError:
    return bad(path, "cannot be read (damaged?): copy it again")


class _Walk:
    """Passes through a file from element to element; reads their headers alone."""

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self._path, self._file, self._size = path, file, size
        self._explicit, self._order = True, "<"

    def file(self) -> None:
        """The elements of group 2 say how the others are coded."""
        syntax = b""
        while self._peek_group() == 2:
            element = self._element()
            self._check(element.length, self._size)
            place = self._file.tell()
            if element.tag == SYNTAX:
                syntax = self._file.read(min(element.length, LONGEST_UID)).strip(b"\0 ")
            self._file.seek(place + element.length)
        if syntax == DEFLATED:
            raise bad(self._path, "is deflated: export it without compression")
        if not syntax.startswith(KNOWN):
            raise _damaged(self._path)
        self._explicit, self._order = syntax != IMPLICIT, ">" if syntax == BIG else "<"
        self._elements(self._size, 0, closed=True)

    def _peek_group(self) -> int:
        place, start = self._file.tell(), self._file.read(2)
        self._file.seek(place)
        return int.from_bytes(start, "little")

    def _unpack(self, form: Literal["HH", "H", "I"]) -> tuple[int, ...]:
        content = self._file.read(struct.calcsize(form))
        if len(content) < struct.calcsize(form):
            raise self._short()
        return struct.unpack(self._order + form, content)

    def _short(self) -> ScanError:
        return bad(self._path, "ends too early: copy it again")

    def _check(self, length: int, end: int) -> None:
        """Raises ScanError for what is longer than that which holds it."""
        if self._file.tell() + length > end:
            raise self._short()

    def _element(self) -> _Element:
        """The header of the next one."""
        group, number = self._unpack("HH")
        tag = group, number
        if group == ITEM[0] or not self._explicit:
            return _Element(tag, False, self._unpack("I")[0])
        kind = self._file.read(2)
        if kind in SHORT:
            return _Element(tag, False, self._unpack("H")[0])
        if kind not in LONG:
            raise _damaged(self._path)
        self._file.seek(2, 1)
        return _Element(tag, kind == b"SQ", self._unpack("I")[0])

    def _elements(self, end: int, depth: int, closed: bool) -> None:
        """Those up to an end, or (not closed) to the end of their item."""
        while self._file.tell() < end:
            element = self._element()
            if element.tag == ITEM_END and not closed:
                return
            self._value(element, end, depth)
        if not closed:
            raise self._short()

    def _value(self, element: _Element, end: int, depth: int) -> None:
        if element.length == UNDEFINED:
            self._items(end, depth, closed=False, pixels=element.tag == PIXELS)
            return
        self._check(element.length, end)
        place = self._file.tell()
        if element.sequence:
            self._items(place + element.length, depth, closed=True, pixels=False)
        self._file.seek(place + element.length)

    def _items(self, end: int, depth: int, closed: bool, pixels: bool) -> None:
        """Those of a sequence or of compressed pixels, up to an end, or to their own end."""
        if depth > DEEPEST:
            raise _damaged(self._path)
        while self._file.tell() < end:
            item = self._element()
            if item.tag == SEQUENCE_END and not closed:
                return
            if item.tag != ITEM:
                raise _damaged(self._path)
            if item.length == UNDEFINED and not pixels:
                self._elements(end, depth + 1, closed=False)
                continue
            self._check(item.length, end)
            stop = self._file.tell() + item.length
            if not pixels:
                self._elements(stop, depth + 1, closed=True)
            elif _coded_side(self._file.read(min(item.length, CODED_HEADER))) > MOST[0]:
                raise bad(self._path, "has coded pixels larger than any CT: export it again")
            self._file.seek(stop)
        if not closed:
            raise self._short()
