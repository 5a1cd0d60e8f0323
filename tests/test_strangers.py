"""Files that were made to do harm: each is refused in one line, before anything large is read."""

import json
import sqlite3
import struct
import zipfile
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save
from torch import nn

from tools.fuzz_readers import PLAN, READERS, SIDE, Bench
from vinet_bench.data.headers import ScanError
from vinet_bench.data.lidc_xml import read_xml_folder
from vinet_bench.data.scans import open_mhd
from vinet_bench.errors import UserError
from vinet_bench.models import CONFIG, TrainedVINet
from vinet_bench.networks.explained import load_weights
from vinet_bench.report import TEXTS, write_report
from vinet_bench.run import choose_machine
from vinet_bench.store import DATABASE, Store
from vinet_bench.stored_run import read_run


@pytest.fixture
def said(tmp_path: Path) -> Callable[[str, str, bytes], str]:
    """What a reader says of one of its files with another content."""

    def refuse(reader: str, name: str, content: bytes) -> str:
        found = Bench(READERS[reader], tmp_path / "bench").refusal(name, content)
        assert found is not None
        return found

    return refuse


Said = Callable[[str, str, bytes], str]


def seed(reader: str, name: str) -> bytes:
    return READERS[reader].seeds[name]


# ---- MetaImage


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"NDims = 3\n", b"NDims = 3\nComment = " + b"a" * 2000 + b"\n", "unknown or twice"),
        (b"NDims = 3\n", b"NDims = 3\nComment = a\rDimSize = 1 1 1\n", "no MetaImage header"),
        (b"NDims = 3\n", b"NDims = 3\nHeaderSize = 9\n", "skips bytes"),
        (b"NDims = 3\n", b"NDims = 3\n" + b"\n" * 70_000, "a header of over 65536 bytes"),
        (b" 2.5\n", b" 1e-9\n", "ElementSpacing"),
    ],
)
def test_a_header_that_two_readers_would_read_in_two_ways(
    said: Said, old: bytes, new: bytes, words: str
) -> None:
    header = seed("mhd", "a.mhd")
    assert old in header
    assert words in said("mhd", "a.mhd", header.replace(old, new, 1))


def test_a_link_to_another_folder_is_no_data_file(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.raw").write_bytes(seed("mhd", "a.raw"))
    scan = tmp_path / "scan"
    scan.mkdir()
    (scan / "a.mhd").write_bytes(seed("mhd", "a.mhd"))
    (scan / "a.raw").symlink_to(tmp_path / "elsewhere.raw")
    with pytest.raises(ScanError, match=r"names a\.raw, a link that leaves its folder"):
        open_mhd(scan / "a.mhd")


def test_a_scan_whose_header_and_data_are_both_links_reads(tmp_path: Path) -> None:
    real, links = tmp_path / "real", tmp_path / "links"
    for folder in (real, links):
        folder.mkdir()
    for name in ("a.mhd", "a.raw"):
        (real / name).write_bytes(seed("mhd", name))
        (links / name).symlink_to(real / name)
    assert open_mhd(links / "a.mhd").size == (64, 64, 3)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"= LOCAL", b"= /etc/passwd", "'/etc/passwd', refused"),
        (b"= LOCAL", b"= b.raw", "'b.raw', refused"),
        (b"= 64 64 3", b"= 4096 4096 20000", "its header needs"),
        (b"= 64 64 3", b"= 64 64 3000000", "no CT is that large"),
        (b"Data = False", b"Data = True\nCompressedDataSize = 9999999999", "header needs 9999999"),
        (b"Data = False", b"Data = True", "not 1 numbers"),
        (b"BinaryData = True", b"BinaryData = 1", "numbers as text"),
    ],
)
def test_a_mha_holds_its_own_pixels(said: Said, old: bytes, new: bytes, words: str) -> None:
    content = seed("mha", "a.mha")
    assert old in content
    assert words in said("mha", "a.mha", content.replace(old, new, 1))


# ---- DICOM


