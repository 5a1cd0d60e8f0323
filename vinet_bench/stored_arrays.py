"""The arrays of a run's folder, checked as untrusted input: do they fit each other and the plan?"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vinet_bench.data.dataset import PARTS
from vinet_bench.data.tables import printable
from vinet_bench.settings import MOST_FOLDS

Arrays = Mapping[str, NDArray[Any]]
CONTENT_BYTES, LOOKS_BYTES = 8, 32  # of data.facts


def check_facts(facts: Arrays, classes: int) -> None:
    """Raises ValueError unless these are data.facts of N pictures of so many classes."""
    folds = np.ndim(facts.get("part", 0)) == 2  # cross-validated
    part = _of(facts, "part", "u", (None, None) if folds else (None,))
    count = part.shape[-1]
    if folds and not 2 <= len(part) <= MOST_FOLDS:
        raise ValueError("folds")
    for name, width in (("content", CONTENT_BYTES), ("looks", LOOKS_BYTES)):
        if _of(facts, name, "u", (count, width)).dtype != np.uint8:
            raise ValueError(name)
    _within(part.ravel(), len(PARTS) + 1)  # a fourth part is none of them
    _within(_of(facts, "label", "iu", (count,)), classes)
    _within(_of(facts, "patient", "iu", (count,)), len(_names(facts, "patient_names")))
    if len(_names(facts, "ids")) != count:
        raise ValueError("ids")


def check_gallery(shown: Arrays, tested: int) -> None:
    """Raises ValueError unless these are C of so many tested pictures, and their maps."""
    places = _of(shown, "places", "iu", (None,))
    _within(places, tested)
    pictures = _of(shown, "pictures", "u", (len(places), None, None))
    if 0 in pictures.shape:
        raise ValueError("no picture")
    for name, stack in shown.items():
        other = stack.dtype != np.uint8 or stack.shape != pictures.shape
        if name != "places" and other:
            raise ValueError(name)


def check_scores(scores: Arrays) -> None:
    """Raises ValueError unless each metric has numbers, of one picture or more, none infinite."""
    for name, values in scores.items():
        if values.dtype.kind not in "buif" or values.ndim < 1 or np.isinf(values).any():
            raise ValueError(name)


def _of(arrays: Arrays, name: str, kinds: str, shape: tuple[int | None, ...]) -> NDArray[Any]:
    """An array of some kinds of numbers and a shape, in which None stands for any length."""
    found = arrays.get(name)
    if found is None or found.dtype.kind not in kinds or found.ndim != len(shape):
        raise ValueError(name)
    if any(wanted not in (None, there) for wanted, there in zip(shape, found.shape, strict=True)):
        raise ValueError(name)
    return found


def _within(places: NDArray[Any], count: int) -> None:
    if len(places) and not 0 <= int(places.min()) <= int(places.max()) < count:
        raise ValueError("a place that is not there")


def _names(facts: Arrays, name: str) -> list[str]:
    """JSON in bytes. Raises ValueError."""
    names = json.loads(_of(facts, name, "u", (None,)).tobytes().decode())
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise ValueError(name)
    return [printable(n) for n in names]
