"""Which cells the workers of a cluster are making: they say so to an actor, the driver reads it."""

import os
import platform
import time
from collections.abc import Collection
from contextlib import suppress
from typing import Any

from vinet_bench.store import Store


class Notes:
    """The actor: the cells that were begun since it was read, with process, host and time."""

    def __init__(self) -> None:
        self._begun: dict[str, tuple[int, str, float]] = {}

    def begun(self, key: str, pid: int, host: str) -> None:
        self._begun[key] = (pid, host, time.time())

    def taken(self) -> dict[str, tuple[int, str, float]]:
        found, self._begun = self._begun, {}
        return found


def tell(notes: Any, key: str) -> None:
    """Says that this process begins a cell; nothing waits for the answer."""
    notes.begun.remote(key, os.getpid(), platform.node())


class Board:
    """The driver's side: writes into the store what `status` reads."""

    def __init__(self, store: Store) -> None:
        import ray

        self._ray, self._store = ray, store
        self._asked: Any = None
        # It needs no core, and begins anew elsewhere where its node is lost.
        self.notes = ray.remote(Notes).options(num_cpus=0, max_restarts=-1).remote()

    def read(self, open_cells: Collection[str]) -> None:
        """Takes what has come, and waits for nothing. open_cells: the keys of those that have not
        ended."""
        self._asked = self._asked or self.notes.taken.remote()
        answered, _ = self._ray.wait([self._asked], timeout=0)
        if not answered:
            return
        self._asked = None
        with suppress(self._ray.exceptions.RayError):  # it begins anew: for a while less is known
            found = self._ray.get(*answered)
            self._store.note_running({key: row for key, row in found.items() if key in open_cells})
