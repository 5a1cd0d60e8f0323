"""ResNet-18 as `run` trains it, against the bare steps and against a tutorial's loop."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from benchmarks.turns import Ratio, Row, Work, speed
from vinet_bench.data.dataset import SliceDataset
from vinet_bench.data.phantom import PhantomSettings, phantom
from vinet_bench.machine import Examples, Machine
from vinet_bench.networks import build_classifier
from vinet_bench.presets import PRESETS
from vinet_bench.run import choose_machine
from vinet_bench.seeds import generator
from vinet_bench.settings import Training
from vinet_bench.training import Trainer
from vinet_bench.training_tasks import Classification, Task

STEPS = 6
RETRAIN = PRESETS["quick"].settings.retrain
Loss = Callable[[Tensor, Tensor], Tensor]


def bare(rounds: int) -> list[Ratio]:
    """Steps a second as a share of the bare ones'."""
    found = []
    for size in (64, 128):
        data, machine = data_for(size, STEPS * RETRAIN.batch), this_machine()
        model, alone = (build_classifier("resnet18", 5, seed=0) for _ in range(2))
        ours = our_steps(model, Classification(), data, RETRAIN, machine)
        limit = bare_steps(alone, data, RETRAIN.batch, machine, F.cross_entropy)
        found.append(speed(f"training / bare steps, {size} x {size}", 0.95, ours, limit, rounds))
    return found


def tutorial(rounds: int) -> list[Ratio]:
    """Times faster than a plain loop over picture files."""
    found = []
    for size in (64, 128):
        data, machine = data_for(size, STEPS * RETRAIN.batch), this_machine()
        model, plain = (build_classifier("resnet18", 5, seed=0) for _ in range(2))
        ours = our_steps(model, Classification(), data, RETRAIN, machine)
        with tempfile.TemporaryDirectory() as place:
            write_pictures(data, Path(place))
            theirs = tutorial_epoch(plain, Path(place))
            found.append(speed(f"training / tutorial, {size} x {size}", 2.5, ours, theirs, rounds))
    return found


# ---- ours


def this_machine() -> Machine:
    """The CPU, in the precision that `run` takes by itself."""
    return choose_machine("cpu", "auto")


def data_for(size: int, count: int) -> SliceDataset:
    """A phantom's slices."""
    return phantom(PhantomSettings(slices=count, size=size))


def our_steps(
    model: nn.Module,
    task: Task,
    data: SliceDataset,
    training: Training,
    machine: Machine,
    replayed: bool = True,
) -> Work:
    """An epoch's steps as `fit` takes them; not its end, since the limit has no validation.

    replayed: on a GPU, or else written out.
    """
    images, labels = torch.from_numpy(data.images)[:, None], torch.from_numpy(data.labels)
    part = Examples(images, labels)
    long = training.model_copy(update={"epochs": 1000})  # the schedule must not end
    trainer = Trainer(model, task, part, part, long, 0, machine)
    trainer.replayed = trainer.replayed if replayed else None
    order = generator("benchmark")

    def steps() -> None:
        model.train()
        for batch in torch.split(torch.randperm(len(data), generator=order), training.batch):
            trainer.take_step(batch, progress=0.5)

    return steps


# ---- the peers


def bare_steps(
    model: nn.Module, data: SliceDataset, batch: int, machine: Machine, loss: Loss
) -> Work:
    """As many steps as an epoch has on a batch that is there: the same precision and layout."""
    step = bare_step(model, data, batch, machine, loss)

    def steps() -> None:
        for _ in range(len(data) // batch):
            step()

    return steps


def bare_step(
    model: nn.Module, data: SliceDataset, batch: int, machine: Machine, loss: Loss
) -> Work:
    """Forward, backward and fused Adam on one batch."""
    device, on_gpu = machine.device, machine.device.type == "cuda"
    model.to(device).train().to(memory_format=torch.channels_last)
    images = torch.from_numpy(data.pictures(slice(batch))).to(memory_format=torch.channels_last)
    images, labels = images.to(device), torch.from_numpy(data.labels[:batch]).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True, capturable=on_gpu)

    def step() -> None:
        with machine.autocast():
            value = loss(model(images).float(), labels)
        optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return step


def write_pictures(data: SliceDataset, folder: Path) -> None:
    """As ImageFolder wants them: a folder for each class."""
    for name in data.class_names:
        (folder / name).mkdir()
    for number, (image, label) in enumerate(zip(data.images, data.labels, strict=True)):
        Image.fromarray(image).save(folder / data.class_names[label] / f"{number:05d}.png")


def tutorial_epoch(model: nn.Module, folder: Path) -> Work:
    """An epoch as PyTorch's tutorials write it: files, DataLoader, float32, Adam, batch 32."""
    steps = [
        transforms.Grayscale(),
        transforms.RandomHorizontalFlip(),
        transforms.RandomVerticalFlip(),
        transforms.ToTensor(),
    ]
    dataset = ImageFolder(str(folder), transforms.Compose(steps))
    loader = DataLoader(dataset, batch_size=32, shuffle=True, num_workers=2)
    criterion, optimiser = nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=1e-3)

    def run() -> None:
        model.train()
        running = 0.0
        for inputs, labels in loader:
            optimiser.zero_grad()
            loss = criterion(model(inputs), labels)
            loss.backward()
            optimiser.step()
            running += loss.item()

    return run


BENCHMARKS = (
    Row("training", "0.95 of the bare steps' throughput", bare),
    Row("tutorial", "2.5 times a tutorial's loop", tutorial),
)
