"""A VINet whose map cannot be a code: a fixed share of the pixels, and a classifier that learns to
read from random masks (docs/sealed.md)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Generator, Tensor, nn

from vinet_bench.hooks import evaluating
from vinet_bench.mask_forms import EDGE, form_of
from vinet_bench.settings import SealedTraining
from vinet_bench.vinet import VINet, VINetOutput, destroy, uniform_noise

DONORS = 64  # training pictures whose pixels take the place of destroyed ones under `swap`
VIEWS = ((), (2,), (3,), (2, 3))  # the axes along which a view is flipped


class SealedVINet(VINet):
    """A VINet that destroys at the input only, where its map is below the fixed share.

    From there nothing that the map does not show reaches the classifier, but for the range of grey
    values that noise lies in (Eq. 3); so later places would hide nothing more. donors
    (DONORS, 1, H, W): training pictures, for `swap`. critic: masks (B, 1, H, W) -> (B, K), used in
    training alone.
    """

    def __init__(
        self,
        importance: nn.Module,
        classifier: nn.Module,
        example: Tensor,
        wanted: SealedTraining,
        critic: nn.Module | None = None,
    ) -> None:
        super().__init__(importance, classifier, example, multi_scale=False)
        self.wanted = wanted
        self.form = form_of(wanted)
        self.critic = critic
        self.donors: Tensor
        self.register_buffer("donors", torch.zeros(DONORS, *example.shape[1:]))

    def scores(self, images: Tensor, views: Sequence[tuple[int, ...]] = VIEWS[:1]) -> Tensor:
        """M0, the mean over these flipped views. (B, C, H, W) -> (B, 1, H, W)."""
        found = [self.importance(images.flip(axes)).float().flip(axes) for axes in views]
        return torch.stack(found).mean(dim=0)

    def importance_map(self, images: Tensor) -> Tensor:
        return self.form.importance(self.scores(images, VIEWS if self.wanted.views else VIEWS[:1]))

    def forward(self, images: Tensor, generators: Generator | Sequence[Generator]) -> VINetOutput:
        m = self.importance_map(images)
        shown = (m > EDGE).float() if self.wanted.share else m
        return VINetOutput(self.classify(images, shown, generators), m)

    def classify(
        self, images: Tensor, m: Tensor, generators: Generator | Sequence[Generator]
    ) -> Tensor:
        logits: Tensor = self.classifier(_FILLS[self.wanted.replace](self, images, m, generators))
        return logits

    @torch.no_grad()
    def remember(self, images: Tensor) -> None:
        """Takes training pictures among the donors, the oldest of which go; none where none is
        asked for, so that a saved network holds nobody's pictures."""
        if self.wanted.replace == "swap":
            self.donors = torch.cat([images.to(self.donors), self.donors])[:DONORS].contiguous()


Fill = Callable[[SealedVINet, Tensor, Tensor, Generator | Sequence[Generator]], Tensor]


def _noise(
    model: SealedVINet, images: Tensor, m: Tensor, draws: Generator | Sequence[Generator]
) -> Tensor:
    return destroy(images, m, uniform_noise(images, draws))


def _air(
    model: SealedVINet, images: Tensor, m: Tensor, draws: Generator | Sequence[Generator]
) -> Tensor:
    return images * m


def _swap(
    model: SealedVINet, images: Tensor, m: Tensor, draws: Generator | Sequence[Generator]
) -> Tensor:
    return torch.lerp(model.donors[_chosen(len(images), draws)], images, m)


def _chosen(count: int, draws: Generator | Sequence[Generator]) -> Tensor:
    if isinstance(draws, Generator):
        return torch.randint(DONORS, (count,), generator=draws, device=draws.device)
    return torch.cat([torch.randint(DONORS, (1,), generator=d, device=d.device) for d in draws])


_FILLS: dict[str, Fill] = {"noise": _noise, "air": _air, "swap": _swap}


@contextmanager
def only_asked(model: nn.Module) -> Iterator[None]:
    """A network that answers as in a test and learns nothing from it; gradients flow through."""
    wanted = [p for p in model.parameters() if p.requires_grad]
    with evaluating(model):
        for parameter in wanted:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in wanted:
                parameter.requires_grad_(True)
