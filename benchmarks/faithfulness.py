"""What deletion, ROAD, max-sensitivity and sensitivity-n cost beside the forward passes that they
cannot do without, and beside Quantus with the same maps, network and settings.

A ResNet-18 at 64 x 64, untrained but for its BatchNorm's statistics; maps are smooth noise in
which no value comes twice, so that no ties are left to chance and imputation has patches to fill.
The protocols run as `run` runs them, in a stand-in for the workshop that holds this network and
these maps.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from baselines.cam import CAM
from benchmarks.turns import Ratio, Row, cost, speed
from protocols.deletion import Deletion
from protocols.faithfulness import SHARES, Faithfulness
from protocols.road import FRACTIONS, Road
from protocols.robustness import RADIUS, _Subject
from vinet_bench.data.dataset import SliceDataset
from vinet_bench.data.phantom import PhantomSettings, phantom
from vinet_bench.imputation import NOISE
from vinet_bench.machine import Examples, Machine
from vinet_bench.networks import build_classifier
from vinet_bench.perturbations import blurred, uniform_noise
from vinet_bench.prediction import evaluation_batch, predict
from vinet_bench.presets import PRESETS
from vinet_bench.protocols import EvalProtocol
from vinet_bench.records import Cell
from vinet_bench.seeds import picture_generators
from vinet_bench.workshop import Workshop

PICTURES, SIDE = 256, 64
STEPS = 8  # of deletion: 512 pixels each, which Quantus can take as well
COPIES, SUBSETS = 10, 3
SMOOTH = 0.05  # of the side, the Gaussian of the maps
Scores = dict[str, NDArray[Any]]


@dataclass
class Shop:
    """The part of a workshop that these protocols ask for."""

    model: nn.Module
    data: SliceDataset
    images: Tensor
    raw: Tensor
    machine: Machine
    kept: Scores = field(default_factory=dict)

    @cached_property
    def settings(self) -> Any:
        settings = PRESETS["quick"].settings
        changed = {
            "steps": STEPS,
            "perturbations": COPIES,
            "subsets": SUBSETS,
            "pictures": len(self.images),
        }
        evaluation = settings.evaluation.model_copy(update=changed)
        return settings.model_copy(update={"evaluation": evaluation})

    @cached_property
    def classes(self) -> NDArray[np.int64]:
        found: NDArray[np.int64] = self.original_probabilities(0).argmax(axis=1)
        return found

    def examples(self, part: str) -> Examples:
        return Examples(self.images, torch.from_numpy(self.classes))

    def part(self, name: str) -> SliceDataset:
        return replace(self.data, labels=self.classes)

    def tested(self, name: str) -> NDArray[np.bool_]:
        return np.ones(len(self.images), np.bool_)

    def living(self, name: str, seed: int, part: str) -> Tensor:
        return self.raw

    def targets(self, name: str, seed: int, part: str) -> Tensor:
        return torch.from_numpy(self.classes)

    def explainer(self, name: str, seed: int) -> Callable[[Tensor, Tensor], Tensor]:
        return cam_of(self.model, self.data)

    def original(self, seed: int) -> nn.Module:
        return self.model

    def explained(self, kind: str, seed: int) -> nn.Module:
        return self.model

    def predict_original(self, seed: int, images: Tensor) -> NDArray[np.float32]:
        return predict(self.model, images, self.machine).numpy()

    def original_probabilities(self, seed: int) -> NDArray[np.float32]:
        return self.predict_original(seed, self.images)

    def remembered(self, kind: str, parts: object, make: Callable[[], Scores]) -> Scores:
        return make()

    def keep_scores(self, cell: Cell, arrays: Scores) -> None:
        self.kept = dict(arrays)

    @torch.no_grad()
    def passes(self) -> None:
        """One forward pass of every picture."""
        for batch in torch.split(self.images, evaluation_batch(self.images)):
            self.model(batch)

    def scores(self, protocol: EvalProtocol) -> Scores:
        """What a cell of the protocol stores of each picture."""
        name = "random" if isinstance(protocol, Faithfulness) else "cam"  # a control: one network
        cell = Cell(protocol.info.name, name, 0, budget="everything")
        list(protocol.run(cell, cast(Workshop, self)))
        return self.kept

    def sensitivities(self) -> NDArray[np.floating]:
        chosen = torch.arange(len(self.images))
        cell = Cell("robustness", "cam", 0, budget="everything")
        return _Subject(cell, cast(Workshop, self), chosen).max_sensitivities()


def cam_of(model: nn.Module, data: SliceDataset) -> Callable[[Tensor, Tensor], Tensor]:
    """CAM's maps, in batches as the networks of both sides take them."""
    fitted = CAM().fit(model, data)

    def explain(images: Tensor, targets: Tensor) -> Tensor:
        size = evaluation_batch(images)
        batches = zip(*(torch.split(t, size) for t in (images, targets)), strict=True)
        return torch.cat([fitted.explain(some, own) for some, own in batches])

    return explain


def shop(pictures: int) -> Shop:
    """Network, pictures and maps, the same each time."""
    data = phantom(PhantomSettings(slices=pictures, size=SIDE))
    images = torch.from_numpy(data.pictures(slice(pictures)))
    model = build_classifier("resnet18", data.num_classes, 0)
    with torch.no_grad():
        model(images[:64])  # BatchNorm sees what the pictures are like
    model.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(0))
    maps = _distinct(blurred(noise, SMOOTH)[:, 0])
    return Shop(model, data, images, maps, Machine(torch.device("cpu"), False))


def _distinct(maps: Tensor) -> Tensor:
    """The same order with no value twice: among a million smooth ones some are equal, and a tie
    has no order that two libraries share. (N, H, W) -> the same, in [0, 1)."""
    places = maps.flatten(1).argsort(dim=1, stable=True).argsort(dim=1)
    return (places.float() / places.shape[1]).view_as(maps)


