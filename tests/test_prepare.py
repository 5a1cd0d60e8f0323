"""From scans to a prepared data set, checked to the voxel, and what strangers' files do to it."""

import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from tests.luna import (
    STRAIGHT,
    TURNED,
    UPSIDE_DOWN,
    SmallLuna,
    SmallScan,
    coded_hu,
    small_scan,
    small_series,
    windowed,
    write_dicom,
    write_xml,
)
from vinet_bench.data.cutting import Cut, consensus, human_ceiling, malignancy
from vinet_bench.data.dataset import SliceDataset
from vinet_bench.data.lidc_table import shipped_readings
from vinet_bench.data.luna16 import lidc_source, luna16_source
from vinet_bench.data.parts import work
from vinet_bench.data.prepare import Result, prepare
from vinet_bench.data.prepared import load_prepared
from vinet_bench.data.readings import Box, rasterised
from vinet_bench.errors import UserError
from vinet_bench.progress import Silent

SERIES = small_series(12)[:3]
KINDS = ((STRAIGHT, (0.7, 0.7)), (TURNED, (0.65, 0.65)), (UPSIDE_DOWN, (0.6, 0.8)))


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> SmallLuna:
    """Three scans: straight, with turned axes, and upside down with oblong voxels."""
    luna = SmallLuna(tmp_path_factory.mktemp("luna"))
    for subset, (series, kind) in enumerate(zip(SERIES, KINDS, strict=True)):
        luna.add(small_scan(series, *kind), subset)
    luna.write_annotations()
    return luna


@pytest.fixture
def luna(written: SmallLuna, tmp_path: Path) -> SmallLuna:
    """A copy to be spoilt; the voxels are shared."""
    folder = tmp_path / "luna"
    shutil.copytree(written.folder, folder, copy_function=os.link)
    (folder / "annotations.csv").unlink()
    copy = SmallLuna(folder, dict(written.scans), list(written.rows))
    copy.write_annotations()
    return copy


def prepared(luna: SmallLuna, out: Path, workers: int = 1, **cut: Any) -> Result:
    wanted = Cut(**{"size": 64, "jitter": 8} | cut)
    return prepare(luna16_source(luna.folder, None, None), wanted, out, workers, Silent())


