"""What several test files share."""

import locale
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import Command

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores; a thread of torch's that waits by spinning would take them all.
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
os.environ |= {"RAY_worker_niceness": "0"}  # else Ray's wait for the other tests' processes

LOCALE = locale.setlocale(locale.LC_ALL)


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
