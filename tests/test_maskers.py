"""The learned maskers: what they minimise, what they find, and that their training is seeded."""

import math

import pytest
import torch
from torch import Tensor, nn

from baselines.maskers import (
    MeaningfulPerturbation,
    RealTimeMasker,
    total_variation,
    without_details,
)
from vinet_bench.check_one import example_case
from vinet_bench.data.dataset import SliceDataset
from vinet_bench.errors import UserError
from vinet_bench.networks import build_classifier


def test_total_variation_by_hand() -> None:
    masks = torch.tensor([[[[0.0, 1.0], [0.0, 0.5]]]])
    # Down: 0 and 0.5; across: 1 and 0.5.
    assert total_variation(masks, 1).item() == pytest.approx(0.25 + 0.75)
    assert total_variation(masks, 2).item() == pytest.approx(0.125 + 0.625)


def test_details_go_and_a_constant_stays() -> None:
    constant = torch.full((1, 1, 32, 32), 0.4)
    torch.testing.assert_close(without_details(constant), constant)
    spot = torch.zeros(1, 1, 32, 32)
    spot[..., 16, 16] = 1
    # A Gaussian of sigma 3.2 has 1 / (2 pi 3.2^2) at its centre.
    assert without_details(spot).max().item() == pytest.approx(1 / (2 * math.pi * 3.2**2), rel=0.03)


def test_a_perturbations_map_depends_on_no_batch() -> None:
    """On a network whose probabilities 50 steps follow: in float32 a rounding would grow to most of
    the map."""
    network = build_classifier("vgg16", 5, seed=0, width=0.5).eval()
    images = torch.rand(12, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    targets = network(images).argmax(dim=1)
    data = example_case(MeaningfulPerturbation).data
    masker = MeaningfulPerturbation().fit(network, data)
    alone = torch.cat([masker.explain(images[i : i + 1], targets[i : i + 1]) for i in range(3)])
    assert alone.max() > 0.1
    torch.testing.assert_close(masker.explain(images, targets)[:3], alone, rtol=0, atol=1e-5)


class SeesASpot(nn.Module):
    """Class 1 where a bright spot stands out in the top left quarter."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor([[[[20.0]]]]), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        corner = self.gain.flatten() * (images[:, 0, 8:12, 8:12].mean(dim=(1, 2)) - 0.5)
        return torch.stack([-corner, corner], dim=1)


def spots() -> Tensor:
    images = torch.full((2, 1, 32, 32), 0.2)
    images[:, :, 8:12, 8:12] = 1
    images[1, :, 20:24, 20:24] = 1  # a second spot that the network does not see
    return images


def test_the_smallest_hiding_mask_lies_on_what_the_network_sees() -> None:
    data = example_case(MeaningfulPerturbation).data
    method = MeaningfulPerturbation().fit(SeesASpot(), data)
    maps = method.explain(spots(), torch.tensor([1, 1]))
    assert (maps[:, 9:11, 9:11] > 0.9).all()
    assert (maps[:, 22:, 22:] < 0.1).all()
    assert (maps.mean(dim=(1, 2)) < 0.25).all()


def test_a_hiding_mask_lowers_the_probability() -> None:
    case = example_case(MeaningfulPerturbation)
    targets = case.model(case.images).argmax(dim=1)
    maps = case.explain(case.images, targets)
    hidden = case.images + maps[:, None] * (without_details(case.images) - case.images)
    before, after = (
        case.model(x).softmax(dim=1).gather(1, targets[:, None]) for x in (case.images, hidden)
    )
    assert (after < before).all()


def test_the_explained_network_stays_as_precise_as_it_was() -> None:
    case = example_case(MeaningfulPerturbation)
    assert case.method is not None
    assert {p.dtype for p in case.model.parameters()} == {torch.float32}


def short(model: nn.Module, data: SliceDataset) -> Tensor:
    images = torch.from_numpy(data.pictures(slice(3)))
    return RealTimeMasker(steps=3).fit(model, data).explain(images, torch.zeros(3))


def test_the_same_training_gives_the_same_maps() -> None:
    case = example_case(RealTimeMasker)
    maps = short(case.model, case.data)
    torch.manual_seed(5)  # a state that must not matter
    assert torch.equal(maps, short(case.model, case.data))
    assert maps.min() > 0
    assert maps.max() < 1
    other = build_classifier("vgg16", 5, seed=3, width=0.25).eval().requires_grad_(False)
    assert not torch.equal(maps, short(other, case.data))


def test_training_lowers_the_maskers_loss() -> None:
    case = example_case(RealTimeMasker)
    images = torch.from_numpy(case.data.pictures())
    losses = []
    for steps in (1, 40):
        method = RealTimeMasker(steps=steps).fit(case.model, case.data)
        with torch.no_grad():
            losses.append(method._loss(case.model, images).item())
    assert losses[1] < losses[0] - 0.05


def test_a_masker_needs_training_pictures() -> None:
    case = example_case(RealTimeMasker)
    with pytest.raises(UserError, match="training pictures"):
        RealTimeMasker().fit(case.model, case.data.subset(torch.arange(0).numpy()))
