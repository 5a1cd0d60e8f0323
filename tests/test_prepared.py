"""The prepared data set: written, read, resampled, damaged; and what `data` says of any data."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vinet_bench.data import load_data
from vinet_bench.data.cutting import consensus
from vinet_bench.data.dataset import SliceDataset
from vinet_bench.data.inspection import draw_samples, inspect_data
from vinet_bench.data.prepared import Description, Piece, load_prepared, write_prepared
from vinet_bench.errors import UserError
from vinet_bench.plan import make_plan
from vinet_bench.settings import SplitSettings

REPORT = [["status", "reason"]]


def piece(count: int, side: int = 8, readers: bool = True, first: int = 0, **more: str) -> Piece:
    """Slices with content of their own; patients of two slices each."""
    rng = np.random.default_rng(first)
    images = rng.integers(0, 256, (count, side, side), dtype=np.uint8)
    bits = rng.integers(0, 16, (count, side, side), dtype=np.uint8) if readers else None
    rows = [
        {
            "id": f"s{first + i}",
            "label": "benign" if (first + i) % 4 < 2 else "malignant",
            "patient": f"P{(first + i) // 2}",
            "readers": "4",
            **more,
        }
        for i in range(count)
    ]
    return Piece(images, bits, rows)


def about(**changes: Any) -> Description:
    given: dict[str, Any] = {
        "name": "small",
        "class_names": ("benign", "malignant"),
        "patients_known": True,
        "notes": ("a note",),
        "recipe": {"source": "test"},
    }
    return Description(**(given | changes))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """24 slices of 12 patients, in two pieces."""
    pieces = [piece(14), piece(10, first=14)]
    write_prepared(tmp_path / "data", about(), 24, pieces, REPORT)
    return tmp_path / "data"


def stack(data: NDArray[Any] | None) -> NDArray[Any]:
    assert data is not None
    return data


def test_read_as_it_was_written(folder: Path) -> None:
    data = load_prepared(folder)
    one, two = piece(14), piece(10, first=14)
    np.testing.assert_array_equal(data.images, np.concatenate([one.images, two.images]))
    bits = np.concatenate([stack(one.readers), stack(two.readers)])
    np.testing.assert_array_equal(stack(data.readers), bits)
    np.testing.assert_array_equal(stack(data.evidence), consensus(bits, 4))
    assert data.ids.tolist() == [f"s{i}" for i in range(24)]
    assert data.labels.tolist() == [0, 0, 1, 1] * 6
    assert data.patients.tolist() == [f"P{i // 2}" for i in range(24)]
    assert (data.name, data.notes, data.given_parts) == ("small", ("a note",), None)
    assert isinstance(data.images, np.memmap)
    assert isinstance(data.evidence, np.memmap)


def test_without_readers_there_is_no_evidence(tmp_path: Path) -> None:
    data = write_prepared(tmp_path / "d", about(), 6, [piece(6, readers=False)], REPORT)
    assert data.evidence is None
    assert data.readers is None


def test_given_parts_stand(tmp_path: Path) -> None:
    pieces = [piece(4, part=p, first=4 * i) for i, p in enumerate(("train", "validation", "test"))]
    data = write_prepared(tmp_path / "d", about(), 12, pieces, REPORT)
    assert stack(data.given_parts).tolist() == ["train"] * 4 + ["validation"] * 4 + ["test"] * 4


def test_run_takes_it_at_the_preset_s_size(folder: Path) -> None:
    plan = make_plan(data=str(folder), preset="smoke")
    data = load_data(plan)
    assert data.size == (32, 32)
    assert stack(data.evidence).shape == stack(data.readers).shape == (24, 32, 32)


def test_resized_as_pillow_does(folder: Path) -> None:
    own, data = load_prepared(folder), load_prepared(folder, size=4)
    expected = Image.fromarray(np.asarray(own.images[3])).resize((4, 4), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(data.images[3], np.asarray(expected))
    for reader in range(4):
        mask = (stack(own.readers)[3] >> reader & 1).astype(np.float32)
        half = np.asarray(Image.fromarray(mask).resize((4, 4), Image.Resampling.BILINEAR)) >= 0.5
        np.testing.assert_array_equal(stack(data.readers)[3] >> reader & 1, half)


def test_unknown_patients_must_be_said(tmp_path: Path) -> None:
    data = about(patients_known=False)
    write_prepared(tmp_path / "d", data, 6, [piece(6, readers=False)], REPORT)
    with pytest.raises(UserError, match="say --patients unknown"):
        load_prepared(tmp_path / "d")
    assert not load_prepared(tmp_path / "d", patients="unknown").patients_known


def test_known_patients_can_be_forgotten(folder: Path) -> None:
    data = load_prepared(folder, patients="unknown")
    assert not data.patients_known
    assert data.patients.tolist() == data.ids.tolist()
    assert any("patients are unknown" in note for note in data.notes)


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def pieces() -> Any:
        yield piece(3)
        raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        write_prepared(tmp_path / "d", about(), 6, pieces(), REPORT)
    assert list(tmp_path.iterdir()) == []


# ---- damage


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def newer(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))


@pytest.mark.parametrize(
    ("name", "harm", "words"),
    [
        ("images.npy", flip, "not those that were prepared"),
        ("masks.npy", flip, "not those that were prepared"),
        ("readers.npy", flip, "not those that were prepared"),
        ("images.npy", lambda p: p.write_bytes(p.read_bytes()[:200]), "cannot be read"),
        ("images.npy", lambda p: p.unlink(), "cannot be read"),
        ("images.npy", lambda p: np.save(p, np.zeros((3, 8, 8), np.uint8)), "does not fit"),
        ("images.npy", lambda p: np.save(p, np.zeros((24, 8, 8))), "does not fit"),
        ("images.npy", lambda p: np.save(p, np.array([{}])), "cannot be read"),
        ("slices.csv", lambda p: p.write_text("id,label\ns0,benign\n"), "no column 'patient'"),
        ("slices.csv", lambda p: p.write_text(p.read_text().replace("benign", "?")), "a label"),
        ("slices.csv", lambda p: p.write_text(p.read_text().replace("P3", "P9")), "not those that"),
        ("slices.csv", lambda p: p.write_text(p.read_text().replace("s7", "x7")), "not those that"),
        ("dataset.json", lambda p: p.write_text("{"), "cannot be read"),
        ("dataset.json", lambda p: p.write_text("[]"), "cannot be read"),
        ("dataset.json", lambda p: p.write_text('{"format": 1}'), "cannot be read"),
        ("dataset.json", newer, "of a newer vinet-bench"),
    ],
)
def test_damage_is_named(folder: Path, name: str, harm: Any, words: str) -> None:
    harm(folder / name)
    with pytest.raises(UserError) as caught:
        load_prepared(folder)
    assert words in str(caught.value)
    assert name in str(caught.value) or words.startswith("not those that")


def test_an_older_set_has_no_hash_of_its_ids(folder: Path) -> None:
    index = json.loads((folder / "dataset.json").read_text())
    assert index.pop("ids")
    (folder / "dataset.json").write_text(json.dumps(index))
    assert load_prepared(folder).ids[7] == "s7"


# ---- data check and data show


def test_inspection_of_sound_data(folder: Path) -> None:
    data = load_prepared(folder)
    found = inspect_data(data, SplitSettings(validation=0.25, test=0.25))
    assert found.problems == ()
    assert found.header == ("part", "slices", "patients", "class benign", "class malignant")
    assert [row[0] for row in found.parts] == ["train", "validation", "test"]
    assert sum(int(row[1]) for row in found.parts) == 24
    assert sum(int(row[2]) for row in found.parts) == 12
    assert "no patient of 12 stands in more than one part" in found.facts
    assert "no picture is there twice" in found.facts


def test_inspection_finds_what_is_wrong(folder: Path) -> None:
    data = load_prepared(folder)
    images = np.array(data.images, dtype=np.uint8)
    evidence = np.array(stack(data.evidence))
    images[2] = images[0]  # another patient, another class
    images[5] = 7
    evidence[6] = False
    parts = np.array(["train"] * 12 + ["validation"] * 6 + ["test"] * 6)
    spoilt = SliceDataset(
        "spoilt", images, data.labels, data.patients, data.ids, data.class_names,
        evidence=evidence, given_parts=parts,
    )  # fmt: skip
    found = " | ".join(inspect_data(spoilt, SplitSettings()).problems)
    assert "1 picture(s) stand twice or more with different labels: s0 = s2" in found
    assert "1 picture(s) stand twice or more of different patients: s0 = s2" in found
    assert "in more than one part" not in found
    assert "1 pictures have one value only: s5" in found
    assert "1 masks are empty: s6" in found
    images[20] = images[0]
    assert "stand twice or more in more than one part: s0 = s2 = s20" in " | ".join(
        inspect_data(spoilt, SplitSettings()).problems
    )


def test_patients_on_both_sides_are_found(folder: Path) -> None:
    data = load_prepared(folder)
    found = inspect_data(data, SplitSettings(by="slice", validation=0.25, test=0.25))
    assert any("patients stand in more than one part: P" in text for text in found.problems)


def test_data_that_cannot_be_split_is_shown_whole(folder: Path) -> None:
    data = load_prepared(folder).subset(np.arange(4))
    found = inspect_data(data, SplitSettings())
    assert [row[:3] for row in found.parts] == [("all", "4", "2")]
    assert "merge or remove it" in found.problems[0]


def test_a_picture_of_samples(folder: Path, tmp_path: Path) -> None:
    data = load_prepared(folder)
    draw_samples(data, tmp_path / "a.png", each=3, seed=0)
    draw_samples(data, tmp_path / "b.png", each=3, seed=1)
    first, second = (np.asarray(Image.open(tmp_path / f"{n}.png").convert("RGB")) for n in "ab")
    assert first.shape[1] > first.shape[0]
    assert (first != second).any()
    coloured = (first.max(axis=2).astype(int) - first.min(axis=2) > 60).mean()
    assert coloured > 0.001  # the outlines
