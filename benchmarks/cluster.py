"""What Ray costs, and whether a planned schedule comes true.

    python -m benchmarks.cluster overhead [--cells 1000] [--rounds 3]
    python -m benchmarks.cluster limit [--steps 60] [--rounds 3]
    python -m benchmarks.cluster scale [--preset smoke] [--methods vinet,cam,random,outline]
                                       [--seeds 4] [--rounds 3] [--set KEY=VALUE ...]

overhead: so many cells that do almost nothing, on one worker and in this process, from the first
that ends to the last: so what a cell takes is ours (store, keys, tasks) and Ray's. Ray's start is
printed apart.

limit: the same bare training steps, one thread each, in two bare processes side by side and in two
tasks of the small cluster that --workers 2 begins, without cells, store or board: what Ray leaves.

scale: the cells of `run all`, one thread each, by two workers, by two bare processes side by side
that have half of the seeds each, and by one worker; each begins as a new process. Printed are cells
an hour of the two workers over those of the others, and the hours that `plan` gives for two
workers, from the one worker's times and from the two workers' own, over the hours that they took.
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory

import torch
from torch.nn import functional as F

from benchmarks.tiny import registered
from benchmarks.training import RETRAIN, bare_step, data_for, this_machine
from vinet_bench.cluster import HUGE_PAGES, Cluster, connected
from vinet_bench.environment import environment
from vinet_bench.networks import build_classifier
from vinet_bench.plan import Plan, make_plan
from vinet_bench.planned import planned
from vinet_bench.run import run
from vinet_bench.schedule import simulate

PROTOCOLS = ("keep-important", "occlusion")
Figures = dict[str, list[float]]


def main() -> None:
    """Measures, and prints minimum, median and maximum of the rounds."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("what", choices=("overhead", "limit", "scale"))
    options.add_argument("--cells", type=int, default=1000)
    options.add_argument("--steps", type=int, default=60)
    options.add_argument("--preset", default="smoke")
    options.add_argument("--methods", default="vinet,cam,random,outline")
    options.add_argument("--seeds", type=int, default=4)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    asked = options.parse_args()
    found: Figures = {}
    for _ in range(asked.rounds):
        with environment(HUGE_PAGES):  # for bare processes as for Ray's
            one = _measured(asked)
        for name, value in one.items():
            found.setdefault(name, []).append(value)
    print(f"{'':52} {'min':>8} {'median':>8} {'max':>8}")
    for name, values in found.items():
        print(f"{name:52} {min(values):8.2f} {median(values):8.2f} {max(values):8.2f}")


def _measured(asked: argparse.Namespace) -> dict[str, float]:
    if asked.what == "overhead":
        return _overhead(asked.cells)
    if asked.what == "limit":
        return _limit(asked.steps)
    return _scale(_plan(asked.preset, asked.methods.split(","), asked.seeds, asked.set))


# -- overhead


class Ends:
    """A progress that notes when cells end."""

    def __init__(self) -> None:
        self.times: list[float] = []

    @contextmanager
    def step(self, title: str, total: int) -> Iterator[Callable[[], None]]:
        yield lambda: self.times.append(time.perf_counter())

    def each(self) -> float:
        """Milliseconds from one end to the next."""
        return (self.times[-1] - self.times[0]) / (len(self.times) - 1) * 1000


def _overhead(cells: int) -> dict[str, float]:
    plan = _plan("smoke", ["vinet"], cells)
    with registered():
        here, _ = _tiny(plan, None)
        there, start = _tiny(plan, Cluster(workers=1))
    return {
        "through Ray, ms a cell": there,
        "in this process, ms a cell": here,
        "Ray's start to the first end, s": start,
    }


def _tiny(plan: Plan, cluster: Cluster | None) -> tuple[float, float]:
    """Milliseconds a cell, and seconds to the first one's end."""
    ends, start = Ends(), time.perf_counter()
    with TemporaryDirectory() as folder:
        outcome = run(["tiny"], plan, Path(folder) / "run", "cpu", ends, cluster)
    if outcome.failed:
        raise SystemExit(outcome.failed[0])
    return ends.each(), ends.times[0] - start


# -- limit


def _limit(steps: int) -> dict[str, float]:
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as bare:
        alone = mean(bare.map(_steps, [steps, steps]))
    with connected(Cluster(workers=2), threads=1):
        import ray

        task = ray.remote(_steps)
        there = mean(ray.get([task.remote(steps), task.remote(steps)]))
    return {"two tasks of Ray / two bare processes, steps a second": alone / there}


def _steps(count: int) -> float:
    """Seconds of so many steps of a ResNet-18, after a first one that warms up."""
    torch.set_num_threads(1)
    model, data = build_classifier("resnet18", 5, seed=0), data_for(64, RETRAIN.batch)
    step = bare_step(model, data, RETRAIN.batch, this_machine(), F.cross_entropy)
    step()
    start = time.perf_counter()
    for _ in range(count):
        step()
    return time.perf_counter() - start


# -- scale


def _plan(preset: str, methods: Sequence[str], seeds: int, changes: Sequence[str] = ()) -> Plan:
    chosen, changes = list(methods), ["threads=1", *changes]
    return make_plan(preset=preset, methods=chosen, seeds=seeds, changes=changes)


def _scale(plan: Plan) -> dict[str, float]:
    halves = [plan.seeds[::2], plan.seeds[1::2]]
    with TemporaryDirectory() as place:
        one, two = Path(place) / "one", Path(place) / "two"
        bare = _seconds([(plan, seeds, Path(place) / f"bare-{seeds[0]}", 0) for seeds in halves])
        took = _seconds([(plan, plan.seeds, two, 2)])
        alone = _seconds([(plan, plan.seeds, one, 1)])
        hours = {source.name: _foretold(plan, source) for source in (one, two)}
    return {
        "seconds, two workers": took,
        "two workers / two bare processes, cells an hour": bare / took,
        "two workers / one worker, cells an hour": alone / took,
        "planned from one worker's times / measured": hours["one"] / took,
        "planned from the two workers' own times / measured": hours["two"] / took,
    }


def _foretold(plan: Plan, source: Path) -> float:
    """Seconds of the plan on two workers."""
    found = planned(PROTOCOLS, plan, source.with_name("none"), "cpu", source)
    return simulate(found.graph, found.seconds, workers=2).seconds


Part = tuple[Plan, tuple[int, ...], Path, int]


def _seconds(parts: Sequence[Part]) -> float:
    """Until the last of these runs has ended, each in a new process."""
    spawn = multiprocessing.get_context("spawn")
    start = time.perf_counter()
    processes = [spawn.Process(target=_run, args=part) for part in parts]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise SystemExit("a run failed")
    return time.perf_counter() - start


def _run(plan: Plan, seeds: tuple[int, ...], folder: Path, workers: int) -> None:
    cluster = Cluster(workers) if workers else None
    outcome = run(PROTOCOLS, plan.model_copy(update={"seeds": seeds}), folder, "cpu", None, cluster)
    if outcome.failed:
        raise SystemExit(outcome.failed[0])


if __name__ == "__main__":
    main()
