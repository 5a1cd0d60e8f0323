"""What a run is planned to take: its graph of tasks, their times, and a schedule of them."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from tests.test_run import fast_plan
from tests.test_status import a_store
from vinet_bench.cli import app
from vinet_bench.cli_run import protocol_names
from vinet_bench.clock import Clock
from vinet_bench.data.dataset import SliceDataset
from vinet_bench.errors import CellError, UserError
from vinet_bench.networks_needed import Maps, Need, Network, Start, Task
from vinet_bench.plan import Plan, make_plan
from vinet_bench.planned import planned
from vinet_bench.protocols import protocol
from vinet_bench.records import Cell
from vinet_bench.run import run
from vinet_bench.schedule import critical_path, simulate
from vinet_bench.store import DATABASE
from vinet_bench.stored_run import read_run, read_seconds
from vinet_bench.task_graph import Graph, task_graph
from vinet_bench.training import Fit

BOTH = ["keep-important", "occlusion"]


def test_what_the_data_cannot_show_is_not_planned(tmp_path: Path) -> None:
    """The phantom has no marker unless it is asked for; `run` leaves the protocol out, too."""
    plan = make_plan(preset="smoke", methods=["random"], changes=["phantom.slices=60"])
    found = planned(["occlusion", "shortcut"], plan, tmp_path / "run", "cpu")
    assert {t.protocol for t in found.graph if isinstance(t, Cell)} == {"occlusion"}


# -- a schedule


def test_a_worker_that_is_free_takes_what_has_been_ready_longest() -> None:
    below: dict[str, list[str]] = {"net": [], "long": [], "a": ["net"], "b": ["net"], "c": ["a"]}
    seconds = {"net": 1.0, "long": 4.0, "a": 2.0, "b": 5.0, "c": 1.0}
    # One worker: all one after the other. Two: net, a, c and b beside long, after which b has begun
    # already: net 0-1, long 0-4, a 1-3, b 3-8, c 4-5.
    assert simulate(below, seconds, workers=1).seconds == 13
    two = simulate(below, seconds, workers=2)
    assert two.seconds == 8
    assert two.busy == pytest.approx(13 / 16)
    assert critical_path(below, seconds) == ["net", "b"]


def test_more_workers_never_end_before_the_critical_path() -> None:
    below: dict[int, list[int]] = {n: [n // 2] if n else [] for n in range(40)}
    seconds = {n: 1.0 + n % 7 for n in below}
    chain = critical_path(below, seconds)
    assert all(a in below[b] for a, b in pairwise(chain))
    assert simulate(below, seconds, workers=40).seconds == sum(seconds[n] for n in chain)
    assert simulate(below, seconds, workers=3).seconds > sum(seconds.values()) / 3


def test_nothing_to_do_takes_no_time() -> None:
    assert simulate({}, {}, workers=2).seconds == 0
    assert critical_path({}, {}) == []


# -- the graph


def graph(plan: Plan, *names: str, kept: Callable[[Need], bool] = lambda need: False) -> Graph:
    chosen = [protocol(name) for name in names]
    return task_graph([(how, cell) for how in chosen for cell in how.cells(plan)], plan, kept)


def test_every_task_comes_after_what_it_waits_for() -> None:
    plan, names = make_plan(preset="smoke", seeds=2), [*BOTH, "sanity"]
    tasks = graph(plan, *names)
    order = {task: number for number, task in enumerate(tasks)}
    assert all(order[need] < order[task] for task, below in tasks.items() for need in below)
    wanted = {cell for name in names for cell in protocol(name).cells(plan)}
    assert {task for task in tasks if isinstance(task, Cell)} == wanted


def test_a_network_of_shuffled_labels_or_of_a_fold_is_a_task_of_its_own() -> None:
    plan = make_plan(preset="smoke", methods=["cam", "lrp"])
    shuffled = Network("classifier", "explained, shuffled labels", 1)
    waiting = [task for task, below in graph(plan, "sanity").items() if shuffled in below]
    assert [task.method for task in waiting if isinstance(task, Cell)] == ["cam", "lrp"]
    folded = make_plan(preset="smoke", methods=["cam"], changes=["curves.cross_fit=2"])
    tasks = graph(folded, "budget-curves")
    folds = [Network("classifier", f"explained, without fold {n} of 2", 0) for n in (0, 1)]
    cell = next(task for task in tasks if isinstance(task, Cell) and task.method == "cam")
    assert {*folds} < {*tasks[cell]}
    assert Maps("cam", 0, "train") not in tasks
    assert Maps("cam", 0, "validation") in tasks


def test_maps_that_are_kept_wait_for_no_network() -> None:
    plan = make_plan(preset="smoke", methods=["cam"])
    maps = Maps("cam", 0, "test")
    assert graph(plan, "occlusion")[maps] == [Network("classifier", "explained", 0)]
    assert graph(plan, "occlusion", kept=lambda need: need == maps)[maps] == []


def test_a_fold_that_cannot_be_is_left_to_the_cells(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def too_few(part: SliceDataset, folds: int) -> None:
        raise CellError(f"{folds} folds need as many training patients")

    monkeypatch.setattr("vinet_bench.workshop._folds_of", too_few)
    plan = fast_plan("random", "cam", changes=("curves.cross_fit=2",))
    found = planned(["budget-curves"], plan, tmp_path / "new", "cpu")
    assert Network("classifier", "explained, without fold 1 of 2", 0) in found.graph


# -- times


def test_a_task_inside_another_is_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 4.0, 10.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    clock, cell, maps = Clock(), Cell("occlusion", "cam", 0), Maps("cam", 0, "test")
    with clock.of(cell), clock.of(maps), clock.of(None):
        pass
    assert clock.taken() == {maps: 3.0, cell: 7.0}
    assert clock.taken() == {}


def test_times_are_kept_with_the_run_and_damaged_ones_refused(tmp_path: Path) -> None:
    cell = Cell("occlusion", "cam", 0)
    noted: dict[Task, float] = {
        cell: 1.5,
        Maps("cam", 0, "test"): 2.0,
        Network("vinet", "explained", 0): 3.0,
        Start(): 4.0,
    }
    with closing(a_store(tmp_path, cell)) as store:
        store.add("plan", "key", cell, [], {cell: 9.0})
        store.add("plan", "key", cell, [], noted)
    assert read_seconds(tmp_path) == noted
    with closing(sqlite3.connect(tmp_path / DATABASE)) as db, db:
        db.execute("UPDATE task_seconds SET seconds = 'long'")
    with pytest.raises(UserError, match="damaged"):
        read_seconds(tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in one process."""
    folder = tmp_path_factory.mktemp("made") / "run"
    run(BOTH, fast_plan(), folder, device="cpu")
    return folder


