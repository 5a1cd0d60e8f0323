"""Makes or loads what a cell needs: networks, maps, masks; kept by what determines them."""

import copy
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vinet_bench import __version__
from vinet_bench.data.dataset import PARTS, SliceDataset
from vinet_bench.data.splits import Split
from vinet_bench.errors import CellError
from vinet_bench.masks import fraction, reserved, scale, tied, top_k
from vinet_bench.methods import MethodInfo, SaliencyMethod, method
from vinet_bench.metrics import hits, mean_rank_correlation
from vinet_bench.models import build_vinet, check_alive, vinet_task
from vinet_bench.networks import build_classifier, build_explained
from vinet_bench.networks.explained import load_weights
from vinet_bench.plan import Plan
from vinet_bench.progress import Progress
from vinet_bench.records import Cell, key_of
from vinet_bench.seeds import picture_generators
from vinet_bench.settings import Settings, Training, VINetTraining
from vinet_bench.store import Store
from vinet_bench.training import (
    Classification,
    Examples,
    Fit,
    Machine,
    Task,
    fit,
    predict,
)

EXPLAIN_BATCH = 32
SANITY_PICTURES = 8
NEW_WEIGHTS = 1_000_003  # added to a seed: weights that no network of a run starts from


def natural_budget(name: str) -> str:
    """'threshold' (Eq. 9) where maps lie in [0, 1]; 'equal' for controls, which have none."""
    return "equal" if method(name).info.kind == "control" else "threshold"


@dataclass(frozen=True)
class Retrained:
    """Test probabilities (N, K) of a trained network, and how its training ended."""

    probabilities: NDArray[np.float32]
    convergence: dict[str, float]


