"""Folders of the user's own pictures: every good form is read, every bad one named in a line."""

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vinet_bench.data import folder as folder_source
from vinet_bench.data.folder import load_folder
from vinet_bench.data.pictures import LARGEST, resize_mask
from vinet_bench.errors import UserError

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
TABLE = "image,label,patient\na.png,0,P1\nb.png,1,P2\n"


def write(path: Path, pixels: NDArray[Any], **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, pixels)
    else:
        Image.fromarray(pixels).save(path, **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder 'mine' with two good pictures, a mask, and a table."""
    mine = tmp_path / "mine"
    write(mine / "a.png", GREY)
    write(mine / "b.png", GREY[::-1].copy())
    mask = np.zeros((8, 8), np.uint8)
    mask[2:4, 2:6] = 7
    write(mine / "mask.png", mask)
    (mine / "labels.csv").write_text(TABLE)
    return mine


def table(folder: Path, *rows: str, header: str = "image,label,patient") -> Path:
    (folder / "labels.csv").write_text("\n".join((header, *rows)) + "\n", encoding="utf-8")
    return folder


def complaint(folder: Path, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        load_folder(folder, default_size=8, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert text.isprintable()
    return text


# ---- good folders


def test_plain_folder(folder: Path) -> None:
    data = load_folder(folder, default_size=8)
    assert data.name == "mine"
    assert data.images.dtype == np.uint8
    np.testing.assert_array_equal(data.images, [GREY, GREY[::-1]])
    assert data.labels.tolist() == [0, 1]
    assert data.class_names == ("0", "1")
    assert data.patients.tolist() == ["P1", "P2"]
    assert data.ids.tolist() == ["a.png", "b.png"]
    assert data.evidence is None
    assert data.given_parts is None
    assert data.patients_known
    assert data.notes == ()


@pytest.mark.parametrize(
    ("name", "stored", "expected"),
    [
        ("x.npy", np.array([[0, 51], [102, 255]], np.uint8), [[0, 0.2], [0.4, 1]]),
        ("x.npy", np.array([[0, 13107], [26214, 65535]], np.uint16), [[0, 0.2], [0.4, 1]]),
        ("x.npy", np.array([[-2000, -1000], [-300, 3000]], np.int16), [[0, 0], [0.5, 1]]),
        ("x.npy", np.array([[-2000, -1000], [-300, 3000]], ">i2"), [[0, 0], [0.5, 1]]),
        ("x.npy", np.array([[0, 0.25], [0.5, 1]], np.float16), [[0, 0.25], [0.5, 1]]),
        ("x.npy", np.array([[0, 0.25], [0.5, 1]], np.float32), [[0, 0.25], [0.5, 1]]),
        ("x.npy", np.array([[0, 0.25], [0.5, 1]], np.float64), [[0, 0.25], [0.5, 1]]),
        ("x.npy", np.asfortranarray([[0, 0.25], [0.5, 1]]), [[0, 0.25], [0.5, 1]]),
        ("x.png", np.array([[0, 51], [102, 255]], np.uint8), [[0, 0.2], [0.4, 1]]),
        ("x.png", np.array([[0, 13107], [26214, 65535]], np.uint16), [[0, 0.2], [0.4, 1]]),
        ("x.png", np.array([[False, True], [True, False]]), [[0, 1], [1, 0]]),
        ("x.jpg", np.full((2, 2), 51, np.uint8), [[0.2, 0.2], [0.2, 0.2]]),
        ("x.JPG", np.full((2, 2), 51, np.uint8), [[0.2, 0.2], [0.2, 0.2]]),
    ],
)
def test_every_kind_of_picture(
    tmp_path: Path, name: str, stored: NDArray[Any], expected: list[list[float]]
) -> None:
    write(tmp_path / name, stored)
    write(tmp_path / "other.png", np.zeros((2, 2), np.uint8))
    data = load_folder(table(tmp_path, f"{name},0,P", "other.png,1,Q"), default_size=2)
    eight_bit = stored.dtype in (np.uint8, np.bool_)
    assert data.images.dtype == (np.uint8 if eight_bit else np.float16)
    np.testing.assert_allclose(data.pictures()[0, 0], expected, atol=3e-4)


def test_one_deep_picture_makes_all_of_them_float16(folder: Path) -> None:
    write(folder / "c.npy", np.full((8, 8), 0.5, np.float32))
    data = load_folder(table(folder, "a.png,0,P", "c.npy,1,Q"), default_size=8)
    assert data.images.dtype == np.float16
    np.testing.assert_allclose(data.pictures()[0, 0], GREY / 255, atol=3e-4)
    np.testing.assert_array_equal(data.pictures()[1, 0], 0.5)


def test_pictures_wait_for_their_stack_in_two_bytes_a_pixel_at_most(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That many the check of the memory counts."""
    widths: list[int] = []

    def noted(pictures: Sequence[NDArray[Any]]) -> NDArray[Any]:
        widths.extend(pixels.itemsize for pixels in pictures)
        return stacked(pictures)

    stacked = folder_source._stacked
    monkeypatch.setattr(folder_source, "_stacked", noted)
    write(folder / "a.npy", GREY.astype(np.int16))
    load_folder(table(folder, "a.npy,1,P1", "b.png,2,P2"), 8)
    assert widths == [2, 1]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colour_becomes_luminance_and_is_said(folder: Path, mode: str) -> None:
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 255
    Image.fromarray(red).convert(mode).save(folder / "a.png")
    data = load_folder(folder, default_size=8)
    assert (data.images[0] == 76).all()  # 0.299 * 255
    assert data.notes == ("1 of 2 pictures had colours: turned into luminance",)


@pytest.mark.parametrize("mode", ["RGB", "LA"])
def test_grey_in_a_colour_file_is_not_called_colour(folder: Path, mode: str) -> None:
    Image.fromarray(GREY).convert(mode).save(folder / "a.png")
    data = load_folder(folder, default_size=8)
    np.testing.assert_array_equal(data.images[0], GREY)
    assert data.notes == ()


def test_pictures_of_one_size_become_the_default_size(folder: Path) -> None:
    data = load_folder(folder, default_size=4)
    assert data.size == (4, 4)
    assert abs(data.images[0].mean() - GREY.mean()) < 2


def test_pictures_that_do_not_fit_in_memory_are_refused_before_they_are_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_folder(folder, size=64)
    monkeypatch.setattr("vinet_bench.data.folder.memory", lambda: 2 * 64**2)
    monkeypatch.setattr("vinet_bench.data.folder.read_picture", lambda path: 1 / 0)
    told = complaint(folder, size=64)
    assert "pictures of 64 x 64 pixels need" in told
    assert told.endswith("say a smaller --size")


def test_shrinking_is_antialiased(folder: Path) -> None:
    board = (np.indices((8, 8)).sum(axis=0) % 2 * 255).astype(np.uint8)
    write(folder / "a.png", board)
    grey = load_folder(folder, default_size=2).images[0]
    assert (abs(grey.astype(int) - 127) < 12).all()


def test_size_makes_different_sizes_one(folder: Path) -> None:
    write(folder / "b.png", np.zeros((6, 6), np.uint8))
    data = load_folder(folder, size=5)
    assert data.images.shape == (2, 5, 5)


def test_pictures_that_are_not_square_are_said(folder: Path) -> None:
    write(folder / "a.png", GREY[:6])
    (note,) = load_folder(folder, size=8).notes
    assert note.startswith("1 of 2 pictures were not square (the first 6 x 8, height x width)")


HEADER = "image,mask,label,patient"


def test_masks_are_evidence_where_not_zero(folder: Path) -> None:
    rows = table(folder, "a.png,mask.png,0,P", "b.png,,1,Q", header=HEADER)
    evidence = load_folder(rows, default_size=8).evidence
    assert evidence is not None
    assert evidence.dtype == np.bool_
    assert np.argwhere(evidence[0]).tolist() == [[r, c] for r in (2, 3) for c in (2, 3, 4, 5)]
    assert not evidence[1].any()


@pytest.mark.parametrize("kind", ["bool.npy", "int64.npy", "1", "P", "RGB", "I;16", "LA", "RGBA"])
def test_masks_of_every_kind(folder: Path, kind: str) -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[5, 1] = 255
    name = kind if kind.endswith(".npy") else "m.png"
    if name == "m.png" and kind == "I;16":
        write(folder / name, mask.astype(np.uint16))
    elif name == "m.png":
        Image.fromarray(mask).convert(kind).save(folder / name)
    else:
        np.save(folder / name, mask.astype(kind.removesuffix(".npy")))
    rows = table(folder, f"a.png,{name},0,P", "b.png,,1,Q", header=HEADER)
    evidence = load_folder(rows, default_size=8).evidence
    assert evidence is not None
    assert np.argwhere(evidence).tolist() == [[0, 5, 1]]


def test_no_mask_in_any_row_means_no_evidence(folder: Path) -> None:
    rows = table(folder, "a.png,,0,P", "b.png,,1,Q", header=HEADER)
    assert load_folder(rows).evidence is None


def test_masks_shrink_by_half_or_more_covered_and_never_vanish() -> None:
    mask = np.zeros((64, 64), np.bool_)
    mask[16:48, 16:32] = True
    small = resize_mask(mask, 16)
    expected = np.zeros((16, 16), np.bool_)
    expected[4:12, 4:8] = True
    np.testing.assert_array_equal(small, expected)
    speck = np.zeros((64, 64), np.bool_)
    speck[41, 9] = True
    assert np.argwhere(resize_mask(speck, 16)).tolist() == [[10, 2]]
    assert not resize_mask(np.zeros((64, 64), np.bool_), 16).any()


def test_split_column(folder: Path) -> None:
    write(folder / "c.png", GREY)
    rows = ("a.png,0,P,Train", "b.png,1,Q,val", "c.png,1,R,test")
    data = load_folder(table(folder, *rows, header="image,label,patient,split"))
    assert data.given_parts is not None
    assert data.given_parts.tolist() == ["train", "validation", "test"]


def test_split_column_that_is_all_empty_is_none(folder: Path) -> None:
    rows = table(folder, "a.png,0,P,", "b.png,1,Q,", header="image,label,patient,split")
    assert load_folder(rows).given_parts is None


@pytest.mark.parametrize(
    ("labels", "names", "numbers"),
    [
        (("10", "9"), ("9", "10"), [1, 0]),
        (("5", "5.0", "2"), ("2", "5"), [1, 1, 0]),
        (("malignant", "benign"), ("benign", "malignant"), [1, 0]),
        (("NA", "null"), ("NA", "null"), [0, 1]),
    ],
)
def test_labels_by_number_or_by_name(
    folder: Path, labels: tuple[str, ...], names: tuple[str, ...], numbers: list[int]
) -> None:
    write(folder / "c.png", GREY)
    rows = [f"{image},{label},P" for image, label in zip(("a.png", "b.png", "c.png"), labels)]  # noqa: B905
    data = load_folder(table(folder, *rows))
    assert data.class_names == names
    assert data.labels.tolist() == numbers


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + TABLE.encode(),
        TABLE.replace("\n", "\r\n").encode(),
        TABLE.replace("\n", "\r").encode(),
        TABLE.encode() + b"\n,,\n\n",
        TABLE.replace("label", " label ").replace(",1,", ", 1 ,").encode(),
    ],
    ids=["bom", "windows", "old mac", "blank rows", "blanks around"],
)
def test_forms_of_the_table(folder: Path, content: bytes) -> None:
    (folder / "labels.csv").write_bytes(content)
    data = load_folder(folder)
    assert data.labels.tolist() == [0, 1]
    assert data.patients.tolist() == ["P1", "P2"]


