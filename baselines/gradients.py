"""Methods of captum that need gradients alone."""

from captum.attr import IntegratedGradients as LibraryIntegratedGradients
from captum.attr import Saliency as LibrarySaliency
from torch import Tensor

from baselines.base import NetworkMethod
from vinet_bench.methods import MethodInfo


class Saliency(NetworkMethod):
    """The absolute gradient of the class's logit (captum)."""

    info = MethodInfo(
        name="saliency",
        title="Saliency",
        paper="Simonyan et al. 2014, arXiv 1312.6034",
        scaling="absolute",
    )

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        pictures = images.clone().requires_grad_()  # captum warns where it must ask for it
        maps: Tensor = LibrarySaliency(self.model).attribute(pictures, target=targets)
        return maps.detach().sum(dim=1)


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
    )
    steps = 16

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        method = LibraryIntegratedGradients(self.model)
        maps: Tensor = method.attribute(images, target=targets, n_steps=self.steps)
        return maps.detach().float().sum(dim=1)
