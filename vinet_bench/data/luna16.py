"""Where LUNA16's scans and LIDC's DICOM series lie, and what is to be done with each."""

import hashlib
from collections import defaultdict
from pathlib import Path

from vinet_bench.data.lidc_table import shipped_readings
from vinet_bench.data.lidc_xml import read_xml_folder
from vinet_bench.data.matching import read_annotations
from vinet_bench.data.parts import LEFT_OUT, Job, ReportRow, luna_row
from vinet_bench.data.prepare import Source
from vinet_bench.data.readings import Readings
from vinet_bench.data.scans import dicom_files
from vinet_bench.errors import UserError


def luna16_source(luna: Path, annotations: Path | None, lidc_xml: Path | None) -> Source:
    """LUNA16 in a folder: subset0..9/*.mhd (or *.mhd in it) and annotations.csv.

    Raises UserError if there is nothing to go on with.
    """
    _check_folder("--luna", luna)
    table = annotations or luna / "annotations.csv"
    by_series = defaultdict(list)
    for annotation in read_annotations(table):
        by_series[annotation.series].append(annotation)
    files = defaultdict(list)
    for path in sorted([*luna.glob("*.mhd"), *luna.glob("subset*/*.mhd")]):
        files[path.stem].append(path)
    if not files:
        raise UserError(f"--luna {luna}: there is no .mhd file in it or in its subset* folders")
    jobs, known = [], []
    for series, of_series in by_series.items():
        paths = files.get(series, [])
        if len(paths) == 1:
            jobs.append(Job(paths[0].absolute(), tuple(of_series)))
            continue
        reason = "the scan is not there" if not paths else "the series is there twice: remove one"
        where = " and ".join(map(str, paths))
        known += [luna_row(a, LEFT_OUT, reason, where) for a in of_series]
    readings = _readings(lidc_xml)
    recipe = {"source": "luna16", "annotations": _digest(table)}
    return Source("luna16", jobs, readings, [*_faults(readings), *known], recipe)


def lidc_source(dicom: Path, lidc_xml: Path | None) -> Source:
    """LIDC's DICOM series in the folders below one. Raises UserError if there are none."""
    _check_folder("--dicom", dicom)
    try:
        folders = [p for p in sorted([dicom, *dicom.rglob("*")]) if p.is_dir() and dicom_files(p)]
    except OSError as error:
        raise UserError(f"--dicom {dicom}: {error}: check its rights") from None
    if not folders:
        raise UserError(f"--dicom {dicom}: there is no .dcm file in it or below it")
    readings = _readings(lidc_xml)
    jobs = [Job(folder.absolute()) for folder in folders]
    return Source("lidc", jobs, readings, _faults(readings), {"source": "lidc"})


def _check_folder(option: str, folder: Path) -> None:
    if not folder.is_dir():
        raise UserError(f"{option} {folder} is no folder: give the one that holds the scans")


def _readings(lidc_xml: Path | None) -> Readings:
    shipped = shipped_readings()
    if lidc_xml is None:
        return shipped
    _check_folder("--lidc-xml", lidc_xml)
    return read_xml_folder(lidc_xml, shipped.patients)


def _faults(readings: Readings) -> list[ReportRow]:
    return [ReportRow(LEFT_OUT, reason, file=path) for path, reason in readings.faults]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
