"""Score maps that were made elsewhere: .npy files or one array in a folder, read as untrusted
input."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vinet_bench.data.stacks import empty_stack
from vinet_bench.data.tables import shown
from vinet_bench.errors import CellError, UserError
from vinet_bench.npy_headers import LARGEST_BYTES, Header, npy_header, npz_header

WORD = "maps"  # before the colon of such a row's name
ONE_ARRAY = ("maps.npz", "maps.npy")
ENDINGS = (".png", ".jpg", ".jpeg", ".npy")  # of pictures
Maps = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class GivenMaps:
    """A row of its own: its title, and the folder with its maps."""

    title: str
    folder: Path

    @classmethod
    def of(cls, option: str) -> "GivenMaps":
        """What --maps names, DIR or NAME=DIR. Raises UserError for a name that does not do, and a
        folder without maps."""
        title, equals, folder = option.rpartition("=")
        given = cls(title if equals else Path(folder).resolve().name, Path(folder))
        if not re.fullmatch(r"[\w.+-]+( [\w.+-]+)*", given.title):
            raise UserError(
                f"--maps {option}: name the row with letters, digits, spaces and . + - _ alone, as"
                f" in --maps mine={folder}"
            )
        if not given._files:
            raise UserError(
                f"--maps {option}: {folder} holds neither ID.npy of pictures nor {ONE_ARRAY[1]} or"
                f" {ONE_ARRAY[0]}"
            )
        return given

    @cached_property
    def _files(self) -> list[Path]:
        whole = [self.folder / name for name in ONE_ARRAY if (self.folder / name).is_file()]
        if not whole:
            return sorted(path for path in self.folder.rglob("*.npy") if path.is_file())
        ids = [self.folder / "ids.npy"] if whole[0].suffix == ".npy" else []
        return [whole[0], *ids]

    @cached_property
    def name(self) -> str:
        """The row's name: with a hash of the content, which so is in every key."""
        digest = hashlib.sha256()
        for file in self._files:
            digest.update(f"{file.relative_to(self.folder)}\0".encode())
            for chunk in _chunks(file):
                digest.update(chunk)
        return f"{WORD}:{self.title}@{digest.hexdigest()[:12]}"

    def read(self, size: tuple[int, int]) -> Maps:
        """The maps by picture, each (H, W) of the given size.

        Raises UserError for a file that does not read, another shape, and values that are not
        finite.
        """
        first = self._files[0]
        if first.name not in ONE_ARRAY:
            return {self._id(file): _one(file, size) for file in self._files}
        maps, ids = self._whole(first, size)
        names = _names(first, ids)
        return {i: _checked(one, first, f", id {i}") for i, one in zip(names, maps, strict=True)}

    def _id(self, file: Path) -> str:
        return file.relative_to(self.folder).with_suffix("").as_posix()

    def _whole(
        self, file: Path, size: tuple[int, int]
    ) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
        """Maps (N, H, W) and ids (N,), whose headers show that they fit before they are read."""
        if file.suffix == ".npy":
            beside = self.folder / "ids.npy"
            _check_pair(file, _header(file), _header(beside), size)
            return _array(file), _array(beside)
        try:
            headers = {name: npz_header(file, name) for name in ("maps", "ids")}
            _check_pair(file, headers["maps"], headers["ids"], size)
            with np.load(file, allow_pickle=False) as arrays:
                return arrays["maps"], arrays["ids"]
        except UserError:
            raise
        except KeyError as error:
            raise UserError(f"{file}: has no array named {error}: save maps and ids") from None
        except Exception:  # a damaged file makes numpy raise almost anything
            raise _unreadable(file) from None

    def check(self, ids: Sequence[str], size: tuple[int, int]) -> None:
        """Raises UserError for files that do not do, and for test pictures without a map."""
        missing = _missing(self.read(size), ids)
        if missing:
            raise UserError(self._lacks(missing, ids, "test"))

    def stacked(self, ids: Sequence[str], size: tuple[int, int], part: str) -> NDArray[np.float32]:
        """The maps of these pictures of a part, (N, H, W). Raises CellError if one has none."""
        maps = self.read(size)
        missing = _missing(maps, ids)
        if missing:
            raise CellError(self._lacks(missing, ids, part))
        stack = empty_stack((len(ids), *size), np.float32)
        return np.stack([maps[_known(maps, i)] for i in ids], out=stack)

    def _lacks(self, missing: Sequence[str], ids: Sequence[str], part: str) -> str:
        return (
            f"--maps {self.folder}: no map for {len(missing)} of {len(ids)} {part} pictures, e.g."
            f" {missing[0]}.npy"
        )


