"""What a run promises when the machine fails it: see docs/reliability.md."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.backends import cudnn

from tests.commands import Command, assert_one_line
from tests.synthetic import a_big_run
from tests.test_showcase import a_shop
from vinet_bench.description import describe
from vinet_bench.errors import CellError, StoreError
from vinet_bench.machine import Machine
from vinet_bench.plan import Plan, make_plan
from vinet_bench.records import Cell
from vinet_bench.report import write_report
from vinet_bench.run import choose_machine, machine_of, run, with_threads
from vinet_bench.stored_plan import check_plan
from vinet_bench.stored_run import read_states

CPU = torch.device("cpu")


def small() -> Plan:
    """One small network and a control."""
    changes = ["control_budget=0.1", "phantom.slices=80", "retrain.epochs=1"]
    return make_plan(preset="smoke", methods=["random"], changes=changes)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 kB, where one may be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(place)]
    if (
        not shutil.which("mount")
        or subprocess.run(mount, check=False, capture_output=True).returncode
    ):
        pytest.skip("a small file system cannot be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_stops_the_run_and_loses_nothing(small_disk: Path) -> None:
    folder = small_disk / "run"
    with pytest.raises(StoreError, match=r"what is done is kept.* run the same command"):
        run(["occlusion"], small(), folder)
    assert list(folder.rglob("*.part-*")) == []
    kept = [state.cell for state in read_states(folder)[0] if state.state == "done"]
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    outcome = run(["occlusion"], small(), folder)
    assert outcome.failed == ()
    assert outcome.found == len(kept)
    assert {state.state for state in read_states(folder)[0]} == {"done"}


def test_a_full_disk_is_one_line_and_exit_code_2(small_disk: Path, command: Command) -> None:
    options = ["--preset", "smoke", "--methods", "random", "--set", "control_budget=0.1"]
    ended = command("run", "occlusion", *options, "--out", str(small_disk / "run"))
    assert_one_line(ended, "vinet-bench: cannot write to ")


def test_a_failed_write_of_scores_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(arrays: object, path: Path, told: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("vinet_bench.artefacts.save_file", half)
    with pytest.raises(StoreError, match="Input/output error; what is done is kept"):
        run(["occlusion"], small(), tmp_path / "run")
    assert list(tmp_path.rglob("*.part-*")) == []


def test_a_copied_run_reports_the_same(tmp_path: Path) -> None:
    folder = a_big_run(tmp_path / "here", ["VINet", "CAM"])
    formats = ["tex", "csv", "md", "html"]
    first = write_report(folder, tmp_path / "first", formats)
    shutil.move(folder, tmp_path / "elsewhere")
    again = write_report(tmp_path / "elsewhere", tmp_path / "again", formats)
    assert [p.name for p in again] == [p.name for p in first]
    assert [p.read_bytes() for p in again] == [p.read_bytes() for p in first]


def test_memory_that_is_not_enough_fails_the_cell_with_the_option_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("vinet_bench.trained.fit", too_large)
    outcome = run(["occlusion"], small(), tmp_path / "run")
    assert outcome.failed
    assert all("use --device cpu, a smaller --size" in reason for reason in outcome.failed[:1])


def test_a_run_goes_on_with_the_threads_that_it_began_with() -> None:
    auto, four = Machine(CPU, False), Machine(CPU, False, 4)
    assert with_threads(auto, None).threads == torch.get_num_threads()
    assert with_threads(auto, {"threads": 3}).threads == 3
    assert with_threads(four, {"threads": 3}).threads == 4
    before = torch.get_num_threads()
    with four.computing():
        assert torch.get_num_threads() == 4
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("score", [np.inf, 1e300])
def test_scores_that_cannot_be_kept_fail_the_cell(tmp_path: Path, score: float) -> None:
    shop, cell = a_shop(tmp_path), Cell("occlusion", "random", 0)
    shop.keep_scores(cell, {"drop": np.array([0.5, np.nan])})
    with pytest.raises(CellError, match="drop is infinite, or beyond float32, for some test"):
        shop.keep_scores(cell, {"drop": np.array([0.5, score])})


def test_threads_are_part_of_a_cells_key(tmp_path: Path) -> None:
    shop, cell = a_shop(tmp_path), Cell("occlusion", "random", 0)
    keys = set()
    for threads in (1, 2):
        shop.machine = Machine(CPU, False, threads)
        keys.add(shop.cell_key(cell))
    assert len(keys) == 2


def test_the_same_figures_on_a_machine_with_other_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(["occlusion"], small(), tmp_path / "run")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    again = run(["occlusion"], small(), tmp_path / "run")
    assert (again.made, again.found) == (0, first.made)


def kernels() -> tuple[object, ...]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        cudnn.deterministic,
        cudnn.benchmark,
        os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    )


GPU = Machine(torch.device("cuda"), False, deterministic=True)  # nothing is computed there


@pytest.mark.parametrize("own", [None, ":16:8"])
def test_deterministic_kernels_are_chosen_inside_and_nothing_stays(
    own: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if own:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", own)
    before = kernels()
    with pytest.raises(KeyError), GPU.computing():
        assert kernels() == (True, False, True, False, own or ":4096:8")
        raise KeyError
    assert kernels() == before
    for machine in (Machine(CPU, False, deterministic=True), replace(GPU, deterministic=False)):
        with machine.computing():
            assert kernels() == before


def test_deterministic_kernels_are_part_of_a_gpus_keys_alone(tmp_path: Path) -> None:
    shop, cell = a_shop(tmp_path), Cell("occlusion", "random", 0)
    keys: dict[str, set[str]] = {"cpu": set(), "cuda": set()}
    for device, found in keys.items():
        for deterministic in (False, True):
            shop.machine = Machine(torch.device(device), False, 1, deterministic)
            found.add(shop.cell_key(cell))
    assert [len(found) for found in keys.values()] == [1, 2]


def test_a_plan_tells_of_deterministic_kernels_on_a_gpu_alone(tmp_path: Path) -> None:
    shop = a_shop(tmp_path)
    told = [
        check_plan(describe(shop.plan, shop.data, shop.split, machine))
        for machine in (GPU, Machine(CPU, False, deterministic=True))
    ]
    assert [plan.get("deterministic") for plan in told] == [True, None]


def test_deterministic_reaches_the_machine_and_changes_nothing_on_a_cpu(tmp_path: Path) -> None:
    chosen = make_plan(deterministic=True)
    assert machine_of(chosen, "cpu").deterministic
    assert not machine_of(make_plan(), "cpu").deterministic
    asked = small().model_copy(update={"deterministic": True})
    first = run(["occlusion"], asked, tmp_path / "run", "cpu")
    assert first.failed == ()
    again = run(["occlusion"], small(), tmp_path / "run", "cpu")
    assert (again.made, again.found) == (0, first.made)


def test_a_torch_that_cannot_tell_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not choose_machine("cpu", "auto").bfloat16
    assert choose_machine("cpu", "bfloat16").bfloat16
