"""A run's folder as it is written: records in SQLite, arrays in safetensors.

What is done already is not made again. Every write is a transaction or a rename, so a killed run
leaves whole cells or none. What a report reads of it: stored_run.
"""

import json
import os
import platform
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from vinet_bench.artefacts import artefact_path, load_arrays, save_arrays
from vinet_bench.errors import StoreError, UserError
from vinet_bench.networks_needed import Task
from vinet_bench.records import Cell, Record
from vinet_bench.shared_artefacts import OF_THE_RUN, SharedArtefacts
from vinet_bench.stored_plan import check_plan
from vinet_bench.writing import alone, sweep, writing

DATABASE = "records.sqlite"
SCHEMA_VERSION = 2  # 1 had neither `wanted` nor `running`
_TABLES = """
CREATE TABLE IF NOT EXISTS plans (id TEXT PRIMARY KEY, plan TEXT NOT NULL, used REAL NOT NULL);
CREATE TABLE IF NOT EXISTS cells (key TEXT PRIMARY KEY, cell TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS records (key TEXT NOT NULL REFERENCES cells(key), metric TEXT NOT NULL,
    value REAL, n INTEGER NOT NULL, seconds REAL NOT NULL, version TEXT NOT NULL,
    error TEXT NOT NULL, PRIMARY KEY (key, metric));
CREATE TABLE IF NOT EXISTS plan_cells (plan TEXT NOT NULL REFERENCES plans(id),
    key TEXT NOT NULL REFERENCES cells(key), PRIMARY KEY (plan, key));
CREATE TABLE IF NOT EXISTS wanted (plan TEXT NOT NULL REFERENCES plans(id), cell TEXT NOT NULL,
    key TEXT NOT NULL, PRIMARY KEY (plan, cell));
CREATE TABLE IF NOT EXISTS running (key TEXT PRIMARY KEY, pid INTEGER NOT NULL, host TEXT NOT NULL,
    since REAL NOT NULL);
CREATE TABLE IF NOT EXISTS task_seconds (task TEXT PRIMARY KEY, seconds REAL NOT NULL);
"""

_UNWRITTEN = "cannot write the run's folder {folder}: {reason}; choose another with --out"
_UNREAD = "cannot read {folder}: {reason}; if its run was killed, let it go on first"


