"""What a sealed VINet is trained for, term by term (docs/sealed.md)."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import cast

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from vinet_bench.networks.critic import reverse_gradient
from vinet_bench.sealed import VIEWS, SealedVINet, only_asked
from vinet_bench.seeds import picture_generators
from vinet_bench.settings import SealedTraining
from vinet_bench.vinet import vinet_loss

SMALLEST = 0.02  # share of the smallest random masks
ENOUGH = 0.1  # nats that kept pixels may lose before a price is asked for them


def moved(images: Tensor, reach: int, generator: Generator) -> Tensor:
    """Each picture moved by up to `reach` pixels along both axes, mirrored at its border.
    (B, C, H, W) -> the same."""
    if not reach:
        return images
    height, width = images.shape[-2:]
    wide = F.pad(images, (reach, reach, reach, reach), mode="reflect")
    draws = torch.randint(
        2 * reach + 1, (len(images), 2), generator=generator, device=generator.device
    )
    corners = zip(wide, draws.tolist(), strict=True)
    return torch.stack([p[:, y : y + height, x : x + width] for p, (y, x) in corners])


@dataclass(frozen=True)
class SealedTask:
    """The classifier learns to read under random masks, the importance network what to show it."""

    wanted: SealedTraining

    @property
    def warmup(self) -> float:
        return self.wanted.warmup

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, progress: float, noise: Generator
    ) -> Tensor:
        sealed = cast(SealedVINet, model)
        images = moved(images, round(self.wanted.moves * images.shape[-1]), noise)
        total = self._terms(sealed, images, labels, progress, noise)
        sealed.remember(images)  # afterwards, lest one be its own donor
        return total

    def _terms(
        self, sealed: SealedVINet, images: Tensor, labels: Tensor, progress: float, noise: Generator
    ) -> Tensor:
        if progress < self.wanted.warmup:
            return F.cross_entropy(sealed.classifier(images).float(), labels)
        mask = sealed.form.mask(sealed.scores(images, self._views(noise)))
        total = self.explaining(sealed, images, labels, mask, noise)
        if self.wanted.masks != "own":
            total = total + self.reading(sealed, images, labels, mask, noise)
        if sealed.critic is not None:
            total = total + self.telling(sealed.critic, mask, labels, progress)
        return total

    def validation_loss(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Eq. 6, the price for its a where no share is fixed: by what is read alone a map that
        keeps everything would be the best."""
        draws = picture_generators(images, "validation", device=images.device)
        price = 0.0 if self.wanted.share else self.wanted.price
        logits, m = model(images, draws)
        return vinet_loss(logits, labels, m, price).total

    def reading(
        self, model: SealedVINet, images: Tensor, labels: Tensor, maps: Tensor, noise: Generator
    ) -> Tensor:
        """Cross entropy of the classifier: half of the pictures whole, half under masks that know
        nothing of them. maps (B, 1, H, W): the pictures' own, of which each may get another's."""
        masks = model.form.random(images, SMALLEST, noise)
        half, quarter = len(masks) // 2, len(masks) // 4
        masks[:half] = 1.0
        if self.wanted.masks == "others":
            masks[half : half + quarter] = maps.detach().roll(1, 0)[half : half + quarter]
        return F.cross_entropy(model.classify(images, masks, noise).float(), labels)

    def explaining(
        self, model: SealedVINet, images: Tensor, labels: Tensor, mask: Tensor, noise: Generator
    ) -> Tensor:
        """What the map is asked for. mask (B, 1, H, W): with its gradient. The classifier only
        answers; it learns from this too where it reads under the maps themselves."""
        with only_asked(model.classifier):
            whole = model.classifier(images).float().detach()
        wanted = whole.softmax(dim=1) if self.wanted.target == "prediction" else labels
        with nullcontext() if self.wanted.masks == "own" else only_asked(model.classifier):
            kept = self._kept(model, images, mask, wanted, noise)
            total = kept + self._left(model, images, mask, whole, noise)
        if not self.wanted.share and kept <= F.cross_entropy(whole, wanted) + ENOUGH:
            total = total + self.wanted.price * mask.mean()
        return total

    def telling(self, critic: nn.Module, mask: Tensor, labels: Tensor, progress: float) -> Tensor:
        """Cross entropy of what the critic reads from the mask, of which the map learns the
        opposite: the more, the longer it has looked for evidence, since a map that lies anywhere
        tells nothing either. mask (B, 1, H, W)."""
        ripe = (progress - self.wanted.warmup) / (1 - self.wanted.warmup)
        read = critic(reverse_gradient(mask, self.wanted.critic * ripe)).float()
        return F.cross_entropy(read, labels)

    def _views(self, noise: Generator) -> Sequence[tuple[int, ...]]:
        """One view, drawn at random where there are several."""
        if not self.wanted.views:
            return VIEWS[:1]
        place = int(torch.randint(len(VIEWS), (1,), generator=noise, device=noise.device))
        return VIEWS[place : place + 1]

    def _kept(
        self, model: SealedVINet, images: Tensor, mask: Tensor, wanted: Tensor, noise: Generator
    ) -> Tensor:
        """Cross entropy of what is said of the kept pixels, over the samples of the noise."""
        often = self.wanted.samples
        images, mask, wanted = (torch.cat([t] * often) for t in (images, mask, wanted))
        return F.cross_entropy(model.classify(images, mask, noise).float(), wanted)

    def _left(
        self, model: SealedVINet, images: Tensor, mask: Tensor, whole: Tensor, noise: Generator
    ) -> Tensor | float:
        """The probability that the pixels which are not kept leave to what the whole picture says:
        evidence that is shown in part only has a price."""
        if not self.wanted.complement:
            return 0.0
        rest = model.classify(images, 1 - mask, noise).float().softmax(dim=1)
        return self.wanted.complement * (rest * whole.softmax(dim=1)).sum(dim=1).mean()
