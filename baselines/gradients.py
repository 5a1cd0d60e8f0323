"""Methods of captum that need gradients alone.

The library is imported where it is used: that takes a second, and `list methods` needs none of it.
"""

import warnings
from collections.abc import Iterator
from typing import Protocol, Self

import torch
from torch import Tensor, nn

from baselines.base import NetworkMethod, draw
from baselines.operations import RULES, SUMS, calls, check_modules, check_rules, operations
from vinet_bench.data.dataset import SliceDataset
from vinet_bench.errors import UserError
from vinet_bench.methods import MethodInfo
from vinet_bench.seeds import generator, picture_generators

HOOKED = "Setting (forward, )?backward hooks"  # captum says so at every call, and removes them


class _Attribution(Protocol):
    """A method of captum on one network."""

    def attribute(self, inputs: Tensor, target: Tensor) -> Tensor: ...


def _attributed(method: _Attribution, images: Tensor, targets: Tensor) -> Tensor:
    """captum's attribution, summed over the channels. (B, C, H, W), (B,) -> (B, H, W)."""
    pictures = images.clone().requires_grad_()  # captum warns where it must ask for it
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=HOOKED)
        maps = method.attribute(pictures, target=targets)
    return maps.detach().to(images.dtype).sum(dim=1)


class Saliency(NetworkMethod):
    """The absolute gradient of the class's logit (captum)."""

    info = MethodInfo(
        name="saliency",
        title="Saliency",
        paper="Simonyan et al. 2014, arXiv 1312.6034",
        scaling="absolute",
        sign="unsigned",
        backwards=1,
    )

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        from captum import attr

        return _attributed(attr.Saliency(self.model), images, targets)


class InputXGradient(NetworkMethod):
    """The picture times the gradient of the class's logit (captum)."""

    info = MethodInfo(
        name="input-x-gradient",
        title="Input x gradient",
        paper="Shrikumar et al. 2016, arXiv 1605.01713",
        backwards=1,
    )

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        from captum import attr

        return _attributed(attr.InputXGradient(self.model), images, targets)


class IntegratedGradients(NetworkMethod):
    """Gradients integrated from a picture of air (0) to the slice (captum).

    16 Gauss-Legendre steps leave a completeness gap of a few per cent, which a test bounds; 50
    steps would cost three times as much.
    """

    info = MethodInfo(
        name="ig",
        title="Integrated gradients",
        paper="Sundararajan et al. 2017, arXiv 1703.01365",
        variant="from air, 16 steps",
        forwards=16,
        backwards=16,
    )
    steps = 16

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        from captum import attr

        method = attr.IntegratedGradients(self.model)
        maps: Tensor = method.attribute(images, target=targets, n_steps=self.steps)
        return maps.detach().to(images.dtype).sum(dim=1)


class _NoisyGradients(NetworkMethod):
    """The gradients of noisy copies. captum's NoiseTunnel draws from the global state for a whole
    batch, so the noise is drawn here, from each picture's content."""

    samples = 16
    spread = 0.15  # of the picture's range, as in the paper

    def gradients(self, images: Tensor, targets: Tensor) -> Tensor:
        """(B, C, H, W) -> (samples, B, C, H, W)."""
        draws = picture_generators(images, "noisy gradients")
        low, high = (end(dim=(1, 2, 3), keepdim=True) for end in (images.amin, images.amax))
        deviation = self.spread * (high - low)
        noisy = (images + deviation * draw(draws, images, normal=True) for _ in range(self.samples))
        return torch.stack([_gradient(self.model, pictures, targets) for pictures in noisy])


def _gradient(model: nn.Module, pictures: Tensor, targets: Tensor) -> Tensor:
    """The signed gradient of the class's logit (captum). (B, C, H, W) -> the same shape."""
    from captum import attr

    leaf = pictures.detach().requires_grad_()
    gradient: Tensor = attr.Saliency(model).attribute(leaf, target=targets, abs=False)
    return gradient.detach()


class SmoothGrad(_NoisyGradients):
    """The mean gradient of 16 noisy copies, noise of 15 % of the picture's range."""

    info = MethodInfo(
        name="smoothgrad",
        title="SmoothGrad",
        paper="Smilkov et al. 2017, arXiv 1706.03825",
        variant="16 copies, noise of 15 % of the range",
        scaling="absolute",
        forwards=16,
        backwards=16,
    )

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        return self.gradients(images, targets).mean(dim=0).sum(dim=1)


