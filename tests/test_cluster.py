"""A run on a Ray cluster gives the bytes of a run in one process, whatever is lost on the way."""

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from benchmarks.tiny import DEADLY, SLOW, registered
from tests.commands import Command, assert_one_line
from tests.test_run import BOTH, fast_plan, options, written
from vinet_bench.cluster import CALM, HUGE_PAGES, Cluster, Made, Shelf, connected
from vinet_bench.networks_needed import Maps, Network, Start
from vinet_bench.plan import make_plan
from vinet_bench.protocols import protocol
from vinet_bench.records import Cell
from vinet_bench.run import Outcome, run
from vinet_bench.stored_run import read_seconds, read_states
from vinet_bench.task_graph import needs


def words(folder: Path, *more: str) -> list[str]:
    """A run as the command is asked for it."""
    return ["run", "all", *options(folder), "--set", "threads=1", "--device", "cpu", *more]


def tables(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("table*"))}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of some of the methods in this process."""
    folder = tmp_path_factory.mktemp("begun") / "run"
    plan = fast_plan("vinet", "random", changes=("threads=1",))
    assert run(BOTH, plan, folder, "cpu").failed == ()
    return folder


@pytest.fixture(scope="module")
def alone(begun: Path) -> dict[str, bytes]:
    """The tables of a run in this process."""
    folder = Path(shutil.copytree(begun, begun.with_name("alone")))
    assert run(BOTH, fast_plan(changes=("threads=1",)), folder, "cpu").failed == ()
    return written(folder)


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Two nodes of one core each on this machine; the second is left to the test."""
    utils = pytest.importorskip("ray.cluster_utils")
    nodes = utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    yield nodes
    nodes.shutdown()


@pytest.mark.slow
def test_a_node_is_lost_in_the_middle_and_the_tables_are_the_same(
    alone: dict[str, bytes], cluster: Any, command: Command
) -> None:
    second = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    folder = command.folder / "run"
    with ThreadPoolExecutor() as pool:
        lost = pool.submit(lose, cluster, second, folder, over := Event())
        ended = command(*words(folder, "--ray", cluster.address))
        over.set()
    assert (ended.code, lost.exception()) == (0, None), ended.err
    assert "waiting" in lost.result()
    assert tables(folder) == alone
    assert list(folder.rglob("*.part-*")) == []


def lose(nodes: Any, node: Any, folder: Path, over: Event) -> set[str]:
    """The states of the cells when the first has ended and the node is taken away."""
    while "done" not in (seen := {state.state for state in states(folder)}):
        assert not over.wait(0.2), "the run has ended"
    nodes.remove_node(node, allow_graceful=False)
    return seen


def states(folder: Path) -> list[Any]:
    from vinet_bench.errors import UserError

    try:
        return read_states(folder)[0]
    except UserError:  # not begun yet
        return []


@pytest.mark.slow
def test_a_run_goes_on_with_workers_where_one_process_began(
    begun: Path, alone: dict[str, bytes], command: Command
) -> None:
    pytest.importorskip("ray")
    folder = Path(shutil.copytree(begun, command.folder / "run"))
    ended = command(*words(folder, "--workers", "2"))
    assert ended.code == 0, ended.err
    assert "5 cells made, 13 found" in ended.out
    assert read_seconds(folder)[Start()] > 0
    assert tables(folder) == alone


def test_no_cluster_at_the_address_is_one_line(command: Command) -> None:
    pytest.importorskip("ray")
    ended = command(*words(command.folder / "run", "--ray", "127.0.0.1:1"))
    assert_one_line(ended, "--ray 127.0.0.1:1: no cluster there")


def test_a_ray_begun_here_is_calm_where_the_environment_says_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ray

    begun: dict[str, str] = {}
    monkeypatch.setattr(ray, "init", lambda **_: begun.update(os.environ))
    monkeypatch.setenv("AUTOSCALER_UPDATE_INTERVAL_S", "7")
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    before = dict(os.environ)
    with connected(Cluster(workers=1), threads=1):
        assert dict(os.environ) == before
    assert begun == CALM | HUGE_PAGES | before


def test_what_a_cell_shares_with_others() -> None:
    plan = make_plan(preset="smoke", methods=["vinet", "cam", "random"])
    vinet, vgg = (Network(kind, "explained", 0) for kind in ("vinet", "classifier"))
    original = Network("resnet18", "untouched", 0)
    maps = [Maps("cam", 0, part) for part in ("test", "train", "validation")]
    keep, occlude = (protocol(name) for name in ("keep-important", "occlusion"))
    assert needs(keep, Cell("keep-important", "cam", 0), plan) == [vgg, *maps]
    assert needs(occlude, Cell("occlusion", "cam", 0), plan) == [vgg, original, maps[0]]
    equal = Cell("occlusion", "random", 0, budget="equal")
    wanted = [original, vinet, Maps("random", 0, "test"), Maps("vinet", 0, "test")]
    assert needs(occlude, equal, plan) == wanted
    reference = Cell("occlusion", "original", 0, budget="everything")
    assert needs(occlude, reference, plan) == [original]


def test_what_is_handed_over_cannot_be_changed(tmp_path: Path) -> None:
    arrays = {"maps": np.zeros(3)}
    arrays["maps"].flags.writeable = False  # as Ray hands it over
    shelf = Shelf([Made({("maps", "key"): arrays})], tmp_path)
    found = shelf.load("maps", "key")
    assert found is not None
    found["maps"] += 1
    again = shelf.load("maps", "key")
    assert again is not None
    np.testing.assert_array_equal(again["maps"], np.zeros(3))
    assert shelf.load("maps", "other") is None
    shelf.save("scores", "key", {"accuracy": np.ones(2)})
    assert list(shelf.made) == [("scores", "key")]


@dataclass(frozen=True)
class Tiny:
    """A run of tiny cells: how it ended, and the cells' states then and while it ran."""

    outcome: Outcome
    ended: dict[str, str]
    running: set[tuple[str, str]]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    pytest.importorskip("ray")
    folder, rows = tmp_path_factory.mktemp("tiny") / "run", [SLOW, DEADLY]
    plan = make_plan(preset="smoke", seeds=1, rows=rows, changes=["threads=1"])
    with registered(), ThreadPoolExecutor() as pool:
        seen = pool.submit(running_until, event := Event(), folder)
        try:
            outcome = run(["tiny"], plan, folder, "cpu", cluster=Cluster(workers=1))
        finally:
            event.set()
    ended = {state.cell.variant: state.state for state in states(folder)}
    return Tiny(outcome, ended, {(state.cell.variant, state.host) for state in seen.result()})


def running_until(event: Event, folder: Path) -> list[Any]:
    """What is seen running until the event."""
    seen: list[Any] = []
    while not event.wait(0.1):
        seen += [state for state in states(folder) if state.state == "running"]
    return seen


@pytest.mark.slow
def test_a_cell_that_kills_its_worker_three_times_is_a_failed_row(tiny: Tiny) -> None:
    (reason,) = tiny.outcome.failed
    assert reason.startswith("tiny deadly seed 0: its worker was lost 3 times (WorkerCrashedError")
    assert tiny.ended == {SLOW: "done", DEADLY: "failed"}


def test_status_shows_what_workers_are_making(tiny: Tiny) -> None:
    # The deadly one is seen or not: its process ends as soon as it has said so.
    assert tiny.running - {(DEADLY, "")} == {(SLOW, "")}
