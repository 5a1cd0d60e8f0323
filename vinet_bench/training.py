"""The only training loop: Adam, a validation part that picks the checkpoint, seeded throughout."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from vinet_bench.checkpoints import Checkpoint, State
from vinet_bench.errors import CellError
from vinet_bench.hooks import evaluating
from vinet_bench.machine import Examples, Machine
from vinet_bench.prediction import evaluation_batch
from vinet_bench.seeds import generator
from vinet_bench.settings import Training
from vinet_bench.steps import Replayed
from vinet_bench.training_tasks import Phased, Task

AXES = (2, 3)  # of a batch (B, C, H, W), along which pictures are flipped
CHECKPOINT_RULE = "the epoch with the lowest validation loss"


@dataclass(frozen=True)
class Fit:
    """How a training went, epoch by epoch, and the epoch (from 1) whose weights were kept."""

    train_losses: tuple[float, ...]
    validation_losses: tuple[float, ...]
    epoch: int

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """As it is stored."""
        return {name: np.array(value, np.float64) for name, value in vars(self).items()}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[np.float64]]) -> Self:
        """What `arrays` gave; others in the mapping are left alone."""
        train, validation = (arrays[f"{part}_losses"].tolist() for part in ("train", "validation"))
        return cls(tuple(train), tuple(validation), int(arrays["epoch"].item()))

    def convergence(self) -> dict[str, float]:
        """The figures by which an audit judges it. late_fall: by what share the validation loss
        still fell over the last tenth of the epochs."""
        last = max(1, round(0.1 * len(self.validation_losses)))
        before = self.validation_losses[max(0, len(self.validation_losses) - 1 - last)]
        return {
            "train_loss": self.train_losses[-1],
            "validation_loss": min(self.validation_losses),
            "kept_epoch": float(self.epoch),
            "late_fall": (before - self.validation_losses[-1]) / max(before, 1e-12),
        }


def fit(
    model: nn.Module,
    task: Task,
    train: Examples,
    validation: Examples,
    settings: Training,
    seed: int,
    machine: Machine,
    on_epoch: Callable[[], None] = lambda: None,
    checkpoint: Checkpoint | None = None,
) -> Fit:
    """Trains the model in place and leaves it with the weights of its best validation epoch, the
    task's warm-up apart.

    checkpoint: where a training that is killed leaves its state, and goes on from it to the same
    weights. Raises CellError if the loss is not a number.
    """
    with _own_random(seed, machine.device):
        training = Trainer(model, task, train, validation, settings, seed, machine)
        if checkpoint and (state := checkpoint.load()):
            training.resume(state)
        for _ in range(training.epochs_done):
            on_epoch()
        while training.epochs_done < settings.epochs:
            training.run_epoch(checkpoint)
            on_epoch()
    model.load_state_dict(training.best_weights)
    return Fit(tuple(training.train_losses), tuple(training.validation_losses), training.kept)


@contextmanager
def _own_random(seed: int, device: torch.device) -> Iterator[None]:
    """torch's global random numbers, which dropout takes, depend on the seed alone, and are given
    back as they were."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(generator("dropout", seed).initial_seed())
        yield


