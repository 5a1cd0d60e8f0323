"""What `status` says of a run: counts, time left, processes that died, stores of other versions."""

import os
import platform
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.test_report import EVERYTHING, a_plan, a_run
from vinet_bench.cli import app
from vinet_bench.errors import UserError
from vinet_bench.records import Cell, Record, key_of
from vinet_bench.status import Part, parts
from vinet_bench.store import DATABASE, SCHEMA_VERSION, Store
from vinet_bench.stored_run import CellState, read_run, read_states

VINET, AGAIN, CAM, LRP = (
    Cell("keep-important", "vinet", 0),
    Cell("keep-important", "vinet", 1),
    Cell("keep-important", "cam", 0),
    Cell("occlusion", "lrp", 0),
)


def key(cell: Cell) -> str:
    return key_of(vars(cell))


def a_store(folder: Path, *cells: Cell) -> Store:
    """A run that wants these cells and has made none."""
    store = Store(folder)
    store.start("plan", a_plan(), now=1.0)
    store.want("plan", {cell: key(cell) for cell in cells})
    return store


def add(store: Store, cell: Cell, seconds: float = 1.0, error: str = "") -> None:
    record = Record(cell, "accuracy", None if error else 0.5, 10, seconds, error=error)
    store.add("plan", key(cell), cell, [record])


def left_running(folder: Path, cell: Cell, pid: int, host: str = "") -> None:
    """What a process leaves that was killed, or that runs."""
    with closing(sqlite3.connect(folder / DATABASE)) as db, db:
        row = (key(cell), pid, host or platform.node(), time.time() - 5)
        db.execute("INSERT INTO running VALUES (?, ?, ?, ?)", row)


def said(folder: Path) -> str:
    result = CliRunner().invoke(app, ["status", str(folder)])
    assert result.exit_code == 0
    return " ".join(result.stdout.split())


def test_cells_are_done_failed_running_or_waiting(tmp_path: Path) -> None:
    store = a_store(tmp_path, VINET, AGAIN, CAM, LRP)
    add(store, VINET, seconds=3)
    add(store, CAM, error="VGG-16 diverged")
    with store.working(key(LRP)):
        found, known = read_states(tmp_path)
    assert known
    assert {s.cell: s.state for s in found} == {
        VINET: "done", AGAIN: "waiting", CAM: "failed", LRP: "running",
    }  # fmt: skip
    assert {s.state for s in read_states(tmp_path)[0] if s.cell == LRP} == {"waiting"}
    store.close()


def test_a_cell_whose_process_died_waits(tmp_path: Path) -> None:
    a_store(tmp_path, VINET, AGAIN).close()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left_running(tmp_path, VINET, dead.pid)
    left_running(tmp_path, AGAIN, dead.pid, host="elsewhere")
    found = {s.cell: s for s in read_states(tmp_path)[0]}
    assert found[VINET].state == "waiting"
    assert (found[AGAIN].state, found[AGAIN].host) == ("running", "elsewhere")
    assert found[AGAIN].seconds >= 5


def test_a_process_has_one_cell_at_a_time(tmp_path: Path) -> None:
    """A process that was killed may have had this one's number."""
    store = a_store(tmp_path, VINET, AGAIN)
    left_running(tmp_path, VINET, os.getpid())
    with store.working(key(AGAIN)):
        found = {s.cell: s.state for s in read_states(tmp_path)[0]}
    assert found == {VINET: "waiting", AGAIN: "running"}
    store.close()


def done(cell: Cell, seconds: float) -> CellState:
    return CellState(cell, "done", seconds)


def test_the_time_left_is_that_of_the_cells_most_alike() -> None:
    masks = Cell("keep-important", "vinet", 0, trained_on="masks")
    states = [
        done(VINET, 100), done(masks, 10), done(CAM, 30), done(LRP, 4),
        CellState(AGAIN, "waiting"),  # the same cell of another seed: 100
        CellState(Cell("keep-important", "cam", 0, trained_on="masks"), "waiting"),  # its row: 30
        CellState(Cell("keep-important", "lrp", 0), "running", 12),  # its protocol: 30 - 12
        CellState(Cell("occlusion", "cam", 0), "running", 9),  # longer than expected: 0
        CellState(Cell("road", "cam", 0), "waiting"),  # all: median of 4, 10, 30, 100
    ]  # fmt: skip
    assert parts(states) == [
        Part("keep-important", 3, 0, 1, 2, 148.0),
        Part("occlusion", 1, 0, 1, 0, 0.0),
        Part("road", 0, 0, 0, 1, 20.0),
    ]


def test_nothing_done_says_nothing_of_the_rest(tmp_path: Path) -> None:
    a_store(tmp_path, VINET).close()
    assert "keep-important 0 0 0 1 ?" in said(tmp_path)


def test_the_command_names_failures_and_says_when_all_is_done(tmp_path: Path) -> None:
    store = a_store(tmp_path, VINET, CAM)
    add(store, VINET)
    add(store, CAM, error="VGG-16\ndiverged")
    text = said(tmp_path)
    assert "keep-important 1 1 0 0 –" in text
    assert "failed: keep-important cam seed 0: VGG-16 diverged" in text
    assert "All is done" not in text
    add(store, CAM)
    store.close()
    assert "All is done." in said(tmp_path)


def as_version_1(folder: Path) -> None:
    with closing(sqlite3.connect(folder / DATABASE)) as db, db:
        db.execute("DROP TABLE wanted")
        db.execute("DROP TABLE running")
        db.execute("PRAGMA user_version = 1")


def test_a_run_of_version_1_is_read_and_migrated(tmp_path: Path) -> None:
    a_run(tmp_path, EVERYTHING)
    before = read_run(tmp_path).records
    as_version_1(tmp_path)
    assert "it did not note what waits" in said(tmp_path)
    assert read_run(tmp_path).records == before
    store = Store(tmp_path)
    store.want("plan", {VINET: key(VINET), Cell("road", "cam", 0): "new"})
    store.close()
    found, known = read_states(tmp_path)
    assert known
    assert [s.cell.protocol for s in found if s.state == "waiting"] == ["road"]
    assert read_run(tmp_path).records == before


def test_a_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    a_run(tmp_path, EVERYTHING)
    with closing(sqlite3.connect(tmp_path / DATABASE)) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    for read in (read_states, read_run, Store):
        with pytest.raises(UserError, match="newer vinet-bench"):
            read(tmp_path)


def test_status_imports_neither_torch_nor_matplotlib(tmp_path: Path) -> None:
    a_run(tmp_path, EVERYTHING)
    code = (
        "import sys; from vinet_bench.cli import app;"
        f" app(['status', {str(tmp_path)!r}], standalone_mode=False);"
        " sys.exit(bool({'torch', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