@pytest.mark.parametrize("header", ["image,label,patient", "image,label,other"])
def test_unknown_patients(folder: Path, header: str) -> None:
    data = load_folder(table(folder, "a.png,0,P", "b.png,1,P", header=header), patients="unknown")
    assert data.patients.tolist() == ["a.png", "b.png"]
    assert not data.patients_known
    assert "patients are unknown" in data.notes[0]


def test_a_link_inside_the_folder_is_fine(folder: Path) -> None:
    (folder / "link.png").symlink_to(folder / "b.png")
    assert len(load_folder(table(folder, "a.png,0,P", "link.png,1,Q"))) == 2


# ---- bad tables


def test_missing_folder_and_missing_table(tmp_path: Path) -> None:
    text = complaint(tmp_path / "nowhere")
    assert "nowhere does not exist: give a folder with labels.csv" in text
    assert "has no labels.csv: write one" in complaint(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "labels.csv is empty: write the columns image, label, patient"),
        (b"image,label,patient\n", "labels.csv has no rows below its header: add"),
        (b"\xff\xfei\0m\0", "labels.csv is not UTF-8 text: save it as 'CSV UTF-8'"),
        (b"i\0m\0a\0", "labels.csv is not text: save it"),
        (TABLE.encode() + b"c.png,1\n", "labels.csv row 4 has 2 cells and the header 3: fill"),
        (TABLE.encode() + b"\nc.png,1,P,x\n", "labels.csv row 5 has 4 cells and the header 3"),
        (TABLE.encode() + b'"c.png,1,P\n', "labels.csv row 4 is no CSV"),
        (b"label,patient\n0,P\n", "labels.csv has no column 'image': add it"),
        (b"image,patient\na.png,P\n", "labels.csv has no column 'label': add it"),
        (
            b"image,label\na.png,1\n",
            "labels.csv has no column 'patient': add it, or say --patients unknown",
        ),
        (b"image;label;patient\na.png;1;P\n", "columns are separated by commas"),
        (b"image,label,label,patient\n", "labels.csv has two columns 'label': remove"),
    ],
)
def test_tables_that_cannot_be_read(folder: Path, content: bytes, said: str) -> None:
    (folder / "labels.csv").write_bytes(content)
    assert said in complaint(folder)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (("a.png,0,P", "b.png,,Q"), "labels.csv row 3: the label is empty: fill it in"),
        (("a.png,0,P", "b.png,100,Q"), "labels.csv row 3: label 100 is out of range: use whole"),
        (("a.png,-1,P", "b.png,1,Q"), "labels.csv row 2: label -1 is out of range"),
        (("a.png,0,P", f"b.png,{'9' * 5000},Q"), "labels.csv row 3: label 999"),
        (("a.png,0,P", "b.png,1.5,Q"), "labels.csv row 3: label 1.5 is not a whole number"),
        (
            ("a.png,0,P", "b.png,benign,Q"),
            "row 3: label 'benign' is a name, but row 2 has the number '0': use only",
        ),
        (("a.png,x,P", "b.png,1,Q"), "row 3: label '1' is a number, but row 2 has the name 'x'"),
        (("a.png,1,P", "b.png,1,Q"), "labels.csv has one class only ('1'): a benchmark needs"),
        (("a.png,x,P", "b.png,x,Q"), "labels.csv has one class only ('x')"),
        (("a.png,0,P", "b.png,1, "), "row 3: the patient is empty: fill it in, or say --patients"),
        (("a.png,x,P", '"b.png","y\ny",Q'), "row 3: the label 'y\\ny' has a line break or"),
        (("a.png,0,P", '"b.png",1,"\x1bQ"'), "row 3: the patient '\\x1bQ' has a line break or"),
        (("a.png,0,P", ",1,Q"), "labels.csv row 3: the image is empty: name a picture"),
        (("a.png,0,P", "", "./a.png,1,Q"), "row 4: picture ./a.png stands in row 2 too: remove"),
        (("a.png,0,P", "c.png,1,Q"), "row 3: picture c.png does not exist: add the file"),
        (("a.png,0,P", ".,1,Q"), "labels.csv row 3: picture . does not exist"),
        (("a.png,0,P", "x\\c.png,1,Q"), "picture x\\c.png does not exist: write / for \\"),
        (("a.png,0,P", '"c\n\x1b.png",1,Q'), "row 3: picture 'c\\n\\x1b.png' does not exist"),
        (("a.png,0,P", f"{'c' * 999}.png,1,Q"), "row 3: picture ccc"),
    ],
)
def test_rows_that_cannot_be_used(folder: Path, rows: tuple[str, ...], said: str) -> None:
    assert said in complaint(table(folder, *rows))


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (("train", "validation", "dev"), "row 4: the split 'dev' is unknown: write train,"),
        (("train", "validation", ""), "labels.csv row 4: the split is empty: write train,"),
        (("train", "train", "test"), "no row with the split 'validation': add some, or remove"),
        (("validation", "test", "train", "test"), "row 5: patient P2 is in test here and in train"),
    ],
)
def test_splits_that_cannot_be_used(folder: Path, parts: tuple[str, ...], said: str) -> None:
    rows = []
    for i, part in enumerate(parts):
        write(folder / f"{i}.png", GREY)
        rows.append(f"{i}.png,{i % 2},P{min(i, 2)},{part}")
    assert said in complaint(table(folder, *rows, header="image,label,patient,split"))


