"""What several test files share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def lidc_slices() -> Path:
    """The folder with real lung-nodule slices, which lies beside the repository and not in it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "lidc-slices"
    if not (folder / "labels.csv").is_file():
        pytest.skip(f"the real slices are not here: {folder}")
    return folder