class Workshop:
    """Everything that cells share in one run."""

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
        self.store = store
        self.machine = machine
        self.progress = progress
        self._parts = {name: data.subset(split.part(name)) for name in PARTS}
        self._examples = {
            name: Examples(torch.from_numpy(part.images)[:, None], torch.from_numpy(part.labels))
            for name, part in self._parts.items()
        }
        self._networks: dict[str, nn.Module] = {}
        self._diverged: dict[str, str] = {}

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
        return key_of(cell.identity() | self._context() | {"plan": self.plan.identity()})

    def _context(self) -> dict[str, Any]:
        return {
            "version": __version__,
            "bfloat16": self.machine.bfloat16,
            "device": self.machine.device.type,
            "data": self.data.fingerprint,
            "split": key_of({n: p.ids.tolist() for n, p in self._parts.items()}),
        }

    def with_vinet(self, wanted: VINetTraining) -> "Workshop":
        """The same workshop for another VINet; the networks that it makes go with it."""
        other = copy.copy(self)
        settings = self.settings.model_copy(update={"vinet": wanted})
        other.plan = self.plan.model_copy(update={"settings": settings})
        other._networks = dict(self._networks)
        return other

    # -- networks

    def explained(self, kind: str, seed: int) -> nn.Module:
        """The network that a method explains: 'vinet' or 'classifier'; a control gets none."""
        if kind == "nothing":
            return nn.Identity()
        if kind == "vinet":
            vinet = self.settings.vinet
            return self._trained("VINet", seed, vinet, self._new_vinet, vinet_task(vinet))
        explained = self.settings.explained
        if explained.weights:
            return self._loaded(seed)
        return self._trained(
            explained.network, seed, explained, self._new_explained, Classification()
        )

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
        build = self._new_classifier(vinet.classifier, training)
        return self._trained(vinet.classifier, seed, training, build, Classification())

    def original(self, seed: int) -> nn.Module:
        """The ResNet-18 trained on the untouched pictures."""
        retrain = self.settings.retrain
        return self._trained(
            "Original", seed, retrain, self._new_classifier("resnet18", retrain), Classification()
        )

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

    def _network_key(self, title: str, seed: int, training: Training) -> str:
        parts = {"network": title, "seed": seed}
        return key_of(self._context() | parts | training.model_dump())

    def _trained(
        self,
        title: str,
        seed: int,
        training: Training,
        build: Callable[[int], nn.Module],
        task: Task,
    ) -> nn.Module:
        key = self._network_key(title, seed, training)
        if key in self._networks:
            return self._networks[key]
        model = build(seed)
        stored = self.store.load("networks", key)
        if stored is None:
            self._fit_once(key, f"{title}, seed {seed}", model, task, training, seed)
            state = {k: v.cpu().numpy() for k, v in model.state_dict().items()}
            self.store.save("networks", key, state)
        else:
            model.load_state_dict({k: torch.from_numpy(v) for k, v in stored.items()})
        self._networks[key] = model.to(self.machine.device).eval().requires_grad_(False)
        return model

    def _fit_once(
        self, key: str, title: str, model: nn.Module, task: Task, training: Training, seed: int
    ) -> None:
        """Many cells need the same network: one that diverged is not tried again for each."""
        try:
            if key not in self._diverged:
                done = self._fit(title, model, task, self._examples, training, seed)
                self.store.save("fits", key, done.arrays())
        except CellError as error:
            self._diverged[key] = f"{title}: {error}"
        if key in self._diverged:
            raise CellError(self._diverged[key])

    def _new_classifier(self, name: str, training: Training) -> Callable[[int], nn.Module]:
        return lambda seed: build_classifier(name, self.data.num_classes, seed, training.width)

    def _new_explained(self, seed: int) -> nn.Module:
        chosen, data = self.settings.explained, self.data
        return build_explained(chosen.network, data.num_classes, seed, chosen.width, data.size)

    def _new_vinet(self, seed: int) -> nn.Module:
        return build_vinet(self.settings.vinet, self.data.num_classes, self.data.size, seed)

    def _fit(
        self,
        title: str,
        model: nn.Module,
        task: Task,
        examples: Mapping[str, Examples],
        training: Training,
        seed: int,
    ) -> Fit:
        with self.progress.step(f"training {title}", training.epochs) as advance:
            return fit(
                model,
                task,
                examples["train"],
                examples["validation"],
                training,
                seed,
                self.machine,
                advance,
            )

    def retrained(self, examples: Mapping[str, Examples], seed: int) -> Retrained:
        """A ResNet-18 trained from scratch on these parts, scored on their test part.

        The initialisation, the order of the batches and the schedule depend on the seed alone.
        """
        training = self.settings.retrain
        inputs = {part: _content(e) for part, e in examples.items()}
        key = key_of(self._context() | inputs | {"seed": seed} | training.model_dump())
        stored = self.store.load("retrained", key)
        if stored is None:
            model = self._new_classifier("resnet18", training)(seed)
            done = self._fit("ResNet-18", model, Classification(), examples, training, seed)
            stored = done.arrays() | {
                "probabilities": predict(model, examples["test"].images, self.machine).numpy(),
                "train_accuracy": np.array(self._accuracy(model, examples["train"])),
            }
            self.store.save("retrained", key, stored)
        learnt = {"train_accuracy": stored["train_accuracy"].item()}
        return Retrained(stored["probabilities"], Fit.of(stored).convergence() | learnt)

    def original_probabilities(self, seed: int) -> NDArray[np.float32]:
        """The original network's probabilities on the test part, (N, K)."""
        return self.predict_original(seed, self.examples("test").images)

    def predict_original(self, seed: int, images: Tensor) -> NDArray[np.float32]:
        """The original network's probabilities for pictures as in Examples, (N, K)."""
        return predict(self.original(seed), images, self.machine).numpy()

    def keep_scores(self, cell: Cell, scores: Mapping[str, NDArray[np.floating]]) -> None:
        """Stores each test picture's scores, (N, ...), in the order of the test part."""
        narrow = {name: array.astype(np.float32) for name, array in scores.items()}
        self.store.save("scores", self.cell_key(cell), narrow)

    # -- maps

    def explained_probabilities(
        self, name: str, seed: int, part: str
    ) -> NDArray[np.float32] | None:
        """The explained network's probabilities on a part, (N, K); None for a control."""
        kind = method(name).info.explains
        if kind == "nothing":
            return None
        model = self.explained(kind, seed)
        return predict(model, self.examples(part).images, self.machine, seed).numpy()

    def maps(self, name: str, seed: int, part: str) -> Tensor:
        """Raw maps of a part, (N, H, W) float32, for the explained network's own predictions.

        Raises CellError if a map is not finite or not of the picture's size.
        """
        key = self._maps_key(name, seed, part)
        stored = self.store.load("maps", key)
        if stored is None:
            given = name in self.plan.given
            maps = self._given(name, part) if given else self._explain(name, seed, part)
            stored = {"maps": maps.numpy()}
            self.store.save("maps", key, stored)
        return torch.from_numpy(stored["maps"])

    def kept_maps(self, name: str, seed: int, part: str) -> Tensor | None:
        """The maps that `maps` made earlier, or None; nothing is computed."""
        stored = self.store.load("maps", self._maps_key(name, seed, part))
        return None if stored is None else torch.from_numpy(stored["maps"])

    def _maps_key(self, name: str, seed: int, part: str) -> str:
        info = method(name).info
        network = {"vinet": self.settings.vinet, "classifier": self.settings.explained}
        training = network[info.explains].model_dump() if info.explains in network else {}
        return key_of(
            self._context() | {"method": name, "part": part, "seed": seed, "training": training}
        )

    def _given(self, name: str, part: str) -> Tensor:
        ids = self.part(part).ids.tolist()
        return torch.from_numpy(self.plan.given[name].stacked(ids, self.data.size, part))

    def _explain(self, name: str, seed: int, part: str) -> Tensor:
        chosen = method(name)
        model = self.explained(chosen.info.explains, seed)
        chosen.fit(model, self.data if chosen.info.kind == "oracle" else self.part("train"))
        pictures, targets = self.examples(part).pictures, self._targets(name, seed, part)
        batches = torch.split(torch.arange(len(targets)), EXPLAIN_BATCH)
        maps = []
        with self.progress.step(f"{chosen.info.title} maps, {part}", len(batches)) as advance:
            for batch in batches:
                maps.append(self._explain_batch(chosen, pictures(batch), targets[batch]))
                advance()
        return torch.cat(maps)

    def _targets(self, name: str, seed: int, part: str) -> Tensor:
        """The explained network's predictions on a part, (N,); 0 for a control."""
        probabilities = self.explained_probabilities(name, seed, part)
        if probabilities is None:
            return torch.zeros(len(self.examples(part)), dtype=torch.int64)
        return torch.from_numpy(probabilities.argmax(axis=1))

    def _explain_batch(self, chosen: SaliencyMethod, pictures: Tensor, targets: Tensor) -> Tensor:
        device = self.machine.device
        raw = chosen.explain(pictures.to(device), targets.to(device))
        return _checked(chosen.info, raw, pictures)

    def masks(self, name: str, seed: int, part: str, budget: str) -> Tensor:
        """The reserved pixels of a part, (N, H, W) bool.

        budget 'threshold': Eq. 9 on the scaled maps; 'equal': exactly as many pixels a picture as
        VINet reserves on average over the test part, ties broken by each picture's own shuffle.
        Raises CellError if VINet's map of a test picture is constant.
        """
        maps = self.maps(name, seed, part)
        if part == "test" and method(name).info.explains == "vinet":
            check_alive(maps)
        if budget == "threshold":
            return reserved(scale(maps, method(name).info.scaling), self.plan.threshold)
        draws = picture_generators(self.examples(part).images, "ties", name)
        return top_k(maps, self._equal_pixels(seed), draws)

    def _equal_pixels(self, seed: int) -> int:
        height, width = self.data.size
        share = self.settings.control_budget
        if share == "vinet":
            share = fraction(self.masks("vinet", seed, "test", "threshold"))
        return round(float(share) * height * width)

    def tied_shares(self, name: str, seed: int) -> NDArray[np.float64]:
        """For each test picture the share of the equal budget that only the shuffle chose."""
        maps = self.maps(name, seed, "test")
        return tied(maps, self._equal_pixels(seed)).numpy()

    def untrained_similarity(self, name: str, seed: int) -> float | None:
        """How like a method's maps are to those of the same network with new weights and the same
        targets: the first test pictures' mean rank correlation (Adebayo et al. 2018). 1 for a
        method that does not look at the network; None for a control.
        """
        chosen = method(name)
        if chosen.info.explains == "nothing":
            return None
        few = torch.arange(min(SANITY_PICTURES, len(self.examples("test"))))
        chosen.fit(self._untrained(chosen.info.explains, seed), self.part("train"))
        targets = self._targets(name, seed, "test")[few]
        others = self._explain_batch(chosen, self.examples("test").pictures(few), targets)
        return mean_rank_correlation(self.maps(name, seed, "test")[few].numpy(), others.numpy())

    def _untrained(self, kind: str, seed: int) -> nn.Module:
        build = self._new_vinet if kind == "vinet" else self._new_explained
        model = build(seed + NEW_WEIGHTS)
        return model.to(self.machine.device).eval().requires_grad_(False)

    def other_patients(self, part: str) -> Tensor:
        """For each slice of a part the index of a slice of another patient, each used once.

        Raises CellError if one patient has more than half of the part's slices.
        """
        patients = self.part(part).patients
        rng = np.random.default_rng(0)
        names, owner, sizes = np.unique(patients, return_inverse=True, return_counts=True)
        largest = int(sizes.max())
        if 2 * largest > len(patients):
            raise CellError(f"masks cannot be swapped: one patient has {largest} {part} slices")
        # Patients stand in blocks; a shift by the largest block always lands in another's.
        order = np.argsort(rng.permutation(len(names))[owner], kind="stable")
        partner = np.empty(len(patients), dtype=np.int64)
        partner[order] = np.roll(order, largest)
        return torch.from_numpy(partner)


def _content(examples: Examples) -> str:
    digest = hashlib.sha256(repr((examples.images.shape, examples.images.dtype)).encode())
    digest.update(examples.images.numpy().tobytes())
    digest.update(examples.labels.numpy().tobytes())
    return digest.hexdigest()


def _checked(info: MethodInfo, raw: Tensor, pictures: Tensor) -> Tensor:
    raw = raw.detach().float().cpu()
    wanted = (len(pictures), *pictures.shape[-2:])
    if tuple(raw.shape) != wanted:
        raise CellError(f"{info.title} gave maps of shape {tuple(raw.shape)}, not {wanted}")
    if not torch.isfinite(raw).all():
        raise CellError(f"{info.title} gave a map with values that are not finite")
    return raw