def test_unknown_patients_may_stand_on_two_sides(folder: Path) -> None:
    write(folder / "c.png", GREY)
    rows = ("a.png,0,P,train", "b.png,1,P,val", "c.png,1,P,test")
    mine = table(folder, *rows, header="image,label,patient,split")
    assert "patient P is in validation here and in train in row 2: keep" in complaint(mine)
    assert load_folder(mine, patients="unknown").given_parts is not None


# ---- bad files


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("../outside.png", "row 3: picture ../outside.png leaves the folder: copy the file into"),
        ("link.png", "row 3: picture link.png leaves the folder"),
        ("away/outside.png", "row 3: picture away/outside.png leaves the folder"),
        ("C:\\x.png", "is an absolute path: write it relative to the folder"),
        ("ABSOLUTE", "is an absolute path: write it relative to the folder"),
    ],
)
@pytest.mark.parametrize("column", ["picture", "mask"])
def test_paths_that_leave_the_folder(
    folder: Path, path: str, said: str, column: Literal["picture", "mask"]
) -> None:
    outside = folder.parent / "outside.png"
    write(outside, GREY)
    (folder / "link.png").symlink_to(outside)
    (folder / "away").symlink_to(folder.parent)
    path = path.replace("ABSOLUTE", str(folder / "b.png"))
    row = f"{path},,1,Q" if column == "picture" else f"b.png,{path},1,Q"
    text = complaint(table(folder, "a.png,,0,P", row, header=HEADER))
    assert said.replace("picture", column) in text


