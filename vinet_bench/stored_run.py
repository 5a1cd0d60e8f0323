"""What a run's folder holds, as a report and `status` read it; nothing here writes."""

import json
import platform
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vinet_bench.artefacts import artefact_path, load_arrays
from vinet_bench.data.facts import folds_of, places_tested
from vinet_bench.data.tables import shown
from vinet_bench.errors import UserError
from vinet_bench.networks_needed import Task
from vinet_bench.records import Cell, Record
from vinet_bench.store import DATABASE, check_version, read_only_database
from vinet_bench.stored_arrays import check_facts, check_gallery, check_scores
from vinet_bench.stored_plan import (
    check_cell,
    check_key,
    check_plan,
    check_record,
    check_state,
    check_task,
)
from vinet_bench.writing import alive


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
        if not self.pictures():
            return {}
        count = len(self.tested(self.seeds[:1]))
        return self._arrays("gallery", self.plan.get("gallery"), lambda a: check_gallery(a, count))

    @property
    def seeds(self) -> list[int]:
        """Those of all protocols; 0 where none is noted."""
        return list(self.plan.get("seeds", ())) or [0]

    @property
    def folds(self) -> int:
        """In how many folds the pictures are cross-validated; 1 if they are not."""
        return len(folds_of(self.pictures())) if self.pictures() else 1

    def tested(self, seeds: Iterable[int] | None = None) -> NDArray[np.int64]:
        """The places among `pictures` of those that any of these seeds tests, or any of the run's:
        of one seed, or without folds, in the order of the scores. (C,)."""
        return places_tested(self.pictures(), self.seeds if seeds is None else seeds)

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
        with closing(read_only_database(path)) as db:
            check_version(folder, db)
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
        if check_version(folder, db) < 2:
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
    if pid is not None and (not here or alive(pid)):
        began = time.time() if since is None else since
        return CellState(cell, "running", time.time() - began, host="" if here else host or "?")
    if seconds is None:
        return CellState(cell, "waiting")
    return CellState(cell, "failed" if error else "done", seconds, error or "")


def _cell(text: str) -> Cell:
    known = {f.name for f in fields(Cell)}
    return check_cell({k: v for k, v in json.loads(text).items() if k in known})
