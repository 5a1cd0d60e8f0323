"""What is built installs and runs by itself: nothing of the repository is needed beside it."""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("vinet_bench", "baselines", "protocols", "docs", "tests", "tools", "benchmarks")
FILES = (
    *("setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "mkdocs.yml"),
    *("CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md"),
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built out of it."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for part in PARTS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / part, source / part, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, source)
    words = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
    subprocess.run(words, check=True, capture_output=True)
    return out


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that pip has installed the wheel into."""
    (wheel,) = built.glob("*.whl")
    site = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    place = ["--disable-pip-version-check", "--target", str(site)]
    subprocess.run([*pip, *place, str(wheel)], check=True)
    return site


def bench(site: Path, folder: Path, *words: str) -> str:
    """What the installed command prints in a folder; it must end with 0."""
    ended = subprocess.run(
        [sys.executable, str(site / "bin" / "vinet-bench"), *words],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(site)},
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_sdist_holds_what_a_developer_needs(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"docs/index.md", "docs/maps.png", "tests/conftest.py", "tests/luna.py", *FILES}
    assert wanted <= names
    assert "tests/plugin_example/brightest/__init__.py" in names
    assert not {name for name in names if "__pycache__" in name or ".cache" in name}


def test_the_wheel_holds_every_module_and_no_test(installed: Path) -> None:
    for package in ("vinet_bench", "baselines", "protocols"):
        wanted = {p.relative_to(ROOT) for p in (ROOT / package).rglob("*") if is_source(p)}
        assert wanted == {
            p.relative_to(installed) for p in (installed / package).rglob("*") if is_source(p)
        }
    assert not (installed / "tests").exists()


def is_source(path: Path) -> bool:
    return path.is_file() and path.suffix != ".pyc"


def test_it_runs_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    assert "run" in bench(installed, tmp_path, "--help")
    options = ("--preset", "smoke", "--methods", "cam", "--set", "phantom.slices=60")
    printed = bench(installed, tmp_path, "run", "occlusion", *options, "--out", "mine")
    assert "Table II" in printed
    assert (tmp_path / "mine" / "report.html").stat().st_size > 10_000
    assert "\\begin{tabular}" in (tmp_path / "mine" / "table2.tex").read_text(encoding="utf-8")
    where = "import vinet_bench, baselines, protocols as p; print(vinet_bench.__file__, p.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", where],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed)},
    )
    assert all(path.startswith(str(installed)) for path in found.stdout.split())


def test_the_table_of_readings_came_along(installed: Path, tmp_path: Path) -> None:
    script = (
        "from vinet_bench.data.lidc_table import shipped_readings as shipped;"
        " print(sum(map(len, shipped().by_series.values())))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed)},
    )
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) == 1395
