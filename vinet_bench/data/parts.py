"""One scan's nodules, cut and kept: what a job of a preparation gives, and the file it lies in."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from vinet_bench.data.cutting import Cut, CutSlice, cut_nodule, malignancy
from vinet_bench.data.headers import ScanError
from vinet_bench.data.matching import Annotation, match_all
from vinet_bench.data.prepared import Piece, write_errors
from vinet_bench.data.readings import RATINGS, LidcNodule, Readings, Spacing
from vinet_bench.data.scans import Scan, open_dicom, open_mhd
from vinet_bench.writing import replacing

PREPARED, LEFT_OUT = "prepared", "left out"


@dataclass(frozen=True)
class ReportRow:
    """What became of one nodule, or of a scan or file that could not be used."""

    status: str
    reason: str
    series: str = ""
    file: str = ""
    annotation_row: str = ""
    nodule: str = ""
    distance_mm: str = ""
    diameter_mm: str = ""
    malignancy: str = ""
    slices: str = ""

    @property
    def kind(self) -> str:
        """The reason without what differs from nodule to nodule."""
        return self.reason.partition(":")[0]


@dataclass(frozen=True)
class Job:
    """One file (.mhd) or folder (DICOM) to work through. annotations: LUNA16's, or None for all of
    LIDC's nodules."""

    path: Path
    annotations: tuple[Annotation, ...] | None = None

    @property
    def key(self) -> str:
        return hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]


@dataclass
class Part:
    """What one job gave: slices, their rows, and a row of the report for each nodule.

    again: whether a file could not be used, so that the job is done again by the next command.
    """

    slices: list[CutSlice] = field(default_factory=list)
    rows: list[dict[str, str]] = field(default_factory=list)
    report: list[ReportRow] = field(default_factory=list)
    again: bool = False


def work(job: Job, readings: Readings, cut: Cut) -> Part:
    """Opens a job's scans and cuts their nodules. What cannot be used is a row of the report."""
    part = Part()
    if job.annotations is not None:
        _work_luna(job, job.annotations, readings, cut, part)
        return part
    scans, errors = open_dicom(job.path, readings.series())
    for error in errors:
        part.report.append(ReportRow(LEFT_OUT, str(error), file=str(job.path)))
        part.again = True
    for scan in scans:
        for nodule in readings.nodules(scan.series, _spacing(scan)):
            row = ReportRow(PREPARED, "", scan.series, str(job.path))
            _add(part, scan, nodule, readings, cut, row)
    return part


def _work_luna(
    job: Job, annotations: Sequence[Annotation], readings: Readings, cut: Cut, part: Part
) -> None:
    try:
        scan = open_mhd(job.path)
    except ScanError as error:
        part.report += [luna_row(a, LEFT_OUT, str(error), job.path) for a in annotations]
        part.again = True
        return
    if scan.series not in readings.series():
        reason = f"no readings of this series in {readings.source}"
        part.report += [luna_row(a, LEFT_OUT, reason, job.path) for a in annotations]
        return
    nodules = readings.nodules(scan.series, _spacing(scan))
    for match in match_all(annotations, nodules, scan.to_world):
        if match.nodule is None:
            part.report.append(luna_row(match.annotation, LEFT_OUT, match.reason, job.path))
            continue
        row = replace(
            luna_row(match.annotation, PREPARED, "", job.path),
            distance_mm=f"{match.distance_mm:.2f}",
        )
        _add(part, scan, match.nodule, readings, cut, row)


def luna_row(annotation: Annotation, status: str, reason: str, path: Path | str = "") -> ReportRow:
    """The row of one of LUNA16's annotations."""
    return ReportRow(
        status,
        reason,
        annotation.series,
        str(path),
        str(annotation.row),
        diameter_mm=f"{annotation.diameter_mm:.2f}",
    )


def _spacing(scan: Scan) -> Spacing:
    return Spacing(scan.spacing_mm[0], scan.spacing_mm[2])


