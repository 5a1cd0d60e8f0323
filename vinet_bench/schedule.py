"""Which task would run when, if so many workers took each task as soon as it can be begun."""

import heapq
from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True)
class Schedule:
    """seconds: from the first task's start to the last one's end. busy: the workers' share of it
    that they are at work."""

    seconds: float
    busy: float


def critical_path(below: Mapping[T, Sequence[T]], seconds: Mapping[T, float]) -> list[T]:
    """The longest chain of tasks that wait for each other, the first one first.

    below: what each task waits for, itself named earlier.

    >>> critical_path({"a": [], "b": [], "c": ["a", "b"]}, {"a": 1, "b": 2, "c": 1})
    ['b', 'c']
    """
    ends: dict[T, float] = {}
    before: dict[T, T | None] = {}
    for task, others in below.items():
        before[task] = max(others, key=ends.__getitem__, default=None)
        last = before[task]
        ends[task] = seconds[task] + (0.0 if last is None else ends[last])
    chain: list[T] = []
    at = max(ends, key=ends.__getitem__, default=None)
    while at is not None:
        chain.append(at)
        at = before[at]
    return chain[::-1]


def simulate(below: Mapping[T, Sequence[T]], seconds: Mapping[T, float], workers: int) -> Schedule:
    """A free worker takes the task that has been ready for longest, as Ray's queue does.

    below: what each task waits for, itself named earlier.

    >>> simulate({"a": [], "b": [], "c": ["a"]}, {"a": 2, "b": 1, "c": 1}, workers=2)
    Schedule(seconds=3.0, busy=0.6666666666666666)
    """
    above: dict[T, list[T]] = {task: [] for task in below}
    for task, others in below.items():
        for other in others:
            above[other].append(task)
    missing = {task: len(others) for task, others in below.items()}
    ready = deque(task for task, count in missing.items() if count == 0)
    order = {task: number for number, task in enumerate(below)}
    running: list[tuple[float, int, T]] = []
    now = work = 0.0
    while ready or running:
        while ready and len(running) < workers:
            task = ready.popleft()
            work += seconds[task]
            heapq.heappush(running, (now + seconds[task], order[task], task))
        now, _, ended = heapq.heappop(running)
        for task in above[ended]:
            missing[task] -= 1
            if missing[task] == 0:
                ready.append(task)
    return Schedule(now, work / (workers * now) if now else 0.0)
