"""What an audit says: a verdict and its reason, in plain words."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["fine", "look", "broken"]


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


def listed(pairs: Iterable[tuple[str, str]]) -> str:
    """
    >>> listed([("VINet", "3 %"), ("CAM", "5 %")])
    'VINet 3 %, CAM 5 %'
    """
    return ", ".join(f"{name} {value}" for name, value in pairs)