class VarGrad(_NoisyGradients):
    """The variance of the gradient over 16 noisy copies, noise of 15 % of the picture's range."""

    info = MethodInfo(
        name="vargrad",
        title="VarGrad",
        paper="Adebayo et al. 2018, arXiv 1810.03292",
        variant="16 copies, noise of 15 % of the range",
        sign="unsigned",
        forwards=16,
        backwards=16,
    )

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        return self.gradients(images, targets).var(dim=0, correction=0).sum(dim=1)


class GradientSHAP(NetworkMethod):
    """The mean over 16 draws of (picture - base) times the gradient at a random point between
    them; the base is one of 16 pictures of the training part.

    captum's GradientShap draws from the global state for a whole batch, so the draws are made
    here, from each picture's content.
    """

    info = MethodInfo(
        name="gradient-shap",
        title="Gradient SHAP",
        paper="Lundberg & Lee 2017, arXiv 1705.07874",
        variant="16 draws, from 16 training pictures",
        forwards=16,
        backwards=16,
    )
    samples = 16

    def fit(self, model: nn.Module, data: SliceDataset) -> Self:
        if not len(data):
            raise UserError("gradient-shap needs training pictures, and there are none")
        chosen = torch.randperm(len(data), generator=generator("gradient SHAP"))[: self.samples]
        self.bases = torch.from_numpy(data.pictures(chosen.numpy()))
        return super().fit(model, data)

    def draws(self, images: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Bases (B, 1, H, W) and places (B, 1, 1, 1) between them (0) and the pictures (1)."""
        generators = picture_generators(images, "gradient SHAP")
        for _ in range(self.samples):
            which = [int(torch.randint(len(self.bases), (), generator=g)) for g in generators]
            bases = self.bases[which].to(images).expand_as(images)
            yield bases, draw(generators, images[:, :1, :1, :1])

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        total = torch.zeros_like(images)
        for bases, places in self.draws(images):
            between = bases + places * (images - bases)
            total += (images - bases) * _gradient(self.model, between, targets)
        return total.sum(dim=1) / self.samples


class DeepLIFT(NetworkMethod):
    """The change of the class's logit from a picture of air (0), by the rescale rule (captum)."""

    info = MethodInfo(
        name="deeplift",
        title="DeepLIFT",
        paper="Shrikumar et al. 2017, arXiv 1704.02685",
        variant="rescale rule, from air",
        forwards=2,
        backwards=2,
    )

    def fit(self, model: nn.Module, data: SliceDataset) -> Self:
        check_rules(model, data.size, RULES | SUMS)
        twice = [name for name, times in calls(model, data.size).items() if times > 1]
        if twice:
            raise UserError(
                f"needs a module for every step, and the explained network has '{twice[0]}' twice"
            )
        return super().fit(model, data)

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        from captum import attr

        return _attributed(attr.DeepLift(self.model), images, targets)


class _ReLURule(NetworkMethod):
    """A method that changes what flows back through ReLUs; without any it were the gradient."""

    def fit(self, model: nn.Module, data: SliceDataset) -> Self:
        done = operations(model, data.size)
        if not done["Relu"]:
            raise UserError("changes the gradient at ReLUs, and the explained network has none")
        check_modules(model, done, calls(model, data.size), ["Relu"])
        return super().fit(model, data)


class GuidedBackprop(_ReLURule):
    """The gradient without what any ReLU would turn negative (captum)."""

    info = MethodInfo(
        name="guided-backprop",
        title="Guided backprop",
        paper="Springenberg et al. 2015, arXiv 1412.6806",
        scaling="absolute",
        backwards=1,
    )

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        from captum import attr

        return _attributed(attr.GuidedBackprop(self.model), images, targets)


class Deconvolution(_ReLURule):
    """The gradient with each ReLU applied to what flows back, not forward (captum)."""

    info = MethodInfo(
        name="deconvolution",
        title="Deconvolution",
        paper="Zeiler & Fergus 2014, arXiv 1311.2901",
        scaling="absolute",
        backwards=1,
    )

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        from captum import attr

        return _attributed(attr.Deconvolution(self.model), images, targets)
