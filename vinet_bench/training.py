"""The only training loop: Adam, a validation part that picks the checkpoint, seeded throughout."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Protocol, Self, cast, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from vinet_bench.checkpoints import Checkpoint, State
from vinet_bench.errors import CellError
from vinet_bench.hooks import evaluating
from vinet_bench.kernels import same_kernels
from vinet_bench.seeds import generator, picture_generators
from vinet_bench.settings import Training
from vinet_bench.steps import Replayed
from vinet_bench.vinet import VINet, vinet_loss

EVALUATION_BATCH = 128  # of 64 x 64
AXES = (2, 3)  # of a batch (B, C, H, W), along which pictures are flipped
WARMUP = -1.0  # the phase in which M is 1 and there is no a


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
    """Where networks run, whether training computes in bfloat16, and on the CPU with how many
    threads (0: as many as torch takes): sums in another order end in other last bits.

    deterministic: on a GPU only kernels that give the same bits twice; a CPU has no others.
    """

    device: torch.device
    bfloat16: bool
    threads: int = 0
    deterministic: bool = False

    @contextmanager
    def computing(self) -> Iterator[None]:
        """With the threads and the kernels that the results depend on, and before as after."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads or before)
        try:
            with same_kernels() if self.fixed_kernels else nullcontext():
                yield
        finally:
            torch.set_num_threads(before)

    @property
    def fixed_kernels(self) -> bool:
        """Whether some of the device's kernels are left out, so that figures may differ by it."""
        return self.deterministic and self.device.type == "cuda"

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


@runtime_checkable
class Phased(Task, Protocol):
    """A task whose steps can be recorded: none waits for a figure from the GPU."""

    def phase(self, progress: float) -> float:
        """What of the progress the loss depends on."""
        ...


class Classification:
    """Cross entropy."""

    def phase(self, progress: float) -> float:
        return 0.0

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, progress: float, noise: Generator
    ) -> Tensor:
        return F.cross_entropy(model(images).float(), labels)

    def validation_loss(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(model(images).float(), labels)


@dataclass(frozen=True)
class VINetTask:
    """Eq. 6 after a warm-up of the classifier, its a rising linearly over the `ramp` that follows.

    Warm-up: M is 1, so the classifier learns to read undestroyed pictures before the importance
    network moves; a classifier that cannot read yet teaches it to write the class into the map.
    """

    alpha: float
    ramp: float
    warmup: float

    def phase(self, progress: float) -> float:
        """Eq. 6's a, or a number below it during the warm-up."""
        if progress < self.warmup:
            return WARMUP
        risen = (progress - self.warmup) / self.ramp if self.ramp else 1.0
        return self.alpha * min(1.0, risen)

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, progress: float, noise: Generator
    ) -> Tensor:
        alpha = self.phase(progress)
        if alpha == WARMUP:
            classifier = cast(VINet, model).classifier
            return F.cross_entropy(classifier(images).float(), labels)
        logits, m = model(images, noise)
        return vinet_loss(logits, labels, m, alpha).total

    def validation_loss(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        noise = picture_generators(images, "validation", device=images.device)
        logits, m = model(images, noise)
        return vinet_loss(logits, labels, m, self.alpha).total


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
    """Trains the model in place and leaves it with the weights of its best validation epoch.

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
        if held_out < min(self.validation_losses, default=math.inf):
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


def evaluation_batch(images: Tensor) -> int:
    """How many pictures are evaluated at once: fewer where they are larger than 64 x 64, so that
    memory does not grow with their size. images (N, 1, H, W)."""
    larger = images.shape[-2] * images.shape[-1] / 64**2
    return max(1, int(EVALUATION_BATCH / max(1.0, larger)))


def predict(model: nn.Module, images: Tensor, machine: Machine, seed: int = 0) -> Tensor:
    """Class probabilities, float32 on the CPU. images (N, 1, H, W) as in Examples -> (N, K).

    A VINet draws its noise from each picture's content and the seed, so that no batch matters.
    """
    return predict_logits(model, images, machine, seed).softmax(dim=1)


@torch.no_grad()
def predict_logits(
    model: nn.Module,
    images: Tensor,
    machine: Machine,
    seed: int = 0,
    noise_of: Tensor | None = None,
) -> Tensor:
    """As `predict`, before the softmax.

    noise_of: pictures whose content a VINet draws its noise from, where it must be the same for
    changed copies of them.
    """
    found = []
    model.to(machine.device)
    sources = images if noise_of is None else noise_of
    with evaluating(model):
        size = evaluation_batch(images)
        batches = (torch.split(some, size) for some in (images, sources))
        for batch, own in zip(*batches, strict=True):
            pictures = as_pictures(batch.to(machine.device))
            if isinstance(model, VINet):
                draws = picture_generators(as_pictures(own), "predict", seed, device=machine.device)
                logits = model(pictures, draws).logits
            else:
                logits = model(pictures)
            found.append(logits.float().cpu())
    return torch.cat(found)
