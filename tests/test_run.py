"""Whole runs: the same tables whatever happens on the way, and no figure that was not asked for."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

import baselines
from tests.tables import lines
from vinet_bench import __version__, cli, description
from vinet_bench.data.dataset import SliceDataset
from vinet_bench.data.splits import Split
from vinet_bench.errors import CellError, UserError
from vinet_bench.machine import Machine
from vinet_bench.methods import MethodInfo
from vinet_bench.plan import Plan, make_plan
from vinet_bench.progress import Silent
from vinet_bench.protocols import protocol
from vinet_bench.records import Cell
from vinet_bench.report import TEXTS, tables, write_report
from vinet_bench.run import Outcome, run
from vinet_bench.store import Store
from vinet_bench.stored_run import read_run
from vinet_bench.training import fit
from vinet_bench.workshop import Workshop

METHODS = ("vinet", "cam", "random")
# At this threshold the barely trained VINet reserves about half, so that budgets say something.
THRESHOLD = 0.3
CHANGES = (
    "phantom.slices=60", "vinet.epochs=1", "explained.epochs=1", "retrain.epochs=1",
)  # fmt: skip
BOTH = ("keep-important", "occlusion")
TABLES = [f"table{n}.{ending}" for n in (1, 2) for ending in ("csv", "md", "tex")]
SIDE = 32


def fast_plan(*methods: str, changes: tuple[str, ...] = (), **options: Any) -> Plan:
    return make_plan(
        preset="smoke",
        methods=list(methods or METHODS),
        threshold=THRESHOLD,
        changes=[*CHANGES, *changes],
        **options,
    )


def options(out: Path, *methods: str) -> list[str]:
    """The same as fast_plan(), for the command."""
    changes = [word for change in CHANGES for word in ("--set", change)]
    named = ["--methods", ",".join(methods or METHODS), "--threshold", str(THRESHOLD)]
    return ["--preset", "smoke", "--out", str(out), *named, *changes]


def written(folder: Path) -> dict[str, bytes]:
    """The tables of a run's folder by name, freshly written."""
    return {path.name: path.read_bytes() for path in write_report(folder, formats=TEXTS)}


