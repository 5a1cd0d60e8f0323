"""Score maps that were made elsewhere: .npy files or one array in a folder, read as untrusted
input."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vinet_bench.errors import CellError, UserError

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
            digest.update(_bytes(file))
        return f"{WORD}:{self.title}@{digest.hexdigest()[:12]}"

    def read(self, size: tuple[int, int]) -> Maps:
        """The maps by picture, each (H, W) of the given size.

        Raises UserError for a file that does not read, another shape, and values that are not
        finite.
        """
        first = self._files[0]
        if first.name not in ONE_ARRAY:
            return {self._id(file): _checked(_array(file), file, size) for file in self._files}
        maps, ids = self._whole(first)
        if maps.ndim != 3 or ids.ndim != 1 or ids.dtype.kind != "U" or len(ids) != len(maps):
            raise UserError(
                f"{first}: maps of shape {maps.shape} and ids of shape {ids.shape}, {ids.dtype}:"
                " save maps (N, H, W) and their pictures' ids (N,) as text"
            )
        if len(set(ids.tolist())) != len(ids):
            raise UserError(f"{first}: an id stands twice: save one map for each picture")
        return {
            str(i): _checked(one, first, size, f", id {i}")
            for i, one in zip(ids, maps, strict=True)
        }

    def _id(self, file: Path) -> str:
        return file.relative_to(self.folder).with_suffix("").as_posix()

    def _whole(self, file: Path) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
        if file.suffix == ".npy":
            return _array(file), _array(self.folder / "ids.npy")
        try:
            with np.load(file, allow_pickle=False) as arrays:
                return arrays["maps"], arrays["ids"]
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
        return np.stack([maps[_known(maps, i)] for i in ids])

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


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None


def _array(file: Path) -> NDArray[np.generic]:
    try:
        loaded: NDArray[np.generic] = np.load(file, allow_pickle=False)
        return loaded[...]  # an .npz in disguise has no such thing
    except Exception:  # as above
        raise _unreadable(file) from None


def _unreadable(file: Path) -> UserError:
    return UserError(
        f"{file}: cannot be read (damaged, or pickled objects?): save plain arrays with numpy"
    )


def _checked(
    one: NDArray[np.generic], file: Path, size: tuple[int, int], where: str = ""
) -> NDArray[np.float32]:
    if one.shape != size:
        raise UserError(f"{file}{where}: shape {one.shape}, not {size}, that of the pictures")
    if one.dtype.kind not in "buif":
        raise UserError(f"{file}{where}: holds {one.dtype}, not numbers")
    found = one.astype(np.float32)
    if not np.isfinite(found).all():
        raise UserError(f"{file}{where}: has values that are not finite")
    return found
