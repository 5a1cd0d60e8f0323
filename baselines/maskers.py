"""Methods that learn a mask: one for each picture anew, and one network for all pictures."""

import copy
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.base import NetworkMethod, input_channels
from vinet_bench.data.dataset import SliceDataset
from vinet_bench.errors import UserError
from vinet_bench.methods import MethodInfo
from vinet_bench.seeds import generator


def total_variation(masks: Tensor, power: float) -> Tensor:
    """The mean of |difference|^power between neighbours, for each mask. (B, 1, h, w) -> (B,)."""
    steps = [masks.diff(dim=axis).abs().pow(power).mean(dim=(1, 2, 3)) for axis in (2, 3)]
    return steps[0] + steps[1]


def without_details(images: Tensor) -> Tensor:
    """The picture through a Gaussian, sigma a tenth of the side. (B, C, H, W)."""
    from vinet_bench.perturbations import blurred  # torchvision takes seconds, as networks do

    return blurred(images, 0.1)


class MeaningfulPerturbation(NetworkMethod):
    """The smallest smooth mask that, blurred away, lowers the class's probability (Eq. 4): 50
    steps of Adam for each picture, all pictures of a batch at once.

    In float64: 50 steps make much of float32's rounding, and a picture's map would depend on its
    batch.
    """

    info = MethodInfo(
        name="meaningful-perturbation",
        title="Meaningful perturbation",
        paper="Fong & Vedaldi 2017, arXiv 1704.03296",
        variant="blur, mask of a quarter of the side, 50 steps",
        scaling="as-is",
        sign="unsigned",
        forwards=50,
        backwards=50,
        costly=True,
    )
    steps, rate = 50, 0.1
    area, smoothness = 0.05, 0.2  # weights of the mask's mean and of its total variation (cubed)

    def fit(self, model: nn.Module, data: SliceDataset) -> Self:
        return super().fit(copy.deepcopy(model).double(), data)

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        return self._masks(images.double(), targets).to(images.dtype)

    def _masks(self, images: Tensor, targets: Tensor) -> Tensor:
        without = without_details(images)
        low = [max(n // 4, 1) for n in images.shape[-2:]]
        hidden = images.new_full((len(images), 1, *low), 0.5).requires_grad_()
        optimiser = torch.optim.Adam([hidden], lr=self.rate)
        for _ in range(self.steps):
            loss = self._loss(hidden, images, without, targets)
            (hidden.grad,) = torch.autograd.grad(loss.sum(), hidden)
            optimiser.step()
            hidden.data.clamp_(0, 1)
        return _up(hidden, images).detach()[:, 0]

    def _loss(self, hidden: Tensor, images: Tensor, without: Tensor, targets: Tensor) -> Tensor:
        mask = _up(hidden, images)
        left = images + mask * (without - images)
        probability = self.model(left).softmax(dim=1).gather(1, targets[:, None])[:, 0]
        area, rough = hidden.mean(dim=(1, 2, 3)), total_variation(hidden, 3)
        loss: Tensor = probability + self.area * area + self.smoothness * rough
        return loss


def _up(masks: Tensor, images: Tensor) -> Tensor:
    return F.interpolate(masks, size=images.shape[-2:], mode="bilinear", align_corners=False)


class RealTimeMasker(NetworkMethod):
    """A network that masks any picture in one pass, trained against the explained network: what it
    keeps holds the predicted class, what it removes does not (Eq. 3).

    Kept are the network's predictions on the training part, so one pass needs no class selector.
    The order of the batches and the first weights are seeded.
    """

    info = MethodInfo(
        name="real-time-masker",
        title="Real-time masker",
        paper="Dabkowski & Gal 2017, arXiv 1705.07857",
        variant="a small U-Net, 100 steps of 8 training pictures, blur, without a class selector",
        scaling="as-is",
        sign="unsigned",
        class_specific=False,
    )
    batch, rate = 8, 1e-3
    smoothness, area, removed, power = 1.0, 0.5, 1.0, 0.3  # lambda 1 to 4 of Eq. 3

    def __init__(self, steps: int = 100) -> None:
        self.steps = steps

    def fit(self, model: nn.Module, data: SliceDataset) -> Self:
        from vinet_bench.networks import build_importance

        if not len(data):
            raise UserError("real-time-masker needs training pictures, and there are none")
        self.masker = build_importance("unet", seed=0, width=0.25)
        place = next(model.parameters())
        self.masker.to(place.device, place.dtype).train()
        optimiser = torch.optim.Adam(self.masker.parameters(), lr=self.rate)
        order = generator("real-time masker")
        for _ in range(self.steps):
            chosen = torch.randint(len(data), (self.batch,), generator=order)
            images = torch.from_numpy(data.pictures(chosen.numpy())).to(place)
            loss = self._loss(model, images.expand(-1, input_channels(model), -1, -1))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        self.masker.eval().requires_grad_(False)
        return super().fit(model, data)

    def _loss(self, model: nn.Module, images: Tensor) -> Tensor:
        masks, without = self._mask(images), without_details(images)
        with torch.no_grad():
            targets = model(images).argmax(dim=1)[:, None]
        kept = model(without + masks * (images - without)).log_softmax(dim=1).gather(1, targets)
        gone = model(images + masks * (without - images)).softmax(dim=1).gather(1, targets)
        loss = -kept[:, 0] + self.removed * gone[:, 0].clamp(min=1e-6).pow(self.power)
        loss = loss + self.smoothness * total_variation(masks, 1)
        mean: Tensor = (loss + self.area * masks.mean(dim=(1, 2, 3))).mean()
        return mean

    def _mask(self, images: Tensor) -> Tensor:
        masks: Tensor = self.masker(images.mean(dim=1, keepdim=True)).sigmoid()
        return masks

    @torch.no_grad()
    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        return self._mask(images)[:, 0]