class Fits:
    """Stands in for the training loop, and counts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        monkeypatch.setattr("vinet_bench.trained.fit", self)

    def __call__(self, *arguments: Any) -> Any:
        self.count += 1
        return fit(*arguments)


@dataclass(frozen=True)
class Done:
    """One run, table after table, and how many networks each trained."""

    folder: Path
    outcomes: tuple[Outcome, Outcome]
    trained: tuple[int, int]
    tables: dict[str, bytes]


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("runs") / "fast"
    outcomes, trained = [], []
    for name in BOTH:
        with pytest.MonkeyPatch.context() as patch:
            fits = Fits(patch)
            outcomes.append(run([name], fast_plan(), folder, "cpu"))
            trained.append(fits.count)
    return Done(folder, (outcomes[0], outcomes[1]), (trained[0], trained[1]), written(folder))


@pytest.fixture
def copied(done: Done, tmp_path: Path) -> Path:
    """A folder with the finished run, to go on with."""
    return Path(shutil.copytree(done.folder, tmp_path / "copy"))


# ---- figures


def test_both_tables_are_written(done: Done) -> None:
    assert sorted(done.tables) == TABLES
    assert all(done.tables.values())
    assert [o.made for o in done.outcomes] == [11, 7]
    assert [o.found for o in done.outcomes] == [0, 0]
    assert all(o.failed == () for o in done.outcomes)
    for number in (1, 2):
        found = lines(done.folder, f"table{number}")
        assert list(found) == ["original", "majority", *METHODS]
        for line in found.values():
            assert 0 <= float(line["accuracy"]) <= 1
            assert line["error"] == ""
            assert line["pictures"] == "20"


def test_what_is_kept_and_what_is_left_add_up(done: Done) -> None:
    kept, left = lines(done.folder, "table1"), lines(done.folder, "table2")
    for name in METHODS:
        total = float(kept[name]["fraction_kept"]) + float(left[name]["fraction_kept"])
        assert total == pytest.approx(1, abs=2e-6)
    printed = [
        {row.name: Decimal(row.cells[0]) for row in table.rows if row.name in METHODS}
        for table in tables(read_run(done.folder)).values()
    ]
    assert {printed[0][name] + printed[1][name] for name in METHODS} == {Decimal(100)}


def test_controls_reserve_exactly_as_many_pixels_as_vinet(done: Done) -> None:
    shares = {
        (r.cell.protocol, r.cell.method, r.cell.budget): r.value
        for r in read_run(done.folder).records
        if r.metric == "fraction_kept" and r.value is not None
    }
    own = shares["keep-important", "vinet", "threshold"]
    assert 0.05 < own < 0.95
    pixels = round(own * SIDE * SIDE)
    assert shares["keep-important", "random", "equal"] * SIDE * SIDE == pixels
    for name in METHODS:
        left = shares["occlusion", name, "equal"]
        assert (1 - left) * SIDE * SIDE == pytest.approx(pixels, abs=1e-6)


# ---- the same again


def test_the_second_table_trains_nothing_new(done: Done) -> None:
    # VINet, VGG-16, the original, and three networks for each of three methods.
    assert done.trained == (12, 0)


def test_the_same_command_computes_nothing(
    done: Done, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits = Fits(monkeypatch)
    outcome = run(BOTH, fast_plan(), copied, "cpu")
    assert (outcome.made, outcome.found, outcome.failed) == (0, 18, ())
    assert fits.count == 0
    assert written(copied) == done.tables


def test_one_more_method_computes_that_method_alone(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits = Fits(monkeypatch)
    # Not centre: its mask is the same for every picture, and swapped masks need no other network.
    outcome = run(["keep-important"], fast_plan("vinet", "cam", "random", "edges"), copied)
    assert (outcome.made, outcome.found) == (3, 11)
    assert fits.count == 3
    assert list(lines(copied, "table1")) == ["original", "majority", *METHODS, "edges"]


def test_fewer_methods_later_leave_the_other_rows(done: Done, copied: Path) -> None:
    outcome = run(["occlusion"], fast_plan("vinet"), copied, "cpu")
    assert outcome.made == 0
    assert written(copied) == done.tables


def start(*arguments: str) -> subprocess.Popen[str]:
    """The command in a process of its own, with as many threads as here."""
    words = [sys.executable, "-c", "from vinet_bench.cli import main; main()", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        words, stdout=pipe, stderr=pipe, text=True, env=environment, preexec_fn=_hear_interrupts
    )


def _hear_interrupts() -> None:
    """A shell's background jobs ignore Ctrl-C, and their children after them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_the_command_gives_the_same_bytes_and_a_quiet_pipe(done: Done, tmp_path: Path) -> None:
    process = start("run", "all", *options(tmp_path / "run"))
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0
    assert err == ""
    assert "18 cells made, 0 found" in out
    assert "\x1b" not in out
    assert "\r" not in out
    assert written(tmp_path / "run") == done.tables


@pytest.mark.slow
def test_killed_three_times_and_the_same_bytes(done: Done, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "artefacts" / "maps").mkdir(parents=True)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (folder / "artefacts" / "maps" / f"x.safetensors.part-{ended.pid}").write_bytes(b"half")
    chance = random.Random(0)
    for goal in sorted(chance.sample(range(2, 28), 3)):  # of 33 artefacts
        process = start("run", "all", *options(folder))
        while len(artefacts(folder)) < goal and process.poll() is None:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.3))
        process.kill()
        assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"
        process.communicate()
    outcome = run(BOTH, fast_plan(), folder, "cpu")
    assert outcome.made + outcome.found == 18
    assert outcome.failed == ()
    assert list(folder.rglob("*.part-*")) == []
    assert written(folder) == done.tables
    assert {p.name for p in artefacts(folder)} == {p.name for p in artefacts(done.folder)}


