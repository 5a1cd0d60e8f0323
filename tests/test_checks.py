"""The contract: every registered method holds it, and it catches what breaks it."""

import random
from typing import ClassVar, Self

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.shorter import shorter
from vinet_bench.check_one import example_case
from vinet_bench.checks import TOLERANCE, CheckError, check_method, coloured, method_checks
from vinet_bench.data.dataset import SliceDataset
from vinet_bench.methods import MethodFactory, MethodInfo, methods
from vinet_bench.networks import build_classifier

# Epsilon-LRP divides by sums near 0 in every layer, down to float32's rounding of them; an
# occlusion map is a small difference of two logits.
LOOSER = {"lrp-epsilon": 1e-2, "occlusion": 1e-4}


@pytest.mark.parametrize("name", [*methods(), "blurred:gradcam"])
def test_contract(name: str) -> None:
    case = example_case(shorter(name), LOOSER.get(name, TOLERANCE))
    assert {what: failure for what, failure in method_checks(case) if failure} == {}


class Bright:
    """Brightness as importance; each class below spoils one thing."""

    info = MethodInfo(name="bright", title="Bright", paper="none", class_specific=False)
    model: nn.Module

    def fit(self, model: nn.Module, data: SliceDataset) -> Self:
        self.model = model
        return self

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        return images.mean(dim=1)


class KeepsChannel(Bright):
    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        return images


class Smaller(Bright):
    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        return images[:, 0, ::2, ::2]


class NotFinite(Bright):
    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        return images[:, 0] / (images[:, 0] - images[0, 0, 0, 0])


class Doubles(Bright):
    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        return images.mean(dim=1).double()


class ScaledOverBatch(Bright):
    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        return images[:, 0] / (1 + images.sum())


class ByPlace(Bright):
    """The same in batches of the same order: the first picture of a pair comes out darker."""

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        darker = torch.ones(len(images))
        if len(images) == 3 and images[0].sum() > images[2].sum():
            darker[0] = 0.5
        return images.mean(dim=1) * darker[:, None, None]


class Unseeded(Bright):
    draws = torch.Generator()

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        return torch.rand(images[:, 0].shape, generator=self.draws)


class DrawsGlobally(Bright):
    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        torch.rand(1)
        return super().explain(images, targets)


class DrawsFromNumpy(Bright):
    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        np.random.uniform()
        return super().explain(images, targets)


class DrawsFromPython(Bright):
    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        random.random()
        return super().explain(images, targets)


class WritesOnPictures(Bright):
    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        images[:, :, 0, 0] = 0.5
        return images.mean(dim=1)


class TrainsModel(Bright):
    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        self.model.train()
        return super().explain(images, targets)


class LeavesHook(Bright):
    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        self.model.register_forward_hook(lambda *_: None)
        return super().explain(images, targets)


class LeavesAttribute(Bright):
    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        vars(self.model)["seen"] = len(images)
        return super().explain(images, targets)


class ChangesWeights(Bright):
    @torch.no_grad()
    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        next(self.model.parameters()).mul_(1.01)
        return super().explain(images, targets)


class LeavesGradient(Bright):
    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        weight = next(self.model.parameters())
        weight.grad = torch.zeros_like(weight)
        return super().explain(images, targets)


class Thaws(Bright):
    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        self.model.requires_grad_(True)
        return super().explain(images, targets)


class DividesByRange(Bright):
    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        maps = images.mean(dim=1)
        return maps / (maps.amax(dim=(1, 2), keepdim=True) - maps.amin(dim=(1, 2), keepdim=True))


class NegativeOfUnsigned(Bright):
    info = MethodInfo(name="bad", title="Bad", paper="none", sign="unsigned", class_specific=False)

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        return images.mean(dim=1) - 0.5


class ForgetsTargets(Bright):
    info = MethodInfo(name="bad", title="Bad", paper="none")


class UsesTargets(Bright):
    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        return images.mean(dim=1) * (1 + targets[:, None, None])


class OneChannel(Bright):
    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        return images.squeeze(1)


class KeepsTensors(Bright):
    kept: ClassVar[list[Tensor]] = []

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        self.kept.append(images.mean(dim=1))
        return super().explain(images, targets)


class KeepsArrays(Bright):
    kept: ClassVar[list[object]] = []

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        self.kept.append(images.numpy().copy())
        return super().explain(images, targets)


class UnknownScaling(Bright):
    info = MethodInfo(name="bad", title="Bad", paper="none", scaling="sqrt", class_specific=False)


class Breaks(Bright):
    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        raise KeyError("what")


def hold(factory: MethodFactory) -> None:
    case = example_case(Bright)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()).eval().requires_grad_(False)
    check_method(factory, model, case.images.clone(), case.targets, case.data)


@pytest.mark.parametrize(
    ("factory", "word"),
    [
        (KeepsChannel, r"shape \(3, 1, 32, 32\), not \(3, 32, 32\)"),
        (Smaller, r"shape \(3, 16, 16\)"),
        (NotFinite, "not finite: look for a division"),
        (Doubles, "maps of torch.float64 for pictures of torch.float32"),
        (ScaledOverBatch, "in a batch of 3 and not alone"),
        (ByPlace, "in another order of the batch"),
        (Unseeded, "again, a map differs.*: seed what is random"),
        (DrawsGlobally, "global random state"),
        (DrawsFromNumpy, "global random state"),
        (DrawsFromPython, "global random state"),
        (WritesOnPictures, "changed the pictures.*clone them"),
        (TrainsModel, "mode of"),
        (LeavesHook, "_forward_hooks of the network"),
        (LeavesAttribute, "attributes of the network"),
        (ChangesWeights, "weights"),
        (LeavesGradient, "the gradient of 0.weight"),
        (Thaws, "requires_grad"),
        (DividesByRange, "a constant picture: a map has values that are not finite"),
        (NegativeOfUnsigned, "declared unsigned, but a map holds -0"),
        (ForgetsTargets, "another target gives the same map"),
        (UsesTargets, "declare class_specific=True"),
        (OneChannel, r"3 channels: maps of shape \(2, 3, 32, 32\).*average over them"),
        (KeepsTensors, "25 calls left 25 tensors"),
        (KeepsArrays, "bytes: look for lists"),
        (UnknownScaling, "scaling 'sqrt'"),
        (Breaks, r"KeyError: 'what' \(test_checks.py:\d+\)"),
    ],
)
def test_the_contract_catches(factory: type[Bright], word: str) -> None:
    with pytest.raises(CheckError, match=word):
        hold(factory)


def test_brightness_breaks_nothing() -> None:
    assert [failure for _, failure in method_checks(example_case(Bright)) if failure] == []


def test_every_check_is_reported_though_one_fails() -> None:
    found = dict(method_checks(example_case(ForgetsTargets)))
    assert [what for what, failure in found.items() if failure] == ["targets matter as declared"]
    assert len(found) == 10


def test_a_coloured_network_gives_grey_pictures_the_same_logits() -> None:
    grey = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    model = build_classifier("vgg16", 5, 0, width=0.25).eval()
    before = model(grey)
    torch.testing.assert_close(coloured(model)(grey.expand(-1, 3, -1, -1)), before)
    assert torch.equal(model(grey), before)
