"""`vinet-bench check`: one line a check, and what its exit code says."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import Command, Ended, assert_one_line

ROOT = Path(__file__).resolve().parents[1]
METHOD = """
from vinet_bench.methods import MethodInfo


class Bright:
    info = MethodInfo(name="bright", title="Bright", paper="none", class_specific=False)

    def fit(self, model, data):
        return self

    def explain(self, images, targets):
        return images.mean(dim=1)


class Forgetful(Bright):
    info = MethodInfo(name="forgetful", title="Forgetful", paper="none")


NOTHING = 3
"""


def in_its_own_process(folder: Path, name: str) -> Ended:
    (folder / "mine.py").write_text(METHOD, encoding="utf-8")
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from vinet_bench.cli import main; main()"
    )
    words = [sys.executable, "-c", script, "check", name]
    ended = subprocess.run(words, capture_output=True, text=True, cwd=folder)
    return Ended(ended.returncode, ended.stdout, ended.stderr)


@pytest.fixture
def check(command: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command in a folder with methods of the user's, whose modules do not outlive the test."""
    (command.folder / "mine.py").write_text(METHOD, encoding="utf-8")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "mine", None)
    monkeypatch.delitem(sys.modules, "mine")
    return command


def test_a_method_that_holds(tmp_path: Path) -> None:
    ended = in_its_own_process(tmp_path, "mine:Bright")
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert len(lines) == 10
    assert all(line.startswith("ok ") for line in lines)


def test_a_method_that_does_not(check: Command) -> None:
    ended = check("check", "mine:Forgetful")
    assert (ended.code, ended.err) == (1, "")
    failed = [line for line in ended.out.splitlines() if line.startswith("FAILED")]
    assert len(failed) == 1
    assert "targets matter as declared: another target gives the same map" in failed[0]
    assert "1 of 10 checks failed" in ended.out


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere:Bright", "cannot import nowhere"),
        ("mine:Dark", "mine has no Dark"),
        ("mine:NOTHING", "NOTHING is no class"),
        ("mine", "write it as module:Class"),
        (":Bright", "write it as module:Class"),
    ],
)
def test_a_name_that_is_none(check: Command, name: str, words: str) -> None:
    assert_one_line(check("check", name), words)