def table(folder: Path, name: str = "slices.csv") -> list[dict[str, str]]:
    with (folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


def left_out(folder: Path) -> list[str]:
    return [row["reason"] for row in table(folder, "report.csv") if row["status"] == "left out"]


def corner_of(row: dict[str, str], image: NDArray[np.uint8]) -> tuple[int, int]:
    """Where in its slice a picture was cut, found by its content alone."""
    y, x = np.ogrid[:512, :512]
    plane = windowed(coded_hu(x, y, int(row["slice"])))
    windows = np.lib.stride_tricks.sliding_window_view(plane, image.shape)
    tops, lefts = np.nonzero(windows[:, :, 0, 0] == image[0, 0])
    (place,) = (
        (int(left), int(top))
        for left, top in zip(lefts, tops, strict=True)
        if np.array_equal(windows[top, left], image)
    )
    return place


def masks_at(
    scan: SmallScan, row: dict[str, str], corner: tuple[int, int], side: int
) -> list[NDArray[np.bool_]]:
    nodule = scan.nodules[int(row["nodule"]) - 1]
    box = Box(*corner, side, side)
    return [rasterised(r.at(float(row["z_mm"])), box) for r in nodule.readings]


# ---- to the voxel


@pytest.mark.parametrize("workers", [1, 2])
def test_luna16_to_the_voxel(written: SmallLuna, tmp_path: Path, workers: int) -> None:
    result = prepared(written, tmp_path / "out", workers, slices="all")
    assert result.nodules == len(written.rows)
    assert dict(result.left_out) == {}
    data, rows = load_prepared(tmp_path / "out"), table(tmp_path / "out")
    assert len(rows) == len(data) == result.slices
    offsets = set()
    for place, row in enumerate(rows):
        scan = written.scans[row["series"]]
        nodule = scan.nodules[int(row["nodule"]) - 1]
        assert int(row["slice"]) == scan.k(float(row["z_mm"]))
        corner = corner_of(row, data.images[place])
        masks = masks_at(scan, row, corner, 64)
        assert data.readers is not None
        assert data.evidence is not None
        for reader, mask in enumerate(masks):
            np.testing.assert_array_equal(data.readers[place] >> reader & 1, mask)
        np.testing.assert_array_equal(data.evidence[place], 2 * np.sum(masks, axis=0) >= len(masks))
        scores = [r.malignancy for r in nodule.readings]
        assert row["malignancy_reads"] == " ".join(map(str, scores))
        assert row["label"] == str(int(np.floor(np.median(scores) + 0.5)))
        assert data.class_names[data.labels[place]] == row["label"]
        assert row["patient"] == shipped_readings().patients[row["series"]]
        assert float(row["pixel_spacing_y_mm"]) == pytest.approx(scan.image.GetSpacing()[1])
        offsets.add((corner[0] + 32 - round(nodule.x), corner[1] + 32 - round(nodule.y)))
    assert len(offsets) > len(written.rows) // 2  # off centre, each nodule by its own jitter
    assert max(abs(o) for offset in offsets for o in offset) <= 9


def test_the_number_of_processes_changes_no_byte(written: SmallLuna, tmp_path: Path) -> None:
    prepared(written, tmp_path / "one", 1)
    prepared(written, tmp_path / "two", 2)
    for name in ("images.npy", "masks.npy", "readers.npy", "slices.csv", "report.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert not list(tmp_path.glob("*.part"))
    assert not list(tmp_path.glob("*.writing"))


def areas(scan: SmallScan, number: int) -> dict[float, int]:
    """The consensus pixels of each slice of a nodule."""
    nodule = scan.nodules[number - 1]
    heights = {z for r in nodule.readings for z in r.z_mm}
    box = Box(0, 0, 512, 512)
    masks = {z: [rasterised(r.at(z), box) for r in nodule.readings] for z in heights}
    found = {z: int((2 * np.sum(m, axis=0) >= len(m)).sum()) for z, m in masks.items()}
    return {z: area for z, area in found.items() if area}


@pytest.mark.parametrize("slices", ["largest", "all", 2])
def test_which_slices(written: SmallLuna, tmp_path: Path, slices: str | int) -> None:
    prepared(written, tmp_path / "out", slices=slices)
    found: dict[tuple[str, str], list[float]] = {}
    for row in table(tmp_path / "out"):
        found.setdefault((row["series"], row["nodule"]), []).append(float(row["z_mm"]))
    assert len(found) == len(written.rows)
    for (series, number), heights in found.items():
        of_slice = areas(written.scans[series], int(number))
        count = {"largest": 1, "all": len(of_slice), 2: min(2, len(of_slice))}[slices]
        assert len(heights) == count
        assert sorted(of_slice.values())[-count:] == sorted(of_slice[z] for z in heights)


def test_resampled_spacing(written: SmallLuna, tmp_path: Path) -> None:
    """At half the spacing every pixel becomes four; the mask's area in mm stays."""
    series = SERIES[0]  # 0.7 mm
    prepared(written, tmp_path / "native", jitter=0)
    prepared(written, tmp_path / "fine", jitter=0, spacing_mm=0.35, size=128)
    native, fine = load_prepared(tmp_path / "native"), load_prepared(tmp_path / "fine")
    assert native.evidence is not None
    assert fine.evidence is not None
    places = [i for i, row in enumerate(table(tmp_path / "fine")) if row["series"] == series]
    assert places
    for place in places:
        area, finer = native.evidence[place].sum(), fine.evidence[place].sum()
        assert finer / 4 == pytest.approx(area, rel=0.15)
        row = table(tmp_path / "fine")[place]
        assert float(row["pixel_spacing_x_mm"]) == pytest.approx(0.35)
    number = small_scan(series).k(float(row["z_mm"]))
    nodule = written.scans[series].nodules[int(row["nodule"]) - 1]
    left, top = nodule.x + 0.5 - 32, nodule.y + 0.5 - 32
    steps = (np.arange(128) + 0.5) / 2 - 0.5
    y, x = np.meshgrid(top + steps, left + steps, indexing="ij")
    k, plane_y, plane_x = np.ogrid[number : number + 1, :512, :512]
    plane = coded_hu(plane_x, plane_y, k)[0].astype(np.float64)
    expected = windowed(map_coordinates(plane, [y, x], order=1)).astype(int)
    assert np.abs(fine.images[place].astype(int) - expected)[2:-2, 2:-2].max() <= 1
    oblong = {
        row["pixel_spacing_x_mm"] + row["pixel_spacing_y_mm"] for row in table(tmp_path / "fine")
    }
    assert oblong == {"0.350.35"}


def test_the_seed_moves_the_nodule_and_nothing_else(written: SmallLuna, tmp_path: Path) -> None:
    for seed in (0, 1):
        prepared(written, tmp_path / str(seed), seed=seed)
    first, second = load_prepared(tmp_path / "0"), load_prepared(tmp_path / "1")
    assert not np.array_equal(first.images, second.images)
    assert table(tmp_path / "0") == table(tmp_path / "1")
    assert first.evidence is not None
    assert second.evidence is not None
    assert first.evidence.sum() == second.evidence.sum()


def test_labels_by_the_mean(written: SmallLuna, tmp_path: Path) -> None:
    prepared(written, tmp_path / "out", label="mean")
    for row in table(tmp_path / "out"):
        scores = [int(score) for score in row["malignancy_reads"].split()]
        assert row["label"] == str(int(sum(scores) / len(scores) + 0.5))


@pytest.mark.parametrize("size", [64, 128])
def test_lidc_dicom_and_xml_give_the_same(written: SmallLuna, tmp_path: Path, size: int) -> None:
    """Scans as DICOM or MetaImage, readings as XML or from the table: the same pictures."""
    for number, (series, scan) in enumerate(written.scans.items()):
        if scan.upside_down:
            continue  # a DICOM series has no order of its own
        patient = shipped_readings().patients[series]
        write_dicom(tmp_path / "dicom" / patient / str(number), scan, patient)
        write_xml(tmp_path / "xml" / f"{number}.xml", series, scan.nodules)
    cut = Cut(size=size, jitter=5, slices="all")
    sources = {
        "luna": luna16_source(written.folder, None, None),
        "lidc": lidc_source(tmp_path / "dicom", None),
        "both": lidc_source(tmp_path / "dicom", tmp_path / "xml"),
    }
    found = {}
    for name, source in sources.items():
        prepare(source, cut, tmp_path / name, 1, Silent())
        data, rows = load_prepared(tmp_path / name), table(tmp_path / name)
        readers = np.zeros(0) if data.readers is None else data.readers
        found[name] = {
            row["id"]: (
                row["label"],
                row["patient"],
                data.images[i].tobytes(),
                readers[i].tobytes(),
            )
            for i, row in enumerate(rows)
        }
    assert found["lidc"] == found["both"]
    assert len(found["lidc"]) > 5
    assert found["lidc"].items() <= found["luna"].items()


def test_two_series_of_a_patient_are_one_group(tmp_path: Path) -> None:
    """Also where the files were given new ids: LIDC's table knows better."""
    patients = shipped_readings().patients
    by_patient: dict[str, list[str]] = {}
    for series in small_series(400):
        by_patient.setdefault(patients[series], []).append(series)
    patient, pair = next((p, s) for p, s in by_patient.items() if len(s) == 2)
    for number, series in enumerate(pair):
        write_dicom(tmp_path / "d" / str(number), small_scan(series), f"ANON-{number}")
    result = prepare(lidc_source(tmp_path / "d", None), Cut(), tmp_path / "out", 1, Silent())
    assert result.patients == 1
    assert {row["patient"] for row in table(tmp_path / "out")} == {patient}
    assert {row["series"] for row in table(tmp_path / "out")} == set(pair)


# ---- labels


@pytest.mark.parametrize(
    ("scores", "median", "mean"),
    [
        ((1, 2), 2, 2),
        ((2, 3, 3), 3, 3),
        ((1, 1, 5), 1, 2),
        ((1, 4, 5, 5), 5, 4),
        ((2, 2, 3, 3), 3, 3),
    ],
)
def test_halves_go_up(scores: tuple[int, ...], median: int, mean: int) -> None:
    assert (malignancy(scores), malignancy(scores, "mean")) == (median, mean)


def test_the_human_ceiling_of_all_nodules_is_known() -> None:
    nodules = [n for of in shipped_readings().by_series.values() for n in of]
    ceiling = human_ceiling([[r.malignancy for r in n.readings] for n in nodules])
    assert ceiling == pytest.approx(0.42, abs=0.005)


def test_half_of_the_readers_is_enough() -> None:
    bits = np.array([[0b0000, 0b0001, 0b0011, 0b1111]], np.uint8)
    assert consensus(bits, 4).tolist() == [[False, False, True, True]]
    assert consensus(bits, 3).tolist() == [[False, False, True, True]]
    assert consensus(bits, 2).tolist() == [[False, True, True, True]]


# ---- matching


def test_unmatched_and_ambiguous_nodules_are_listed(luna: SmallLuna, tmp_path: Path) -> None:
    series, x, y, z, diameter = luna.rows[0]
    luna.rows = [
        (series, x, y, z + diameter * 0.51, diameter),  # just outside the radius
        *luna.rows[1:],
        (*luna.rows[-1][:4], 2 * luna.rows[-1][4]),  # one of LIDC's nodules, claimed twice
    ]
    luna.write_annotations()
    result = prepared(luna, tmp_path / "out")
    assert result.nodules == len(luna.rows) - 3
    assert dict(result.left_out) == {"unmatched": 1, "ambiguous": 2}
    reasons = left_out(tmp_path / "out")
    assert f"{diameter * 0.51:.1f} mm away, outside the radius" in reasons[0]
    assert reasons[-1] == "ambiguous: 2 annotations lie on one of LIDC's nodules"
    rows = [r["annotation_row"] for r in table(tmp_path / "out", "report.csv")]
    assert rows == [str(2 + i) for i in range(len(luna.rows))]


def test_two_nodules_within_the_radius_are_ambiguous(luna: SmallLuna, tmp_path: Path) -> None:
    several = next(s for s in luna.scans.values() if len(s.nodules) > 1)
    first, *others = (row for row in luna.rows if row[0] == several.series)
    luna.rows = [row for row in luna.rows if row[0] != several.series]
    luna.rows.append((*first[:4], 1000.0))
    luna.write_annotations()
    prepared(luna, tmp_path / "out")
    (reason,) = left_out(tmp_path / "out")
    assert reason == f"ambiguous: {1 + len(others)} of LIDC's nodules lie within the radius"


def test_scans_that_are_not_there(luna: SmallLuna, tmp_path: Path) -> None:
    luna.rows.append(("1.2.3", 0, 0, 0, 5))
    luna.write_annotations()
    assert dict(prepared(luna, tmp_path / "out").left_out) == {"the scan is not there": 1}


def test_a_series_that_lidc_does_not_know(luna: SmallLuna, tmp_path: Path) -> None:
    series = luna.rows[0][0]
    known = next(luna.folder.glob(f"subset*/{series}.mhd"))
    text = known.read_text().replace(f"{series}.raw", "new.raw")
    known.with_name("1.2.3.mhd").write_text(text)
    os.link(known.with_suffix(".raw"), known.with_name("new.raw"))
    luna.rows.append(("1.2.3", *luna.rows[0][1:]))
    luna.write_annotations()
    prepared(luna, tmp_path / "out")
    (reason,) = left_out(tmp_path / "out")
    assert reason == "no readings of this series in the shipped table of LIDC's readings"


def test_a_series_without_an_xml_file(written: SmallLuna, tmp_path: Path) -> None:
    write_xml(tmp_path / "xml" / "one.xml", SERIES[0], written.scans[SERIES[0]].nodules)
    source = luna16_source(written.folder, None, tmp_path / "xml")
    prepare(source, Cut(), tmp_path / "out", 1, Silent())
    (reason,) = set(left_out(tmp_path / "out"))
    assert reason.startswith("no readings of this series in LIDC's XML files (")


def test_a_part_that_was_cut_off_is_done_again(
    luna: SmallLuna, tmp_path: Path, opened: list[str]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        prepared(luna, tmp_path / "out")
    (part,) = (tmp_path / "out.part" / "scans").glob("*.npz")
    part.write_bytes(part.read_bytes()[:100])
    assert prepared(luna, tmp_path / "out").nodules == len(luna.rows)


# ---- files from strangers


def mhd(luna: SmallLuna) -> Path:
    return sorted(luna.folder.glob("subset*/*.mhd"))[0]


def spoil_raw_missing(luna: SmallLuna) -> str:
    mhd(luna).with_suffix(".raw").unlink()
    return "which is missing"


def spoil_raw_short(luna: SmallLuna) -> str:
    raw = mhd(luna).with_suffix(".raw")
    content = raw.read_bytes()
    raw.unlink()
    raw.write_bytes(content[:-1])
    return f"has {len(content) - 1} bytes and its header needs {len(content)}"


def spoil_path(luna: SmallLuna) -> str:
    change(mhd(luna), f"{mhd(luna).stem}.raw", "../../secret.raw")
    return "'../../secret.raw', refused"


def spoil_size(luna: SmallLuna) -> str:
    change(mhd(luna), "DimSize = 512 512", "DimSize = 999999 999999")
    return "no CT is that large or small"


def spoil_outside(luna: SmallLuna) -> str:
    """The header says that the picture ends before the nodules."""
    change(mhd(luna), "DimSize = 512 512", "DimSize = 64 64")
    return "the nodule lies outside the volume"


def spoil_twice(luna: SmallLuna) -> str:
    for path in (mhd(luna), mhd(luna).with_suffix(".raw")):
        os.link(path, luna.folder / path.name)
    return "the series is there twice: remove one"


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.unlink()  # the file is shared with the other tests
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_raw_missing,
        spoil_raw_short,
        spoil_path,
        spoil_size,
        spoil_outside,
        spoil_twice,
    ],
)
def test_a_spoilt_scan_is_a_row_and_the_others_go_on(
    luna: SmallLuna, tmp_path: Path, spoil: Callable[[SmallLuna], str]
) -> None:
    series = mhd(luna).stem
    words = spoil(luna)
    result = prepared(luna, tmp_path / "out")
    lost = [row for row in table(tmp_path / "out", "report.csv") if row["status"] == "left out"]
    assert {row["series"] for row in lost} == {series}
    assert len(lost) == sum(row[0] == series for row in luna.rows)
    assert all(words in row["reason"] for row in lost)
    assert result.nodules == len(luna.rows) - len(lost)


def test_a_dicom_series_in_two_folders(written: SmallLuna, tmp_path: Path) -> None:
    for number, series in enumerate(SERIES[:2]):
        write_dicom(tmp_path / "d" / str(number), written.scans[series], f"P{number}")
    shutil.copytree(tmp_path / "d" / "0", tmp_path / "d" / "2")
    prepare(lidc_source(tmp_path / "d", None), Cut(), tmp_path / "out", 1, Silent())
    assert set(left_out(tmp_path / "out")) == {"the series stands in two folders: remove one"}
    assert {row["series"] for row in table(tmp_path / "out")} == {SERIES[1]}


def test_bad_xml_files_are_rows(written: SmallLuna, tmp_path: Path) -> None:
    xml = tmp_path / "xml"
    for number, (series, scan) in enumerate(written.scans.items()):
        write_xml(xml / f"{number}.xml", series, scan.nodules)
    series = next(iter(written.scans))
    shutil.copy(xml / "0.xml", xml / "again.xml")
    (xml / "cut.xml").write_text((xml / "1.xml").read_text()[:500])
    (xml / "other.xml").write_text("<html/>")
    (xml / "cxr.xml").write_text("<IdriReadMessage/>")
    bad = (
        (xml / "1.xml")
        .read_text()
        .replace("<xCoord>", "<xCoord>x")
        .replace(f">{list(written.scans)[1]}<", ">1.2.3<")
    )
    (xml / "bad.xml").write_text(bad)
    source = luna16_source(written.folder, None, xml)
    result = prepare(source, Cut(), tmp_path / "out", 1, Silent())
    files = {Path(r["file"]).name: r["reason"] for r in table(tmp_path / "out", "report.csv")}
    assert f"series {series} has 2 XML files" in files["again.xml"]
    assert "cut.xml is no XML file of LIDC" in files["cut.xml"]
    assert "its root is html, not LidcReadMessage" in files["other.xml"]
    assert "invalid literal for int" in files["bad.xml"]
    assert "cxr.xml" not in files
    assert result.patients == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "annotations.csv is empty"),
        ("seriesuid,coordX,coordY,coordZ\n1.2,1,2,3\n", "has no column 'diameter_mm'"),
        ("seriesuid,coordX,coordX,coordY,coordZ,diameter_mm\n", "has two columns 'coordX'"),
        ("seriesuid,coordX,coordY,coordZ,diameter_mm\n", "has no rows below its header"),
        ("seriesuid,coordX,coordY,coordZ,diameter_mm\n1.2,1,2,x,4\n", "row 2: the coordZ 'x' is"),
        ("seriesuid,coordX,coordY,coordZ,diameter_mm\n1.2,1,2,nan,4\n", "row 2: the coordZ 'nan'"),
        ("seriesuid,coordX,coordY,coordZ,diameter_mm\n\n1.2,1,2,3,0\n", "row 3: the diameter_mm 0"),
        ("seriesuid,coordX,coordY,coordZ,diameter_mm\n1.2,1,2,3\n", "row 2 has 4 cells"),
        ("seriesuid,coordX,coordY,coordZ,diameter_mm\n,1,2,3,4\n", "row 2: the seriesuid is empty"),
        ('seriesuid,coordX,coordY,coordZ,diameter_mm\n"1.2,1,2,3,4\n', "is no CSV"),
    ],
)
def test_bad_annotations(luna: SmallLuna, tmp_path: Path, text: str, words: str) -> None:
    (luna.folder / "annotations.csv").write_text(text)
    with pytest.raises(UserError) as caught:
        prepared(luna, tmp_path / "out")
    assert words in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["luna"]


