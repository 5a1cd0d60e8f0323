"""What a map costs beside the passes that it cannot do without, on the VGG-16 that is explained.

A batch as the suite explains it (32 pictures), the network as training leaves it (channels last),
untrained: no time here hangs on the weights.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from zennit.attribution import Gradient

from baselines.cam import CAM
from baselines.lrp import LRP
from baselines.vbp import VisualBackProp
from benchmarks.turns import Ratio, Row, cost
from vinet_bench.data.dataset import SliceDataset
from vinet_bench.data.phantom import PhantomSettings, phantom
from vinet_bench.methods import SaliencyMethod
from vinet_bench.networks import build_explained
from vinet_bench.presets import PRESETS
from vinet_bench.workshop import EXPLAIN_BATCH

SIDE = 64
TOLERANCE = 1e-5  # of the largest relevance, between our LRP and zennit's own


@dataclass(frozen=True)
class Subject:
    """The network, its data, a batch of pictures and the classes to explain."""

    model: nn.Module
    data: SliceDataset
    images: Tensor
    targets: Tensor

    def explainer(self, method: SaliencyMethod) -> Callable[[], Tensor]:
        fitted = method.fit(self.model, self.data)
        return lambda: fitted.explain(self.images, self.targets)

    @torch.no_grad()
    def forward(self) -> Tensor:
        logits: Tensor = self.model(self.images)
        return logits

    def gradient(self) -> Tensor:
        """One forward pass and the gradient of the pictures."""
        pictures = self.images.clone().requires_grad_()
        chosen = self.model(pictures).gather(1, self.targets[:, None])
        return torch.autograd.grad(chosen.sum(), pictures)[0]

    def zennits(self) -> Tensor:
        """LRP's map by zennit's hooks, as its documentation has it."""
        method = LRP().fit(self.model, self.data)
        with Gradient(self.model, method.composite()) as attributor:
            _, found = attributor(
                self.images.clone(), lambda logits: method.start(logits, self.targets)
            )
        total: Tensor = found.detach().sum(dim=1)
        return total


def subject() -> Subject:
    """The explained network of the preset `quick`, on a phantom."""
    data = phantom(PhantomSettings(slices=max(60, EXPLAIN_BATCH), size=SIDE))
    width = PRESETS["quick"].settings.explained.width
    model = build_explained("vgg16", data.num_classes, 0, width, data.size)
    model.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    images = torch.from_numpy(data.pictures(slice(EXPLAIN_BATCH)))
    return Subject(model, data, images, torch.arange(len(images)) % data.num_classes)


def explaining(rounds: int) -> list[Ratio]:
    """Raises AssertionError if our LRP is not zennit's."""
    tried = subject()
    ours, theirs = tried.explainer(LRP()), tried.zennits()
    apart = float((ours() - theirs).abs().max() / theirs.abs().max())
    assert apart <= TOLERANCE, f"LRP differs from zennit's by {apart:.1e} of the largest relevance"
    cam, vbp = tried.explainer(CAM()), tried.explainer(VisualBackProp())
    return [
        cost("CAM / forward pass", 1.1, cam, tried.forward, rounds),
        cost("VBP / forward pass", 1.1, vbp, tried.forward, rounds),
        cost("LRP / forward + gradient", 2.0, ours, tried.gradient, rounds),
        cost("LRP / zennit's hooks", 1.0, ours, tried.zennits, rounds),
    ]


BENCHMARKS = (Row("explaining", "CAM and VBP 1.1 forward passes, LRP 2 gradients", explaining),)
