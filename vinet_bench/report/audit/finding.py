"""What an audit says: a verdict and its reason, in plain words."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["fine", "look", "broken"]
SHOWN_NAMES = 3


@dataclass(frozen=True)
class Finding:
    """One line of an audit. protocol: whose table it belongs to; empty for the data."""

    topic: str
    verdict: Verdict
    reason: str
    protocol: str = ""


def percent(share: float) -> str:
    """
    >>> percent(0.1234)
    '12.3 %'
    """
    return f"{100 * share:.1f} %"


def named(names: Sequence[str], most: int = SHOWN_NAMES) -> str:
    """The first names, and how many more there are.

    >>> named(["a", "b", "c", "d", "e"])
    'a, b, c, 2 more'
    """
    rest = len(names) - most
    return ", ".join([*names[:most], *([f"{rest} more"] if rest > 0 else [])])


def listed(pairs: Iterable[tuple[str, str]]) -> str:
    """
    >>> listed([("VINet", "3 %"), ("CAM", "5 %")])
    'VINet 3 %, CAM 5 %'
    """
    return ", ".join(f"{name} {value}" for name, value in pairs)
