"""The contracts of data sets, networks and protocols: ours hold them, and they catch what breaks
them."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from protocols import PROTOCOLS
from vinet_bench.checks import CheckError
from vinet_bench.contracts import (
    check_built_classifier,
    check_built_importance,
    check_dataset,
    check_protocol,
    example_workshop,
)
from vinet_bench.data import load_data
from vinet_bench.data.dataset import SliceDataset
from vinet_bench.networks import CLASSIFIERS, IMPORTANCE
from vinet_bench.plan import Plan, make_plan
from vinet_bench.protocols import ProtocolInfo
from vinet_bench.records import Cell, Record
from vinet_bench.workshop import Workshop

# Those that need no network: the others have tests of their own.
OF_MAPS = ("localisation", "complexity")


def small() -> SliceDataset:
    return load_data(make_plan(preset="smoke", changes=["phantom.slices=20"]))


# -- data sets


def test_the_phantom_holds() -> None:
    check_dataset(small)


def test_real_slices_hold(lidc_slices: Path) -> None:
    check_dataset(lambda: load_data(make_plan(str(lidc_slices), "smoke", size=64)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: {"labels": d.labels + 1}, "number them from 0"),
        (lambda d: {"class_names": (*d.class_names, "none")}, "that have slices"),
        (lambda d: {"ids": np.full(len(d), "one")}, "one id"),
        (lambda d: {"patients": np.full(len(d), "")}, "patients has an empty text"),
        (lambda d: {"evidence": d.evidence[:, :4]}, "evidence is no bool array"),
        (lambda d: {"marker": d.images}, "marker is no bool array"),
        (lambda d: {"images": d.images.astype(np.float16)}, "must lie in"),
        (lambda d: {"given_parts": np.full(len(d), "dev")}, r"given_parts has \['dev'\]"),
    ],
)
def test_a_data_set_that_is_none(
    change: Callable[[SliceDataset], dict[str, Any]], words: str
) -> None:
    data = small()
    with pytest.raises(CheckError, match=words):
        check_dataset(lambda: replace(data, **change(data)))


class Turned(nn.Module):
    """Maps whose height comes last: a layout that nobody has."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(1, 4, 3, stride=2, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        turned: Tensor = self.maps(images).transpose(2, 3)
        return turned


def test_a_classifier_whose_maps_have_a_layout_of_their_own() -> None:
    def build(classes: int, width: float) -> nn.Module:
        return nn.Sequential(Turned(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))

    with pytest.raises(CheckError, match=r"where it lowers the resolution is not seen.*'0'"):
        check_built_classifier(build)


def test_a_patient_on_two_sides() -> None:
    data = small()
    parts = np.where(np.arange(len(data)) % 2, "train", "test")
    one = np.full(len(data), "P1")
    with pytest.raises(CheckError, match="patient P1 stands in test and train"):
        check_dataset(lambda: replace(data, given_parts=parts, patients=one))
    unknown = replace(data, given_parts=parts, patients=one, patients_known=False)
    check_dataset(lambda: unknown)


def test_data_that_differ_every_time() -> None:
    data, draws = small(), iter(range(9))
    with pytest.raises(CheckError, match="made twice"):
        check_dataset(lambda: replace(data, images=data.images + np.uint8(next(draws))))


# -- networks


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_hold(name: str) -> None:
    check_built_classifier(CLASSIFIERS[name])


@pytest.mark.parametrize("name", IMPORTANCE)
def test_importance_networks_hold(name: str) -> None:
    check_built_importance(IMPORTANCE[name])


class Mean(nn.Module):
    """Spoils one thing of a classifier for each word."""

    def __init__(self, spoilt: str) -> None:
        super().__init__()
        self.spoilt = spoilt

    def forward(self, images: Tensor) -> Tensor:
        score = images.mean(dim=(2, 3)) + torch.arange(5.0)
        if self.spoilt == "classes":
            return score[:, :4]
        if self.spoilt == "gradient":
            return score.detach().requires_grad_() + 0 * images.mean()
        if self.spoilt == "batch":
            return score * score.mean(dim=0)
        return score / 0 if self.spoilt == "finite" else score


@pytest.mark.parametrize(
    ("spoilt", "words"),
    [
        ("classes", r"gave \(3, 4\), not \(3, 5\)"),
        ("gradient", "no gradient reaches"),
        ("batch", "depends on its batch"),
        ("finite", "not finite"),
    ],
)
def test_a_classifier_that_is_none(spoilt: str, words: str) -> None:
    with pytest.raises(CheckError, match=words):
        check_built_classifier(lambda classes, width: Mean(spoilt))


def test_an_importance_network_that_ends_in_a_relu() -> None:
    torch.manual_seed(0)
    with pytest.raises(CheckError, match="not in a ReLU"):
        check_built_importance(
            lambda w: nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), Half(), nn.ReLU())
        )


class Half(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps - maps.mean(dim=(1, 2, 3), keepdim=True)


# -- protocols


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return example_workshop(tmp_path_factory.mktemp("contracts"))


@pytest.mark.parametrize("name", OF_MAPS)
def test_protocols_of_maps_hold(name: str, shop: Workshop) -> None:
    check_protocol(PROTOCOLS[name](), shop)


class Counting:
    """Counts a method's maps; each class below spoils one thing."""

    info = ProtocolInfo("counting", "Counting", "none", in_all=False)

    def cells(self, plan: Plan) -> Iterable[Cell]:
        return [Cell("counting", name, 0, budget="everything") for name in plan.methods]

    def run(self, cell: Cell, workshop: Workshop) -> Iterable[Record]:
        return [Record(cell, "maps", float(len(workshop.maps(cell.method, 0, "test"))), 1)]


class Twice(Counting):
    def cells(self, plan: Plan) -> Iterable[Cell]:
        return [*super().cells(plan), *super().cells(plan)]


class OfAnother(Counting):
    info = ProtocolInfo("other", "Other", "none", True)


class Silent(Counting):
    def run(self, cell: Cell, workshop: Workshop) -> Iterable[Record]:
        return []


class SilentlyNaN(Counting):
    def run(self, cell: Cell, workshop: Workshop) -> Iterable[Record]:
        return [Record(cell, "maps", float("nan"), 1)]


class Doubled(Counting):
    def run(self, cell: Cell, workshop: Workshop) -> Iterable[Record]:
        return [*super().run(cell, workshop), *super().run(cell, workshop)]


class Drawn(Counting):
    draws = np.random.default_rng(0)

    def run(self, cell: Cell, workshop: Workshop) -> Iterable[Record]:
        return [Record(cell, "maps", float(self.draws.random()), 1)]


class Unmeasured(Counting):
    layout = PROTOCOLS["localisation"]().layout  # type: ignore[attr-defined]


def test_the_honest_one_holds(shop: Workshop) -> None:
    check_protocol(Counting(), shop)


@pytest.mark.parametrize(
    ("protocol", "words"),
    [
        (Twice(), "each once"),
        (OfAnother(), "must be 'other'"),
        (Silent(), "gives no record"),
        (SilentlyNaN(), "maps is nan of 1 pictures"),
        (Doubled(), "gives a metric twice"),
        (Drawn(), "run again, it gives other figures"),
        (Unmeasured(), "the layout has figures that no record holds"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_a_protocol_that_is_none(protocol: Counting, words: str, shop: Workshop) -> None:
    with pytest.raises(CheckError, match=words):
        check_protocol(protocol, shop)