def test_a_length_that_the_file_does_not_hold(said: Said) -> None:
    """GDCM would reserve the four gigabytes."""
    content = seed("dicom", "0.dcm")
    place = content.index(b"\x28\x00\x02\x00")
    lie = b"\x21\x00\x11\x10UN\0\0" + struct.pack("<I", 0xFFFFFFF0)
    assert "0.dcm ends too early" in said("dicom", "0.dcm", content[:place] + lie + content[place:])


def test_a_deflated_file_is_not_inflated(said: Said) -> None:
    content = seed("dicom", "0.dcm")
    old = b"UI\x12\x001.2.840.10008.1.2\0"
    assert old in content
    deflated = content.replace(old, b"UI\x16\x001.2.840.10008.1.2.1.99", 1)
    assert "is deflated" in said("dicom", "0.dcm", deflated)


@pytest.mark.parametrize("side", [5000, 60_000])
def test_a_codestream_that_is_larger_than_its_header_says(said: Said, side: int) -> None:
    content = bytearray(seed("dicom", "1.dcm"))
    place = content.index(b"\xff\x4f\xff\x51")
    content[place + 8 : place + 16] = struct.pack(">II", side, side)
    assert "larger than any CT" in said("dicom", "1.dcm", bytes(content))


def test_sequences_without_an_end(said: Said) -> None:
    content = seed("dicom", "1.dcm")
    place = content.index(b"\x28\x00\x02\x00")
    nested = (b"\x40\x00\x75\x02SQ\0\0" + b"\xff" * 4 + b"\xfe\xff\x00\xe0" + b"\xff" * 4) * 5000
    found = said("dicom", "1.dcm", content[:place] + nested + content[place:])
    assert "cannot be read (damaged?)" in found


# ---- LIDC XML


XXE = b'<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]>\n<LidcReadMessage'
LAUGHS = b'<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>\n<LidcReadMessage'
FAR = (b"<xCoord>10</xCoord><yCoord>10</yCoord>", b"<xCoord>0</xCoord><yCoord>0</yCoord>")
FARTHER = (b"<xCoord>16</xCoord><yCoord>16</yCoord>", b"<xCoord>4095</xCoord><yCoord>4095</yCoord>")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (((b"<LidcReadMessage", XXE),), "DOCTYPE, which is refused"),
        (((b"<LidcReadMessage", LAUGHS),), "DOCTYPE, which is refused"),
        ((FAR, FARTHER), "no lung holds them"),
        (((b"<subtlety>3", b"<subtlety>77"),), "ratings of"),
    ],
)
def test_lidc_xml_that_reaches_out_or_grows(
    tmp_path: Path, changes: tuple[tuple[bytes, bytes], ...], words: str
) -> None:
    content = seed("lidc_xml", "a.xml")
    for old, new in changes:
        assert old in content
        content = content.replace(old, new)
    (tmp_path / "a.xml").write_bytes(content)
    found = read_xml_folder(tmp_path, {})
    assert found.by_series == {}
    assert words in found.faults[0][1]


def test_a_folder_named_as_a_file_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "b.xml").mkdir()
    (tmp_path / "a.xml").write_bytes(seed("lidc_xml", "a.xml"))
    assert list(read_xml_folder(tmp_path, {}).by_series) == ["1.2.3"]


# ---- arrays


def archive(path: Path, shape: tuple[int, ...], content: bytes) -> None:
    """A .npz whose maps claim a shape and hold a content."""
    ids = np.array(["a"] * shape[0] if shape[0] < 10 else ["a"])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, header, data in (
            ("maps", {"descr": "<f4", "fortran_order": False, "shape": shape}, content),
            ("ids", np.lib.format.header_data_from_array_1_0(ids), ids.tobytes()),
        ):
            with made.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array_header_1_0(file, header)
                file.write(data)


def test_an_archive_that_claims_terabytes(said: Said, tmp_path: Path) -> None:
    archive(tmp_path / "bomb.npz", (10**9, SIDE, SIDE), b"")
    assert "over 2048 MiB" in said("maps_npz", "maps.npz", (tmp_path / "bomb.npz").read_bytes())


