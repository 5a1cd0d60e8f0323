"""Ours and a peer measured in turn, and what the ratio must be."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Literal

import torch

Work = Callable[[], object]
Better = Literal["higher", "lower"]
Seconds = tuple[float, ...]


@dataclass(frozen=True)
class Ratio:
    """A row of the table: what the goal is held against in every round, and what it comes from.

    ours, peer: what was measured in each round, in `unit`.
    """

    name: str
    goal: float
    better: Better
    ratios: tuple[float, ...]
    ours: tuple[float, ...]
    peer: tuple[float, ...]
    unit: str = "s"

    @property
    def met(self) -> bool:
        """Whether the median reaches the goal."""
        middle = median(self.ratios)
        return middle >= self.goal if self.better == "higher" else middle <= self.goal


@dataclass(frozen=True)
class Row:
    """What one word of the command measures. measure: rounds -> its ratios."""

    name: str
    goal: str
    measure: Callable[[int], list[Ratio]]


def in_turn(ours: Work, peer: Work, rounds: int, warmup: int = 1) -> tuple[Seconds, Seconds]:
    """Seconds of both in each round; who begins changes, so that a drift hits both alike."""
    for _ in range(warmup):
        ours()
        peer()
    taken: list[tuple[float, float]] = []
    for number in range(rounds):
        if number % 2:
            theirs = seconds(peer)
            taken.append((seconds(ours), theirs))
        else:
            taken.append((seconds(ours), seconds(peer)))
    return tuple(a for a, _ in taken), tuple(b for _, b in taken)


def seconds(work: Work) -> float:
    """Of the clock on the wall."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def cost(
    name: str, goal: float, ours: Work, peer: Work, rounds: int, warmup: int = 1, each: float = 1
) -> Ratio:
    """Our seconds over the peer's times `each`; the goal is at most that many."""
    mine, theirs = in_turn(ours, peer, rounds, warmup)
    ratios = tuple(a / (b * each) for a, b in zip(mine, theirs, strict=True))
    return Ratio(name, goal, "lower", ratios, mine, theirs)


def speed(
    name: str, goal: float, ours: Work, peer: Work, rounds: int, warmup: int = 1, each: float = 1
) -> Ratio:
    """How many times faster ours is, its work being `each` times the peer's; at least the goal."""
    mine, theirs = in_turn(ours, peer, rounds, warmup)
    ratios = tuple(each * b / a for a, b in zip(mine, theirs, strict=True))
    return Ratio(name, goal, "higher", ratios, mine, theirs)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """torch computes with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
