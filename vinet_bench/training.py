"""The only training loop: Adam, a validation part that picks the checkpoint, seeded throughout."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from vinet_bench.errors import CellError
from vinet_bench.hooks import evaluating
from vinet_bench.seeds import generator, picture_generators
from vinet_bench.settings import Training
from vinet_bench.vinet import VINet, vinet_loss

EVALUATION_BATCH = 128


@dataclass(frozen=True)
class Examples:
    """Pictures (N, 1, H, W), uint8 (0..255) or floating (0..1), and labels (N,) int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def pictures(self, indices: Tensor | slice) -> Tensor:
        """Some of the pictures as float32 in [0, 1]."""
        return as_pictures(self.images[indices])


def as_pictures(images: Tensor) -> Tensor:
    """uint8 (0..255) or floating (0..1) pictures as float32 in [0, 1]."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


@dataclass(frozen=True)
class Machine:
    """Where networks run, and whether training computes in bfloat16."""

    device: torch.device
    bfloat16: bool

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)


class Task(Protocol):
    """What a network is trained for."""

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, progress: float, noise: Generator
    ) -> Tensor:
        """The loss of a training batch; progress runs from 0 to 1 over the training."""
        ...

    def validation_loss(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of an evaluation batch, the same for every epoch."""
        ...


class Classification:
    """Cross entropy."""

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, progress: float, noise: Generator
    ) -> Tensor:
        return F.cross_entropy(model(images).float(), labels)

    def validation_loss(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(model(images).float(), labels)


@dataclass(frozen=True)
class VINetTask:
    """Eq. 6, its a rising linearly over the first `ramp` of the training."""

    alpha: float
    ramp: float

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, progress: float, noise: Generator
    ) -> Tensor:
        alpha = self.alpha * min(1.0, progress / self.ramp if self.ramp else 1.0)
        logits, m = model(images, noise)
        return vinet_loss(logits, labels, m, alpha).total

    def validation_loss(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        noise = picture_generators(images, "validation", device=images.device)
        logits, m = model(images, noise)
        return vinet_loss(logits, labels, m, self.alpha).total


@dataclass(frozen=True)
class Fit:
    """How a training went, epoch by epoch, and the epoch (from 1) whose weights were kept."""

    train_losses: tuple[float, ...]
    validation_losses: tuple[float, ...]
    epoch: int


def fit(
    model: nn.Module,
    task: Task,
    train: Examples,
    validation: Examples,
    settings: Training,
    seed: int,
    machine: Machine,
    on_epoch: Callable[[], None] = lambda: None,
) -> Fit:
    """Trains the model in place and leaves it with the weights of its best validation epoch.

    Raises CellError if the loss is not a number.
    """
    model.to(machine.device, memory_format=torch.channels_last)
    train, validation = _on(train, machine.device), _on(validation, machine.device)
    order, noise = generator("order", seed), generator("noise", seed, device=machine.device)
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.learning_rate, fused=True)
    steps = len(_batches(len(train), settings.batch, generator("count")))
    rate = _schedule(optimiser, settings, steps * settings.epochs)
    best, best_state, kept = float("inf"), {}, 0
    losses: tuple[list[float], list[float]] = ([], [])
    for epoch in range(settings.epochs):
        model.train()
        total = 0.0
        for step, batch in enumerate(_batches(len(train), settings.batch, order)):
            images = _flipped(train.pictures(batch), order) if settings.flips else (
                train.pictures(batch)
            )
            progress = (epoch + step / steps) / settings.epochs
            with machine.autocast():
                loss = task.loss(
                    model, images.to(memory_format=torch.channels_last), train.labels[batch],
                    progress, noise,
                )
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            rate.step()
            total += loss.item()
        score = _validate(model, task, validation, machine)
        losses[0].append(total / steps)
        losses[1].append(score)
        if not (torch.isfinite(torch.tensor([total, score])).all()):
            raise CellError(f"the network diverged in epoch {epoch + 1}: its loss is not a number")
        if score < best:
            best, best_state, kept = score, copy.deepcopy(model.state_dict()), epoch + 1
        on_epoch()
    model.load_state_dict(best_state)
    return Fit(tuple(losses[0]), tuple(losses[1]), kept)


def _on(examples: Examples, device: torch.device) -> Examples:
    return Examples(examples.images.to(device), examples.labels.to(device))


def _batches(n: int, size: int, order: Generator) -> list[Tensor]:
    """Shuffled batches; a last batch of one is left out, since BatchNorm has nothing to do there."""
    batches = torch.randperm(n, generator=order).split(size)
    return [batch for batch in batches if len(batch) > 1]


def _flipped(images: Tensor, order: Generator) -> Tensor:
    for axis in (2, 3):
        chosen = torch.rand(len(images), 1, 1, 1, generator=order).to(images.device) < 0.5
        images = torch.where(chosen, images.flip(axis), images)
    return images


def _schedule(
    optimiser: torch.optim.Optimizer, settings: Training, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    if settings.schedule == "constant":
        return torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0)
    # Adam's betas are the paper's and stay: only the rate cycles.
    return torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, total_steps=steps, cycle_momentum=False
    )


@torch.no_grad()
def _validate(model: nn.Module, task: Task, examples: Examples, machine: Machine) -> float:
    total = 0.0
    with evaluating(model):
        for batch in torch.arange(len(examples)).split(EVALUATION_BATCH):
            with machine.autocast():
                loss = task.validation_loss(model, examples.pictures(batch), examples.labels[batch])
            total += loss.item() * len(batch)
    return total / len(examples)


@torch.no_grad()
def predict(model: nn.Module, images: Tensor, machine: Machine, seed: int = 0) -> Tensor:
    """Class probabilities, float32 on the CPU. images (N, 1, H, W) as in Examples -> (N, K).

    A VINet draws its noise from each picture's content and the seed, so that no batch matters.
    """
    probabilities = []
    model.to(machine.device)
    with evaluating(model):
        for batch in images.split(EVALUATION_BATCH):
            pictures = as_pictures(batch.to(machine.device))
            if isinstance(model, VINet):
                noise = picture_generators(pictures, "predict", seed, device=machine.device)
                logits = model(pictures, noise).logits
            else:
                logits = model(pictures)
            probabilities.append(logits.float().softmax(dim=1).cpu())
    return torch.cat(probabilities)