class Store:
    """The store of one run's folder (created if missing).

    shared: where networks and maps lie instead, so that other runs find them; None: in the folder.
    read_only: the folder has a store, of which nothing changes. Raises UserError if the folder
    cannot be written, or read, or was made by a newer version.
    """

    def __init__(
        self, folder: Path, shared: SharedArtefacts | None = None, read_only: bool = False
    ) -> None:
        self.folder = folder
        self._shared = shared
        try:
            self._db = _read(folder) if read_only else _created(folder)
        except (OSError, sqlite3.Error) as error:
            reason = getattr(error, "strerror", None) or error
            told = _UNREAD if read_only else _UNWRITTEN
            raise UserError(told.format(folder=folder, reason=reason)) from None

    def close(self) -> None:
        self._db.close()

    # -- records

    def start(self, plan_id: str, plan: Mapping[str, Any], now: float) -> None:
        """Notes that this plan is the one being carried out."""
        with self._writing(), self._db:
            self._db.execute(
                "INSERT INTO plans VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE"
                " SET plan = excluded.plan, used = excluded.used",
                (plan_id, json.dumps(plan, sort_keys=True), now),
            )

    def plan(self, plan_id: str) -> dict[str, Any] | None:
        """What `start` noted of a plan, or None."""
        sql = "SELECT plan FROM plans WHERE id = ?"
        found = self._db.execute(sql, (plan_id,)).fetchone()
        try:
            return None if found is None else check_plan(json.loads(found[0]))
        except (ValueError, TypeError):
            raise UserError(
                f"{self.folder / DATABASE} holds a plan that does not read (damaged?): choose"
                " another folder with --out"
            ) from None

    def want(self, plan_id: str, cells: Mapping[Cell, str]) -> None:
        """Notes the cells that a plan is about to make, with their keys; a cell whose key changed
        (another version, another device) replaces the earlier one."""
        rows = [(plan_id, _text(cell), key) for cell, key in cells.items()]
        with self._writing(), self._db:
            self._db.executemany("INSERT OR REPLACE INTO wanted VALUES (?, ?, ?)", rows)

    @contextmanager
    def working(self, key: str) -> Iterator[None]:
        """Notes that this process makes a cell; a process that dies leaves the note behind."""
        with self._writing(), self._db:
            self._db.execute("DELETE FROM running WHERE pid = ? AND host = ?", _process())
            row = (key, *_process(), time.time())
            self._db.execute("INSERT OR REPLACE INTO running VALUES (?, ?, ?, ?)", row)
        try:
            yield
        finally:
            with suppress(sqlite3.Error), self._db:  # a full disk has been told of already
                self._db.execute("DELETE FROM running WHERE key = ?", (key,))

    def note_running(self, begun: Mapping[str, tuple[int, str, float]]) -> None:
        """Notes by key which cells other processes make: their pid, host and start."""
        rows = [(key, *row) for key, row in begun.items()]
        if rows:
            with self._writing(), self._db:
                self._db.executemany("INSERT OR REPLACE INTO running VALUES (?, ?, ?, ?)", rows)

    def _forget_running(self) -> None:
        """For the one process that may write, before it begins and after it has ended."""
        with self._writing(), self._db:
            self._db.execute("DELETE FROM running")

    def has(self, key: str) -> bool:
        """True if the cell is finished; a failed one is not, nor one whose scores were damaged."""
        rows = self._db.execute("SELECT error FROM records WHERE key = ?", (key,)).fetchall()
        if not rows or any(error for (error,) in rows):
            return False
        return not self.holds("scores", key) or self.load("scores", key) is not None

    def add(
        self,
        plan_id: str,
        key: str,
        cell: Cell,
        records: Iterable[Record],
        seconds: Mapping[Task, float] = MappingProxyType({}),
    ) -> None:
        """Writes a finished cell, whole, and takes it into the plan. seconds: what it and the tasks
        that were made for it took by themselves; the newest time of each is kept."""
        times = [(_text(task), took) for task, took in seconds.items()]
        rows = [(key, r.metric, r.value, r.n, r.seconds, r.version, r.error) for r in records]
        with self._writing(), self._db:
            self._db.execute("INSERT OR IGNORE INTO cells VALUES (?, ?)", (key, _text(cell)))
            self._db.execute("DELETE FROM records WHERE key = ?", (key,))
            self._db.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            self._take(plan_id, key)
            self._db.executemany("INSERT OR REPLACE INTO task_seconds VALUES (?, ?)", times)
            self._db.execute("DELETE FROM running WHERE key = ?", (key,))

    def adopt(self, plan_id: str, key: str) -> None:
        """Takes a cell that another plan finished into this one."""
        with self._writing(), self._db:
            self._take(plan_id, key)

    def _take(self, plan_id: str, key: str) -> None:
        """In the place of the same cell under another key (another version, another device): a
        table never mixes them."""
        self._db.execute(
            "DELETE FROM plan_cells WHERE plan = ? AND key IN (SELECT key FROM cells"
            " WHERE cell = (SELECT cell FROM cells WHERE key = ?))",
            (plan_id, key),
        )
        self._db.execute("INSERT INTO plan_cells VALUES (?, ?)", (plan_id, key))

    # -- artefacts

    def load(self, kind: str, key: str) -> dict[str, NDArray[Any]] | None:
        """The named arrays, or None if there are none or the file does not read."""
        if shared := self._elsewhere(kind):
            return shared.load(kind, key)
        return load_arrays(self.folder, kind, key)

    def save(self, kind: str, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Stores named arrays, all of them or nothing. Raises StoreError."""
        if shared := self._elsewhere(kind):
            return shared.save(kind, key, arrays)
        with self._writing():
            save_arrays(self.folder, kind, key, arrays)

    def holds(self, kind: str, key: str) -> bool:
        """Whether there is such a file; whether it reads is `load`'s to say."""
        if shared := self._elsewhere(kind):
            return shared.has(kind, key)
        return artefact_path(self.folder, kind, key).is_file()

    def _elsewhere(self, kind: str) -> SharedArtefacts | None:
        return None if kind in OF_THE_RUN else self._shared

    def _writing(self) -> AbstractContextManager[None]:
        return writing(self.folder)

    @contextmanager
    def held(self) -> Iterator[None]:
        """No other process writes to the folder meanwhile; a dead one holds nothing.

        Raises UserError if another one does.
        """
        with alone(self.folder, self._who):
            # Only now: on another host that shares the folder a living process would look dead.
            sweep(self.folder.glob("artefacts/*/*.part-*"))
            try:
                self._forget_running()
                yield
            finally:
                with suppress(StoreError):  # a full disk has been told of already
                    self._forget_running()

    def _who(self) -> str:
        sql = "SELECT pid, host FROM running ORDER BY since DESC LIMIT 1"
        found = self._db.execute(sql).fetchone()
        return f" (process {found[0]} on {found[1]})" if found else ""


def _created(folder: Path) -> sqlite3.Connection:
    (folder / "artefacts").mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(folder / DATABASE, timeout=60)
    check_version(folder, db)
    db.executescript(_TABLES)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    return db


def _read(folder: Path) -> sqlite3.Connection:
    db = read_only_database(folder / DATABASE)
    check_version(folder, db)
    return db


def read_only_database(path: Path) -> sqlite3.Connection:
    """A database that is there, of which nothing can change. Raises sqlite3.Error."""
    # as_uri escapes what would end the path (? and #), and open another file for writing.
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=60)


def check_version(folder: Path, db: sqlite3.Connection) -> int:
    """The store's. Raises UserError if it is newer than this program's."""
    # Views and triggers would be a stranger's program.
    db.execute("PRAGMA trusted_schema = OFF")
    strange = "SELECT name FROM sqlite_master WHERE type NOT IN ('table', 'index') LIMIT 1"
    if db.execute(strange).fetchone() is not None:
        raise UserError(f"{folder / DATABASE} is no store of vinet-bench: it has views or triggers")
    found: int = db.execute("PRAGMA user_version").fetchone()[0]
    if found > SCHEMA_VERSION:
        raise UserError(f"{folder} was written by a newer vinet-bench: update this one")
    return found


def _text(task: Task) -> str:
    return json.dumps(asdict(task), sort_keys=True)


def _process() -> tuple[int, str]:
    return os.getpid(), platform.node()
