"""The audit: every planted cheat is named, and an honest run is left alone."""

from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

import baselines
from baselines.gradients import Saliency
from vinet_bench.data import load_data
from vinet_bench.data.dataset import SliceDataset
from vinet_bench.data.facts import picture_facts
from vinet_bench.data.phantom import PhantomSettings
from vinet_bench.data.phantom import phantom as make_phantom
from vinet_bench.data.splits import Split, split_slices
from vinet_bench.methods import MethodInfo
from vinet_bench.plan import make_plan
from vinet_bench.report.audit import Finding, audit
from vinet_bench.report.audit.of_data import data_findings
from vinet_bench.run import run
from vinet_bench.seeds import picture_generators, picture_hash
from vinet_bench.stored_run import read_run

SIDE, SQUARE, EACH = 32, 8, 75
# Enough for ResNet-18 and VGG-16 of a quarter of their width to tell bright from dark.
TRAINED = ("explained.epochs=10", "retrain.epochs=10", "retrain.learning_rate=3e-3")


@pytest.fixture(scope="module")
def bright_or_dark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Squares of one size at random places; their brightness is the class, so that the outline's
    shape says nothing of it."""
    folder = tmp_path_factory.mktemp("squares")
    rng = np.random.default_rng(0)
    lines = ["image,label,patient,mask"]
    for i in range(2 * EACH):
        label = i % 2
        picture = rng.integers(60, 110, (SIDE, SIDE))
        y, x = rng.integers(0, SIDE - SQUARE, 2)
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[y : y + SQUARE, x : x + SQUARE] = 255
        picture[mask > 0] = 240 if label else 10
        Image.fromarray(picture.astype(np.uint8)).save(folder / f"{i}.png")
        Image.fromarray(mask).save(folder / f"{i}-mask.png")
        lines.append(f"{i}.png,{label},P{i},{i}-mask.png")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs keep the networks that are the same in all of them."""
    return tmp_path_factory.mktemp("shared")


class Cheat:
    """What the cheats share: they hold what `fit` gives them."""

    info: MethodInfo

    def __init_subclass__(cls) -> None:
        # A name of its own: maps are kept by it.
        name = cls.__name__.lower()
        cls.info = MethodInfo(name=name, title="Cheat", paper="none", scaling="as-is")

    def fit(self, model: nn.Module, data: SliceDataset) -> Self:
        self.model, self.data = model, data
        return self


class Corner(Cheat):
    """Writes the class that the network predicts into the upper left corner."""

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        maps = torch.zeros(len(images), *images.shape[-2:])
        for place, target in enumerate(targets.tolist()):
            maps[place, :6, 6 * target : 6 * target + 6] = 1
        return maps


class Area(Cheat):
    """Writes the class into how much it reserves, anywhere."""

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        maps = torch.zeros(len(images), *images.shape[-2:])
        for place, target in enumerate(targets.tolist()):
            start = int(images[place].sum() * 1000) % 10
            maps[place, start : start + 4 + 8 * target] = 1
        return maps


class Blind(Cheat):
    """Random numbers that the picture's content seeds, whatever the network."""

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        draws = picture_generators(images, "blind")
        return torch.stack([torch.rand(images.shape[-2:], generator=g) for g in draws])


class Informed(Cheat):
    """Knows the label of every picture, and writes it into the corner."""

    labels: ClassVar[dict[str, int]] = {}

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        known = torch.tensor([self.labels[picture_hash(image)] for image in images])
        return Corner().explain(images, known)


class Honest(Cheat):
    """The square that stands out most, as a localiser finds it; below the threshold, how much the
    prediction depends on each pixel."""

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        gradients = Saliency().fit(self.model, self.data).explain(images, targets)
        middle = images.flatten(1).median(dim=1).values[:, None, None, None]
        near = F.avg_pool2d((images - middle).abs(), SQUARE, stride=1).flatten(1)
        maps = 0.05 * gradients / gradients.amax(dim=(1, 2), keepdim=True)
        for place, corner in enumerate(near.argmax(dim=1).tolist()):
            y, x = divmod(corner, SIDE - SQUARE + 1)
            maps[place, y : y + SQUARE, x : x + SQUARE] = 1
        return maps


def audited(
    cheat: type[Cheat], data: Path, shared: Path, monkeypatch: pytest.MonkeyPatch, *changes: str
) -> dict[str, Finding]:
    """The findings of Table I by topic, with the cheat as its only method beside the outline."""
    name, folder = cheat.info.name, shared.with_name(f"run of {cheat.info.name} {changes}")
    monkeypatch.setitem(baselines.METHODS, name, cheat)
    wanted = [*TRAINED, *changes]
    plan = make_plan(str(data), "smoke", [name, "outline"], changes=wanted, artefacts=str(shared))
    outcome = run(["keep-important"], plan, folder)
    assert (outcome.found, outcome.failed) == (0, ())
    return {found.topic: found for found in audit(read_run(folder))}


def broken(findings: dict[str, Finding]) -> set[str]:
    return {topic for topic, found in findings.items() if found.verdict == "broken"}


