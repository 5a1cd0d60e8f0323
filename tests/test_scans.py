"""Scans from strangers: what is good is read to the voxel, what is bad is named in a line."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from tests.luna import (
    STRAIGHT,
    TURNED,
    UPSIDE_DOWN,
    SmallLuna,
    coded_hu,
    small_scan,
    small_series,
    write_dicom,
)
from vinet_bench.data.headers import ScanError
from vinet_bench.data.readings import Box
from vinet_bench.data.scans import open_dicom, open_mhd

HEADER = """ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = False
CompressedData = False
TransformMatrix = 1 0 0 0 1 0 0 0 1
Offset = -10 -20 -30
ElementSpacing = 0.5 0.5 2
DimSize = 8 6 4
ElementType = MET_SHORT
ElementDataFile = a.raw
"""


@pytest.fixture
def header(tmp_path: Path) -> Path:
    """A scan of 8 x 6 x 4 voxels, in a folder of its own."""
    folder = tmp_path / "subset0"
    folder.mkdir()
    (folder / "a.raw").write_bytes(np.arange(8 * 6 * 4, dtype="<i2").tobytes())
    (folder / "a.mhd").write_text(HEADER)
    return folder / "a.mhd"


def complaint(path: Path) -> str:
    with pytest.raises(ScanError) as caught:
        scan = open_mhd(path)
        scan.region(Box(0, 0, *scan.size[:2]), 0)
    text = str(caught.value)
    assert text.isprintable()
    return text


def test_a_region_to_the_voxel(header: Path) -> None:
    scan = open_mhd(header)
    assert (scan.series, scan.size, scan.spacing_mm) == ("a", (8, 6, 4), (0.5, 0.5, 2))
    volume = np.arange(8 * 6 * 4).reshape(4, 6, 8)
    np.testing.assert_array_equal(scan.region(Box(2, 1, 3, 4), 3), volume[3, 1:5, 2:5])


@pytest.mark.parametrize("direction", [STRAIGHT, TURNED, UPSIDE_DOWN])
def test_geometry_is_simpleitk_s(tmp_path: Path, direction: tuple[float, ...]) -> None:
    small = small_scan(small_series(3)[1], direction, (0.6, 0.8))
    scan = open_mhd(SmallLuna(tmp_path).add(small))
    for nodule in small.nodules:
        world = scan.to_world(nodule.x, nodule.y, nodule.z_mm)
        np.testing.assert_allclose(world, small.world(nodule), atol=1e-6)
        for z in nodule.readings[0].z_mm:
            assert scan.slice_at(nodule.x, nodule.y, z) == small.k(z)
    below = small.bottom_mm - 5 * scan.spacing_mm[2]
    assert scan.slice_at(0, 0, below) is None


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("a.raw", "../a.raw", "'../a.raw', refused"),
        ("a.raw", "/etc/passwd", "'/etc/passwd', refused"),
        ("a.raw", "..\\\\a.raw", "refused"),
        ("a.raw", "C:a.raw", "refused"),
        ("a.raw", "LOCAL", "refused"),
        ("a.raw", "LIST", "refused"),
        ("a.raw", "slice%03d.raw 1 4 1", "refused"),
        ("a.raw", "b.raw", "names b.raw, which is missing"),
        ("8 6 4", "8 6 5", "a.raw has 384 bytes and its header needs 480"),
        ("8 6 4", "999999999 999999999 999999999", "no CT is that large"),
        ("8 6 4", "8 6 0", "no CT is that large or small"),
        ("8 6 4", "8 6", "not 3 numbers"),
        ("8 6 4", "8 6 four", "not 3 numbers"),
        ("8 6 4", "8 6 4.5", "not whole numbers"),
        ("8 6 4", "8 6 nan", "not 3 numbers"),
        ("0.5 0.5 2", "0.5 0.5 0", "ElementSpacing"),
        ("0.5 0.5 2", "0.5 0.5 -2", "ElementSpacing"),
        ("0.5 0.5 2", "inf 0.5 2", "ElementSpacing"),
        ("MET_SHORT", "MET_OTHER", "ElementType 'MET_OTHER'"),
        ("CompressedData = False", "CompressedData = True", "is compressed"),
        ("NDims = 3\n", "NDims = 3\nElementNumberOfChannels = 3\n", "several channels"),
        ("NDims = 3\n", "NDims = 3\nDimSize = 1 1 1\n", "unknown or twice"),
        ("NDims = 3\n", "NDims = 3\nwhat is this\n", "unknown or twice"),
        ("1 0 0 0 1 0 0 0 1", "0 0 1 0 1 0 1 0 0", "not axial"),
        ("ElementDataFile = a.raw", "", "ElementDataFile"),
        ("ElementDataFile", "ElementDataFile : ../b = y\nElementDataFile", "unknown or twice"),
        ("DimSize", "DimSize : 9 9 9 = x\nDimSize", "unknown or twice"),
        ("BinaryData = True", "BinaryData = False", "holds numbers as text"),
        ("NDims = 3", "NDims = 2", "NDims '2'"),
        ("NDims = 3\n", "", "NDims ''"),
        ("Offset = -10 -20 -30", "Offset = -10", "not 3 numbers"),
        ("Offset = -10 -20 -30", "Offset = nan -20 -30", "not 3 numbers"),
        ("Offset = -10 -20 -30\n", "", "not 3 numbers"),
        ("TransformMatrix = 1 0 0 0 1 0 0 0 1\n", "", "not 9 numbers"),
        ("1 0 0 0 1 0 0 0 1", "1 0 0 0 0.866 0.5 0 -0.5 0.866", "not axial"),
    ],
)
def test_bad_headers(header: Path, old: str, new: str, words: str) -> None:
    assert old in HEADER
    header.write_text(HEADER.replace(old, new, 1))
    assert words in complaint(header)


def test_a_header_that_is_no_text(header: Path) -> None:
    header.write_bytes(bytes(range(256)))
    assert complaint(header) == "a.mhd is no MetaImage header: copy it again"


# ---- DICOM


def test_a_dicom_series(tmp_path: Path) -> None:
    small = small_scan(small_series(3)[1], TURNED)
    write_dicom(tmp_path, small, "LIDC-IDRI-9999")
    scans, errors = open_dicom(tmp_path, {small.series, "another"})
    assert errors == []
    (scan,) = scans
    assert (scan.series, scan.patient) == (small.series, "LIDC-IDRI-9999")
    assert scan.size == (512, 512, small.slices)
    assert scan.spacing_mm == pytest.approx(small.image.GetSpacing())
    k, y, x = np.ogrid[3:4, 40:50, 100:107]
    np.testing.assert_array_equal(scan.region(Box(100, 40, 7, 10), 3), coded_hu(x, y, k)[0])
    z = small.nodules[0].readings[0].z_mm[0]
    assert scan.slice_at(0, 0, z) == small.k(z)
    assert scan.slice_at(0, 0, small.bottom_mm - 100) is None


def test_series_that_are_not_wanted_are_passed_over(tmp_path: Path) -> None:
    write_dicom(tmp_path, small_scan(small_series(3)[1]), "P")
    assert open_dicom(tmp_path, {"another"}) == ([], [])


def test_bad_dicom(tmp_path: Path) -> None:
    small = small_scan(small_series(3)[1])
    paths = write_dicom(tmp_path, small, "P")
    paths[2].write_bytes(b"no DICOM")
    (tmp_path / "again.dcm").write_bytes(paths[3].read_bytes())
    scans, errors = open_dicom(tmp_path, {small.series})
    assert scans == []
    assert [str(e) for e in errors] == [
        "003.dcm cannot be read (damaged?): copy it again",
        f"series {small.series} has two files at one height: is it there twice? remove one",
    ]


@pytest.mark.parametrize(
    ("compressed", "words"),
    [(False, "ends too early"), (True, "ends too early")],
)
def test_a_truncated_dicom_file(tmp_path: Path, compressed: bool, words: str) -> None:
    """The library fills some of what is missing of a small compressed file up with zeros."""
    small = small_scan(small_series(3)[1])
    k, y, x = np.ogrid[: small.slices, :512, :512]
    smooth = SimpleITK.GetImageFromArray(((x * 7 + y * 13 + k * 29) % 1600).astype(np.int16))
    smooth.CopyInformation(small.image)
    paths = write_dicom(tmp_path, replace(small, image=smooth), "P", compressed)
    whole = paths[2].read_bytes()
    assert (len(whole) < 512 * 512) == compressed
    paths[2].write_bytes(whole[: len(whole) // 2])
    (scan,), errors = open_dicom(tmp_path, {small.series})
    assert scan.size[2] == small.slices - 1
    assert [str(e) for e in errors] == [f"003.dcm {words}: copy it again"]


def test_one_series_of_two_patients(tmp_path: Path) -> None:
    small = small_scan(small_series(3)[1])
    write_dicom(tmp_path, small, "P")
    half = [p.read_bytes() for p in sorted(tmp_path.iterdir())[::2]]
    for path in tmp_path.iterdir():
        path.unlink()
    write_dicom(tmp_path, small, "Q")
    for path, content in zip(sorted(tmp_path.iterdir())[::2], half, strict=True):
        path.write_bytes(content)
    scans, (error,) = open_dicom(tmp_path, {small.series})
    assert scans == []
    assert "names 2 patients" in str(error)
