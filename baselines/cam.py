"""Class activation maps."""

from typing import Protocol, cast

import torch
from pytorch_grad_cam import GradCAM as LibraryGradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.base import NetworkMethod
from vinet_bench.methods import MethodInfo


class GAPNetwork(Protocol):
    """A network that ends in global average pooling of `features` and one layer, `linear`."""

    features: nn.Sequential
    linear: nn.Linear


class CAM(NetworkMethod):
    """The last feature maps weighted by the class's row of the linear layer, one forward pass.

    Negative parts stay, as published and as in the authors' code, which scales from the minimum;
    cut, the map is Grad-CAM's, which has a row of its own.
    """

    info = MethodInfo(
        name="cam",
        title="CAM",
        paper="Zhou et al. 2016, arXiv 1512.04150",
        scaling="minmax",
        variant="negative parts kept",
    )

    def __init__(self, cut_negative: bool = False) -> None:
        self.cut_negative = cut_negative

    @torch.no_grad()
    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        network = cast(GAPNetwork, self.model)
        features = network.features(images)
        cam = torch.einsum("bchw,bc->bhw", features, network.linear.weight[targets])
        if self.cut_negative:
            cam = cam.clamp(min=0)
        size = images.shape[-2:]
        return F.interpolate(cam[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


class GradCAM(NetworkMethod):
    """Grad-CAM at the last feature maps (pytorch-grad-cam), negative parts cut."""

    info = MethodInfo(
        name="gradcam",
        title="Grad-CAM",
        paper="Selvaraju et al. 2017, arXiv 1610.02391",
        variant="last convolution, negative parts cut",
    )

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        layers = [cast(GAPNetwork, self.model).features[-1]]
        wanted = [ClassifierOutputTarget(int(t)) for t in targets]
        pictures = images.clone().requires_grad_()  # the network's own weights are frozen
        with LibraryGradCAM(model=self.model, target_layers=layers) as cam:
            return torch.from_numpy(cam(input_tensor=pictures, targets=wanted)).to(images.device)
