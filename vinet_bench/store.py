"""A run's folder: records in SQLite, arrays in safetensors, and what is done already.

Every write is a transaction or a rename, so a killed run leaves whole cells or none.
"""

import hashlib
import json
import logging
import os
import platform
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from vinet_bench.data.tables import shown
from vinet_bench.errors import StoreError, UserError
from vinet_bench.networks_needed import Task
from vinet_bench.records import Cell, Record
from vinet_bench.stored_arrays import check_facts, check_gallery, check_scores
from vinet_bench.stored_plan import (
    check_cell,
    check_key,
    check_plan,
    check_record,
    check_state,
    check_task,
)

_LOG = logging.getLogger(__name__)
DATABASE = "records.sqlite"
LOCK = ".lock"
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


@dataclass(frozen=True)
class Run:
    """What a report is made from: the plan as it was carried out, its records, and the key under
    which each cell's scores are stored."""

    folder: Path
    plan: dict[str, Any]
    records: tuple[Record, ...]
    keys: Mapping[Cell, str] = field(default_factory=dict)
    _read: dict[tuple[str, str], dict[str, NDArray[Any]]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def scores(self, cell: Cell) -> dict[str, NDArray[Any]]:
        """By metric the score of each test picture, (N, ...); empty if none are stored."""
        return self._arrays("scores", self.keys.get(cell), check_scores)

    def pictures(self) -> dict[str, NDArray[Any]]:
        """What is known of every picture of the data (see data.facts); empty if nothing is."""
        data = self.plan.get("data", {})
        classes = len(data.get("class_names", []))
        return self._arrays("pictures", data.get("pictures"), lambda a: check_facts(a, classes))

    def gallery(self) -> dict[str, NDArray[Any]]:
        """Some test pictures and every method's maps of them (see showcase); empty before the
        run's end."""
        facts = self.pictures()
        if not facts:
            return {}
        return self._arrays("gallery", self.plan.get("gallery"), lambda a: check_gallery(a, facts))

    def _arrays(
        self, kind: str, key: str | None, check: Callable[[dict[str, NDArray[Any]]], None]
    ) -> dict[str, NDArray[Any]]:
        """Read once: a report asks for the same scores many times. Raises UserError for arrays
        that no run stores."""
        key = key or ""
        if (kind, key) not in self._read:
            found = load_arrays(self.folder, kind, key) or {}
            try:
                if found:
                    check(found)
            except (ValueError, RecursionError):
                raise UserError(
                    f"{artefact_path(self.folder, kind, key)} holds what vinet-bench does not"
                    " write (damaged?): run the same command again, or copy the folder again"
                ) from None
            self._read[kind, key] = found
        return self._read[kind, key]


def load_arrays(folder: Path, kind: str, key: str) -> dict[str, NDArray[Any]] | None:
    """The named arrays of an artefact, or None if there are none or the file does not read."""
    path = artefact_path(folder, kind, key)
    if not path.is_file():
        return None
    try:
        arrays, digest = _contents(path)
    except (SafetensorError, OSError, KeyError):  # KeyError: a type that numpy lacks
        arrays, digest = {}, ""
    if digest not in (None, _digest(arrays)):
        _LOG.warning("%s is damaged: it is left out here, and the next run makes it again", path)
        return None
    return arrays


def _contents(path: Path) -> tuple[dict[str, NDArray[Any]], str | None]:
    """A file's arrays, and what their digest was; None for a file of version 0.2.0 or earlier."""
    with safe_open(path, "np") as file:
        names, told = list(file.keys()), file.metadata()
        digest = None if told is None else told.get("content", "")
        return {name: file.get_tensor(name) for name in names}, digest


def _digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Of names, types, shapes and values."""
    found = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        found.update(repr((name, array.dtype.str, array.shape)).encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def artefact_path(folder: Path, kind: str, key: str) -> Path:
    """Where a run keeps named arrays. A key is made by key_of, or checked when it is read."""
    return folder / "artefacts" / kind / f"{key}.safetensors"


class Store:
    """The store of one run's folder (created if missing).

    Raises UserError if the folder cannot be written or was made by a newer version.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            (folder / "artefacts").mkdir(parents=True, exist_ok=True)
            self._sweep()
            self._db = sqlite3.connect(folder / DATABASE, timeout=60)
            _check_version(folder, self._db)
            self._db.executescript(_TABLES)
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        except (OSError, sqlite3.Error) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(
                f"cannot write the run's folder {folder}: {reason}; choose another with --out"
            ) from None

    def _sweep(self) -> None:
        """Removes what processes that no longer live left half-written."""
        for leftover in self.folder.glob("artefacts/*/*.part-*"):
            process = leftover.suffix.removeprefix(".part-")
            if process.isdecimal() and not _alive(int(process)):
                leftover.unlink(missing_ok=True)

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
        there = artefact_path(self.folder, "scores", key).is_file()
        return not there or self.load("scores", key) is not None

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
            self._db.execute("INSERT OR IGNORE INTO plan_cells VALUES (?, ?)", (plan_id, key))
            self._db.executemany("INSERT OR REPLACE INTO task_seconds VALUES (?, ?)", times)
            self._db.execute("DELETE FROM running WHERE key = ?", (key,))

    def adopt(self, plan_id: str, key: str) -> None:
        """Takes a cell that another plan finished into this one."""
        with self._writing(), self._db:
            self._db.execute("INSERT OR IGNORE INTO plan_cells VALUES (?, ?)", (plan_id, key))

    def metrics(self, key: str) -> dict[str, float | None]:
        """The figures of a finished cell by metric."""
        rows = self._db.execute("SELECT metric, value FROM records WHERE key = ?", (key,))
        return dict(rows.fetchall())

    # -- artefacts

    def load(self, kind: str, key: str) -> dict[str, NDArray[Any]] | None:
        """The named arrays, or None if there are none or the file does not read."""
        return load_arrays(self.folder, kind, key)

    def save(self, kind: str, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Writes named arrays beside their place and moves them there when they are whole."""
        path = artefact_path(self.folder, kind, key)
        whole = {name: np.ascontiguousarray(a) for name, a in arrays.items()}
        with self._writing(), replacing(path) as part:
            save_file(whole, part, {"content": _digest(whole)})

    def _writing(self) -> AbstractContextManager[None]:
        return writing(self.folder)

    @contextmanager
    def held(self) -> Iterator[None]:
        """No other process writes to the folder meanwhile; a dead one holds nothing.

        Raises UserError if another one does.
        """
        lock = FileLock(self.folder / LOCK)
        with self._writing():
            try:
                lock.acquire(timeout=0)
            except Timeout:
                raise UserError(
                    f"another vinet-bench writes to {self.folder}{self._who()}: wait for it, or"
                    " give another --out"
                ) from None
        try:
            self._forget_running()
            yield
        finally:
            with suppress(StoreError):  # a full disk has been told of already
                self._forget_running()
            lock.release()

    def _who(self) -> str:
        sql = "SELECT pid, host FROM running ORDER BY since DESC LIMIT 1"
        found = self._db.execute(sql).fetchone()
        return f" (process {found[0]} on {found[1]})" if found else ""


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Raises StoreError where the disk is full or the folder cannot be written."""
    try:
        yield
    except (OSError, sqlite3.OperationalError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StoreError(
            f"cannot write to {folder}: {reason}; what is done is kept: mend it and run the same"
            " command again"
        ) from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside it, which takes its place when it is whole, and is gone if it never was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part-{os.getpid()}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _check_version(folder: Path, db: sqlite3.Connection) -> int:
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


def _cell(text: str) -> Cell:
    known = {f.name for f in fields(Cell)}
    return check_cell({k: v for k, v in json.loads(text).items() if k in known})


def _process() -> tuple[int, str]:
    return os.getpid(), platform.node()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def read_run(folder: Path) -> Run:
    """The newest plan of a run's folder with its records; never writes.

    Raises UserError if the folder holds no run.
    """
    with _reading(folder) as db:
        return _newest(folder, db)


@contextmanager
def _reading(folder: Path) -> Iterator[sqlite3.Connection]:
    path = folder / DATABASE
    if not path.is_file():
        raise UserError(f"{folder} holds no run (no {DATABASE}): give the folder of --out")
    try:
        # as_uri escapes what would end the path (? and #), and open another file for writing.
        uri = f"{path.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as db:
            _check_version(folder, db)
            yield db
    except sqlite3.Error as error:
        raise UserError(
            f"{path} does not read as a store ({shown(str(error))}): if its run was killed, run the"
            " same command again; it goes on where it was"
        ) from None
    except (ValueError, TypeError, AttributeError, RecursionError):  # of json and pydantic
        raise UserError(
            f"{path} holds what vinet-bench does not write (damaged?): copy the run's folder again"
        ) from None


def _newest_plan(folder: Path, db: sqlite3.Connection) -> tuple[str, str]:
    found = db.execute("SELECT id, plan FROM plans ORDER BY used DESC LIMIT 1").fetchone()
    if found is None:
        raise UserError(f"{folder} holds a run without a plan: run it again")
    plan_id, plan = found
    return plan_id, plan


def _newest(folder: Path, db: sqlite3.Connection) -> Run:
    found = _newest_plan(folder, db)
    rows = db.execute(
        "SELECT key, cell, metric, value, n, seconds, version, error FROM plan_cells"
        " JOIN cells USING (key) JOIN records USING (key) WHERE plan = ? ORDER BY cell, metric",
        (found[0],),
    )
    records, keys = [], {}
    for key, text, *rest in rows:
        cell = _cell(text)
        records.append(check_record(Record(cell, *rest)))
        keys[cell] = check_key(key)
    return Run(folder, check_plan(json.loads(found[1])), tuple(records), keys)


@dataclass(frozen=True)
class CellState:
    """How far a cell is: 'done', 'failed', 'running' (in a process that lives, or on another host)
    or 'waiting'. seconds: that it took, or has run for."""

    cell: Cell
    state: Literal["done", "failed", "running", "waiting"]
    seconds: float = 0.0
    reason: str = ""
    host: str = ""


_STATES = """
SELECT every.cell, made.seconds, made.error, running.pid, running.host, running.since
FROM (SELECT cell, key FROM wanted WHERE plan = :plan UNION
      SELECT cell, key FROM plan_cells JOIN cells USING (key) WHERE plan = :plan) AS every
LEFT JOIN (SELECT key, MAX(seconds) AS seconds, MAX(error) AS error FROM records GROUP BY key)
      AS made USING (key)
LEFT JOIN running USING (key) ORDER BY every.cell
"""


def read_states(folder: Path) -> tuple[list[CellState], bool]:
    """Every cell of the newest plan, and whether those that wait are known; never writes.

    Raises UserError if the folder holds no run. A run of an older version did not note what waits.
    """
    with _reading(folder) as db:
        plan_id, _ = _newest_plan(folder, db)
        if _check_version(folder, db) < 2:
            return [_made(record) for record in _by_cell(_newest(folder, db).records)], False
        found = [
            _state(text, *check_state(tuple(row)))
            for text, *row in db.execute(_STATES, {"plan": plan_id})
        ]
        wanted = db.execute("SELECT 1 FROM wanted WHERE plan = ? LIMIT 1", (plan_id,)).fetchone()
        return found, wanted is not None


def read_seconds(folder: Path) -> dict[Task, float]:
    """What each task of a folder's runs took by itself; never writes.

    Empty for a run of a version that did not note it. Raises UserError if the folder holds no run.
    """
    with _reading(folder) as db:
        sql = "SELECT name FROM sqlite_master WHERE name = 'task_seconds'"
        if db.execute(sql).fetchone() is None:
            return {}
        rows = db.execute("SELECT task, seconds FROM task_seconds")
        return dict(check_task(json.loads(text), seconds) for text, seconds in rows)


def _by_cell(records: Iterable[Record]) -> list[Record]:
    return list({record.cell: record for record in records}.values())


def _made(record: Record) -> CellState:
    state: Literal["failed", "done"] = "failed" if record.error else "done"
    return CellState(record.cell, state, record.seconds, record.error)


def _state(
    text: str,
    seconds: float | None,
    error: str | None,
    pid: int | None,
    host: str | None,
    since: float | None,
) -> CellState:
    cell, here = _cell(text), host == platform.node()
    if pid is not None and (not here or _alive(pid)):
        began = time.time() if since is None else since
        return CellState(cell, "running", time.time() - began, host="" if here else host or "?")
    if seconds is None:
        return CellState(cell, "waiting")
    return CellState(cell, "failed" if error else "done", seconds, error or "")
