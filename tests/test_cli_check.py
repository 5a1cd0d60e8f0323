"""`vinet-bench check`: one line a check, and what its exit code says."""

import subprocess
import sys
from pathlib import Path

import pytest

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


def check(folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    (folder / "mine.py").write_text(METHOD, encoding="utf-8")
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from vinet_bench.cli import main; main()"
    )
    words = [sys.executable, "-c", script, "check", name]
    return subprocess.run(words, capture_output=True, text=True, cwd=folder)


def test_a_method_that_holds(tmp_path: Path) -> None:
    ended = check(tmp_path, "mine:Bright")
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert len(lines) == 10
    assert all(line.startswith("ok ") for line in lines)


def test_a_method_that_does_not(tmp_path: Path) -> None:
    ended = check(tmp_path, "mine:Forgetful")
    assert (ended.returncode, ended.stderr) == (1, "")
    failed = [line for line in ended.stdout.splitlines() if line.startswith("FAILED")]
    assert len(failed) == 1
    assert "targets matter as declared: another target gives the same map" in failed[0]
    assert "1 of 10 checks failed" in ended.stdout


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
def test_a_name_that_is_none(tmp_path: Path, name: str, words: str) -> None:
    ended = check(tmp_path, name)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.count("\n") == 1
    assert words in ended.stderr
