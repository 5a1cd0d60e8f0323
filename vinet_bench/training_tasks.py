"""What networks are trained for: the loss of a step and of the validation part."""

from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

from torch import Generator, Tensor, nn
from torch.nn import functional as F

from vinet_bench.seeds import picture_generators
from vinet_bench.vinet import VINet, vinet_loss

WARMUP = -1.0  # the phase in which M is 1 and there is no a


class Task(Protocol):
    """What a network is trained for.

    warmup: the share of the training in which a part of the network, its map, does not learn yet.
    """

    @property
    def warmup(self) -> float: ...

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

    warmup = 0.0

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