class Trainer:
    """The state of one training: weights, optimiser, schedule, random numbers, the place in the
    epoch, and the best epoch so far."""

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        train: Examples,
        validation: Examples,
        settings: Training,
        seed: int,
        machine: Machine,
    ) -> None:
        model.to(machine.device).to(memory_format=torch.channels_last)
        self.model, self.task = model, task
        self.train, self.validation = (_on(part, machine.device) for part in (train, validation))
        self.settings, self.machine = settings, machine
        self.order = generator("order", seed)
        self.noise = generator("noise", seed, device=machine.device)
        self.replayed = Replayed(self.noise) if self._recordable() else None
        self.optimiser = _adam(model, settings.learning_rate, machine.device)
        self.steps = len(_batches(len(train), settings.batch, generator("count")))
        self.unripe = math.floor(task.warmup * settings.epochs + 1e-9)  # epochs of warm-up alone
        self.rate = _schedule(self.optimiser, settings, self.steps * settings.epochs)
        self.batches: list[Tensor] = []
        self.step, self.total = 0, torch.zeros((), dtype=torch.float64)
        self.train_losses: list[float] = []
        self.validation_losses: list[float] = []
        self.kept = 0
        self.best_weights: dict[str, Tensor] = {}

    @property
    def epochs_done(self) -> int:
        return len(self.validation_losses)

    # What of the object itself, and of the objects it holds, goes into a checkpoint.
    _PLAIN = (
        *("batches", "step", "total", "train_losses", "validation_losses", "kept"),
        "best_weights",
    )
    _HOLDERS = ("model", "optimiser", "rate")
    _RANDOM = ("order", "noise")

    def state(self) -> State:
        """All that a training needs to go on, as tensors and plain values."""
        return {
            **{name: getattr(self, name) for name in self._PLAIN},
            **{name: getattr(self, name).state_dict() for name in self._HOLDERS},
            **{name: getattr(self, name).get_state() for name in self._RANDOM},
            "global": _global_random(self.machine.device),
        }

    def resume(self, state: State) -> None:
        """Goes on from what `state` gave."""
        for name in self._PLAIN:
            setattr(self, name, state[name])
        for name in self._HOLDERS:
            getattr(self, name).load_state_dict(state[name])
        for name in self._RANDOM:
            getattr(self, name).set_state(state[name].cpu())
        _set_global_random(self.machine.device, state["global"])

    def run_epoch(self, checkpoint: Checkpoint | None = None) -> None:
        """The rest of a pass over the training part, and its validation.

        Raises CellError if a loss is not a number.
        """
        self.model.train()
        self.batches = self.batches or _batches(len(self.train), self.settings.batch, self.order)
        while self.step < self.steps:
            progress = (self.epochs_done + self.step / self.steps) / self.settings.epochs
            self.total = self.total + self.take_step(self.batches[self.step], progress).double()
            self.step += 1
            if checkpoint and checkpoint.due():
                checkpoint.save(self.state())
        self._end_epoch()

    def _end_epoch(self) -> None:
        loss = float(self.total) / self.steps
        held_out = _validate(self.model, self.task, self.validation, self.machine)
        if not math.isfinite(loss + held_out):
            number = self.epochs_done + 1
            raise CellError(f"the network diverged in epoch {number}: its loss is no number")
        # A map that has not learnt yet may keep everything, which a classifier reads best: an epoch
        # of warm-up alone is no rival of those that follow.
        if held_out < min(self.validation_losses[self.unripe :], default=math.inf):
            self.kept = self.epochs_done + 1
            self.best_weights = copy.deepcopy(self.model.state_dict())
        self.train_losses.append(loss)
        self.validation_losses.append(held_out)
        self.batches, self.step, self.total = [], 0, torch.zeros_like(self.total)

    def take_step(self, batch: Tensor, progress: float) -> Tensor:
        """One step on these pictures of the training part, (B,) indices; its loss, on the device,
        since a GPU that is asked for it waits."""
        flips = _drawn_flips(len(batch), self.order) if self.settings.flips else torch.empty(0)
        step = partial(self._step, progress)
        if self.replayed is None:
            loss = step(batch.to(self.machine.device), flips.to(self.machine.device))
        else:
            loss = self.replayed(cast(Phased, self.task).phase(progress), step, batch, flips)
        self.rate.step()
        return loss

    def _step(self, progress: float, batch: Tensor, flips: Tensor) -> Tensor:
        """Forward, backward, Adam."""
        images = _flipped(self.train.pictures(batch), flips)
        images = images.to(memory_format=torch.channels_last)
        self.optimiser.zero_grad()
        with self.machine.autocast():
            labels = self.train.labels[batch]
            loss = self.task.loss(self.model, images, labels, progress, self.noise)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return loss.detach()

    def _recordable(self) -> bool:
        return self.machine.device.type == "cuda" and isinstance(self.task, Phased)


def _adam(model: nn.Module, rate: float, device: torch.device) -> torch.optim.Adam:
    """On a GPU its rate and its count lie there, where a recorded step finds them changed."""
    on_gpu = device.type == "cuda"
    lr = torch.tensor(rate, device=device) if on_gpu else rate
    return torch.optim.Adam(model.parameters(), lr=lr, fused=True, capturable=on_gpu)


def _global_random(device: torch.device) -> list[Tensor]:
    states = [torch.random.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def _set_global_random(device: torch.device, states: list[Tensor]) -> None:
    torch.random.set_rng_state(states[0].cpu())
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1].cpu(), device)


def _on(examples: Examples, device: torch.device) -> Examples:
    return Examples(examples.images.to(device), examples.labels.to(device))


def _batches(n: int, size: int, order: Generator) -> list[Tensor]:
    """Shuffled batches; a last batch of one is left out: BatchNorm has nothing to do there."""
    batches = torch.split(torch.randperm(n, generator=order), size)
    return [batch for batch in batches if len(batch) > 1]


def _drawn_flips(count: int, order: Generator) -> Tensor:
    """Which of so many pictures are flipped along each of AXES, (2, count) bool."""
    return torch.stack([torch.rand(count, generator=order) < 0.5 for _ in AXES])


def _flipped(images: Tensor, flips: Tensor) -> Tensor:
    """images (B, C, H, W), flips as drawn; of none, as they are."""
    for axis, chosen in zip(AXES, flips, strict=False):
        images = torch.where(chosen[:, None, None, None], images.flip(axis), images)
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
        for batch in torch.split(torch.arange(len(examples)), evaluation_batch(examples.images)):
            with machine.autocast():
                loss = task.validation_loss(model, examples.pictures(batch), examples.labels[batch])
            total += loss.item() * len(batch)
    return total / len(examples)