def _known(maps: Maps, picture: str) -> str:
    """The map's name: the picture's id, with or without the ending of its file."""
    plain = Path(picture)
    known = picture in maps or plain.suffix.lower() not in ENDINGS
    return picture if known else plain.with_suffix("").as_posix()


def _missing(maps: Maps, ids: Sequence[str]) -> list[str]:
    return [i for i in ids if _known(maps, i) not in maps]


def _chunks(file: Path) -> Iterator[bytes]:
    try:
        with file.open("rb") as opened:
            while chunk := opened.read(2**20):
                yield chunk
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None


def _header(file: Path) -> Header:
    try:
        return npy_header(file)
    except Exception:  # a damaged file makes numpy raise almost anything
        raise _unreadable(file) from None


def _array(file: Path) -> NDArray[np.generic]:
    """Of a file whose header is checked already."""
    try:
        loaded: NDArray[np.generic] = np.load(file, allow_pickle=False)
        return loaded
    except Exception:  # as above
        raise _unreadable(file) from None


def _unreadable(file: Path) -> UserError:
    return UserError(
        f"{file}: cannot be read (damaged, or pickled objects, or over {LARGEST_BYTES >> 20} MiB?):"
        " save plain arrays with numpy"
    )


def _check_pair(file: Path, maps: Header, ids: Header, size: tuple[int, int]) -> None:
    """Raises UserError unless these are N maps of a size and N texts."""
    if len(maps.shape) != 3 or ids.shape != maps.shape[:1] or ids.dtype.kind != "U":
        raise UserError(
            f"{file}: maps of shape {maps.shape} and ids of shape {ids.shape}, {ids.dtype}:"
            " save maps (N, H, W) and their pictures' ids (N,) as text"
        )
    _check_one(file, maps.shape[1:], maps.dtype, size)


def _check_one(
    file: Path, shape: tuple[int, ...], dtype: np.dtype[np.generic], size: tuple[int, int]
) -> None:
    if shape != size:
        raise UserError(f"{file}: shape {shape}, not {size}, that of the pictures")
    if dtype.kind not in "buif":
        raise UserError(f"{file}: holds {shown(str(dtype))}, not numbers")


def _names(file: Path, ids: NDArray[np.generic]) -> list[str]:
    """The ids as text. Raises UserError for one that stands twice or is no text."""
    try:
        names = [str(i) for i in ids.tolist()]
        printable = all(map(str.isprintable, names))
    except (ValueError, SystemError):  # numbers that are no characters
        printable = False
    if not printable:
        raise UserError(f"{file}: an id has an unprintable character: save ids as plain text")
    if len(set(names)) != len(names):
        raise UserError(f"{file}: an id stands twice: save one map for each picture")
    return names


def _one(file: Path, size: tuple[int, int]) -> NDArray[np.float32]:
    """One picture's map (H, W). Raises UserError."""
    header = _header(file)
    _check_one(file, header.shape, header.dtype, size)
    return _checked(_array(file), file)


def _checked(one: NDArray[np.generic], file: Path, where: str = "") -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what is too large becomes infinite
        found = one.astype(np.float32)
    if not np.isfinite(found).all():
        raise UserError(f"{file}{where}: has values that are not finite")
    return found