def test_a_run_notes_every_task_of_its_graph_and_no_time_twice(made: Path) -> None:
    noted = read_seconds(made)
    assert noted.keys() == graph(fast_plan(), *BOTH).keys()
    cells = {record.cell: record.seconds for record in read_run(made).records}
    assert sum(noted.values()) == pytest.approx(sum(cells.values()), rel=0.02)


def test_a_plan_takes_the_times_of_a_run(made: Path, tmp_path: Path) -> None:
    noted = read_seconds(made)
    again = planned(BOTH, fast_plan(), tmp_path / "new", "cpu", made)
    assert again.seconds == pytest.approx(noted)
    assert again.trainings == 3 + 9  # three that are shared, three for each method's rows
    twice = planned(BOTH, fast_plan(seeds=2), tmp_path / "new", "cpu", made)
    assert sum(twice.seconds.values()) == pytest.approx(2 * sum(noted.values()))
    larger = fast_plan(changes=("phantom.slices=120",))
    scaled = planned(BOTH, larger, tmp_path / "new", "cpu", made)
    assert sum(scaled.seconds.values()) == pytest.approx(2 * sum(noted.values()))
    assert "every time is taken 2 times" in " ".join(scaled.notes)
    assert not (tmp_path / "new").exists()


def test_every_task_waits_for_the_start_of_ray(made: Path, tmp_path: Path) -> None:
    copied = tmp_path / "made"
    shutil.copytree(made, copied)
    assert Start() not in planned(BOTH, fast_plan(), tmp_path / "new", "cpu", copied).graph
    with closing(sqlite3.connect(copied / DATABASE)) as db, db:
        db.execute("INSERT INTO task_seconds VALUES (?, 7.0)", (json.dumps({"what": "ray"}),))
    found = planned(BOTH, fast_plan(), tmp_path / "new", "cpu", copied)
    own = {task: took for task, took in found.seconds.items() if task != Start()}
    assert found.seconds[Start()] == 7.0
    without = {task: [b for b in below if b != Start()] for task, below in found.graph.items()}
    del without[Start()]
    for workers in (1, 100):  # a worker that is free has nothing to do meanwhile
        later = simulate(found.graph, found.seconds, workers).seconds
        assert later == pytest.approx(7.0 + simulate(without, own, workers).seconds)
    assert critical_path(found.graph, found.seconds)[0] == Start()
    assert planned(BOTH, fast_plan(), copied, "cpu", copied).graph == {}


