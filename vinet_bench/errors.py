"""The errors that a user can mend, and the word that they meant."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input: one clear line that names the file, row or option and what to do."""


class StoreError(UserError):
    """A run's folder cannot be written: no cell's fault, so the run stops; what is done is kept."""


class CellError(Exception):
    """One cell cannot give a figure (a network diverged, say); the others go on."""


def unknown_name(kind: str, name: str, known: Iterable[str], more: Iterable[str] = ()) -> UserError:
    """The error for a name that no registry holds, with the nearest known one.

    more: names that may be meant too, but are too many to be listed.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, [*names, *more], n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(names)}"
    return UserError(f"unknown {kind} '{name}': {hint}")
