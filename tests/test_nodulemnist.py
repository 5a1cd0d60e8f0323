"""NoduleMNIST3D from a file of its form."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vinet_bench.data.nodulemnist import prepare_nodulemnist3d
from vinet_bench.data.prepared import load_prepared
from vinet_bench.errors import UserError

pytest.importorskip("medmnist", reason="the extra medmnist is not installed")
SIZES = {"train": 6, "val": 3, "test": 4}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """nodulemnist3d.npz: every voxel of slice d of volume i is 10 * i + d (of train)."""
    arrays: dict[str, Any] = {}
    for shift, (part, count) in enumerate(SIZES.items()):
        volumes = np.zeros((count, 28, 28, 28), np.uint8)
        volumes += (10 * np.arange(count)[:, None] + np.arange(28) + shift)[..., None, None].astype(
            np.uint8
        )
        arrays[f"{part}_images"] = volumes
        arrays[f"{part}_labels"] = (np.arange(count) % 2)[:, None].astype(np.uint8)
    np.savez(tmp_path / "nodulemnist3d.npz", **arrays)
    return tmp_path


def test_the_middle_slices_and_the_own_split(root: Path, tmp_path: Path) -> None:
    data = prepare_nodulemnist3d(tmp_path / "out", root, 28, 2)
    assert len(data) == 2 * sum(SIZES.values())
    assert data.class_names == ("benign", "malignant")
    assert data.images[:4, 0, 0].tolist() == [13, 14, 23, 24]
    assert data.labels[:6].tolist() == [0, 0, 1, 1, 0, 0]
    assert data.given_parts is not None
    counts = {p: int((data.given_parts == p).sum()) for p in ("train", "validation", "test")}
    assert counts == {"train": 12, "validation": 6, "test": 8}
    assert not data.patients_known
    with pytest.raises(UserError, match="--patients unknown"):
        load_prepared(tmp_path / "out")


def test_bad_files_and_options(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"has no nodulemnist3d_64\.npz"):
        prepare_nodulemnist3d(out, root, 64, 1)
    with pytest.raises(UserError, match="28 or 64"):
        prepare_nodulemnist3d(out, root, 32, 1)
    with pytest.raises(UserError, match="--slices 29"):
        prepare_nodulemnist3d(out, root, 28, 29)
    file = root / "nodulemnist3d.npz"
    with np.load(file) as stored:
        arrays = dict(stored)
    np.savez(file, **(arrays | {"val_labels": np.full((3, 1), 7, np.uint8)}))
    with pytest.raises(UserError, match="two classes"):
        prepare_nodulemnist3d(out, root, 28, 1)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot be read"):
        prepare_nodulemnist3d(out, root, 28, 1)
    assert not out.exists()
