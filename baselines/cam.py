"""Class activation maps: CAM itself, and pytorch-grad-cam's weights at the last feature maps.

The library is imported where it is used: that takes a second, and `list methods` needs none of it.
"""

from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.base import NetworkMethod
from baselines.heads import LastMaps, last_maps
from vinet_bench.data.dataset import SliceDataset
from vinet_bench.errors import UserError
from vinet_bench.hooks import output_hooks
from vinet_bench.methods import MethodInfo

if TYPE_CHECKING:
    from pytorch_grad_cam.base_cam import BaseCAM

AT = "last convolution, negative parts cut"


class _AtLastMaps(NetworkMethod):
    """A method at the network's last maps, wherever they are."""

    last: LastMaps

    def fit(self, model: nn.Module, data: SliceDataset) -> Self:
        self.last = last_maps(model, data.size)
        return super().fit(model, data)


class CAM(_AtLastMaps):
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

    @torch.no_grad()
    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        cam, size = self.weighted_maps(images, targets), images.shape[-2:]
        return F.interpolate(cam[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]

    def weighted_maps(self, images: Tensor, targets: Tensor) -> Tensor:
        """CAM at the last maps' own size. (B, 1, H, W), (B,) -> (B, h, w)."""
        linear, point, outputs = self.last.pooled_linear, self.last.point, list[Tensor]()
        with output_hooks(self.model, lambda _n, _c, out: outputs.append(out), [point.module]):
            self.model(images)
        return torch.einsum("bchw,bc->bhw", point.to_maps(outputs[0]), linear.weight[targets])


class _LibraryCAM(_AtLastMaps):
    """A method of pytorch-grad-cam, which scales every map to [0, 1]."""

    def library(self) -> "BaseCAM":
        raise TypeError(f"{type(self).__name__} names no method of pytorch-grad-cam")

    def layers(self) -> list[nn.Module]:
        """Where the maps are taken: the last feature maps."""
        return [self.last.module]

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        wanted = [ClassifierOutputTarget(int(t)) for t in targets]
        pictures = images.clone().requires_grad_()  # the network's own weights are frozen
        with self.library() as cam:
            maps = torch.from_numpy(cam(input_tensor=pictures, targets=wanted))
        return maps.to(images)


class GradCAM(_LibraryCAM):
    """Grad-CAM at the last feature maps (pytorch-grad-cam), negative parts cut."""

    info = MethodInfo(
        name="gradcam",
        title="Grad-CAM",
        paper="Selvaraju et al. 2017, arXiv 1610.02391",
        variant=AT,
        sign="unsigned",
        backwards=1,
    )

    def library(self) -> "BaseCAM":
        from pytorch_grad_cam import GradCAM as Library

        return Library(self.model, self.layers(), self.last.point.to_maps)


class GradCAMPlusPlus(_LibraryCAM):
    """Grad-CAM++: weights from the positive gradients, by their powers (Eq. 19)."""

    info = MethodInfo(
        name="gradcam++",
        title="Grad-CAM++",
        paper="Chattopadhay et al. 2018, arXiv 1710.11063",
        variant=AT,
        sign="unsigned",
        backwards=1,
    )

    def library(self) -> "BaseCAM":
        from pytorch_grad_cam import GradCAMPlusPlus as Library

        return Library(self.model, self.layers(), self.last.point.to_maps)


class HiResCAM(_LibraryCAM):
    """HiResCAM: every cell's activation times its own gradient.

    On a network with global average pooling all cells of a channel share one gradient: Grad-CAM.
    """

    info = MethodInfo(
        name="hirescam",
        title="HiResCAM",
        paper="Draelos & Carin 2020, arXiv 2011.08891",
        variant=AT,
        sign="unsigned",
        backwards=1,
    )

    def library(self) -> "BaseCAM":
        from pytorch_grad_cam import HiResCAM as Library

        return Library(self.model, self.layers(), self.last.point.to_maps)


class XGradCAM(_LibraryCAM):
    """XGrad-CAM: a channel's gradients weighted by its activations."""

    info = MethodInfo(
        name="xgradcam",
        title="XGrad-CAM",
        paper="Fu et al. 2020, arXiv 2008.02312",
        variant=AT,
        sign="unsigned",
        backwards=1,
    )

    def library(self) -> "BaseCAM":
        from pytorch_grad_cam import XGradCAM as Library

        return Library(self.model, self.layers(), self.last.point.to_maps)


class LayerCAM(_LibraryCAM):
    """LayerCAM: every cell's activation times its own positive gradient."""

    info = MethodInfo(
        name="layercam",
        title="LayerCAM",
        paper="Jiang et al. 2021, doi 10.1109/TIP.2021.3089943",
        variant=AT,
        sign="unsigned",
        backwards=1,
    )

    def library(self) -> "BaseCAM":
        from pytorch_grad_cam import LayerCAM as Library

        return Library(self.model, self.layers(), self.last.point.to_maps)


class EigenCAM(_LibraryCAM):
    """Eigen-CAM: the first principal component of the feature maps, whatever the class."""

    info = MethodInfo(
        name="eigencam",
        title="Eigen-CAM",
        paper="Muhammad & Yeasin 2020, arXiv 2008.00299",
        variant=f"{AT}; the sign in which the largest value is positive"
        " (doi 10.3390/app15137562, Eq. 13)",
        sign="unsigned",
        class_specific=False,
    )

    def library(self) -> "BaseCAM":
        from baselines.cam_library import SignedEigenCAM

        return SignedEigenCAM(self.model, self.layers(), self.last.point.to_maps)


class ScoreCAM(_LibraryCAM):
    """Score-CAM: a channel weighs as much as the class's logit on the picture seen through it."""

    info = MethodInfo(
        name="scorecam",
        title="Score-CAM",
        paper="Wang et al. 2020, arXiv 1910.01279",
        variant=AT,
        sign="unsigned",
        forwards=513,
        costly=True,
    )

    def library(self) -> "BaseCAM":
        from baselines.cam_library import BatchedScoreCAM

        return BatchedScoreCAM(self.model, self.layers(), self.last.point.to_maps)


class AblationCAM(_LibraryCAM):
    """Ablation-CAM: a channel weighs by how far the class's logit falls without it."""

    info = MethodInfo(
        name="ablationcam",
        title="Ablation-CAM",
        paper="Desai & Ramaswamy 2020, doi 10.1109/WACV45572.2020.9093360",
        variant=f"{AT}; the head alone is run for each channel",
        sign="unsigned",
    )

    def library(self) -> "BaseCAM":
        from baselines.cam_library import HeadAblationCAM

        return HeadAblationCAM(self.model, self.last)


class FullGrad(_LibraryCAM):
    """FullGrad: input times gradient, and the bias times gradient of every convolution."""

    info = MethodInfo(
        name="fullgrad",
        title="FullGrad",
        paper="Srinivas & Fleuret 2019, arXiv 1905.00780",
        variant="convolutions' biases, each map scaled to [0, 1] before the sum",
        sign="unsigned",
        backwards=1,
    )

    def fit(self, model: nn.Module, data: SliceDataset) -> Self:
        self.model = model
        others = sorted({type(m).__name__ for m in model.modules() if _unheard_bias(m)})
        if others:
            raise UserError(
                "knows the biases of convolutions and of BatchNorm; the explained network has"
                f" others: {', '.join(others)}"
            )
        return self

    def library(self) -> "BaseCAM":
        from pytorch_grad_cam import FullGrad as Library

        return Library(self.model, [])


def _unheard_bias(module: nn.Module) -> bool:
    """A bias on maps that the library passes over; it leaves the linear layer's out as well."""
    known = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)
    return isinstance(getattr(module, "bias", None), nn.Parameter) and type(module) not in known
