"""The errors that a user can mend, and the word that they meant."""

import difflib
import traceback
from collections.abc import Iterable
from pathlib import Path

_LIBRARIES = {
    *("torch", "torchvision", "captum", "pytorch_grad_cam", "zennit", "timm"),
    *("segmentation_models_pytorch", "numpy", "scipy", "sklearn", "skimage"),
}


class UserError(Exception):
    """Bad input: one clear line that names the file, row or option and what to do."""


class StoreError(UserError):
    """A run's folder cannot be written: no cell's fault, so the run stops; what is done is kept."""


class CellError(Exception):
    """One cell cannot give a figure (a network diverged, say); the others go on."""


def fault(error: Exception) -> str:
    """What an error that nobody foresaw says, in one line, and the last place that is no
    library's."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not _LIBRARIES & set(Path(f.filename).parts)]
    place = (own or frames)[-1]
    text = " ".join(str(error).split()) or "no reason given"
    return f"{type(error).__name__}: {text} ({Path(place.filename).name}:{place.lineno})"


def unknown_name(kind: str, name: str, known: Iterable[str], more: Iterable[str] = ()) -> UserError:
    """The error for a name that no registry holds, with the nearest known one.

    more: names that may be meant too, but are too many to be listed.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, [*names, *more], n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(names)}"
    return UserError(f"unknown {kind} '{name}': {hint}")