def test_links_in_a_circle(folder: Path) -> None:
    (folder / "c.png").symlink_to(folder / "c.png")
    assert "labels.csv row 3: picture c.png" in complaint(table(folder, "a.png,0,P", "c.png,1,Q"))


def save_huge_png(path: Path) -> None:
    Image.new("1", (LARGEST + 1, 2)).save(path)


def save_bomb(path: Path) -> None:
    """A small file whose header claims 60000 x 60000 pixels."""
    Image.new("L", (2, 2)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = (60000).to_bytes(4, "big") * 2
    import zlib

    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)


def save_truncated_png(path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (64, 64), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:800])


def save_huge_npy(path: Path) -> None:
    """A sparse file, so that only reading it would take memory."""
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(LARGEST + 1, 4096))


def save_truncated_npy(path: Path) -> None:
    np.save(path, GREY)
    path.write_bytes(path.read_bytes()[:-9])


def save_zip(path: Path) -> None:
    with path.open("wb") as stream:
        np.savez(stream, GREY)


def saver(values: Any) -> Callable[[Path], None]:
    return lambda path: np.save(path, values)


SAVE_PNG = "cannot be read as PNG or JPG (damaged?): write it again"
SAVE_NPY = "cannot be read as .npy (damaged, or pickled objects?): save a plain array of numbers"
TOO_LARGE = "is larger than 4096 x 4096: crop or shrink it first"


