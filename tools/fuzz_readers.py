"""What is fuzzed: each reader of files from strangers, its seeds, and how one input is tried.

A reader's seeds are the files of one valid folder; an input replaces the content of one of them.
"""

import shutil
import sqlite3
import warnings
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import nn

from vinet_bench.data.folder import load_folder
from vinet_bench.data.headers import ScanError
from vinet_bench.data.lidc_xml import read_xml_folder
from vinet_bench.data.one_slice import read_slice
from vinet_bench.data.prepared import load_prepared
from vinet_bench.data.readings import Box, Spacing
from vinet_bench.data.scans import Scan, open_dicom, open_mhd
from vinet_bench.errors import CellError, UserError
from vinet_bench.given_maps import GivenMaps
from vinet_bench.networks.explained import load_weights
from vinet_bench.report import tables
from vinet_bench.report.page.cases import gallery
from vinet_bench.store import DATABASE, Store
from vinet_bench.stored_run import read_run, read_states

SEEDS = Path(__file__).resolve().parents[1] / "tests" / "fuzz_seeds"
SERIES, SIDE = "1.2.3", 16
PLAN, CELL = "plan.json", "cell.json"  # stand in the run's database


def _labels(folder: Path) -> None:
    load_folder(folder, SIDE)


def _mhd(folder: Path) -> None:
    _regions(open_mhd(folder / "a.mhd"))
    read_slice(folder / "a.mhd", SIDE)


def _mha(folder: Path) -> None:
    read_slice(folder / "a.mha", SIDE)


def _dicom(folder: Path) -> None:
    scans, _ = open_dicom(folder, {SERIES})
    for scan in scans:
        _regions(scan)
    for path in sorted(folder.iterdir()):
        read_slice(path, SIDE)


def _regions(scan: Scan) -> None:
    across, down, slices = scan.size
    for k in {0, slices - 1}:
        pixels = scan.region(Box(0, 0, across, down), k)
        assert pixels.shape == (down, across), pixels.shape


def _lidc_xml(folder: Path) -> None:
    found = read_xml_folder(folder, {})
    assert all(reason.isprintable() for _, reason in found.faults), found.faults
    for series in found.series():
        found.nodules(series, Spacing(0.7, 2.5))


def _prepared(folder: Path) -> None:
    load_prepared(folder, SIDE)


def _maps(folder: Path) -> None:
    found = GivenMaps("mine", folder)
    assert found.name
    for one in found.read((SIDE, SIDE)).values():
        assert np.isfinite(one).all()


def _run(folder: Path) -> None:
    run = read_run(folder)
    read_states(folder)
    tables(run)
    gallery(run)
    store = Store(folder)
    try:
        store.plan("plan")
    finally:
        store.close()


def _plan(folder: Path) -> None:
    with closing(sqlite3.connect(folder / DATABASE)) as db, db:
        db.execute("PRAGMA synchronous = OFF")
        plan, cell = ((folder / n).read_bytes().decode("utf-8", "replace") for n in (PLAN, CELL))
        db.execute("UPDATE plans SET plan = ?", (plan,))
        db.execute("UPDATE cells SET cell = ? WHERE key = 'key0'", (cell,))
    _run(folder)


def _weights(folder: Path) -> None:
    for file in sorted(folder.iterdir()):
        load_weights(nn.Linear(3, 2), "linear", file)


@dataclass(frozen=True)
class Reader:
    """A reader, how it reads a folder, and the endings of the files that are mutated."""

    name: str
    read: Callable[[Path], None]
    endings: tuple[str, ...]

    @cached_property
    def seeds(self) -> dict[str, bytes]:
        """The files of its folder by their places, those that are mutated first."""
        folder = SEEDS / self.name
        files = sorted(p for p in folder.rglob("*") if p.is_file())
        files.sort(key=lambda p: p.suffix not in self.endings)
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}

    @property
    def mutated(self) -> list[str]:
        """The files of which inputs are made."""
        return [name for name in self.seeds if name.endswith(self.endings)]


READERS = {
    reader.name: reader
    for reader in (
        Reader("labels", _labels, (".csv", ".png", ".jpg", ".npy")),
        Reader("mhd", _mhd, (".mhd",)),
        Reader("mha", _mha, (".mha",)),
        Reader("dicom", _dicom, (".dcm",)),
        Reader("lidc_xml", _lidc_xml, (".xml",)),
        Reader("prepared", _prepared, (".json", ".csv", ".npy")),
        Reader("maps", _maps, (".npy",)),
        Reader("maps_npz", _maps, (".npz",)),
        Reader("run", _run, (".sqlite", ".safetensors")),
        Reader("plan", _plan, (".json",)),
        Reader("weights", _weights, (".pt", ".safetensors")),
    )
}


class Bench:
    """A folder in which inputs for one reader are tried, one after the other."""

    def __init__(self, reader: Reader, folder: Path) -> None:
        self.reader, self.folder = reader, folder

    def refusal(self, name: str, content: bytes) -> str | None:
        """What the reader says of this content of one file; None if it reads.

        Raises whatever is no refusal, and AssertionError for a refusal of more than one line.
        """
        self._lay_out()
        (self.folder / name).write_bytes(content)
        try:
            with warnings.catch_warnings(action="ignore"):
                self.reader.read(self.folder)
        except (UserError, ScanError, CellError) as error:
            said = str(error)
            assert said.isprintable(), said
            assert len(said) < 2000, said
            return said
        return None

    def _lay_out(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        for name, content in self.reader.seeds.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
