"""Makes or loads what a cell needs: networks, maps, masks; kept by what determines them."""

import copy
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vinet_bench.clock import Clock
from vinet_bench.data.dataset import SliceDataset
from vinet_bench.data.stacks import empty_stack
from vinet_bench.errors import CellError
from vinet_bench.machine import Examples, as_pictures
from vinet_bench.masks import fraction, per_picture, thresholded, tied, top_k
from vinet_bench.methods import MethodInfo, SaliencyMethod, in_order, method
from vinet_bench.metrics import mean_rank_correlation
from vinet_bench.models import check_alive
from vinet_bench.networks_needed import SHUFFLED, Maps, Need, explained_on, fold_names
from vinet_bench.prediction import predict
from vinet_bench.records import Cell, key_of
from vinet_bench.seeds import few_by_content, generator, picture_generators
from vinet_bench.settings import SealedTraining, Training, VINetTraining
from vinet_bench.trained import TrainedNetworks, pictures_of

EXPLAIN_BATCH = 32
SANITY_PICTURES = 8


def natural_budget(name: str) -> str:
    """'threshold' (Eq. 9) where maps lie in [0, 1]; 'equal' for controls, which have none."""
    return "equal" if method(name).info.kind == "control" else "threshold"


class Workshop(TrainedNetworks):
    """Everything that cells share in one run."""

    _folds = 0  # of which maps of the training part are cross-fitted

    def with_vinet(self, wanted: VINetTraining) -> "Workshop":
        """The same workshop for another VINet; the networks that it makes go with it."""
        return self._with("vinet", wanted)

    def with_sealed(self, wanted: SealedTraining) -> "Workshop":
        """As `with_vinet`, for another sealed VINet."""
        return self._with("sealed", wanted)

    def _with(self, section: str, wanted: Training) -> "Workshop":
        other = copy.copy(self)
        settings = self.settings.model_copy(update={section: wanted})
        other.plan = self.plan.model_copy(update={"settings": settings})
        other._networks = dict(self._networks)
        other.clock = Clock()  # what it makes is no task of the run's: it counts for the cell
        return other

    def learning(self, what: str) -> "Workshop":
        """The workshop whose explained networks are trained on what a Network says."""
        if what == explained_on(SHUFFLED):
            return self.with_shuffled_labels()
        folds = self.settings.curves.cross_fit
        for number, name in enumerate(fold_names(folds)):
            if what == explained_on(name):
                held = _folds_of(self.part("train"), folds)[number]
                return self.cross_fitted(folds)._without_fold(number, held)
        return self

    def with_shuffled_labels(self) -> "Workshop":
        """The same workshop, whose networks learn labels shuffled within each part but the test
        part (Adebayo et al. 2018, Sec. 4.2)."""
        other = copy.copy(self)
        other._training = SHUFFLED
        other._examples = {
            name: examples if name == "test" else _shuffled(examples, name)
            for name, examples in self._examples.items()
        }
        return other

    def cross_fitted(self, folds: int) -> "Workshop":
        """The same workshop, whose maps of the training part come from networks that did not see
        them: each fold's, whole patients, from one trained on the other folds. 0: from the usual.
        """
        other = copy.copy(self)
        other._folds = folds
        return other

    def _without_fold(self, number: int, held: NDArray[np.bool_]) -> "Workshop":
        """A workshop without these training pictures (N,), which are its part 'held'."""
        other = copy.copy(self)
        other._training, other._folds = fold_names(self._folds)[number], 0
        train, examples = self.part("train"), self.examples("train")
        places = {"train": np.flatnonzero(~held), "held": np.flatnonzero(held)}
        other._parts = self._parts | {name: train.subset(i) for name, i in places.items()}
        other._examples = self._examples | {
            name: Examples(pictures_of(other._parts[name]), examples.labels[i])
            for name, i in places.items()
        }
        return other

    def cell_key(self, cell: Cell) -> str:
        """A hash of all that can change the cell's figures; also of whether all pictures count."""
        key, known = super().cell_key(cell), in_order([cell.method])
        few = any(method(name).info.costly for name in known if name not in self.plan.retrained())
        return key_of({"cell": key, "few": True}) if few else key

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
        """Raw maps of a part, (N, H, W) float32, for the explained network's own predictions; NaN
        for a test picture that is not `tested`.

        Raises CellError if a map is not finite or not of the picture's size.
        """
        if part == "train" and self._folds and method(name).info.explains != "nothing":
            return self._cross_fitted_maps(name, seed)
        key = self._maps_key(name, seed, part)
        stored = self.store.load("maps", key)
        if stored is None:
            # Those of other networks than the run's are no task of their own.
            with self.clock.of(None if self._training else Maps(name, seed, part)):
                given = name in self.plan.given
                maps = self._given(name, part) if given else self._explain(name, seed, part)
            stored = {"maps": maps.numpy()}
            self.store.save("maps", key, stored)
        return torch.from_numpy(stored["maps"])

    def _cross_fitted_maps(self, name: str, seed: int) -> Tensor:
        train = self.part("train")
        maps = _empty_maps(len(train), train.size)
        for number, held in enumerate(_folds_of(train, self._folds)):
            other = self._without_fold(number, held)
            maps[torch.from_numpy(held)] = other.maps(name, seed, "held")
        return maps

    def kept_maps(self, name: str, seed: int, part: str) -> Tensor | None:
        """The maps that `maps` made earlier, or None; nothing is computed."""
        stored = self.store.load("maps", self._maps_key(name, seed, part))
        return None if stored is None else torch.from_numpy(stored["maps"])

    def places_of(self, need: Need) -> list[tuple[str, str]]:
        """Kind and key of the artefacts that maps or a network are. Raises CellError for a fold of
        too few patients."""
        shop = self.at(need.seed)
        if isinstance(need, Maps):
            return [("maps", shop._maps_key(need.method, need.seed, need.part))]
        return shop.learning(need.what).places(need)

    def _maps_key(self, name: str, seed: int, part: str) -> str:
        kind = method(name).info.explains
        training = {} if kind == "nothing" else self.recipe(kind).training.model_dump()
        parts = {"method": name, "part": part, "seed": seed, "training": training}
        if part == "test" and not self.tested(name).all():
            parts["pictures"] = self.settings.costly_pictures
        return key_of(self._context() | parts)

    def tested(self, name: str) -> NDArray[np.bool_]:
        """Which test pictures a method explains, (N,): all; a costly one that is not retrained
        explains a few that their content chooses, the same for every such method."""
        images, count = self.examples("test").images, self.settings.costly_pictures
        if name in self.plan.retrained() or not method(name).info.costly:
            return np.ones(len(images), np.bool_)
        chosen = np.zeros(len(images), np.bool_)
        chosen[few_by_content(images, count).numpy()] = True
        return chosen

    def _given(self, name: str, part: str) -> Tensor:
        ids = self.part(part).ids.tolist()
        return torch.from_numpy(self.plan.given[name].stacked(ids, self.data.size, part))

    def _explain(self, name: str, seed: int, part: str) -> Tensor:
        explain, targets = self.explainer(name, seed), self.targets(name, seed, part)
        images, every = self.examples(part).images, torch.arange(len(targets))
        wanted = every[torch.from_numpy(self.tested(name))] if part == "test" else every
        maps = _empty_maps(len(every), self.data.size).fill_(torch.nan)
        batches = torch.split(wanted, EXPLAIN_BATCH)
        with self.progress.step(f"{method(name).info.title} maps, {part}", len(batches)) as advance:
            for batch in batches:
                maps[batch] = explain(images[batch], targets[batch])
                advance()
        return maps

    def explainer(
        self, name: str, seed: int, model: nn.Module | None = None
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """A method that has its network: pictures as in Examples, (N,) targets -> (N, H, W) maps.

        model: a network of the same kind in the place of the method's own. Raises CellError, when
        it is called, as `maps` does.
        """
        chosen = method(name)
        model = self.explained(chosen.info.explains, seed) if model is None else model
        chosen.fit(model, self.data if chosen.info.kind == "oracle" else self.part("train"))

        def explain(images: Tensor, targets: Tensor) -> Tensor:
            batches = (torch.split(some, EXPLAIN_BATCH) for some in (images, targets))
            return torch.cat(
                [
                    self._explain_batch(chosen, as_pictures(some), own)
                    for some, own in zip(*batches, strict=True)
                ]
            )

        return explain

    def targets(self, name: str, seed: int, part: str) -> Tensor:
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
        if budget == "threshold":
            maps = self.living(name, seed, part)
            return thresholded(maps, method(name).info.scaling, self.plan.threshold)
        return self.highest(name, seed, part, self.equal_pixels(seed))

    def highest(self, name: str, seed: int, part: str, count: int) -> Tensor:
        """Exactly so many highest pixels of each map of a part, (N, H, W) bool, ties broken by each
        picture's own shuffle; more pixels hold the fewer. Raises CellError as `masks`."""

        def chosen(maps: Tensor, images: Tensor) -> Tensor:
            return top_k(maps, count, picture_generators(images, "ties", name))

        return per_picture(chosen, self.living(name, seed, part), self.examples(part).images)

    def living(self, name: str, seed: int, part: str) -> Tensor:
        """As `maps`; raises CellError where a VINet's own map of a test picture is constant."""
        maps, kind = self.maps(name, seed, part), method(name).info.explains
        if part == "test" and kind in ("vinet", "sealed"):
            check_alive(maps, kind)
        return maps

    def equal_pixels(self, seed: int) -> int:
        """How many pixels of a picture the equal budget is."""
        height, width = self.data.size
        share = self.settings.control_budget
        if share == "vinet":
            share = fraction(self.masks("vinet", seed, "test", "threshold"))
        return round(float(share) * height * width)

    def tied_shares(self, name: str, seed: int) -> NDArray[np.float64]:
        """For each test picture the share of the equal budget that only the shuffle chose."""
        maps, count = self.maps(name, seed, "test"), self.equal_pixels(seed)
        return per_picture(lambda some: tied(some, count), maps).numpy()

    def untrained_similarity(self, name: str, seed: int) -> float | None:
        """How like a method's maps are to those of the same network with new weights and the same
        targets: a few test pictures' mean rank correlation (Adebayo et al. 2018), of those that
        their content chooses. 1 for a method that does not look at the network; None for a control.
        """
        kind = method(name).info.explains
        if kind == "nothing":
            return None
        few = few_by_content(self.examples("test").images, SANITY_PICTURES)
        explain = self.explainer(name, seed, self.untrained(kind, seed))
        others = explain(self.examples("test").images[few], self.targets(name, seed, "test")[few])
        return mean_rank_correlation(self.maps(name, seed, "test")[few].numpy(), others.numpy())

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


def _empty_maps(count: int, size: tuple[int, int]) -> Tensor:
    """Zeros, (N, H, W) float32, in a mapped file where they are large."""
    return torch.from_numpy(empty_stack((count, *size), np.float32))


def _shuffled(examples: Examples, part: str) -> Examples:
    order = torch.randperm(len(examples), generator=generator("shuffled labels", part))
    return Examples(examples.images, examples.labels[order])


def _folds_of(part: SliceDataset, folds: int) -> list[NDArray[np.bool_]]:
    """Which slices each fold holds, (N,): whole patients, classes as even as they allow.

    Raises CellError with fewer patients than folds, or fewer pictures of every class.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # a second to import

    if min(len(np.unique(part.patients)), np.bincount(part.labels).max()) < folds:
        raise CellError(
            f"{folds} folds need as many training patients, and pictures of a class: take fewer"
            " (--cross-fit)"
        )
    shares = StratifiedGroupKFold(folds, shuffle=True, random_state=0)
    places = [held for _, held in shares.split(part.ids, part.labels, part.patients)]
    return [np.isin(np.arange(len(part)), held) for held in places]


def _checked(info: MethodInfo, raw: Tensor, pictures: Tensor) -> Tensor:
    raw = raw.detach().float().cpu()
    wanted = (len(pictures), *pictures.shape[-2:])
    if tuple(raw.shape) != wanted:
        raise CellError(f"{info.title} gave maps of shape {tuple(raw.shape)}, not {wanted}")
    if not torch.isfinite(raw).all():
        raise CellError(f"{info.title} gave a map with values that are not finite")
    return raw
