"""Training on a GPU: steps as `run` takes them, written out and replayed, against the bare limit.

    python -m benchmarks.gpu [--rounds 5] [--csv FILE]

The limit is forward, backward and fused Adam of the same networks on a batch that is there,
recorded as a CUDA graph and replayed: nothing that Python does is in it. For VINet it is its two
networks' steps, one after the other, without destruction. Busy: the share of the time in which
kernels ran.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from torch import nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from benchmarks.__main__ import table, write
from benchmarks.network import mean_output
from benchmarks.training import Loss, bare_step, data_for, our_steps
from benchmarks.turns import Ratio, Work, seconds, speed
from vinet_bench.data.dataset import SliceDataset
from vinet_bench.machine import Machine
from vinet_bench.models import build_vinet
from vinet_bench.networks import build_classifier, build_explained
from vinet_bench.presets import PRESETS
from vinet_bench.run import choose_machine
from vinet_bench.settings import Training
from vinet_bench.steps import WRITTEN_OUT
from vinet_bench.training_tasks import Classification, Task, VINetTask

STEPS = 40
CLASSES = 5


@dataclass(frozen=True)
class Case:
    """A training to measure, and what of it cannot be done without."""

    title: str
    size: int
    training: Training
    model: nn.Module
    task: Task
    limit: Sequence[tuple[nn.Module, Loss]]


def cases() -> list[Case]:
    """What Tables I and II train, at the preset `paper`; and a retraining of the preset `quick`."""
    paper, quick = PRESETS["paper"].settings, PRESETS["quick"].settings
    vinet, alone = (build_vinet(paper.vinet, CLASSES, (128, 128), 0) for _ in range(2))
    eq6 = VINetTask(paper.vinet.alpha, paper.vinet.ramp, paper.vinet.warmup)
    halves: list[tuple[nn.Module, Loss]] = [
        (alone.importance, mean_output),
        (alone.classifier, F.cross_entropy),
    ]
    vgg16, bare = (build_explained("vgg16", CLASSES, 0, 1.0, (128, 128)) for _ in range(2))
    return [
        _resnet(128, paper.retrain),
        _resnet(64, quick.retrain),
        Case("VGG-16", 128, paper.explained, vgg16, Classification(), [(bare, F.cross_entropy)]),
        Case("VINet", 128, paper.vinet, vinet, eq6, halves),
    ]


def _resnet(size: int, training: Training) -> Case:
    model, alone = (build_classifier("resnet18", CLASSES, seed=0) for _ in range(2))
    return Case("ResNet-18", size, training, model, Classification(), [(alone, F.cross_entropy)])


def measure(case: Case, machine: Machine, rounds: int, console: Console) -> list[Ratio]:
    """Images a second of ours, replayed and written out, as shares of the limit's."""
    data = data_for(case.size, STEPS * case.training.batch)
    limit = _replays(case, data, machine)
    found = []
    for name, replayed in (("replayed", True), ("written out", False)):
        steps = our_steps(case.model, case.task, data, case.training, machine, replayed)
        ours = _ended(steps)
        title = f"{case.title}, {case.size} x {case.size}, batch {case.training.batch}, {name}"
        found.append(speed(f"{title}: / limit", 0.95, ours, limit, rounds))
        rate = len(data) / min(found[-1].ours)
        console.print(f"{title}: {rate:.0f} images a second, GPU busy {busy(ours):.0%}")
    console.print(f"  limit: {len(data) / min(found[-1].peer):.0f}, busy {busy(limit):.0%}")
    return found


def _ended(steps: Work) -> Work:
    """With the GPU's end of them: the CPU runs ahead."""

    def work() -> None:
        steps()
        torch.cuda.synchronize()

    return work


def _replays(case: Case, data: SliceDataset, machine: Machine) -> Work:
    graphs = [
        _recorded(bare_step(model, data, case.training.batch, machine, loss))
        for model, loss in case.limit
    ]

    def steps() -> None:
        for _ in range(STEPS):
            for graph in graphs:
                graph()

    return _ended(steps)


def _recorded(step: Work) -> Work:
    """Replays it. A graph holds no tensor that it reads; its step does."""
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WRITTEN_OUT):
            step()
    with torch.cuda.graph(graph, stream=stream):
        step()

    def replay() -> Work:
        graph.replay()
        return step

    return replay


def busy(work: Work) -> float:
    """The share of the time in which the GPU ran a kernel."""
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        taken = seconds(work)
    kernels = sum(event.self_device_time_total for event in seen.key_averages())
    return float(kernels / 1e6 / taken)


def main() -> None:
    """Prints the rates and the table, and writes the table to a file where asked."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--csv", type=Path)
    asked = options.parse_args()
    if not torch.cuda.is_available():
        options.error("torch sees no GPU on this machine")
    console, machine = Console(width=160), choose_machine("cuda", "auto")
    console.print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    found = [one for case in cases() for one in measure(case, machine, asked.rounds, console)]
    console.print(table(found))
    if asked.csv:
        write(asked.csv, found)


if __name__ == "__main__":
    main()
