"""A third party's package: installed, listed, checked, and a row of Tables I and II."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "tests" / "plugin_example"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that pip has installed the example into."""
    site, source = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("source") / "example"
    shutil.copytree(EXAMPLE, source)  # building leaves files
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    place = ["--no-build-isolation", "--disable-pip-version-check", "--target", str(site)]
    subprocess.run([*pip, *place, str(source)], check=True)
    return site


def bench(site: Path, *words: str) -> str:
    """What the command prints where the example is installed; it must end with 0."""
    path = os.pathsep.join([str(site), str(ROOT)])
    script = "from vinet_bench.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", script, *words],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_it_is_listed(installed: Path) -> None:
    (line,) = [
        row for row in bench(installed, "list", "methods").splitlines() if "brightest" in row
    ]
    assert "an example" in line
    assert "1 forward, 1 backward" in line


def test_it_holds_the_contract(installed: Path) -> None:
    lines = bench(installed, "check", "brightest:Brightest").splitlines()
    assert len(lines) == 10
    assert all(line.startswith("ok ") for line in lines)


def test_it_has_its_row_in_both_tables(installed: Path, tmp_path: Path) -> None:
    changes = ["phantom.slices=60", "control_budget=0.1", "explained.epochs=1", "retrain.epochs=1"]
    tiny = [word for change in changes for word in ("--set", change)]
    out = ["--preset", "smoke", "--methods", "brightest,random", "--out", str(tmp_path / "run")]
    bench(installed, "run", "all", *tiny, *out)
    for table in ("table1.csv", "table2.csv"):
        with (tmp_path / "run" / table).open(encoding="utf-8") as file:
            rows = {row["method"]: row for row in csv.DictReader(file)}
        assert 0 <= float(rows["brightest"]["accuracy"]) <= 1
