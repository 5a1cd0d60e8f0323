"""The networks of a run: each is trained once, kept by what determines it, and loaded again."""

import copy
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vinet_bench import __version__
from vinet_bench.checkpoints import Checkpoint
from vinet_bench.clock import Clock
from vinet_bench.data.dataset import PARTS, SliceDataset
from vinet_bench.data.splits import Split
from vinet_bench.errors import CellError
from vinet_bench.machine import Examples, Machine
from vinet_bench.metrics import hits
from vinet_bench.models import AnyTraining, build_vinet, task_of
from vinet_bench.networks import build_classifier, build_explained, build_mask_reader
from vinet_bench.networks.explained import load_weights
from vinet_bench.networks_needed import UNTOUCHED, Network, explained_on
from vinet_bench.plan import Plan
from vinet_bench.prediction import predict
from vinet_bench.progress import Progress
from vinet_bench.records import Cell, key_of
from vinet_bench.settings import Settings, Training
from vinet_bench.store import Store
from vinet_bench.training import Fit, fit
from vinet_bench.training_tasks import Classification, Task

NEW_WEIGHTS = 1_000_003  # added to a seed: weights that no network of a run starts from


@dataclass(frozen=True)
class Recipe:
    """How a network is built from a seed, and what it is trained for."""

    title: str
    training: Training
    build: Callable[[int], nn.Module]
    task: Task


@dataclass(frozen=True)
class Retrained:
    """Test probabilities (N, K) of a trained network, and how its training ended."""

    probabilities: NDArray[np.float32]
    convergence: dict[str, float]


class _Cuts:
    """The parts of a split, cut once as long as no other's are asked for."""

    def __init__(self, data: SliceDataset) -> None:
        self._data = data
        self._last: tuple[Split, dict[str, SliceDataset], dict[str, Examples]] | None = None

    def of(self, split: Split) -> tuple[dict[str, SliceDataset], dict[str, Examples]]:
        if self._last is None or self._last[0] is not split:
            parts = {name: self._data.subset(split.part(name)) for name in PARTS}
            self._last = split, parts, {name: examples_of(part) for name, part in parts.items()}
        return self._last[1:]


def examples_of(part: SliceDataset) -> Examples:
    """What a network is trained or tested on: pictures (N, 1, H, W), labels (N,)."""
    return Examples(pictures_of(part), torch.from_numpy(part.labels))


def pictures_of(part: SliceDataset) -> Tensor:
    """A part's own pictures as in Examples, no copy. -> (N, 1, H, W)."""
    return torch.from_numpy(part.images)[:, None]