@pytest.mark.parametrize(
    ("name", "save", "said"),
    [
        ("x.png", lambda path: path.write_bytes(b""), SAVE_PNG),
        ("x.png", lambda path: path.write_text("no picture"), SAVE_PNG),
        ("x.png", lambda path: Image.fromarray(GREY).save(path, format="GIF"), SAVE_PNG),
        ("x.png", save_truncated_png, SAVE_PNG),
        ("x.png", save_huge_png, TOO_LARGE),
        ("x.png", save_bomb, TOO_LARGE),
        ("x.tif", lambda path: Image.fromarray(GREY).save(path), "use .png, .jpg or .npy"),
        ("x.npy", save_huge_npy, TOO_LARGE),
        ("x.npy", save_truncated_npy, SAVE_NPY),
        ("x.npy", save_zip, SAVE_NPY),
        ("x.npy", lambda path: path.write_bytes(b""), SAVE_NPY),
        ("x.npy", lambda path: path.write_bytes(pickle.dumps([1, 2])), SAVE_NPY),
        ("x.npy", saver(np.array([[{}]], dtype=object)), SAVE_NPY),
        ("x.npy", saver(np.zeros((2, 8, 8), np.uint8)), "has the shape 2 x 8 x 8: save one grey"),
        ("x.npy", saver(np.uint8(3)), "has the shape no dimensions: save one"),
        ("x.npy", saver(np.zeros((0, 8), np.uint8)), "x.npy"),
        ("x.npy", saver(np.full((8, 8), np.nan)), "has NaN or infinite values: replace them"),
        ("x.npy", saver(np.full((8, 8), np.inf)), "has NaN or infinite values: replace them"),
        ("x.npy", saver(np.full((8, 8), -300.5)), "has floats from -300.5 to -300.5: scale them"),
        ("x.npy", saver(np.full((8, 8), 1.01)), "has floats from 1.01 to 1.01: scale them"),
        ("x.npy", saver(np.zeros((8, 8), np.int64)), "has the type int64: save uint8, uint16,"),
        ("x.npy", saver(np.zeros((8, 8), complex)), "has the type complex128: save uint8"),
    ],
)
def test_pictures_that_cannot_be_used(
    folder: Path, name: str, save: Callable[[Path], None], said: str
) -> None:
    save(folder / name)
    text = complaint(table(folder, "a.png,0,P", f"{name},1,Q"))
    assert text.startswith(f"labels.csv row 3: picture {name} ")
    assert said in text


