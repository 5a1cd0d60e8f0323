"""Time and memory against size: slices, maps of a part, methods and seeds of a run's report.

    python -m benchmarks.scale [--slices 1000,10000,100000] [--maps 5000,15000] [--size 128]
        [--methods 1,5,20] [--seeds 1,3,10] [--pictures 600] [--csv FILE]

Each size has a process of its own. "Data" is what every run does before it trains: draw the slices,
fingerprint and split it, note the facts of every picture, cut the parts, and read all training
pictures once in batches. "Maps" is what retraining needs of a training part of so many pictures: a
control's maps made, stored and read back, scaled and cut off, the highest pixels chosen, and these
kept in the pictures and removed from them; its files take 220 kB a picture in TMPDIR. "Report" is
the invented run of tests/synthetic.py, written as tables and page. Memory is what cannot be given
back: Linux' RssAnon and RssShmem, the most of samples every 20 ms; pages of mapped files are not in
it. The slope is that of the logarithms: 1 is linear.
"""

import argparse
import csv
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from vinet_bench.workshop import Workshop

BATCH = 32


@dataclass(frozen=True)
class Cost:
    """What one size took: seconds, and MB at the most, beyond those of the imports at `before`."""

    what: str
    size: int
    seconds: float
    peak_mb: float
    before_mb: float


def data(slices: int, size: int) -> None:
    """All that a run does with its data before it trains, and one pass over the training part."""
    from vinet_bench.data.facts import picture_facts
    from vinet_bench.data.phantom import PhantomSettings, phantom
    from vinet_bench.data.splits import split_slices

    every = phantom(PhantomSettings(slices=slices, size=size))
    split = split_slices(every, 0.1, 0.3, seed=0)
    picture_facts(every, split)
    every.fingerprint  # noqa: B018 - a property that reads all
    parts = {name: every.subset(places) for name, places in split.parts().items()}
    order = np.random.default_rng(0).permutation(len(parts["train"]))
    for start in range(0, len(order), BATCH):
        parts["train"].pictures(order[start : start + BATCH])


def maps(count: int, size: int) -> None:
    """From a control's maps of a training part to the pictures that networks are trained on."""
    from protocols.shared import shown

    with tempfile.TemporaryDirectory() as folder:
        shop = _shop(count, size, Path(folder))
        shop.masks("random", 0, "train", "threshold")
        masks = shop.highest("random", 0, "train", size * size // 10)
        for trained_on in ("pictures", "removed"):
            shown(trained_on, shop, "train", masks)
        shop.store.close()


def _shop(count: int, size: int, folder: Path) -> "Workshop":
    """With so many training pictures of noise, and one for each other part."""
    import torch

    from vinet_bench.data.dataset import SliceDataset
    from vinet_bench.data.splits import Split
    from vinet_bench.data.stacks import empty_stack
    from vinet_bench.machine import Machine
    from vinet_bench.plan import make_plan
    from vinet_bench.progress import Silent
    from vinet_bench.store import Store
    from vinet_bench.workshop import Workshop

    draws, images = np.random.default_rng(0), empty_stack((count + 2, size, size), np.uint8)
    for picture in images:
        picture[:] = draws.integers(256, size=picture.shape, dtype=np.uint8)
    every = np.arange(count + 2)
    names = every.astype(np.str_)
    data = SliceDataset("noise", images, every % 2, names, names, ("a", "b"))
    split = Split(every[:count], every[count : count + 1], every[count + 1 :])
    plan, machine = make_plan(methods=["random"]), Machine(torch.device("cpu"), False)
    return Workshop(plan, data, split, Store(folder), machine, Silent())


def report(methods: int, seeds: int, pictures: int) -> None:
    """Tables and page of an invented run."""
    from tests.synthetic import a_big_run
    from vinet_bench.report import write_report

    with tempfile.TemporaryDirectory() as folder:
        names = [f"Method {i}" for i in range(methods)]
        write_report(a_big_run(Path(folder), names, seeds, pictures))


WORK: dict[str, Callable[..., None]] = {"data": data, "maps": maps, "report": report}


def measured(kind: str, what: str, size: int, arguments: tuple[int, ...]) -> Cost:
    """One piece of work in this process, with its memory sampled."""
    import tests.synthetic  # noqa: F401 - so that imports count for no size
    import vinet_bench.run  # noqa: F401

    before, start = held_mb(), time.perf_counter()
    peak, done = [before], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], held_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    WORK[kind](*arguments)
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    return Cost(what, size, seconds, peak[0], before)


def held_mb() -> float:
    """Memory that cannot be given back, in MB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kinds = ("RssAnon:", "RssShmem:")
    return sum(int(line.split()[1]) for line in lines if line.startswith(kinds)) / 1024


def main() -> None:
    """Measures every size, and prints and writes what it took."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--slices", default="1000,10000,100000")
    options.add_argument("--maps", default="5000,15000")
    options.add_argument("--size", type=int, default=128)
    options.add_argument("--methods", default="1,5,20")
    options.add_argument("--seeds", default="1,3,10")
    options.add_argument("--pictures", type=int, default=600)
    options.add_argument("--csv", type=Path)
    asked = options.parse_args()
    slices, parts = map(_numbers, (asked.slices, asked.maps))
    methods, seeds = map(_numbers, (asked.methods, asked.seeds))
    side, pictures = asked.size, asked.pictures
    jobs: list[tuple[str, str, int, tuple[int, ...]]]
    jobs = [("data", f"slices of {side} x {side}", n, (n, side)) for n in slices]
    jobs += [("maps", f"maps of {side} x {side}", n, (n, side)) for n in parts]
    jobs += [("report", "methods, 1 seed", n, (n, 1, pictures)) for n in methods]
    jobs += [("report", "seeds, 5 methods", n, (5, n, pictures)) for n in seeds]
    found: list[Cost] = []
    for job in jobs:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            found.append(alone.submit(measured, *job).result())
        if asked.csv:
            write(asked.csv, found)
    Console(width=110).print(table(found))


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",") if word]


def table(costs: list[Cost]) -> Table:
    """A line for each size, with the slopes from the size before."""
    shown = Table(
        "what", "size", "seconds", "slope", "peak MB", "of it imports", "slope of the rest"
    )
    last: Cost | None = None
    for one in costs:
        if last is None or last.what != one.what:
            slopes = ("", "")
        else:
            slopes = (
                slope(last.size, one.size, last.seconds, one.seconds),
                slope(last.size, one.size, _own_mb(last), _own_mb(one)),
            )
        mb = (f"{one.peak_mb:.0f}", f"{one.before_mb:.0f}")
        shown.add_row(one.what, f"{one.size:,}", f"{one.seconds:.1f}", slopes[0], *mb, slopes[1])
        last = one
    return shown


def _own_mb(cost: Cost) -> float:
    return max(cost.peak_mb - cost.before_mb, 1.0)


def slope(size: int, larger: int, cost: float, higher: float) -> str:
    """Of the logarithms between two sizes."""
    return f"{np.log(higher / cost) / np.log(larger / size):.2f}"


def write(path: Path, costs: list[Cost]) -> None:
    """What was measured, a row for each size."""
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(("what", "size", "seconds", "peak_mb", "before_mb"))
        out.writerows(astuple(one) for one in costs)


if __name__ == "__main__":
    main()
