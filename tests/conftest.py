"""What several test files share."""

import locale
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import Command

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores; a thread of torch's that waits by spinning would take them all.
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
os.environ |= {"RAY_worker_niceness": "0"}  # else Ray's wait for the other tests' processes

LOCALE = locale.setlocale(locale.LC_ALL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long first, by what is known of them: begun last, one of few slow tests would
    leave the other worker idle, and xdist's own order goes by the number of tests."""
    weight: Counter[Path] = Counter()
    for item in items:
        weight[item.path] += 100 if item.get_closest_marker("slow") else 1
    items.sort(key=lambda item: -weight[item.path])  # stable: a file's tests stay together


@pytest.fixture(autouse=True)
def same_locale() -> Iterator[None]:
    """ITK sets the process's locale where it writes DICOM files, as some tests do; the product
    only reads them."""
    locale.setlocale(locale.LC_ALL, LOCALE)
    yield
    locale.setlocale(locale.LC_ALL, LOCALE)


@pytest.fixture(scope="session")
def lidc_slices() -> Path:
    """The folder with real lung-nodule slices, which lies beside the repository and not in it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "lidc-slices"
    if not (folder / "labels.csv").is_file():
        pytest.skip(f"the real slices are not here: {folder}")
    return folder


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """The command in an empty folder."""
    return Command(tmp_path, monkeypatch, capsys)