class TrainedNetworks:
    """What cells share in one run: data, split, store, machine, and the networks."""

    def __init__(
        self,
        plan: Plan,
        data: SliceDataset,
        split: Split,
        store: Store,
        machine: Machine,
        progress: Progress,
    ) -> None:
        self.plan = plan
        self.data = data
        self.split = split
        self.store = store
        self.machine = machine
        self.progress = progress
        self.clock = Clock()
        self._cuts = _Cuts(data)
        self._cut(split.of(plan.seeds[0]))
        self._networks: dict[str, nn.Module] = {}
        self._diverged: dict[str, str] = {}
        self._training = ""  # what sets its networks' training part apart from the split's

    def _cut(self, own: Split) -> None:
        self._own = own
        self._parts, self._examples = self._cuts.of(own)

    def at(self, seed: int) -> Self:
        """The same workshop with the parts of a seed's fold; without folds it has them already."""
        own = self.split.of(seed)
        if own is self._own:
            return self
        other = copy.copy(self)
        other._cut(own)
        return other

    @property
    def settings(self) -> Settings:
        return self.plan.settings

    def part(self, name: str) -> SliceDataset:
        """'train', 'validation' or 'test'."""
        return self._parts[name]

    def examples(self, part: str) -> Examples:
        return self._examples[part]

    def cell_key(self, cell: Cell) -> str:
        """A hash of all that can change the cell's figures."""
        own, context = self.split.of(cell.seed), self._context()
        if own is not self._own:
            context["split"] = key_of(
                {n: self.data.ids[i].tolist() for n, i in own.parts().items()}
            )
        return key_of(cell.identity() | context | {"plan": self.plan.identity()})

    def _context(self) -> dict[str, Any]:
        marked: dict[str, Any] = {"training": self._training} if self._training else {}
        if self.machine.fixed_kernels:
            marked["deterministic"] = True
        return marked | {
            "version": __version__,
            "bfloat16": self.machine.bfloat16,
            "device": self.machine.device.type,
            "threads": self.machine.threads if self.machine.device.type == "cpu" else 0,
            "data": self.data.fingerprint,
            "split": key_of({n: p.ids.tolist() for n, p in self._parts.items()}),
        }

    def keep_scores(self, cell: Cell, scores: Mapping[str, NDArray[np.floating]]) -> None:
        """Stores each test picture's scores, (N, ...), in the order of the test part.

        NaN: a picture without a score. Raises CellError for an infinite one.
        """
        with np.errstate(over="ignore"):  # told of below
            narrow = {name: array.astype(np.float32) for name, array in scores.items()}
        for name, array in narrow.items():
            if np.isinf(array).any():
                raise CellError(f"{name} is infinite, or beyond float32, for some test pictures")
        self.store.save("scores", self.cell_key(cell), narrow)

    def remembered(
        self, kind: str, parts: dict[str, Any], make: Callable[[], Mapping[str, NDArray[Any]]]
    ) -> Mapping[str, NDArray[Any]]:
        """Named arrays that several cells need, made once; parts: all that determines them beside
        the data, the split and the machine."""
        key = key_of(self._context() | parts)
        stored = self.store.load(kind, key)
        if stored is None:
            stored = dict(make())
            self.store.save(kind, key, stored)
        return stored

    # -- networks

    def explained(self, kind: str, seed: int) -> nn.Module:
        """The network that a method explains: 'vinet', 'sealed' or 'classifier'; a control gets
        none."""
        if kind == "nothing":
            return nn.Identity()
        if kind == "classifier" and self.settings.explained.weights:
            if self._training:
                raise CellError(
                    f"the network of --checkpoint is not trained here ({self._training})"
                )
            return self._loaded(seed)
        need = Network(kind, explained_on(self._training), seed)
        return self._trained(self.recipe(kind), seed, need)

    def recipe(self, kind: str) -> Recipe:
        """How the run's networks are made: 'vinet', 'sealed', 'classifier' (explained) or
        'resnet18'."""
        vinet, sealed, explained, retrain = (
            self.settings.vinet, self.settings.sealed, self.settings.explained,
            self.settings.retrain,
        )  # fmt: skip
        return {
            "vinet": Recipe("VINet", vinet, self._new_vinet(vinet), task_of(vinet)),
            "sealed": Recipe("Sealed VINet", sealed, self._new_vinet(sealed), task_of(sealed)),
            "classifier": Recipe(
                explained.network, explained, self._new_explained, Classification()
            ),
            "resnet18": self._classifier("Original", "resnet18", retrain),
        }[kind]

    def _classifier(self, title: str, name: str, training: Training) -> Recipe:
        return Recipe(title, training, self._new_classifier(name, training), Classification())

    def _loaded(self, seed: int) -> nn.Module:
        """The user's own network; every seed has the same."""
        key = self._network_key("checkpoint", 0, self.settings.explained)
        if key not in self._networks:
            name, file = self.settings.explained.network, Path(self.plan.checkpoint)
            model = load_weights(self._new_explained(seed), name, file)
            self._networks[key] = model.to(self.machine.device).eval().requires_grad_(False)
        return self._networks[key]

    def alone(self, seed: int) -> nn.Module:
        """VINet's classifier trained as VINet is, without destruction (Table III, first row)."""
        vinet = self.settings.vinet
        training = Training(**vinet.model_dump(include=set(Training.model_fields)))
        return self._trained(self._classifier(vinet.classifier, vinet.classifier, training), seed)

    def original(self, seed: int) -> nn.Module:
        """The ResNet-18 trained on the untouched pictures."""
        return self._trained(self.recipe("resnet18"), seed, Network("resnet18", UNTOUCHED, seed))

    def original_result(self, seed: int) -> Retrained:
        """What the original network reaches, and how its training ended."""
        model = self.original(seed)
        fitted = self.store.load("fits", self._network_key("Original", seed, self.settings.retrain))
        convergence = {} if fitted is None else Fit.of(fitted).convergence()
        learnt = {"train_accuracy": self._accuracy(model, self.examples("train"))}
        return Retrained(self.original_probabilities(seed), convergence | learnt)

    def _accuracy(self, model: nn.Module, examples: Examples) -> float:
        probabilities = predict(model, examples.images, self.machine).numpy()
        return float(hits(probabilities, examples.labels.numpy()).mean())

    def places(self, network: Network) -> list[tuple[str, str]]:
        """Kind and key of a network's artefacts; none for one that is not trained here."""
        if network.kind == "classifier" and self.settings.explained.weights:
            return []
        recipe = self.recipe(network.kind)
        key = self._network_key(recipe.title, network.seed, recipe.training)
        return [("networks", key), ("fits", key)]

    def _network_key(self, title: str, seed: int, training: Training) -> str:
        parts = {"network": title, "seed": seed}
        return key_of(self._context() | parts | training.model_dump())

    def _trained(self, recipe: Recipe, seed: int, need: Network | None = None) -> nn.Module:
        """need: the task that it is, where other cells need it too."""
        key = self._network_key(recipe.title, seed, recipe.training)
        if key in self._networks:
            return self._networks[key]
        model = recipe.build(seed)
        stored = self.store.load("networks", key)
        if stored is None:
            with self.clock.of(need):
                self._fit_once(key, recipe, model, seed)
            state = {k: v.cpu().numpy() for k, v in model.state_dict().items()}
            self.store.save("networks", key, state)
            self._checkpoint(key).remove()
        else:
            model.load_state_dict({k: torch.from_numpy(v) for k, v in stored.items()})
            # As in training: another memory format takes other kernels, and the last bits change.
            model.to(memory_format=torch.channels_last)
        self._networks[key] = model.to(self.machine.device).eval().requires_grad_(False)
        return model

    def _fit_once(self, key: str, recipe: Recipe, model: nn.Module, seed: int) -> None:
        """Many cells need the same network: one that diverged is not tried again for each."""
        title = f"{recipe.title}, seed {seed}"
        try:
            if key not in self._diverged:
                done = self._fit(
                    title, key, model, recipe.task, self._examples, recipe.training, seed
                )
                self.store.save("fits", key, done.arrays())
        except CellError as error:
            self._diverged[key] = f"{title}: {error}"
        if key in self._diverged:
            raise CellError(self._diverged[key])

    def _new_classifier(self, name: str, training: Training) -> Callable[[int], nn.Module]:
        return lambda seed: build_classifier(
            name, self.data.num_classes, seed, training.width, self.data.size
        )

    def _new_explained(self, seed: int) -> nn.Module:
        chosen, data = self.settings.explained, self.data
        return build_explained(chosen.network, data.num_classes, seed, chosen.width, data.size)

    def _new_vinet(self, training: AnyTraining) -> Callable[[int], nn.Module]:
        return lambda seed: build_vinet(training, self.data.num_classes, self.data.size, seed)

    def _checkpoint(self, key: str) -> Checkpoint:
        return Checkpoint(self.store.folder / "artefacts" / "checkpoints" / f"{key}.pt")

    def _fit(
        self,
        title: str,
        key: str,
        model: nn.Module,
        task: Task,
        examples: Mapping[str, Examples],
        training: Training,
        seed: int,
    ) -> Fit:
        checkpoint = self._checkpoint(key)
        with self.progress.step(f"training {title}", training.epochs) as advance:
            try:
                return fit(
                    model,
                    task,
                    examples["train"],
                    examples["validation"],
                    training,
                    seed,
                    self.machine,
                    advance,
                    checkpoint,
                )
            except CellError:
                checkpoint.remove()  # tried again it would only diverge again
                raise

    def retrained(
        self, examples: Mapping[str, Examples], seed: int, masks_alone: bool = False
    ) -> Retrained:
        """A ResNet-18 trained from scratch on these parts, scored on their test part.

        masks_alone: whether the pictures are masks, for which it starts otherwise.
        The initialisation, the order of the batches and the schedule depend on the seed alone.
        """
        training = self.settings.retrain
        inputs = {part: _content(e) for part, e in examples.items()}
        key = key_of(self._context() | inputs | {"seed": seed} | training.model_dump())
        stored = self.store.load("retrained", key)
        if stored is None:
            build = build_mask_reader if masks_alone else partial(build_classifier, "resnet18")
            model = build(self.data.num_classes, seed, training.width)
            done = self._fit("ResNet-18", key, model, Classification(), examples, training, seed)
            stored = done.arrays() | {
                "probabilities": predict(model, examples["test"].images, self.machine).numpy(),
                "train_accuracy": np.array(self._accuracy(model, examples["train"])),
            }
            self.store.save("retrained", key, stored)
            self._checkpoint(key).remove()
        learnt = {"train_accuracy": stored["train_accuracy"].item()}
        return Retrained(stored["probabilities"], Fit.of(stored).convergence() | learnt)

    def original_probabilities(self, seed: int) -> NDArray[np.float32]:
        """The original network's probabilities on the test part, (N, K)."""
        return self.predict_original(seed, self.examples("test").images)

    def predict_original(self, seed: int, images: Tensor) -> NDArray[np.float32]:
        """The original network's probabilities for pictures as in Examples, (N, K)."""
        return predict(self.original(seed), images, self.machine).numpy()

    def untrained(self, kind: str, seed: int) -> nn.Module:
        """A network of the kind that `explained` gives, with new weights of its own."""
        model = self.recipe(kind).build(seed + NEW_WEIGHTS)
        return model.to(self.machine.device).eval().requires_grad_(False)


def _content(examples: Examples) -> str:
    digest = hashlib.sha256(repr((examples.images.shape, examples.images.dtype)).encode())
    for column in (examples.images, examples.labels):
        digest.update(np.ascontiguousarray(column.numpy()).data)
    return digest.hexdigest()