def faithfulness(rounds: int, pictures: int = PICTURES) -> list[Ratio]:
    """Raises AssertionError if values that must be Quantus' are not."""
    tried = shop(pictures)
    tried.passes()  # and no more to warm up: these take long
    # Deletion: the untouched pictures, two fills, and between them every step of both orders.
    needed = {
        "deletion and insertion": (1 + 2 + 2 * 2 * (STEPS - 1), lambda: tried.scores(Deletion())),
        "ROAD": (1 + 2 * len(FRACTIONS), lambda: tried.scores(Road())),
        "max-sensitivity": (COPIES, tried.sensitivities),
        "sensitivity-n": (
            1 + (1 + len(SHARES)) * SUBSETS,
            lambda: tried.scores(Faithfulness()),
        ),
    }
    found = [
        cost(f"{name} / {count} forward passes", 1.3, ours, tried.passes, rounds, 0, each=count)
        for name, (count, ours) in needed.items()
    ]
    return found + _beside_quantus(tried, rounds)


# ---- Quantus


def _beside_quantus(tried: Shop, rounds: int) -> list[Ratio]:
    """None where Quantus is not installed, which is said."""
    if find_spec("quantus") is None:
        print("quantus is not installed: pip install --no-deps quantus==0.6.0 for its rows")
        return []
    peer, name = _Quantus(tried), f"Quantus {version('quantus')}"
    peer.check()
    return [
        # Theirs fills with air alone.
        speed(
            f"deletion and insertion, times faster than {name}",
            1.0,
            lambda: tried.scores(Deletion()),
            lambda: (peer.deletion(1), peer.deletion(-1)),
            rounds,
            warmup=0,
            each=2,
        ),
        speed(
            f"ROAD, times faster than {name}",
            1.0,
            lambda: tried.scores(Road()),
            lambda: (peer.road(1), peer.road(-1)),
            rounds,
            warmup=0,
        ),
        speed(
            f"max-sensitivity, times faster than {name}",
            1.0,
            tried.sensitivities,
            peer.sensitivities,
            rounds,
            warmup=0,
        ),
    ]


class _Quantus:
    """Its metrics with our settings; all pictures in one batch, since its ROAD keeps the first."""

    def __init__(self, tried: Shop) -> None:
        import quantus  # not among the extras: it brings a second OpenCV along

        self.library: Any = quantus
        self.tried = tried
        self.explain = tried.explainer("cam", 0)
        self.plain = {"abs": False, "normalise": False, "disable_warnings": True}

    def _scores(self, metric: Any, sign: int, **more: Any) -> Any:
        tried, maps = self.tried, self.tried.raw[:, None].double().numpy()
        order = maps if sign > 0 else 1 - maps  # it refuses maps that are negative throughout
        return metric(
            model=tried.model,
            x_batch=tried.images.numpy(),
            y_batch=tried.classes,
            a_batch=order,
            channel_first=True,
            softmax=True,
            device="cpu",
            batch_size=len(tried.images),
            **more,
        )

    def deletion(self, sign: int) -> NDArray[np.floating]:
        """The probability after each step, (N, STEPS); sign -1: least relevant first."""
        metric = self.library.PixelFlipping(
            features_in_step=SIDE**2 // STEPS, perturb_baseline=0.0, **self.plain
        )
        return np.array(self._scores(metric, sign))

    def road(self, sign: int) -> NDArray[np.floating]:
        """The accuracy at each of FRACTIONS."""
        percents = [round(100 * f) for f in FRACTIONS]
        metric = self.library.ROAD(percentages=percents, noise=NOISE, **self.plain)
        found = self._scores(metric, sign)
        return np.array([found[percent] for percent in percents])

    def sensitivities(self, changed: Callable[..., Any] | None = None) -> NDArray[np.floating]:
        """changed: what makes a perturbed copy, in the place of its uniform noise."""
        metric = self.library.MaxSensitivity(
            nr_samples=COPIES, lower_bound=RADIUS, perturb_func=changed, **self.plain
        )
        own = {"explain_func": self._explained}
        return np.array(self._scores(metric, 1, **own))

    def _explained(self, model: nn.Module, inputs: Any, targets: Any, **_: Any) -> Any:
        pictures, classes = (torch.as_tensor(x) for x in (inputs, targets))
        return self.explain(pictures.float(), classes)[:, None].numpy()

    def check(self) -> None:
        """Raises AssertionError where values differ by more than is explained."""
        ours = self.tried.scores(Deletion())
        for sign, way in ((1, "morf"), (-1, "lerf")):
            np.testing.assert_allclose(self.deletion(sign), ours[f"{way}_air"][:, 1:], atol=1e-4)
        # Its noise is another draw each time, and it rounds 10 % of 4,096 pixels down.
        ours = self.tried.scores(Road())
        for sign, way in ((1, "morf"), (-1, "lerf")):
            apart = np.abs(self.road(sign) - ours[f"{way}_hits"].mean(axis=0))
            print(f"ROAD {way}: accuracies differ from Quantus' by at most {apart.max():.3f}")
            assert apart.max() <= 0.05
        copies = iter(range(COPIES))

        def noise(arr: Any, **_: Any) -> Any:
            draws = picture_generators(self.tried.images, "max-sensitivity", next(copies))
            moved = self.tried.images + uniform_noise(self.tried.images, RADIUS, draws)
            return moved.flatten(1).numpy()

        theirs = self.sensitivities(noise)
        np.testing.assert_allclose(theirs, self.tried.sensitivities(), rtol=1e-3)


BENCHMARKS = (
    Row("faithfulness", "1.3 forward passes needed, never slower than Quantus", faithfulness),
)