def test_nothing_to_go_on_with(luna: SmallLuna, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    annotations = luna.folder / "annotations.csv"
    with pytest.raises(UserError, match=r"no \.mhd file"):
        luna16_source(empty, annotations, None)
    with pytest.raises(UserError, match=r"annotations\.csv does not exist"):
        luna16_source(empty, None, None)
    with pytest.raises(UserError, match="is no folder"):
        luna16_source(tmp_path / "none", None, None)
    with pytest.raises(UserError, match=r"no \.dcm file"):
        lidc_source(empty, None)
    with pytest.raises(UserError, match=r"no \.xml file"):
        luna16_source(luna.folder, None, empty)
    for path in luna.folder.glob("subset*/*.raw"):
        path.unlink()
    with pytest.raises(UserError, match=r"no nodule of luna16 could be prepared: .*missing"):
        prepared(luna, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- stopped, and gone on with


def test_an_output_that_is_there_is_not_touched(luna: SmallLuna, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="is there already"):
        prepared(luna, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The scans that are worked on, as they are."""
    seen: list[str] = []
    real = work

    def noted(job: Any, *rest: Any) -> Any:
        if len(seen) == 1:
            seen.append("stopped")
            raise KeyboardInterrupt
        seen.append(job.path.stem)
        return real(job, *rest)

    monkeypatch.setattr("vinet_bench.data.prepare.work", noted)
    return seen


def test_a_stopped_preparation_goes_on(luna: SmallLuna, tmp_path: Path, opened: list[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        prepared(luna, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    prepared(luna, tmp_path / "out")
    assert len(opened) == 1 + len(luna.scans)  # each once, and the stop
    prepared(luna, tmp_path / "whole")
    for name in ("images.npy", "slices.csv"):
        same = (tmp_path / "out" / name).read_bytes()
        assert same == (tmp_path / "whole" / name).read_bytes()


def test_other_settings_do_not_mix(luna: SmallLuna, tmp_path: Path, opened: list[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        prepared(luna, tmp_path / "out")
    with pytest.raises(UserError, match="begun with other settings"):
        prepared(luna, tmp_path / "out", seed=1)


def test_a_spoilt_scan_is_tried_again(luna: SmallLuna, tmp_path: Path) -> None:
    raw = mhd(luna).with_suffix(".raw")
    content = raw.read_bytes()
    raw.unlink()
    luna.rows = [row for row in luna.rows if row[0] == raw.stem]
    luna.write_annotations()
    with pytest.raises(UserError, match="which is missing"):
        prepared(luna, tmp_path / "out")
    raw.write_bytes(content)
    assert prepared(luna, tmp_path / "out").nodules == len(luna.rows)


def test_sigkill_loses_no_finished_scan(luna: SmallLuna, tmp_path: Path) -> None:
    """The real command, killed as soon as the first scan is done; its processes end with it."""
    out = tmp_path / "out"
    code = "from vinet_bench.cli import main; main()"
    words = ["data", "prepare", "luna16", "--luna", str(luna.folder), "--out", str(out)]
    command = [sys.executable, "-c", code, *words, "--size", "64"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)
    finished = wait_for(lambda: sorted(out.with_name("out.part").glob("scans/*.npz")), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    stamps = {path: path.stat().st_mtime_ns for path in finished if path.exists()}
    wait_for(lambda: not alive(process.pid), None)
    if not out.exists():
        parts = out.with_name("out.part") / "scans"
        kept = {path: path.stat().st_mtime_ns for path in parts.glob("*.npz")}
        assert stamps.items() <= kept.items()
        subprocess.run(command, check=True, capture_output=True)
    prepared(luna, tmp_path / "whole")
    same = (out / "images.npy").read_bytes()
    assert same == (tmp_path / "whole" / "images.npy").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["luna", "out", "whole"]


def wait_for(found: Callable[[], Any], process: "subprocess.Popen[bytes] | None") -> Any:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        result = found()
        if result:
            return result
        if process is not None and process.poll() is not None:
            return []
        time.sleep(0.005)
    raise AssertionError("nothing happened within a minute")


def alive(session: int) -> bool:
    """Whether any process of a session lives (zombies do not)."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            return True
    return False


# ---- a full disk


@pytest.mark.parametrize("name", ["numpy.savez", "vinet_bench.data.prepared._write_csv"])
def test_a_full_disk_leaves_nothing_half_written(
    luna: SmallLuna, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The disk is full while a part is written, or while the data set is put together."""

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(name, full)
        with pytest.raises(UserError, match=r"No space left on device.*make room"):
            prepared(luna, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.rglob("*.writing")) + list(tmp_path.rglob("*.part-*"))
    prepared(luna, tmp_path / "out")
    assert not (tmp_path / "out.part").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small disk cannot be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_really_full(luna: SmallLuna, small_disk: Path) -> None:
    with pytest.raises(UserError, match="No space left on device"):
        prepared(luna, small_disk / "out", slices="all", size=128)
    assert not (small_disk / "out").exists()
    assert not list(small_disk.rglob("*.writing")) + list(small_disk.rglob("*.part-*"))


# ---- what was written


def test_the_recipe_is_in_the_data_set(written: SmallLuna, tmp_path: Path) -> None:
    prepared(written, tmp_path / "out")
    index = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert index["recipe"]["size"] == 64
    assert "CC BY 3.0" in index["notes"][1]
    data: SliceDataset = load_prepared(tmp_path / "out")
    assert data.fingerprint == index["fingerprint"]
