"""What only a GPU can show; where there is none these tests skip."""

import csv
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.commands import Command
from vinet_bench.data.phantom import PhantomSettings, phantom
from vinet_bench.machine import Examples
from vinet_bench.models import build_vinet
from vinet_bench.networks import build_classifier
from vinet_bench.run import choose_machine
from vinet_bench.settings import Training, VINetTraining
from vinet_bench.training import Trainer
from vinet_bench.training_tasks import Classification, Task, VINetTask

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: torch sees none"),
]
SETTINGS = Training(epochs=10, batch=16, learning_rate=1e-3, schedule="one-cycle", flips=True)


def a_resnet() -> nn.Module:
    return build_classifier("resnet18", 5, seed=0, width=0.25)


def a_vinet() -> nn.Module:
    wanted = VINetTraining(importance="unet", classifier="resnet18", width=0.25)
    return build_vinet(wanted, 5, (32, 32), seed=0)


def trained(model: nn.Module, task: Task, epochs: int, replayed: bool = True) -> Trainer:
    """A training whose last batch is smaller, on kernels that give the same bits twice."""
    data = phantom(PhantomSettings(slices=60, size=32))
    images, labels = torch.from_numpy(data.images)[:, None], torch.from_numpy(data.labels)
    part, machine = Examples(images, labels), choose_machine("cuda", "auto", deterministic=True)
    trainer = Trainer(model, task, part, part, SETTINGS, 0, machine)
    trainer.replayed = trainer.replayed if replayed else None
    with machine.computing():
        for _ in range(epochs):
            trainer.run_epoch()
    return trainer


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: value.cpu() for name, value in trainer.model.state_dict().items()}


KINDS = pytest.mark.parametrize(
    ("build", "task"),
    [
        (a_resnet, Classification()),
        (a_vinet, VINetTask(alpha=0.5, ramp=0.0, warmup=0.35)),
        (a_vinet, VINetTask(alpha=0.5, ramp=0.4, warmup=0.2)),
    ],
    ids=["resnet", "vinet", "vinet with a ramp"],
)


@KINDS
def test_replayed_steps_are_those_that_are_written_out(build, task) -> None:  # type: ignore[no-untyped-def]
    ours, plain = trained(build(), task, 10), trained(build(), task, 10, replayed=False)
    assert ours.replayed is not None and ours.replayed.recorded
    assert ours.train_losses == plain.train_losses
    assert ours.validation_losses == plain.validation_losses
    for name, value in weights(plain).items():
        assert torch.equal(weights(ours)[name], value), name


@KINDS
def test_a_training_that_was_ended_goes_on_to_the_same_weights(build, task) -> None:  # type: ignore[no-untyped-def]
    whole, first = trained(build(), task, 10), trained(build(), task, 6)
    second = trained(build(), task, 0)
    second.resume(first.state())
    with second.machine.computing():
        while second.epochs_done < 10:
            second.run_epoch()
    assert second.train_losses == whole.train_losses
    for name, value in weights(whole).items():
        assert torch.equal(weights(second)[name], value), name


def test_a_smoke_run_on_the_gpu(command: Command) -> None:
    methods = ("vinet", "cam", "lrp", "ig", "random")
    tiny = ("--preset", "smoke", "--set", "phantom.slices=60", "--methods", ",".join(methods))
    ended = command("run", "all", *tiny, "--device", "cuda", "--out", "mine")
    assert ended.code == 0, ended.err
    for table in ("table1.csv", "table2.csv"):
        with (Path("mine") / table).open(encoding="utf-8", newline="") as file:
            rows = {row["method"]: row for row in csv.DictReader(file)}
        assert set(methods) <= set(rows)
        assert all(0 <= float(rows[name]["accuracy"]) <= 1 for name in methods)
    again = command("run", "all", *tiny, "--device", "cuda", "--out", "mine")
    assert "\n0 cells made" in again.out
