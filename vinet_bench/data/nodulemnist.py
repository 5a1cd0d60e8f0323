"""NoduleMNIST3D (Yang et al. 2023, doi 10.1038/s41597-022-01721-8): benign or malignant nodules.

It has no patient ids, so that nobody can say whether a patient stands on both sides of its split.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vinet_bench.data.dataset import SliceDataset
from vinet_bench.data.prepared import Description, Piece, write_prepared
from vinet_bench.errors import UserError

SIZES = (28, 64)
THEIR_PARTS = {"train": "train", "val": "validation", "test": "test"}
NAME = "nodulemnist3d"


def prepare_nodulemnist3d(out: Path, root: Path | None, size: int, slices: int) -> SliceDataset:
    """Writes the middle `slices` slices of every volume, along its first axis, as prepared data.

    root: a folder that holds the package's file already; without it the file is downloaded to the
    package's own folder. Raises UserError.
    """
    if size not in SIZES:
        raise UserError(f"--size {size}: NoduleMNIST3D has 28 or 64 pixels")
    if not 1 <= slices <= size:
        raise UserError(f"--slices {slices}: a volume of this size has 1 to {size}")
    if out.exists():
        raise UserError(f"--out {out} is there already: remove it, or name another folder")
    volumes = {part: _opened(part, root, size) for part in THEIR_PARTS}
    names: dict[str, str] = volumes["train"].info["label"]
    about = Description(
        name=NAME,
        class_names=tuple(names[key] for key in sorted(names)),
        patients_known=False,
        notes=(
            f"NoduleMNIST3D, {slices} slice(s) a nodule; MedMNIST's own split",
            "NoduleMNIST3D, CC BY 4.0. Yang et al. 2023, Scientific Data 10, 41; from LIDC-IDRI.",
        ),
        recipe={"source": NAME, "size": size, "slices": slices},
    )
    count = slices * sum(len(volume.imgs) for volume in volumes.values())
    pieces = (
        piece for part in THEIR_PARTS for piece in _pieces(volumes[part], part, slices, about)
    )
    return write_prepared(out, about, count, pieces, [["status", "reason"]])


def _opened(part: str, root: Path | None, size: int) -> Any:
    """MedMNIST's own data set of one part."""
    try:
        import medmnist
    except ImportError:
        raise UserError(
            "NoduleMNIST3D needs medmnist: pip install 'vinet-bench[medmnist]'"
        ) from None
    file = f"{NAME}.npz" if size == SIZES[0] else f"{NAME}_{size}.npz"
    if root is not None and not (root / file).is_file():
        raise UserError(f"--root {root} has no {file}: put it there, or leave --root out")
    where = {} if root is None else {"root": str(root)}
    try:
        opened = medmnist.NoduleMNIST3D(split=part, size=size, download=root is None, **where)
    except RuntimeError:
        raise UserError(
            f"{file} could not be downloaded: fetch it from {medmnist.HOMEPAGE} and name its "
            "folder with --root"
        ) from None
    except Exception as error:  # a damaged file makes numpy raise almost anything
        raise UserError(f"{file} cannot be read ({error}): download it again") from None
    labels = set(np.unique(opened.labels).tolist())
    shapes = opened.imgs.shape, opened.labels.shape
    whole = shapes == ((len(opened.imgs), size, size, size), (len(opened.imgs), 1))
    if opened.imgs.dtype != np.uint8 or not whole or not labels <= {0, 1}:
        raise UserError(f"{file} does not hold grey volumes of two classes: download it again")
    return opened


def _pieces(volume: Any, part: str, slices: int, about: Description) -> Iterator[Piece]:
    """A piece for each volume (D, H, W)."""
    classes = about.class_names
    for number, (images, label) in enumerate(zip(volume.imgs, volume.labels, strict=True)):
        first = (len(images) - slices) // 2
        rows = [
            {
                "id": f"{part}-{number:04d}-{first + turn}",
                "label": classes[int(label[0])],
                "patient": f"unknown-{part}-{number:04d}",
                "part": THEIR_PARTS[part],
            }
            for turn in range(slices)
        ]
        yield Piece(np.asarray(images[first : first + slices], dtype=np.uint8), None, rows)
