"""The store: whole artefacts and whole cells or none, whatever happens in between."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from vinet_bench import artefacts
from vinet_bench.artefacts import artefact_path, read_arrays
from vinet_bench.errors import StoreError, UserError
from vinet_bench.records import Cell, Record
from vinet_bench.store import DATABASE, SCHEMA_VERSION, Store
from vinet_bench.stored_run import read_run

CELL = Cell("keep-important", "cam", 0)
PLAN: dict[str, Any] = {"seeds": [0], "rows": []}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "run")
    made.start("plan", PLAN, 1.0)
    yield made
    made.close()


def leftovers(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.part-*"))


def records(*values: float | None, cell: Cell = CELL) -> list[Record]:
    return [Record(cell, f"metric {i}", value, 7, 0.25) for i, value in enumerate(values)]


def dead_process() -> int:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


# ---- artefacts


def test_arrays_come_back_bit_for_bit(store: Store) -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, size=(5, 6, 7), dtype=np.uint32)
    odd = np.array([np.nan, -np.nan, np.inf, -np.inf, -0.0, 1e-45], dtype=np.float32)
    arrays = {
        "maps": bits.view(np.float32),  # any bits at all, NaN payloads and denormals included
        "odd": odd,
        "turned": np.arange(12, dtype=np.float32).reshape(3, 4).T,  # not contiguous
        "empty": np.zeros((0, 4), dtype=np.float32),
        "number": np.array(3),
        "bytes": np.arange(256, dtype=np.uint8),
    }
    store.save("maps", "key", arrays)
    loaded = store.load("maps", "key")
    assert loaded is not None
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        # Shape of the number: the store keeps scalars as arrays of one or none dimension.
        assert loaded[name].dtype == array.dtype
        assert loaded[name].tobytes() == array.tobytes()
        assert loaded[name].size == array.size
    assert loaded["turned"].shape == (4, 3)


def test_what_was_never_saved_is_missing(store: Store) -> None:
    assert store.load("maps", "key") is None


def test_a_crash_in_the_middle_of_save_leaves_the_old_artefact(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save("maps", "key", {"maps": np.ones(100, dtype=np.float32)})
    before = artefact_path(store.folder, "maps", "key").read_bytes()

    def half(arrays: dict[str, Any], path: Path, told: dict[str, str]) -> None:
        Path(path).write_bytes(before[:50])
        raise OSError("No space left on device")

    monkeypatch.setattr(artefacts, "save_file", half)
    for key in ("key", "other"):
        with pytest.raises(StoreError, match="No space left on device; what is done is kept"):
            store.save("maps", key, {"maps": np.zeros(100, dtype=np.float32)})
    assert artefact_path(store.folder, "maps", "key").read_bytes() == before
    assert store.load("maps", "other") is None
    assert leftovers(store.folder) == []


def test_a_reader_never_sees_a_half_written_artefact(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def watched(arrays: dict[str, Any], path: Path, told: dict[str, str]) -> None:
        Path(path).write_bytes(b"half")
        seen.append(store.load("maps", "key"))

    monkeypatch.setattr(artefacts, "save_file", watched)
    store.save("maps", "key", {"maps": np.zeros(1, dtype=np.float32)})
    assert seen == [None]


def test_a_cell_that_was_made_again_under_another_key_takes_the_place(store: Store) -> None:
    store.add("plan", "cpu", CELL, records(1.0))
    store.add("plan", "gpu", CELL, records(2.0))
    assert [record.value for record in read_run(store.folder).records] == [2.0]
    store.adopt("plan", "cpu")
    assert [record.value for record in read_run(store.folder).records] == [1.0]


def test_only_leftovers_of_dead_processes_are_swept(store: Store) -> None:
    folder = store.folder / "artefacts" / "maps"
    folder.mkdir()
    dead = folder / f"a.safetensors.part-{dead_process()}"
    living = folder / f"b.safetensors.part-{os.getpid()}"
    strange = folder / "c.safetensors.part-nobody"
    for path in (dead, living, strange):
        path.write_bytes(b"half")
    Store(store.folder).close()
    assert leftovers(store.folder) == [dead, living, strange]  # whose is told by the lock alone
    with store.held():
        assert leftovers(store.folder) == [living, strange]


def test_a_store_that_is_only_read_stays_as_it_is(store: Store) -> None:
    with store.held():
        store.save("maps", "key", {"maps": np.ones(3, dtype=np.float32)})
    before = {path: path.read_bytes() for path in store.folder.rglob("*") if path.is_file()}
    with closing(Store(store.folder, read_only=True)) as again:
        assert again.load("maps", "key") is not None
        with pytest.raises(StoreError, match="readonly"):
            again.start("plan", {}, now=1.0)
    assert {p: p.read_bytes() for p in store.folder.rglob("*") if p.is_file()} == before


def test_only_a_store_that_is_there_can_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        Store(tmp_path, read_only=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("left", [0, 4, 60, -1])
def test_a_truncated_artefact_counts_as_missing(store: Store, left: int) -> None:
    store.save("maps", "key", {"maps": np.ones(100, dtype=np.float32)})
    path = artefact_path(store.folder, "maps", "key")
    path.write_bytes(path.read_bytes()[:left])
    assert store.load("maps", "key") is None
    store.save("maps", "key", {"maps": np.ones(2, dtype=np.float32)})
    assert store.load("maps", "key") is not None


# ---- records


def test_a_cell_comes_back_as_it_was(store: Store) -> None:
    made = [
        Record(CELL, "accuracy", 1 / 3, 20, 0.5),
        Record(CELL, "fraction_kept", 0.1 + 0.2, 20, 0.5),
    ]
    assert not store.has("key")
    store.add("plan", "key", CELL, made)
    assert store.has("key")
    run = read_run(store.folder)
    assert run.plan == PLAN
    assert run.records == tuple(made)


def test_a_failed_cell_is_kept_but_not_finished(store: Store) -> None:
    store.add("plan", "key", CELL, [Record(CELL, "failed", None, error="it diverged")])
    assert not store.has("key")
    assert [r.error for r in read_run(store.folder).records] == ["it diverged"]
    store.add("plan", "key", CELL, records(0.5))
    assert store.has("key")
    assert [r.error for r in read_run(store.folder).records] == [""]


def test_a_cell_without_records_is_not_finished(store: Store) -> None:
    store.add("plan", "key", CELL, [])
    assert not store.has("key")


@pytest.mark.parametrize("before", [[], [0.25]])
def test_adding_a_cell_is_all_or_nothing(store: Store, before: list[float]) -> None:
    if before:
        store.add("plan", "key", CELL, records(*before))
    bad: Any = object()
    for refused in (
        [*records(0.5), replace(records(0.5)[0], metric="bad", value=bad)],
        [*records(0.5), *records(0.6)],  # the same metric twice
    ):
        with pytest.raises(sqlite3.Error):
            store.add("plan", "key", CELL, refused)
        assert store.has("key") == bool(before)
        assert [r.value for r in read_run(store.folder).records] == before
    if not before:
        with closing(sqlite3.connect(store.folder / DATABASE)) as db:
            for table in ("cells", "records", "plan_cells"):
                assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


def test_records_are_written_while_another_reads(store: Store) -> None:
    with closing(sqlite3.connect(store.folder / DATABASE)) as reader:
        reader.execute("SELECT * FROM plans").fetchall()
        store.add("plan", "key", CELL, records(0.5))
    assert store.has("key")


# ---- plans


def test_a_report_is_of_the_newest_plan_only(store: Store) -> None:
    store.add("plan", "old", CELL, records(0.25))
    store.start("other", PLAN | {"threshold": 0.5}, 2.0)
    store.add("other", "new", CELL, records(0.75))
    assert [r.value for r in read_run(store.folder).records] == [0.75]
    assert read_run(store.folder).plan["threshold"] == 0.5
    store.start("plan", PLAN, 3.0)
    assert [r.value for r in read_run(store.folder).records] == [0.25]


def test_a_cell_of_another_plan_is_adopted_once(store: Store) -> None:
    store.add("plan", "key", CELL, records(0.25))
    store.start("other", PLAN, 2.0)
    assert read_run(store.folder).records == ()
    for _ in range(2):
        store.adopt("other", "key")
    assert [r.value for r in read_run(store.folder).records] == [0.25]
    store.start("plan", PLAN, 3.0)
    assert [r.value for r in read_run(store.folder).records] == [0.25]


def test_the_same_plan_with_more_rows_stays_one_plan(store: Store) -> None:
    store.add("plan", "key", CELL, records(0.25))
    row = {"name": "cam", "title": "CAM", "kind": "method"}
    store.start("plan", PLAN | {"rows": [row]}, 2.0)
    run = read_run(store.folder)
    assert run.plan["rows"] == [row]
    assert [r.value for r in run.records] == [0.25]


def test_a_plan_without_cells_reads_as_empty(store: Store) -> None:
    assert read_run(store.folder).records == ()


# ---- what a user can get wrong


def complaint(action: Any, *arguments: Any) -> str:
    with pytest.raises(UserError) as caught:
        action(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_newer_store_is_refused_and_left_alone(store: Store) -> None:
    store.add("plan", "key", CELL, records(0.25))
    store.close()
    with closing(sqlite3.connect(store.folder / DATABASE)) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = (store.folder / DATABASE).read_bytes()
    assert "newer vinet-bench: update" in complaint(Store, store.folder)
    assert (store.folder / DATABASE).read_bytes() == before


def test_a_folder_that_cannot_be_made_names_the_option(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        text = complaint(Store, folder)
        assert str(folder) in text
        assert "--out" in text
    assert (tmp_path / "file").read_text() == "mine"


def test_another_file_in_the_place_of_the_database(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_text("these are my notes, and no database at all\n" * 50)
    before = (tmp_path / DATABASE).read_text()
    assert "--out" in complaint(Store, tmp_path)
    assert DATABASE in complaint(read_run, tmp_path)
    assert (tmp_path / DATABASE).read_text() == before


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        text = complaint(read_run, folder)
        assert str(folder) in text
        assert "holds no run" in text
    assert list(tmp_path.iterdir()) == []


def test_a_store_without_a_plan_says_run_it_again(tmp_path: Path) -> None:
    Store(tmp_path).close()
    assert "run it again" in complaint(read_run, tmp_path)


def test_a_run_killed_while_it_wrote_records_goes_on(store: Store, tmp_path: Path) -> None:
    """A reader cannot undo a half-written transaction; the next run does, and nothing is lost."""
    store.add("plan", "key", CELL, records(0.5))
    killed = tmp_path / "killed"
    with closing(sqlite3.connect(store.folder / DATABASE)) as db:
        db.execute("PRAGMA cache_size = 2")  # so that it reaches the file before its end
        rows = [(str(i), "x" * 200) for i in range(2000)]
        db.executemany("INSERT INTO cells VALUES (?, ?)", rows)
        shutil.copytree(store.folder, killed)
    assert "run the same command again" in complaint(read_run, killed)
    again = Store(killed)
    assert again.has("key")
    again.close()
    assert [r.value for r in read_run(killed).records] == [0.5]


@pytest.mark.parametrize("name", ["a?b", "a#b", "50%25", "with space", "ä"])
def test_a_folder_of_any_name_is_read_and_nothing_written_beside_it(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = Store(Path(name))
    made.start("plan", PLAN, 1.0)
    made.add("plan", "key", CELL, records(0.5))
    made.close()
    assert len(read_run(Path(name)).records) == 1
    assert [path.name for path in tmp_path.iterdir()] == [name]


@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_bit_is_never_read_as_something_else(
    store: Store, caplog: pytest.LogCaptureFixture, place: int, bit: int
) -> None:
    arrays = {"maps": np.arange(12, dtype=np.float32).reshape(3, 4), "n": np.array([7])}
    store.save("maps", "key", arrays)
    path = artefact_path(store.folder, "maps", "key")
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1 << bit
    path.write_bytes(content)
    caplog.clear()
    found = store.load("maps", "key")
    if found is None:
        assert "is damaged" in caplog.text
    else:  # a bit that means nothing, as in the padding of the header
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array, strict=True)


def test_a_cell_with_damaged_scores_is_made_again(store: Store) -> None:
    store.start("plan", {}, now=1.0)
    cell = Cell("occlusion", "cam", 0)
    store.add("plan", "key", cell, [Record(cell, "accuracy", 0.5)])
    store.save("scores", "key", {"accuracy": np.ones(4, np.float32)})
    assert store.has("key")
    path = artefact_path(store.folder, "scores", "key")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert not store.has("key")


def test_a_folder_has_one_writer_and_a_dead_one_holds_nothing(store: Store) -> None:
    code = (
        "import sys, time; from pathlib import Path; from vinet_bench.store import Store\n"
        "store = Store(Path(sys.argv[1]))\n"
        "with store.held(), store.working('key'): print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(store.folder)], stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=rf"another vinet-bench writes .*process {other.pid} on"):
        store.held().__enter__()
    other.kill()
    other.wait()
    with store.held():
        pass


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float8_e4m3fn])
@pytest.mark.parametrize("shape", [(3,), (3, 4, 4)])
def test_a_type_that_numpy_lacks_does_not_read(
    kind: torch.dtype, shape: tuple[int, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "maps.safetensors"
    save_file({"maps": torch.ones(shape).to(kind)}, path)
    assert read_arrays(path, "maps") is None
    assert "maps is damaged" in caplog.text
