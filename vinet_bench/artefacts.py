"""Named arrays of a run's folder, in safetensors with a hash of what they hold."""

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from vinet_bench.data.stacks import made
from vinet_bench.writing import replacing

_LOG = logging.getLogger(__name__)
_NO_TYPE_OF_NUMPY = (KeyError, TypeError, AttributeError)  # by the version of safetensors


def artefact_path(folder: Path, kind: str, key: str) -> Path:
    """Where a run keeps named arrays. A key is made by key_of, or checked when it is read."""
    return folder / "artefacts" / kind / f"{key}.safetensors"


def load_arrays(folder: Path, kind: str, key: str) -> dict[str, NDArray[Any]] | None:
    """The named arrays of an artefact, or None if there are none or the file does not read."""
    path = artefact_path(folder, kind, key)
    return read_arrays(path, str(path)) if path.is_file() else None


def read_arrays(path: Path, title: str) -> dict[str, NDArray[Any]] | None:
    """The named arrays of a file, or None if it does not read. title: names it in the log."""
    try:
        arrays, digest = _contents(path)
    except (SafetensorError, OSError, *_NO_TYPE_OF_NUMPY):
        arrays, digest = {}, ""
    if digest not in (None, _digest(arrays)):
        _LOG.warning("%s is damaged: it is left out here, and the next run makes it again", title)
        return None
    return arrays


def save_arrays(folder: Path, kind: str, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes named arrays beside their place and moves them there when they are whole."""
    path = artefact_path(folder, kind, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        write_arrays(part, arrays)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """The file that `read_arrays` reads."""
    whole = {name: np.ascontiguousarray(a) for name, a in arrays.items()}
    save_file(whole, path, {"content": _digest(whole)})


def _contents(path: Path) -> tuple[dict[str, NDArray[Any]], str | None]:
    """A file's arrays, and what their digest was; None for a file of version 0.2.0 or earlier."""
    with safe_open(path, "np") as file:
        names, told = list(file.keys()), file.metadata()
        digest = None if told is None else told.get("content", "")
        return {name: _array(file, name) for name in names}, digest


def _array(file: Any, name: str) -> NDArray[Any]:
    """Maps, (N, H, W), a few at a time: they may be more than memory holds."""
    part = file.get_slice(name)
    shape = part.get_shape()
    if len(shape) == 3 and all(shape):  # a side of 0 holds nothing, however many there are
        return made(shape[0], lambda some: part[some])
    whole: NDArray[Any] = file.get_tensor(name)
    return whole


def _digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Of names, types, shapes and values."""
    found = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        found.update(repr((name, array.dtype.str, array.shape)).encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()
