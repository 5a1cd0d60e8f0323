"""Either VINet as settings ask for it: built, saved in a folder, and loaded again."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

import torch
from pydantic import AfterValidator, Field, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vinet_bench import __version__
from vinet_bench.ablations import rules_of
from vinet_bench.data.pictures import LARGEST
from vinet_bench.data.tables import check_bytes, printable, shown
from vinet_bench.errors import CellError, UserError
from vinet_bench.machine import Machine, as_pictures
from vinet_bench.masks import constant
from vinet_bench.methods import SaliencyMethod, method
from vinet_bench.networks import build_classifier, build_critic, build_importance
from vinet_bench.prediction import evaluation_batch, predict
from vinet_bench.sealed import SealedVINet
from vinet_bench.sealed_training import SealedTask
from vinet_bench.settings import Frozen, SealedTraining, VINetTraining
from vinet_bench.training_tasks import Task, VINetTask
from vinet_bench.vinet import VINet
from vinet_bench.writing import replacing

CONFIG, WEIGHTS = "config.json", "weights.safetensors"

AnyTraining = VINetTraining | SealedTraining


def build_vinet(training: AnyTraining, num_classes: int, size: tuple[int, int], seed: int) -> VINet:
    """An untrained VINet, sealed or not, for pictures of this size (height, width).

    Raises UserError for a network of unknown name, or one that does not suit.
    """
    if isinstance(training, SealedTraining):
        return build_sealed(training, num_classes, size, seed)
    try:
        return VINet(
            build_importance(training.importance, seed, training.width),
            build_classifier(training.classifier, num_classes, seed, training.width, size),
            example=torch.zeros(1, 1, *size),
            multi_scale=training.destruction != "single",
            shift=training.shift,
            antialias=training.antialias,
            rules=rules_of(training),
        )
    except (ValueError, CellError) as error:
        raise UserError(f"--set vinet.classifier={training.classifier}: {error}") from None


def build_sealed(
    training: SealedTraining, num_classes: int, size: tuple[int, int], seed: int
) -> SealedVINet:
    """An untrained sealed VINet for pictures of this size (height, width)."""
    return SealedVINet(
        build_importance(training.importance, seed, training.width),
        build_classifier(training.classifier, num_classes, seed, training.width, size),
        example=torch.zeros(1, 1, *size),
        wanted=training,
        critic=build_critic(num_classes, seed) if training.critic else None,
    )


def task_of(training: AnyTraining) -> Task:
    """What a VINet is trained for under these settings."""
    if isinstance(training, SealedTraining):
        return SealedTask(training)
    return VINetTask(training.alpha, training.ramp, training.warmup)


# By kind of network whose it is, and which settings may revive it.
_DEAD = {
    "vinet": ("VINet's", "vinet.learning_rate, shift or alpha"),
    "sealed": ("the sealed VINet's", "sealed.learning_rate or critic"),
}


def check_alive(maps: Tensor, kind: str = "vinet") -> None:
    """Eq. 2 makes a constant map 1 everywhere: Eq. 9 would reserve all, and that says nothing."""
    dead = int(constant(maps).sum())
    if dead:
        whose, mend = _DEAD[kind]
        raise CellError(
            f"{whose} importance network is dead: its map is constant on {dead} of {len(maps)} test"
            f" pictures; train longer, or with another {mend}"
        )


def own_method(name: str) -> SaliencyMethod:
    """A method that explains a VINet, sealed or not. Raises UserError for an unknown one, or any
    other."""
    chosen = method(name)
    if chosen.info.explains == "nothing":
        raise UserError(f"--method {name}: a control explains no network; leave --method out")
    if chosen.info.explains == "classifier":
        raise UserError(
            f"--method {name}: it explains the classifier of `vinet-bench run`, not a VINet: leave"
            f" --method out, or compare with `vinet-bench run all --methods vinet,{name}`"
        )
    return chosen


Side = Annotated[int, Field(ge=1, le=LARGEST)]
Printable = Annotated[str, AfterValidator(printable)]


class ModelConfig(Frozen):
    """What must be known of a trained VINet to use it again, and where it comes from.

    vinet, sealed: the settings of the one that it is. method: whose map it is.
    """

    version: str
    class_names: Annotated[tuple[Printable, ...], Field(min_length=2, max_length=1000)]
    size: tuple[Side, Side]
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    threshold: float
    data: str
    data_fingerprint: str
    preset: str
    method: Printable = "vinet"
    vinet: VINetTraining | None = None
    sealed: SealedTraining | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.vinet is None) == (self.sealed is None):
            raise ValueError("it is a VINet or a sealed one")
        return self

    @property
    def kind(self) -> Literal["vinet", "sealed"]:
        """What `MethodInfo.explains` calls it."""
        return "vinet" if self.sealed is None else "sealed"

    @property
    def training(self) -> AnyTraining:
        return cast(AnyTraining, self.vinet or self.sealed)

    def told(self) -> dict[str, Any]:
        """As JSON has it."""
        return self.model_dump(mode="json", exclude_none=True)


@dataclass(frozen=True)
class TrainedVINet:
    """A trained VINet in evaluation mode, with what must be known of it."""

    network: VINet
    config: ModelConfig
    machine: Machine

    @classmethod
    def load(cls, folder: Path, machine: Machine) -> Self:
        """What save() wrote. Raises UserError if the folder holds no model, or it does not read."""
        config = _read_config(folder)
        network = build_vinet(config.training, len(config.class_names), config.size, config.seed)
        try:
            weights = load_file(folder / WEIGHTS)
            network.load_state_dict(weights)
        except (SafetensorError, OSError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"{folder / WEIGHTS} does not fit its {CONFIG} ({reason}): train the model again"
            ) from None
        broken = next((n for n, w in weights.items() if not torch.isfinite(w).all()), None)
        if broken is not None:
            raise UserError(
                f"{folder / WEIGHTS}: {shown(broken)} has values that are not finite: train again"
            )
        # As in training: another memory format takes other kernels, and the last bits change.
        network.to(memory_format=torch.channels_last)
        return cls(network.to(machine.device).eval().requires_grad_(False), config, machine)

    def save(self, folder: Path) -> None:
        """Weights (safetensors) and, when they are there, what must be known of them (JSON)."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {k: v.cpu().contiguous() for k, v in self.network.state_dict().items()}
        save_file(state, folder / WEIGHTS)
        text = json.dumps(self.config.told(), indent=2)
        with replacing(folder / CONFIG) as part:
            part.write_text(text + "\n", encoding="utf-8")

    def probabilities(self, images: Tensor) -> Tensor:
        """Class probabilities, the noise seeded as in training. (N, 1, H, W) -> (N, K)."""
        return predict(self.network, images, self.machine, self.config.seed)

    @torch.no_grad()
    def maps(self, images: Tensor) -> Tensor:
        """M, on the CPU. (N, 1, H, W), uint8 or floating -> (N, H, W)."""
        batches = torch.split(images, evaluation_batch(images))
        pictures = (as_pictures(batch.to(self.machine.device)) for batch in batches)
        return torch.cat([self.network.importance_map(batch)[:, 0].cpu() for batch in pictures])


def _read_config(folder: Path) -> ModelConfig:
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(f"{folder} holds no model (no {CONFIG}): give the folder of `train --out`")
    try:
        check_bytes(path)
        return ModelConfig.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (ValidationError, ValueError, OSError, RecursionError):
        raise UserError(f"{path} does not read as a model of vinet-bench {__version__}") from None
