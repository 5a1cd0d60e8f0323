"""What each task of a run took by itself, so that a schedule of other runs can be planned."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from vinet_bench.networks_needed import Task


class Clock:
    """Seconds by task; of a task inside another one the outer's are without the inner's."""

    def __init__(self) -> None:
        self._seconds: dict[Task, float] = {}
        self._inside: list[float] = []

    @contextmanager
    def of(self, task: Task | None) -> Iterator[None]:
        """Counts for this task; None: for the one around it."""
        if task is None:
            yield
            return
        start = time.perf_counter()
        self._inside.append(0.0)
        try:
            yield
        finally:
            passed = time.perf_counter() - start
            self.add({task: passed - self._inside.pop()})
            if self._inside:
                self._inside[-1] += passed

    def add(self, seconds: Mapping[Task, float]) -> None:
        """What was counted here, or elsewhere."""
        for task, more in seconds.items():
            self._seconds[task] = self._seconds.get(task, 0.0) + more

    def taken(self) -> dict[Task, float]:
        """What was counted since the last time that it was taken."""
        found, self._seconds = self._seconds, {}
        return found