def test_a_map_of_another_size_is_refused_by_its_header(said: Said, tmp_path: Path) -> None:
    archive(tmp_path / "large.npz", (1, 9000, 9000), b"")
    found = said("maps_npz", "maps.npz", (tmp_path / "large.npz").read_bytes())
    assert "shape (9000, 9000), not (16, 16)" in found


def test_ids_that_are_no_characters(said: Said, tmp_path: Path) -> None:
    ids = np.array([0xFFFFFFFF, 65], np.uint32).view("<U1")
    np.savez(tmp_path / "ids.npz", maps=np.zeros((2, SIDE, SIDE)), ids=ids)
    found = said("maps_npz", "maps.npz", (tmp_path / "ids.npz").read_bytes())
    assert "unprintable character" in found


def test_a_picture_whose_one_element_is_a_disk_full(said: Said, tmp_path: Path) -> None:
    path = tmp_path / "wide.npy"
    with path.open("wb") as file:
        header = {"descr": "|V9999999", "fortran_order": False, "shape": (16, 16)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 256 * 9_999_999)  # a file with a hole, no bytes on the disk
    Bench(READERS["labels"], tmp_path / "bench").refusal("labels.csv", b"")
    (tmp_path / "bench" / "labels.csv").write_bytes(seed("labels", "labels.csv"))
    (tmp_path / "bench" / "c.npy").unlink()
    (tmp_path / "bench" / "c.npy").symlink_to(path.rename(tmp_path / "bench" / "wide.npy"))
    with pytest.raises(UserError, match=r"c\.npy has the type \|V9999999"):
        READERS["labels"].read(tmp_path / "bench")


def test_a_png_that_claims_a_billion_pixels(said: Said) -> None:
    content = seed("labels", "a.png")
    header = b"IHDR" + struct.pack(">II", 32_000, 32_000) + content[24:29]
    bomb = content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]
    assert "is larger than 4096 x 4096" in said("labels", "a.png", bomb)


# ---- prepared data


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("images.npy", (4, 0, 16), "no pictures of 1 to 4096"),
        ("masks.npy", (4, 8, 8), "does not fit"),
        ("images.npy", b"", "cannot be read"),
        ("images.npy", b"PK\x03\x04", "cannot be read"),
        ("slices.csv", b'id,label,patient\n"a\nb",a,P\n', "row 2 has the unprintable id"),
    ],
)
def test_prepared_data_whose_files_do_not_fit(
    said: Said, tmp_path: Path, name: str, content: bytes | tuple[int, ...], words: str
) -> None:
    if isinstance(content, tuple):
        np.save(tmp_path / "a.npy", np.zeros(content, bool if name == "masks.npy" else np.uint8))
        content = (tmp_path / "a.npy").read_bytes()
    assert words in said("prepared", name, content)


# ---- a run's folder


def plan_with(*path: str | int, value: Any) -> bytes:
    """The seed's plan with another value at a place."""
    plan = branch = json.loads(seed("plan", PLAN))
    for key in path[:-1]:
        branch = branch[key]
    branch[path[-1]] = value
    return json.dumps(plan).encode()


LAYOUT = {"name": "t", "protocol": "occlusion", "title": "T", "caption": "", "figures": []}
FIGURE = {"key": "a", "metric": "accuracy", "kinds": ["method"]}


@pytest.mark.parametrize(
    "content",
    [
        plan_with("gallery", value="../../secret"),
        plan_with("data", "pictures", value="/etc/secret"),
        plan_with("rows", 0, value={}),
        plan_with("rows", 0, "title", value="a\nb"),
        plan_with("seeds", value="0"),
        plan_with("layouts", value={"x": LAYOUT | {"figures": [FIGURE], "name": "../x"}}),
        plan_with(
            "layouts", value={"x": LAYOUT | {"figures": [FIGURE], "caption": "{data:>99999999999}"}}
        ),
        plan_with(
            "layouts", value={"x": LAYOUT | {"figures": [FIGURE], "caption": "{data.__class__}"}}
        ),
        b"[]",
        b"[" * 100_000,
    ],
)
def test_a_plan_that_no_run_stored(said: Said, content: bytes) -> None:
    assert "holds what vinet-bench does not write" in said("plan", PLAN, content)