def _add(
    part: Part, scan: Scan, nodule: LidcNodule, readings: Readings, cut: Cut, row: ReportRow
) -> None:
    """Cuts one nodule into the part; where that fails its row says why."""
    scores = [reading.malignancy for reading in nodule.readings]
    row = replace(
        row,
        nodule=str(nodule.number),
        malignancy=" ".join(map(str, scores)),
        diameter_mm=row.diameter_mm or f"{nodule.diameter_mm:.2f}",
    )
    # LIDC's table first: where files were given new ids, a patient's two series stay together.
    patient = readings.patients.get(scan.series) or scan.patient
    try:
        if patient is None:
            raise ScanError("nobody knows the series' patient: its file and LIDC's table do not")
        slices = cut_nodule(scan, nodule, cut)
    except ScanError as error:
        part.report.append(replace(row, status=LEFT_OUT, reason=str(error)))
        part.again = True  # the file may be mended before a stopped preparation goes on
        return
    part.report.append(replace(row, slices=str(len(slices))))
    part.slices += slices
    part.rows += [_cells(piece, nodule, patient, row, cut) for piece in slices]


def _cells(
    piece: CutSlice, nodule: LidcNodule, patient: str, row: ReportRow, cut: Cut
) -> dict[str, str]:
    """A slice's row of slices.csv."""
    ratings = {
        f"{name}_reads": " ".join(str(r.ratings[place]) for r in nodule.readings)
        for place, name in enumerate(RATINGS)
    }
    scores = [reading.malignancy for reading in nodule.readings]
    return {
        "id": f"{nodule.series}/{nodule.number}/{piece.k}",
        "label": str(malignancy(scores, cut.label)),
        "patient": patient,
        "series": nodule.series,
        "nodule": str(nodule.number),
        "slice": str(piece.k),
        "z_mm": f"{piece.z_mm:g}",
        "readers": str(len(nodule.readings)),
        "diameter_mm": row.diameter_mm,
        "pixel_spacing_x_mm": f"{piece.spacing_mm[0]:.6g}",
        "pixel_spacing_y_mm": f"{piece.spacing_mm[1]:.6g}",
        **ratings,
    }


# ---- its file


def write_part(path: Path, part: Part) -> None:
    """Written beside its place and moved there whole, as .again where the job is to be done again.

    Raises UserError if the disk is full or cannot be written.
    """
    text = json.dumps({"rows": part.rows, "report": [asdict(row) for row in part.report]})
    place = path.with_suffix(".again") if part.again else path
    with write_errors(path), replacing(place) as beside, beside.open("wb") as file:
        np.savez(
            file,
            allow_pickle=False,
            images=np.array([piece.image for piece in part.slices], dtype=np.uint8),
            readers=np.array([piece.readers for piece in part.slices], dtype=np.uint8),
            text=np.array(text),
        )


@dataclass(frozen=True)
class StoredPart:
    """A part as it lies on disk; its pictures are read when they are asked for."""

    path: Path
    rows: list[dict[str, str]]
    report: list[ReportRow]

    def piece(self) -> Piece:
        """The slices of the rows that stand."""
        with np.load(self.path, allow_pickle=False) as stored:
            ids = [row["id"] for row in json.loads(str(stored["text"]))["rows"]]
            standing = {row["id"] for row in self.rows}
            places = [place for place, name in enumerate(ids) if name in standing]
            return Piece(stored["images"][places], stored["readers"][places], self.rows)

    def without(self, series: set[str], reason: str) -> "StoredPart":
        """The same part with some of its series left out."""
        rows = [row for row in self.rows if row["series"] not in series]
        report = [
            replace(row, status=LEFT_OUT, reason=reason, slices="") if row.series in series else row
            for row in self.report
        ]
        return StoredPart(self.path, rows, report)


def is_done(folder: Path, job: Job) -> bool:
    """Whether a job's part lies there and needs no second try."""
    path = folder / f"{job.key}.npz"
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {"images", "readers", "text"} <= set(stored.files)
    except (OSError, ValueError, EOFError, BadZipFile):  # not there, or cut off with the power
        return False


def read_part(folder: Path, job: Job) -> StoredPart:
    """What write_part wrote, without its pictures."""
    path = folder / f"{job.key}.npz"
    path = path if path.exists() else path.with_suffix(".again")
    with np.load(path, allow_pickle=False) as stored:
        text = json.loads(str(stored["text"]))
    return StoredPart(path, text["rows"], [ReportRow(**row) for row in text["report"]])