def artefacts(folder: Path) -> list[Path]:
    return sorted(folder.glob("artefacts/*/*.safetensors"))


def test_interrupted_by_the_user(tmp_path: Path) -> None:
    process = start("run", "all", *options(tmp_path / "run"))
    while not artefacts(tmp_path / "run") and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    ended = (process.returncode, err)  # together: what it said tells why it ended otherwise
    assert ended == (130, "stopped; the same command goes on where it was\n")
    assert list(tmp_path.rglob("*.part-*")) == []


def test_a_changed_setting_reads_no_stale_cell(
    done: Done, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits = Fits(monkeypatch)
    plan = fast_plan("random", changes=("retrain.epochs=2",))
    outcome = run(["keep-important"], plan, copied, "cpu")
    assert (outcome.made, outcome.found) == (5, 0)
    assert fits.count == 4  # VINet, which gives the budget, is the same as before
    ours = lines(copied, "table1")
    assert list(ours) == ["original", "majority", "random"]
    assert "retrain.epochs = 2" in (copied / "table1.md").read_text().replace("\\", "")
    again = run(BOTH, fast_plan(), copied, "cpu")
    assert (again.made, again.found) == (0, 18)
    assert written(copied) == done.tables


def test_another_threshold_or_seed_is_another_cell(copied: Path) -> None:
    plan = make_plan(preset="smoke", methods=["vinet"], threshold=0.2, changes=list(CHANGES))
    found = run(["occlusion"], plan, copied, "cpu")
    assert (found.made, found.found) == (4, 0)
    second = fast_plan("random", seeds=2)
    assert {cell.seed for cell in cells_of(second)} == {0, 1}


def cells_of(plan: Plan) -> list[Cell]:
    return [cell for name in BOTH for cell in protocol(name).cells(plan)]


# ---- what fails, and what says nothing


class Fixed:
    """The same importance everywhere, or an error."""

    def __init__(self, name: str, give: Callable[[Tensor], Tensor]) -> None:
        self.info = MethodInfo(
            name=name, title=name.capitalize(), paper="none", explains="nothing", scaling="as-is"
        )
        self._give = give

    def fit(self, model: nn.Module, data: SliceDataset) -> Self:
        return self

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        return self._give(images[:, 0])


def broken(images: Tensor) -> Tensor:
    raise RuntimeError("out of\nluck, with [brackets] & 100 %")


@pytest.mark.slow
def test_a_method_that_fails_is_a_row_and_others_go_on(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: dict[str, Callable[[Tensor], Tensor]] = {
        "broken": broken,
        "nothing": torch.zeros_like,
        "everything": torch.ones_like,
        "unfinite": lambda images: images / 0,
        "oblong": lambda images: images[:, :5],
    }
    for name, give in made.items():
        monkeypatch.setitem(baselines.METHODS, name, partial(Fixed, name, give))
    monkeypatch.setattr(
        sys, "argv", ["vinet-bench", "run", "all", *options(copied, *METHODS, *made)]
    )
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    out, err = capsys.readouterr()
    failed = [line for line in err.splitlines() if "keep-important broken seed 0" in line]
    assert len(failed) == 1
    assert "RuntimeError: out of luck, with [brackets] & 100 % (test_run.py:" in failed[0]
    assert len(err.splitlines()) == 3 * 5
    assert "25 cells made, 18 found" in out
    _check_failed_rows(copied)
    _check_collapsed_rows(copied)

    monkeypatch.setitem(baselines.METHODS, "broken", partial(Fixed, "broken", torch.ones_like))
    outcome = run(BOTH, fast_plan(*METHODS, "broken"), copied, "cpu")
    assert (outcome.made, outcome.found, outcome.failed) == (5, 18, ())
    assert lines(copied, "table1")["broken"]["error"] == ""


def _check_failed_rows(folder: Path) -> None:
    for number in (1, 2):
        found = lines(folder, f"table{number}")
        assert "out of luck, with [brackets] & 100 %" in found["broken"]["error"]
        assert "not finite" in found["unfinite"]["error"]
        assert "shape (20, 5, 32), not (20, 32, 32)" in found["oblong"]["error"] or (
            "shape (30, 5, 32), not (30, 32, 32)" in found["oblong"]["error"]
        )
        for name in ("broken", "unfinite", "oblong"):
            assert found[name]["accuracy"] == ""
        for name in METHODS:
            assert found[name]["accuracy"] != ""
        text = (folder / f"table{number}.md").read_text()
        assert "Failed: Broken" in text
        assert "failed (1)" in text


def _check_collapsed_rows(folder: Path) -> None:
    """Nothing kept, or all removed: black pictures, and one class for all of them."""
    kept, left = lines(folder, "table1"), lines(folder, "table2")
    assert float(kept["nothing"]["commonest_class_share"]) == 1
    assert float(kept["nothing"]["constant_maps"]) == 1
    assert float(kept["nothing"]["fraction_kept"]) == 0
    assert float(left["everything"]["commonest_class_share"]) == 1
    assert float(left["everything"]["fraction_kept"]) == 0
    # All pixels kept: a network on the untouched pictures, so the same as the original.
    assert kept["everything"]["accuracy"] == kept["original"]["accuracy"]
    assert left["nothing"]["accuracy"] == left["original"]["accuracy"]
    first, second = ((folder / f"table{n}.md").read_text().splitlines() for n in (1, 2))
    audit = next(line for line in first if "predictions" in line)
    assert "Nothing 100.0 %" in audit
    note = next(line for line in second if "Collapsed onto one class" in line)
    assert "Everything 100.00 %" in note


def test_a_network_that_diverges_is_a_failed_row(copied: Path) -> None:
    plan = fast_plan("random", changes=("retrain.learning_rate=1e30", "retrain.epochs=3"))
    outcome = run(["keep-important"], plan, copied, "cpu")
    assert len(outcome.failed) == 4
    found = lines(copied, "table1")
    assert "diverged in epoch" in found["original"]["error"]
    assert "diverged in epoch" in found["random"]["error"]
    assert found["majority"]["error"] == ""


def test_a_network_of_unknown_name_stops_before_anything_is_made(tmp_path: Path) -> None:
    plan = fast_plan("random", changes=("vinet.importance=unett",))
    with pytest.raises(UserError, match=r"vinet\.importance 'unett': did you mean 'unet'"):
        run(BOTH, plan, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


# ---- swapped masks


def shop_of(patients: list[str], tmp_path: Path) -> Workshop:
    """A workshop whose test part has these patients' slices."""
    n = len(patients)
    test = SliceDataset(
        name="made up",
        images=np.zeros((n + 2, 16, 16), dtype=np.uint8),
        labels=np.arange(n + 2) % 2,
        patients=np.array([*patients, "train", "validation"]),
        ids=np.arange(n + 2).astype(np.str_),
        class_names=("a", "b"),
    )
    split = Split(np.array([n]), np.array([n + 1]), np.arange(n))
    store = Store(tmp_path / "shop")
    store.close()
    return Workshop(
        make_plan(preset="smoke", methods=["random"]), test, split, store,
        Machine(torch.device("cpu"), False), Silent(),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_swapped_masks_are_another_patients_and_each_is_used_once(
    seed: int, tmp_path: Path
) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 8, size=rng.integers(2, 9))
    sizes[0] = min(sizes[0], sizes[1:].sum())  # none has more than half
    sizes[1:] = np.minimum(sizes[1:], sizes.sum() // 2)
    while 2 * sizes.max() > sizes.sum():
        sizes[sizes.argmax()] -= 1
    patients = rng.permutation(np.repeat([f"P{i}" for i in range(len(sizes))], sizes)).tolist()
    partner = shop_of(patients, tmp_path).other_patients("test").tolist()
    assert sorted(partner) == list(range(len(patients)))
    assert all(patients[i] != patients[j] for i, j in enumerate(partner))


def test_a_patient_with_most_of_the_slices_has_nobody_to_swap_with(tmp_path: Path) -> None:
    shop = shop_of(["A", "A", "A", "B", "C"], tmp_path)
    with pytest.raises(CellError, match="one patient has 3 test slices"):
        shop.other_patients("test")
    assert sorted(shop_of(["A", "A", "B", "C"], tmp_path).other_patients("test").tolist()) == [
        0, 1, 2, 3,
    ]  # fmt: skip


# ---- a folder of the user's own


def picture(rng: np.random.Generator, label: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A bright square in noise, large or small, and its mask."""
    pixels = rng.integers(0, 120, size=(SIDE, SIDE)).astype(np.uint8)
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
    top, left = rng.integers(2, SIDE - 14, size=2)
    side = (4, 10)[label]
    mask[top : top + side, left : left + side] = 255
    pixels[mask > 0] = 230
    return pixels, mask


def make_folder(folder: Path, masks: bool, patients: bool) -> Path:
    """60 pictures of 20 patients in a folder with labels.csv."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    columns = ["image", "label", *(["patient"] if patients else []), *(["mask"] if masks else [])]
    table = [",".join(columns)]
    for i in range(60):
        label = i // 3 % 2
        pixels, mask = picture(rng, label)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        if masks:
            Image.fromarray(mask).save(folder / f"mask{i}.png")
        cells = {"image": f"{i}.png", "label": str(label), "patient": f"P{i // 3}"}
        cells["mask"] = f"mask{i}.png"
        table.append(",".join(cells[column] for column in columns))
    (folder / "labels.csv").write_text("\n".join(table) + "\n")
    return folder


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["vinet-bench", *arguments])
    try:
        cli.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_a_folder_with_masks_split_by_slice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = make_folder(tmp_path / "my_data", masks=True, patients=True)
    out = tmp_path / "run"
    arguments = [*options(out, "random", "outline"), "--data", str(mine)]
    code = command(monkeypatch, "run", "keep-important", *arguments, "--set", "split.by=slice")
    assert code == 0
    printed, err = capsys.readouterr()
    assert not err
    assert "WARNING split by slice" in printed
    found = lines(out, "table1")
    assert list(found) == ["original", "majority", "random", "outline"]
    assert float(found["outline"]["evidence_recall"]) == 1
    assert float(found["outline"]["evidence_precision"]) == 1
    assert 0 < float(found["outline"]["fraction_kept"]) < 0.1
    for ending in ("md", "tex"):
        assert "split by slice" in (out / f"table1.{ending}").read_text()
    assert {p.name for p in mine.iterdir()} == {
        "labels.csv", *(f"{i}.png" for i in range(60)), *(f"mask{i}.png" for i in range(60)),
    }  # fmt: skip


def test_a_folder_without_masks_and_patients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = make_folder(tmp_path / "my_data", masks=False, patients=False)
    out = tmp_path / "run"
    data = ["--data", str(mine), "--patients", "unknown"]
    code = command(monkeypatch, "run", "all", *options(out, "random", "outline"), *data)
    assert code == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert re.search("outline.*my_data has no masks", err)
    assert not out.exists()

    plan = fast_plan("random", "outline", data=str(mine), patients="unknown")
    outcome = run(["keep-important"], plan.model_copy(update={"named": ()}), out)
    assert outcome.failed == ()
    found = lines(out, "table1")
    assert list(found) == ["original", "majority", "random"]
    assert found["random"]["evidence_recall"] == ""
    md, tex = ((out / f"table1.{ending}").read_text() for ending in ("md", "tex"))
    assert "patients unknown: slices of one patient may stand on both sides" in md
    assert re.search(r"color\{red\}.*patients unknown", tex)


def test_a_run_notes_the_version_that_computed_not_the_one_that_was_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(description, "version", lambda name: "0.0.1")
    noted = description._versions()
    assert (noted["vinet-bench"], noted["torch"]) == (__version__, "0.0.1")
