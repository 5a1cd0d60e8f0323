"""A run on a Ray cluster gives the bytes of a run in one process, whatever is lost on the way."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from benchmarks.tiny import registered
from vinet_bench.cluster import CALM, HUGE_PAGES, Cluster, Made, Shelf, connected
from vinet_bench.networks_needed import Maps, Network, Start
from vinet_bench.plan import make_plan
from vinet_bench.protocols import protocol
from vinet_bench.records import Cell
from vinet_bench.run import run
from vinet_bench.stored_run import read_seconds, read_states
from vinet_bench.task_graph import needs

METHODS = "vinet,cam,random,outline"
RUN = [
    *("run", "all", "--preset", "smoke", "--methods", METHODS, "--set", "threads=1"),
    *("--device", "cpu", "--out"),
]


def command(*arguments: str) -> subprocess.Popen[str]:
    code = "from vinet_bench.cli import main; main()"
    words = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def tables(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("table*"))}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone") / "run"
    _, errors = (process := command(*RUN, str(folder))).communicate()
    assert process.returncode == 0, errors
    return folder


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Two nodes of one core each on this machine; the second is left to the test."""
    utils = pytest.importorskip("ray.cluster_utils")
    nodes = utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    yield nodes
    nodes.shutdown()


def test_a_node_is_lost_in_the_middle_and_the_tables_are_the_same(
    alone: Path, cluster: Any, tmp_path: Path
) -> None:
    second = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    folder = tmp_path / "run"
    process = command(*RUN, str(folder), "--ray", cluster.address)
    while not any(state.state == "done" for state in states(folder)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    assert any(state.state == "waiting" for state in states(folder))
    cluster.remove_node(second, allow_graceful=False)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert tables(folder) == tables(alone)
    assert list(folder.rglob("*.part-*")) == []


def states(folder: Path) -> list[Any]:
    from vinet_bench.errors import UserError

    try:
        return read_states(folder)[0]
    except UserError:  # not begun yet
        return []


def test_a_run_goes_on_with_workers_where_one_process_began(alone: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    folder = tmp_path / "run"
    first = [word.replace(METHODS, "vinet,random") for word in RUN]
    assert command(*first, str(folder)).wait() == 0
    process = command(*RUN, str(folder), "--workers", "2")
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "10 cells made, 13 found" in out
    assert read_seconds(folder)[Start()] > 0
    assert tables(folder) == tables(alone)


def test_no_cluster_at_the_address_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    process = command(*RUN, str(tmp_path / "run"), "--ray", "127.0.0.1:1")
    _, errors = process.communicate()
    assert process.returncode == 2
    assert errors.splitlines()[-1].startswith("vinet-bench: --ray 127.0.0.1:1: no cluster there")


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


def test_a_cell_that_kills_its_worker_three_times_is_a_failed_row(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    plan = make_plan(preset="smoke", seeds=1, rows=["tiny", "deadly"], changes=["threads=1"])
    with registered():
        outcome = run(["tiny"], plan, tmp_path / "run", "cpu", cluster=Cluster(workers=1))
    (reason,) = outcome.failed
    assert reason.startswith("tiny deadly seed 0: its worker was lost 3 times (WorkerCrashedError")
    assert {s.cell.variant: s.state for s in states(tmp_path / "run")} == {
        "tiny": "done", "deadly": "failed",
    }  # fmt: skip


def test_status_shows_what_workers_are_making(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    plan = make_plan(preset="smoke", seeds=1, rows=["slow"], changes=["threads=1"])
    with registered(), ThreadPoolExecutor() as pool:
        ended = pool.submit(running_until, event := Event(), tmp_path)
        run(["tiny"], plan, tmp_path, "cpu", cluster=Cluster(workers=1))
        event.set()
    assert {(state.cell.variant, state.host) for state in ended.result()} == {("slow", "")}
    assert [state.state for state in states(tmp_path)] == ["done"]


def running_until(event: Event, folder: Path) -> list[Any]:
    """What is seen running until the event."""
    seen: list[Any] = []
    while not event.wait(0.1):
        seen += [state for state in states(folder) if state.state == "running"]
    return seen