def test_what_the_folder_has_is_not_planned(made: Path) -> None:
    assert planned(BOTH, fast_plan(), made, "cpu", made).graph == {}
    more = planned(BOTH, fast_plan("vinet", "cam", "random", "edges"), made, "cpu", made)
    assert {task.method for task in more.graph if not isinstance(task, Network | Start)} == {
        "edges"
    }
    assert not any(isinstance(task, Network) for task in more.graph)
    assert "7 tasks were not measured there" in " ".join(more.notes)  # 4 cells, 3 maps


def test_a_source_that_measured_nothing_alike_is_one_line(made: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="it measured nothing like 'road vinet seed 0'"):
        planned(["road"], fast_plan(), tmp_path / "new", "cpu", made)
    folder = tmp_path / "old"
    a_store(folder, Cell("occlusion", "cam", 0)).close()
    with pytest.raises(UserError, match="did not note what its tasks took"):
        planned(BOTH, fast_plan(), tmp_path / "new", "cpu", folder)


# -- the command


def said(*words: str) -> Any:
    return CliRunner().invoke(app, ["plan", *words])


def test_the_command_prints_cells_chain_hours_and_cost(made: Path, tmp_path: Path) -> None:
    changes = [
        *("--set", "phantom.slices=60", "--set", "vinet.epochs=1", "--set", "explained.epochs=1"),
        *("--set", "retrain.epochs=1", "--methods", "vinet,cam,random", "--threshold", "0.3"),
    ]
    places = ["--workers", "1,2", "--gpus", "8", "--gpus-per-task", "0.5", "--price", "1e9"]
    out = ["--out", str(tmp_path / "new"), "--device", "cpu", "--from", str(made)]
    result = said("all", "--preset", "smoke", *changes, *places, *out, "--faster", "2")
    assert result.exit_code == 0, result.output
    assert "18 cells to make, with 12 trainings" in result.output
    assert "critical path: " in result.output
    rows = {line.split("  ")[0].strip(): line.split() for line in result.output.splitlines()}
    assert rows["8 GPUs"][2] == "16"
    one, two = (float(rows[name][-1].replace(",", "")) for name in ("1 worker", "2 workers"))
    whole = sum(read_seconds(made).values()) / 2 / 3600
    assert one == pytest.approx(1e9 * whole, abs=1)
    assert one <= two <= 2 * one  # two are paid for twice, and wait for each other now and then
    assert "Assumed: every task is 2 times faster" in result.output
    assert "Assumed: tasks that share a GPU" in result.output


def test_protocols_are_named_with_commas() -> None:
    assert protocol_names("road, all,occlusion") == ["road", *BOTH]
    assert {*protocol_names("everything")} > {"road", *BOTH}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--workers", "0"], "--workers 0: give whole numbers above 0"),
        (["--gpus", "1,x"], "--gpus 1,x: give whole numbers above 0"),
        (["--gpus-per-task", "1.5"], "--gpus-per-task 1.5: give a share of one GPU"),
        (["--gpus", "1", "--gpus-per-task", "2"], "--gpus 1: --gpus-per-task 2 asks for more"),
        (["--faster", "0"], "--faster 0: give a number above 0"),
        (["--out", "s3://bucket/run"], "--out s3:/bucket/run: a run's folder lies on a disk"),
        (["all,rode"], "unknown protocol 'rode': did you mean 'road'?"),
        (["--price", "-1"], "--price -1: give what an hour costs"),
    ],
)
def test_bad_input_is_one_line(words: list[str], told: str) -> None:
    error = said(*words).exception
    assert isinstance(error, UserError)
    assert told in str(error)


def test_a_plan_says_which_trainings_it_does_not_count(tmp_path: Path) -> None:
    found = planned(["destruction"], make_plan(preset="smoke", seeds=1), tmp_path / "none", "cpu")
    assert found.trainings == 0
    assert found.notes[-1].startswith("destruction is not counted: 12 VINets")


def test_steps_are_timed_on_the_threads_that_the_run_will_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def left(*_: Any) -> Fit:
        seen.append(torch.get_num_threads())
        return Fit((1.0,), (1.0,), 1)

    monkeypatch.setattr("vinet_bench.forecast.fit", left)
    before = torch.get_num_threads()
    plan = make_plan(preset="smoke", methods=["cam"], changes=[f"threads={before + 2}"])
    planned(["occlusion"], plan, tmp_path / "none", "cpu")
    assert set(seen) == {before + 2}
    assert torch.get_num_threads() == before
