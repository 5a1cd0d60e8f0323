"""Region reading against reading whole volumes, and the memory of `data prepare luna16`.

    python -m benchmarks.prepare [--scans 6] [--rounds 5] [--slices all]

Writes synthetic LUNA16 scans of 512 x 512 x 300 int16 (157 MB each) with the real positions of
LIDC's nodules, cuts the same slices both ways in turn, and prints slices a second with their ratio
(minimum, median, maximum over the rounds). Then the peak memory of the whole command, processes
added up, for few and many, small and large scans.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from vinet_bench.data.cutting import Cut, cut_nodule
from vinet_bench.data.lidc_table import TableReadings, shipped_readings
from vinet_bench.data.luna16 import luna16_source
from vinet_bench.data.matching import COLUMNS
from vinet_bench.data.parts import Job, work
from vinet_bench.data.readings import Box, LidcNodule
from vinet_bench.data.scans import MhdScan, open_mhd

SIDE, PIXEL_MM = 512, 0.7


def main() -> None:
    """Writes the scans, measures, and prints two tables."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--scans", type=int, default=6)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--slices", default="largest")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as place:
        cut = Cut.model_validate({"slices": asked.slices})
        compare_speed(_luna(Path(place) / "speed", asked.scans, 300), cut, asked.rounds)
        for scans, depth in ((2, 150), (2, 300), (asked.scans, 300)):
            folder = _luna(Path(place) / f"memory-{scans}-{depth}", scans, depth)
            print(f"{scans} scans of {depth} slices: peak memory {_peak_mb(folder):.0f} MB")


# ---- speed


@dataclass(frozen=True)
class WholeScan(MhdScan):
    """The peer: the whole volume is read, then sliced."""

    volume: NDArray[np.int16] | None = None

    def region(self, box: Box, k: int) -> NDArray[np.float32]:
        assert self.volume is not None
        rows = slice(box.top, box.top + box.height)
        return self.volume[k, rows, box.left : box.left + box.width].astype(np.float32)


def _read_whole(path: Path) -> WholeScan:
    image = SimpleITK.ReadImage(str(path))
    header = open_mhd(path)
    return WholeScan(**vars(header), volume=SimpleITK.GetArrayFromImage(image))


def compare_speed(luna: Path, cut: Cut, rounds: int) -> None:
    """Prints slices a second of both ways, over the same scans in turn, and their ratio."""
    source = luna16_source(luna, None, None)
    readings = shipped_readings()

    def regions(job: Job) -> int:
        return len(work(job, readings, cut).slices)

    def whole(job: Job) -> int:
        scan = _read_whole(job.path)
        return sum(len(cut_nodule(scan, n, cut)) for n in readings.by_series[scan.series])

    ratios: list[float] = []
    rates: dict[str, list[float]] = {"regions": [], "whole volumes": []}
    for _ in range(rounds):
        ours, theirs = _rate(regions, source.jobs), _rate(whole, source.jobs)
        rates["regions"].append(ours)
        rates["whole volumes"].append(theirs)
        ratios.append(ours / theirs)
    for name, values in rates.items():
        print(f"{name}: {median(values):.1f} slices a second")
    low, middle, high = min(ratios), median(ratios), max(ratios)
    print(f"ratio: min {low:.1f}, median {middle:.1f}, max {high:.1f} (goal: 15 or more)")


def _rate(way: Callable[[Job], int], jobs: Sequence[Job]) -> float:
    start = time.perf_counter()
    count = sum(map(way, jobs))
    return count / (time.perf_counter() - start)


# ---- memory


def _peak_mb(luna: Path) -> float:
    """The most memory that the command and its processes hold together, sampled."""
    words = ["-c", "from vinet_bench.cli import main; main()", "data", "prepare", "luna16"]
    options = ["--luna", str(luna), "--out", str(luna / "out"), "--workers", "2"]
    command = [sys.executable, *words, *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], _tree_mb(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    failed = process.wait()
    done.set()
    watcher.join()
    if failed:
        raise SystemExit(f"data prepare ended with {failed}")
    return peak[0]


def _tree_mb(root: int) -> float:
    """Proportional memory of a process and all below it, in MB (Linux)."""
    total = 0.0
    for pid in _tree(root):
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue  # it has ended meanwhile
        line = next((row for row in text.splitlines() if row.startswith("Pss:")), "Pss: 0 kB")
        total += int(line.split()[1]) / 1024
    return total


def _tree(root: int) -> list[int]:
    try:
        text = Path(f"/proc/{root}/task/{root}/children").read_text()
    except OSError:
        return []
    return [root, *(pid for child in text.split() for pid in _tree(int(child)))]


# ---- synthetic scans


def _luna(folder: Path, scans: int, depth: int) -> Path:
    """A LUNA16 of real series whose nodules fit into `depth` slices."""
    readings = shipped_readings()
    rows: list[tuple[str | float, ...]] = [COLUMNS]
    (folder / "subset0").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for series in _fitting(readings, depth)[:scans]:
        rows += _write_scan(folder / "subset0", series, readings.by_series[series], depth, rng)
    with (folder / "annotations.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def _heights(nodules: Sequence[LidcNodule]) -> list[float]:
    return sorted({z for n in nodules for r in n.readings for z in r.z_mm})


def _fitting(readings: TableReadings, depth: int) -> list[str]:
    """Series whose nodules span fewer slices than that."""
    found = []
    for series, nodules in sorted(readings.by_series.items()):
        z = _heights(nodules)
        if len(z) > 3 and (z[-1] - z[0]) / np.diff(z).min() < depth - 10:
            found.append(series)
    return found


def _write_scan(
    folder: Path, series: str, nodules: Sequence[LidcNodule], depth: int, rng: np.random.Generator
) -> list[tuple[str | float, ...]]:
    """One .mhd and .raw; its rows of annotations.csv."""
    z = _heights(nodules)
    step = float(np.diff(z).min())
    volume = rng.integers(-1000, 400, (depth, SIDE, SIDE), dtype=np.int16)
    image = SimpleITK.GetImageFromArray(volume)
    image.SetSpacing((PIXEL_MM, PIXEL_MM, step))
    image.SetOrigin((-180.0, -180.0, z[0] - 2 * step))
    SimpleITK.WriteImage(image, str(folder / f"{series}.mhd"), useCompression=False)
    origin = -180.0
    return [
        (series, origin + PIXEL_MM * n.x, origin + PIXEL_MM * n.y, n.z_mm, n.diameter_mm)
        for n in nodules
    ]


if __name__ == "__main__":
    main()
