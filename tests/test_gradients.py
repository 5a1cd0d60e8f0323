"""captum's gradient methods against captum called by hand, and what they add up to."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from captum import attr
from captum.attr._core.gradient_shap import InputBaselineXGradient
from torch import Tensor, nn

from baselines.gradients import (
    Deconvolution,
    DeepLIFT,
    GradientSHAP,
    GuidedBackprop,
    InputXGradient,
    SmoothGrad,
    VarGrad,
)
from vinet_bench.check_one import example_case
from vinet_bench.checks import MethodCase
from vinet_bench.methods import MethodFactory, SaliencyMethod
from vinet_bench.seeds import picture_generators


def case(factory: MethodFactory) -> MethodCase:
    return example_case(factory)


def ours(chosen: MethodCase) -> Tensor:
    return chosen.explain(chosen.images, chosen.targets)


LIBRARY: dict[MethodFactory, Callable[[nn.Module], object]] = {
    InputXGradient: attr.InputXGradient,
    DeepLIFT: attr.DeepLift,
    GuidedBackprop: attr.GuidedBackprop,
    Deconvolution: attr.Deconvolution,
}


@pytest.mark.parametrize("factory", LIBRARY)
def test_it_is_the_librarys_map(factory: MethodFactory) -> None:
    chosen = case(factory)
    leaf = chosen.images.clone().requires_grad_()
    method = LIBRARY[factory](chosen.model)
    expected: Tensor = method.attribute(leaf, target=chosen.targets)  # type: ignore[attr-defined]
    torch.testing.assert_close(ours(chosen), expected.detach()[:, 0], rtol=1e-5, atol=1e-9)
    assert expected.abs().max() > 0


class GivenNoise(attr.NoiseTunnel):  # type: ignore[misc]
    """captum's, with noise that is given and not drawn."""

    noisy: Tensor

    def _add_noise_to_inputs(self, *_: object) -> tuple[Tensor]:
        return (self.noisy,)


def noisy_copies(image: Tensor, samples: int) -> Tensor:
    """One picture's, as SmoothGrad and VarGrad draw them. (1, C, H, W) -> (samples, C, H, W)."""
    (draws,) = picture_generators(image, "noisy gradients")
    deviation = 0.15 * (image.max() - image.min())
    noise = [torch.randn(image.shape[1:], generator=draws) for _ in range(samples)]
    return image + deviation * torch.stack(noise)


@pytest.mark.parametrize(
    ("factory", "kind", "tolerance"), [(SmoothGrad, "smoothgrad", 1e-5), (VarGrad, "vargrad", 1e-3)]
)
def test_noisy_gradients_are_the_librarys(
    factory: type[SmoothGrad | VarGrad], kind: str, tolerance: float
) -> None:
    chosen = case(factory)
    maps = ours(chosen)
    for row in range(len(chosen.images)):
        image = chosen.images[row : row + 1]
        tunnel = GivenNoise(attr.Saliency(chosen.model))
        tunnel.noisy = noisy_copies(image, factory.samples).requires_grad_()
        expected = tunnel.attribute(
            image,
            target=int(chosen.targets[row]),
            nt_type=kind,
            nt_samples=factory.samples,
            abs=False,
        )[0, 0]
        # The library's variance is a difference of two means, which cancels in float32.
        apart = (maps[row] - expected).abs().max() / expected.abs().max()
        assert apart < tolerance


def test_gradient_shap_is_the_librarys_for_the_same_draws(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen = case(GradientSHAP)
    method = chosen.method
    assert isinstance(method, GradientSHAP)
    bases, places = (torch.stack(part) for part in zip(*method.draws(chosen.images), strict=True))
    maps = ours(chosen)
    for row in range(len(chosen.images)):
        drawn = places[:, row].flatten().double().numpy()
        monkeypatch.setattr(np.random, "uniform", lambda *_, drawn=drawn: drawn)
        library = InputBaselineXGradient(chosen.model)
        copies = chosen.images[row].expand(len(drawn), -1, -1, -1).clone().requires_grad_()
        parts = library.attribute(copies, baselines=bases[:, row], target=int(chosen.targets[row]))
        expected = parts.detach().mean(dim=0)[0]
        apart = (maps[row] - expected).abs().max() / expected.abs().max()
        assert apart < 1e-4


def test_gradient_shap_takes_its_bases_from_the_training_pictures() -> None:
    method = GradientSHAP().fit(nn.Identity(), case(GradientSHAP).data)
    known = {bytes(picture.numpy().tobytes()) for picture in map(torch.from_numpy, pictures())}
    assert len(method.bases) == 16
    assert {bytes(base.numpy().tobytes()) for base in method.bases} <= known


def pictures() -> list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    return list(case(GradientSHAP).data.pictures())


def test_deeplift_adds_up_to_the_change_of_the_logit() -> None:
    """Without max pooling, whose rule in captum loses a part of it."""
    chosen = case(DeepLIFT)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            *(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(4, 4, 3), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)),
        ).requires_grad_(False)
    maps = DeepLIFT().fit(model, chosen.data).explain(chosen.images, chosen.targets)
    change = model(chosen.images) - model(torch.zeros_like(chosen.images))
    expected = change.gather(1, chosen.targets[:, None])[:, 0]
    torch.testing.assert_close(maps.sum(dim=(1, 2)), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("factory", [SmoothGrad, GradientSHAP, InputXGradient, DeepLIFT])
def test_a_linear_network_has_one_gradient(factory: Callable[[], SaliencyMethod]) -> None:
    chosen = case(factory)
    linear = nn.Linear(32 * 32, 5)
    model = nn.Sequential(nn.Flatten(), linear).requires_grad_(False)
    method = factory().fit(model, chosen.data)
    maps = method.explain(chosen.images, chosen.targets)
    weights = linear.weight[chosen.targets].view(-1, 32, 32)
    expected = weights if factory is SmoothGrad else weights * chosen.images[:, 0]
    if isinstance(method, GradientSHAP):  # from its bases, not from air
        bases = torch.stack([base for base, _ in method.draws(chosen.images)]).mean(dim=0)
        expected = weights * (chosen.images - bases)[:, 0]
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-6)
