"""A run that is killed again and again ends as one that was left alone.

    python -m benchmarks.crashes [--kills 50] [--seed 0]

Starts `vinet-bench run all --preset smoke` and ends it at random moments with SIGKILL, SIGTERM or
Ctrl-C, and starts it again, until it ends by itself; then in a new folder, until so many kills are
reached. Each time: the tables are those of an undisturbed run, byte for byte; no cell that was
recorded was made again; no temporary file is left. Exit code 1 if any of it does not hold.
"""

import argparse
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

from vinet_bench.store import DATABASE

RUN = (
    *("run", "all", "--preset", "smoke", "--methods", "vinet,cam,random,outline"),
    *("--device", "cpu", "--out"),
)
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
Made = dict[tuple[str, str], float]


def main() -> None:
    """Kills, and prints what was kept and what was not."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--kills", type=int, default=50)
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()
    draw = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as place:
        start = time.monotonic()
        wanted = _tables(_undisturbed(Path(place) / "left-alone"))
        longest = time.monotonic() - start
        killed: Counter[str] = Counter()
        faults: list[str] = []
        folders = 0
        while killed.total() < asked.kills:
            folder = Path(place) / f"killed-{folders}"
            killed += _until_it_ends(folder, longest, draw, faults)
            faults += _faults(folder, wanted)
            folders += 1
    told = ", ".join(f"{count} {name}" for name, count in sorted(killed.items()))
    print(f"{killed.total()} kills ({told}) in {folders} runs: {len(faults)} faults")
    for fault in faults:
        print(fault)
    sys.exit(bool(faults))


def _started(folder: Path) -> subprocess.Popen[bytes]:
    code = "from vinet_bench.cli import main; main()"
    command = [sys.executable, "-c", code, *RUN, str(folder)]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, stdout=quiet, stderr=quiet)


def _undisturbed(folder: Path) -> Path:
    if _started(folder).wait() != 0:
        raise SystemExit("the undisturbed run failed")
    return folder


def _until_it_ends(
    folder: Path, longest: float, draw: random.Random, faults: list[str]
) -> Counter[str]:
    """Kills the run until it ends by itself; how often, by signal."""
    killed: Counter[str] = Counter()
    made: Made = {}
    while True:
        process, chosen = _started(folder), draw.choice(SIGNALS)
        try:
            process.wait(timeout=draw.uniform(0.1, 1.0) * longest)
            code = process.returncode
            faults += [f"{folder.name}: it ended with code {code}"] if code else []
            return killed
        except subprocess.TimeoutExpired:
            process.send_signal(chosen)
            process.wait()
            killed[chosen.name] += 1
        now = _made(folder)
        again = [key for key, seconds in made.items() if now.get(key) != seconds]
        faults += [f"{folder.name}: made again after it was recorded: {key}" for key in again]
        made = now


def _made(folder: Path) -> Made:
    """The seconds of every record: another making has others."""
    path = folder / DATABASE
    if not path.is_file():
        return {}
    with closing(sqlite3.connect(path)) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'records'").fetchone():
            return {}
        rows = db.execute("SELECT key, metric, seconds FROM records").fetchall()
        return {(key, metric): seconds for key, metric, seconds in rows}


def _tables(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.glob("table*"))}


def _faults(folder: Path, wanted: dict[str, bytes]) -> list[str]:
    found = [f"{folder.name}: {n} differs" for n, b in _tables(folder).items() if b != wanted[n]]
    found += [f"{folder.name}: no tables"] if not _tables(folder) else []
    left = [*folder.rglob("*.part-*"), *folder.rglob("checkpoints/*")]
    return found + [f"{folder.name}: left behind: {path.name}" for path in left]


if __name__ == "__main__":
    main()