@pytest.mark.parametrize(
    ("name", "save", "said"),
    [
        ("m.png", save_truncated_png, SAVE_PNG),
        ("m.png", save_bomb, TOO_LARGE),
        ("m.png", lambda path: write(path, GREY[:6]), "is 6 x 8 and its picture 8 x 8: make them"),
        ("m.jpg", lambda path: write(path, GREY), "is a JPG, which blurs a mask's edges: save it"),
        ("m.npy", saver(np.full((8, 8), np.nan)), "must hold finite numbers: save it as bool"),
        ("m.npy", saver(np.full((8, 8), "x")), "must hold finite numbers"),
        ("m.npy", saver(np.array([[{}]], dtype=object)), SAVE_NPY),
    ],
)
def test_masks_that_cannot_be_used(
    folder: Path, name: str, save: Callable[[Path], None], said: str
) -> None:
    save(folder / name)
    text = complaint(table(folder, "a.png,,0,P", f"b.png,{name},1,Q", header=HEADER))
    assert text.startswith(f"labels.csv row 3: mask {name} ")
    assert said in text


def test_missing_mask(folder: Path) -> None:
    text = complaint(table(folder, "a.png,,0,P", "b.png,m.png,1,Q", header=HEADER))
    assert "labels.csv row 3: mask m.png does not exist: add the file" in text


def test_two_sizes(folder: Path) -> None:
    write(folder / "b.png", GREY[:7, :7].copy())
    text = complaint(folder)
    assert "row 3: pictures have two sizes (8 x 8 in a.png, 7 x 7 in b.png): say --size N" in text


@pytest.mark.parametrize("size", [0, -3, LARGEST + 1])
def test_impossible_size(folder: Path, size: int) -> None:
    assert f"--size {size} is no size for pictures: use 1 to 4096" in complaint(folder, size=size)


# ---- the real thing


def test_real_slices(lidc_slices: Path) -> None:
    data = load_folder(lidc_slices)
    assert len(data) == 981
    assert data.size == (64, 64)
    assert data.images.dtype == np.uint8
    assert len(np.unique(data.patients)) == 495
    assert data.class_names == ("1", "2", "3", "4", "5")
    assert np.bincount(data.labels).tolist() == [120, 131, 441, 181, 108]
    assert data.evidence is not None
    assert data.evidence.any(axis=(1, 2)).all()
    assert abs(data.evidence.mean() - 0.043) < 0.001
