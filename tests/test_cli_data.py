"""`vinet-bench data`: what a stranger types, and what is said."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.commands import Command, assert_one_line
from tests.luna import SmallLuna, small_scan, small_series
from tests.test_prepared import REPORT, about, piece
from vinet_bench.data.prepared import write_prepared

COMMAND = [sys.executable, "-c", "from vinet_bench.cli import main; main()"]


@pytest.fixture(scope="module")
def luna(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = SmallLuna(tmp_path_factory.mktemp("cli-luna"))
    for series in small_series(12)[:2]:
        made.add(small_scan(series))
    made.rows.append(("1.2.3", 0, 0, 0, 5))
    made.write_annotations()
    return made.folder


def test_prepare_check_show_and_run_on_it(luna: Path, command: Command) -> None:
    ended = command("data", "prepare", "luna16", "--luna", str(luna), "--out", "set", "--size=64")
    assert ended.code == 0
    assert "set: 3 slices of 3 nodules of 2 patients" in ended.out
    assert "human ceiling: a single reader agrees with the others' median in" in ended.out
    assert "left out: 1, each with its reason in report.csv" in ended.out
    assert "1  the scan is not there" in ended.out
    assert "next: vinet-bench run all --data set" in ended.out
    ended = command("data", "show", "set")
    assert ended.out == "luna16-samples.png\n"
    assert (command.folder / "luna16-samples.png").stat().st_size > 10_000
    ended = command("data", "check", "set")
    assert ended.code == 1  # too small to be split
    assert "PROBLEM data set luna16: class" in ended.out
    assert "no patient of 2 stands in more than one part" in ended.out
    again = command("data", "prepare", "luna16", "--luna", str(luna), "--out", "set")
    assert_one_line(again, "--out set is there already")
    assert_one_line(command("run", "all", "--data", "set", "--preset", "smoke"), "class")


def test_check_of_sound_data(command: Command) -> None:
    write_prepared(command.folder / "d", about(), 60, [piece(60)], REPORT)
    ended = command("data", "check", "d")
    assert ended.code == 0
    assert "PROBLEM" not in ended.out
    assert "small, fingerprint" in ended.out


def test_a_folder_with_labels_is_checked_at_its_own_size(
    lidc_slices: Path, command: Command
) -> None:
    ended = command("data", "check", str(lidc_slices))
    assert ended.code == 0
    assert "pictures of 71 x 71" in ended.out
    assert "no patient of 495 stands in more than one part" in ended.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--size", "8"], ["--size 8", "greater than or equal to 16"]),
        (["--slices", "some"], ["--slices some", "largest"]),
        (["--slices", "0"], ["--slices 0"]),
        (["--spacing", "wide"], ["--spacing wide", "number"]),
        (["--spacing", "0"], ["--spacing 0", "greater than or equal to 0.05"]),
        (["--jitter", "-1"], ["--jitter -1"]),
        (["--jitter", "64"], ["--jitter 64", "below half of the size (128)"]),
        (["--label", "mode"], ["--label mode", "median"]),
        (["--seed", "-1"], ["--seed -1"]),
        (["--luna", "nowhere"], ["--luna nowhere is no folder"]),
        (["--annotations", "a.csv"], ["a.csv does not exist", "--annotations"]),
        (["--lidc-xml", "x"], ["--lidc-xml x is no folder"]),
    ],
)
def test_wrong_options(luna: Path, command: Command, options: list[str], words: list[str]) -> None:
    given = ["data", "prepare", "luna16", "--luna", str(luna), "--out", "set", *options]
    assert_one_line(command(*given), *words)
    assert list(command.folder.iterdir()) == []


def test_wrong_folders(command: Command) -> None:
    (command.folder / "empty").mkdir()
    assert_one_line(command("data", "check", "nowhere"), "nowhere does not exist")
    assert_one_line(command("data", "show", "empty"), "has no labels.csv")
    assert_one_line(command("data", "check", "empty", "--patients", "none"), "--patients 'none'")
    write_prepared(command.folder / "d", about(), 60, [piece(60)], REPORT)
    assert_one_line(command("data", "show", "d", "--out", "a.gif"), "name a .png file")
    assert_one_line(command("data", "show", "d", "--out", "no/a.png"), "cannot write no/a.png")


def test_a_picture_on_a_full_disk(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_data: object, path: Path, *_rest: object) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_prepared(command.folder / "d", about(), 60, [piece(60)], REPORT)
    monkeypatch.setattr("vinet_bench.data.inspection.draw_samples", full)
    assert_one_line(command("data", "show", "d"), "No space left on device", "make room")
    assert [path.name for path in command.folder.iterdir()] == ["d"]


def test_ctrl_c(luna: Path, tmp_path: Path) -> None:
    """As soon as the first scan is there; the same command goes on."""
    out = tmp_path / "set"
    words = ["data", "prepare", "luna16", "--luna", str(luna), "--out", str(out)]
    code = (
        "import signal, time; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import vinet_bench.data.prepare as room; real = room.work\n"
        "def slow(*given):\n    time.sleep(0.5); return real(*given)\n"
        "room.work = slow\nfrom vinet_bench.cli import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words, "--workers", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    parts = tmp_path / "set.part" / "scans"
    while process.poll() is None and not list(parts.glob("*.npz")):
        pass
    process.send_signal(signal.SIGINT)
    printed, said = process.communicate(timeout=60)
    assert (process.returncode, printed) == (130, "")
    assert said == "stopped; the same command goes on where it was\n"
    assert not out.exists()
    subprocess.run([*COMMAND, *words], check=True, capture_output=True)
    assert np.load(out / "images.npy").shape == (3, 128, 128)


def test_help_is_quick_and_complete(command: Command) -> None:
    ended = command("data", "--help")
    for word in ("prepare", "check", "show"):
        assert word in ended.out
    ended = command("data", "prepare", "--help")
    for word in ("luna16", "lidc", "nodulemnist3d"):
        assert word in ended.out