@pytest.mark.parametrize(
    ("kind", "key", "name", "value"),
    [
        ("gallery", "plan", "places", np.array([0, 10**6])),
        ("gallery", "plan", "map:cam", np.zeros((2, 8, 8), np.uint8)),
        ("gallery", "plan", "pictures", np.zeros((2, 32, 32))),
        ("gallery", "plan", "evidence", np.zeros(0, np.uint8)),
        ("scores", "key10", "infinite", np.full(10, np.inf, np.float32)),
        ("pictures", "facts", "label", np.full(30, 99)),
        ("pictures", "facts", "patient", np.full(30, -1)),
        ("pictures", "facts", "ids", np.frombuffer(b"[1]", np.uint8)),
        ("pictures", "facts", "looks", np.zeros((2, 32), np.uint8)),
    ],
)
def test_arrays_that_do_not_fit_the_run(
    said: Said, tmp_path: Path, kind: str, key: str, name: str, value: Any
) -> None:
    place = f"artefacts/{kind}/{key}.safetensors"
    arrays = load(seed("run", place)) | {name: value}
    assert "holds what vinet-bench does not write" in said("run", place, save(arrays))


def test_a_gallery_of_controls_alone_is_shown(tmp_path: Path) -> None:
    """Found by taking a method's maps away."""
    place = "artefacts/gallery/plan.safetensors"
    arrays = {k: v for k, v in load(seed("run", place)).items() if k != "map:cam"}
    assert Bench(READERS["run"], tmp_path / "bench").refusal(place, save(arrays)) is None


@pytest.mark.parametrize("value", [1e30, -3e38, np.nan])
def test_scores_of_any_size_are_shown(tmp_path: Path, value: float) -> None:
    """Found by fuzzing: a number of 30 digits could not be rounded."""
    for place, content in READERS["run"].seeds.items():
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        if "scores" in place:
            content = save({k: np.full_like(v, value) for k, v in load(content).items()})
        path.write_bytes(content)
    written = write_report(tmp_path, formats=(*TEXTS, "html"))
    assert "report.html" in [path.name for path in written]


def test_a_store_with_a_program_in_it(tmp_path: Path) -> None:
    Store(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / DATABASE)) as db, db:
        db.execute("CREATE VIEW v AS SELECT 1")
    for use in (read_run, Store):
        with pytest.raises(UserError, match="views or triggers"):
            use(tmp_path)


# ---- weights


def test_compressed_weights_are_not_inflated(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    torch.save(model.state_dict(), tmp_path / "a.pt")
    with (
        zipfile.ZipFile(tmp_path / "a.pt") as stored,
        zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as made,
    ):
        for name in stored.namelist():
            made.writestr(name, stored.read(name))
    load_weights(model, "linear", tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"b\.pt does not read as weights alone"):
        load_weights(model, "linear", tmp_path / "b.pt")


@pytest.mark.parametrize(
    "weight", [torch.ones(2, dtype=torch.complex64), torch.ones(2, device="meta")]
)
def test_weights_that_are_no_real_numbers(tmp_path: Path, weight: torch.Tensor) -> None:
    model = nn.Linear(3, 2)
    torch.save(model.state_dict() | {"bias": weight}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"a\.pt (holds no state_dict|does not read)"):
        load_weights(model, "linear", tmp_path / "a.pt")


@pytest.mark.parametrize(
    "change",
    [{"size": [10**6, 10**6]}, {"size": [-1, 8]}, {"class_names": ["a\nb", "c"]}, {"seed": -1}],
)
def test_a_model_that_asks_for_too_much(tmp_path: Path, change: dict[str, Any]) -> None:
    config = {
        **{"version": "0", "class_names": ["a", "b"], "size": [32, 32], "seed": 0, "threshold": 1},
        **{"data": "d", "data_fingerprint": "f", "preset": "smoke", "vinet": {}},
    }
    (tmp_path / CONFIG).write_text(json.dumps(config | change))
    with pytest.raises(UserError, match=r"config\.json does not read as a model"):
        TrainedVINet.load(tmp_path, choose_machine("cpu", "float32"))