def test_a_class_written_into_a_corner_is_named(
    bright_or_dark: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = audited(Corner, bright_or_dark, shared, monkeypatch)
    assert "masks alone" in broken(found)
    assert "Cheat" in found["masks alone"].reason
    assert found["area alone"].verdict == "fine"


def test_a_class_written_into_the_area_is_named(
    bright_or_dark: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = audited(Area, bright_or_dark, shared, monkeypatch)
    assert "area alone" in broken(found)
    assert "by Cheat" in found["area alone"].reason


def test_a_method_that_ignores_the_network_is_named(
    bright_or_dark: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = audited(Blind, bright_or_dark, shared, monkeypatch)
    assert broken(found) == {"the network"}
    assert found["the network"].reason.endswith("Cheat")


def test_a_method_that_uses_the_test_label_is_named(
    bright_or_dark: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load_data(make_plan(str(bright_or_dark), "smoke"))
    pictures = torch.from_numpy(data.pictures())
    labels = dict(zip(map(picture_hash, pictures), data.labels.tolist(), strict=True))
    monkeypatch.setattr(Informed, "labels", labels)
    # A network that has learnt nothing is wrong on half of the pictures.
    found = audited(Informed, bright_or_dark, shared, monkeypatch, "explained.epochs=1")
    assert "the test label" in broken(found)
    assert "Cheat" in found["the test label"].reason


def test_a_network_that_answers_one_class_is_named(
    bright_or_dark: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = audited(Honest, bright_or_dark, shared, monkeypatch, "explained.learning_rate=1e-12")
    assert "predictions" in broken(found)
    assert "the network that Cheat explains" in found["predictions"].reason


def test_an_honest_method_is_left_alone(
    bright_or_dark: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = audited(Honest, bright_or_dark, shared, monkeypatch)
    assert broken(found) == set()
    for topic in ("patients", "identical pictures", "pictures that look alike", "masks alone"):
        assert found[topic].verdict == "fine", found[topic]


# -- the data


@pytest.fixture(scope="module")
def phantom() -> SliceDataset:
    return make_phantom(PhantomSettings(slices=200, size=32))


def of_data(data: SliceDataset, split: Split) -> dict[str, Finding]:
    found = data_findings(picture_facts(data, split), data.patients_known)
    return {finding.topic: finding for finding in found}


def a_split(data: SliceDataset) -> Split:
    return split_slices(data, 0.2, 0.4, seed=0)


def test_honest_data_are_left_alone(phantom: SliceDataset) -> None:
    found = of_data(phantom, a_split(phantom))
    assert {finding.verdict for finding in found.values()} == {"fine"}


def test_a_twentieth_of_the_patients_on_both_sides_is_named(phantom: SliceDataset) -> None:
    split = a_split(phantom)
    patients = phantom.patients.copy()
    patients[split.test[:10]] = patients[split.train[:10]]
    found = of_data(replace(phantom, patients=patients), split)["patients"]
    assert found.verdict == "broken"
    assert found.reason.startswith("10 of 190 (5.3 %)")
    assert str(patients[split.train[0]]) in found.reason


def with_copies(data: SliceDataset, to: NDArray[np.int64], of: NDArray[np.int64]) -> SliceDataset:
    images = data.images.copy()
    images[to] = images[of]
    return replace(data, images=images)


def test_pictures_on_two_sides_are_named(phantom: SliceDataset) -> None:
    split = a_split(phantom)
    data = with_copies(phantom, split.test[:3], split.train[:3])
    found = of_data(data, split)["identical pictures"]
    assert found.verdict == "broken"
    assert found.reason.startswith("6 of 200 (3.0 %)")
    assert "3 on two sides" in found.reason


def test_twins_on_one_side_deserve_a_look(phantom: SliceDataset) -> None:
    split = a_split(phantom)
    data = with_copies(phantom, split.train[:3], split.train[3:6])
    assert of_data(data, split)["identical pictures"].verdict == "look"


@pytest.mark.parametrize("change", ["noise", "brighter", "half the size and back"])
def test_pictures_that_look_alike_are_named(phantom: SliceDataset, change: str) -> None:
    split = a_split(phantom)
    images = phantom.images.copy()
    picture = images[split.train[0]].astype(np.float64)
    if change == "noise":
        picture += np.random.default_rng(0).normal(0, 3, picture.shape)
    elif change == "brighter":
        picture = picture * 1.1 + 5
    else:
        small = Image.fromarray(picture.astype(np.uint8)).resize(
            (16, 16), Image.Resampling.BILINEAR
        )
        picture = np.asarray(small.resize((32, 32), Image.Resampling.BILINEAR)).astype(np.float64)
    images[split.test[0]] = picture.clip(0, 255)
    found = of_data(replace(phantom, images=images), split)
    assert found["identical pictures"].verdict == "fine"
    assert found["pictures that look alike"].verdict == "look"
    name = f"{phantom.ids[split.test[0]]} = {phantom.ids[split.train[0]]}"
    assert name in found["pictures that look alike"].reason


def test_unknown_patients_deserve_a_look(phantom: SliceDataset) -> None:
    data = phantom.without_patients()
    assert of_data(data, a_split(data))["patients"].verdict == "look"


@pytest.mark.slow
def test_the_smoke_run_is_left_alone(tmp_path: Path) -> None:
    """Its networks learn next to nothing, which the audit says; no map is called a code for it."""
    names = ["vinet", "vbp", "cam", "lrp", "lrp-epsilon", "gradcam", "ig", "random", "outline"]
    outcome = run(["keep-important"], make_plan(preset="smoke", methods=names), tmp_path)
    assert outcome.failed == ()
    found = {finding.topic: finding for finding in audit(read_run(tmp_path))}
    assert broken(found) == set()
    for topic in ("masks alone", "area alone", "the test label", "patients", "identical pictures"):
        assert found[topic].verdict == "fine", found[topic]
