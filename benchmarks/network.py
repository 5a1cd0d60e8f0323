"""VINet's training step against its two networks alone, and destruction against its three steps."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.training import STEPS, bare_steps, data_for, our_steps, this_machine
from benchmarks.turns import Ratio, Row, cost, speed
from vinet_bench.destruction import DELTA
from vinet_bench.models import build_vinet
from vinet_bench.presets import PRESETS
from vinet_bench.training_tasks import VINetTask
from vinet_bench.vinet import destroy

SHAPE = (64, 64, 64, 64)
Destruction = Callable[[Tensor, Tensor, Tensor], Tensor]


def vinet_step(rounds: int) -> list[Ratio]:
    """VINet of the preset `quick`, its a constant from the first step on."""
    settings = PRESETS["quick"].settings
    training, machine = settings.vinet, this_machine()
    data = data_for(64, STEPS * training.batch)
    model, alone = (build_vinet(training, 5, (64, 64), 0) for _ in range(2))
    task = VINetTask(training.alpha, ramp=0.0, warmup=0.0)
    importance = bare_steps(alone.importance, data, training.batch, machine, mean_output)
    classifier = bare_steps(alone.classifier, data, training.batch, machine, F.cross_entropy)

    def both() -> None:
        importance()
        classifier()

    ours = our_steps(model, task, data, training, machine)
    return [cost("VINet's step / its two networks' bare steps, 64 x 64", 1.10, ours, both, rounds)]


def mean_output(outputs: Tensor, _: Tensor) -> Tensor:
    """A loss that asks nothing of a network."""
    return outputs.mean()


def destruction(rounds: int) -> list[Ratio]:
    """Forward alone, and forward and backward, as training has it: time and memory."""
    draw = torch.Generator().manual_seed(0)
    p, m, noise = (torch.rand(SHAPE, generator=draw) for _ in range(3))
    m = m[:, :1]
    found = []
    for name, with_backward in (("forward", False), ("forward + backward", True)):
        ours, theirs = (_applied(way, p, m, noise, with_backward) for way in (destroy, three_steps))
        found.append(speed(f"destruction, {name}: times faster", 2, ours, theirs, rounds))
        memory = [(peak_mb(ours), peak_mb(theirs)) for _ in range(rounds)]
        mine, its = (tuple(column) for column in zip(*memory, strict=True))
        shares = tuple(a / b for a, b in memory)
        title = f"destruction, {name}: share of the memory"
        found.append(Ratio(title, 0.5, "lower", shares, mine, its, "MB"))
    return found


def three_steps(p: Tensor, m: Tensor, noise: Tensor) -> Tensor:
    """Eq. 3 to 5 as the paper writes them. (B, C, H, W), (B, 1, H, W), (B, C, H, W)."""
    low, high = p.amin(dim=(2, 3), keepdim=True), p.amax(dim=(2, 3), keepdim=True)
    normalised = (p - low) / (high - low + DELTA)
    destroyed = m * normalised + (1 - m) * noise
    return destroyed * (high - low + DELTA) + low


def _applied(
    way: Destruction, p: Tensor, m: Tensor, noise: Tensor, with_backward: bool
) -> Callable[[], None]:
    def forward() -> None:
        with torch.no_grad():
            way(p, m, noise)

    def both() -> None:
        features, importance = (x.detach().requires_grad_() for x in (p, m))
        way(features, importance, noise).backward(noise)  # type: ignore[no-untyped-call]

    return both if with_backward else forward


def peak_mb(work: Callable[[], object]) -> float:
    """The most memory that it holds beyond what is held before, in MB (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    before = _status_mb("VmRSS")
    work()
    return _status_mb("VmHWM") - before


def _status_mb(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024


BENCHMARKS = (
    Row("vinet-step", "VINet's step in 1.10 times its networks' bare steps", vinet_step),
    Row("destruction", "2 times faster than its three steps, half the memory", destruction),
)
