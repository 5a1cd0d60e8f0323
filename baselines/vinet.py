"""VINets explain themselves: their importance maps."""

import torch
from torch import Tensor

from baselines.base import NetworkMethod
from vinet_bench.methods import MethodInfo
from vinet_bench.sealed import SealedVINet
from vinet_bench.vinet import VINet


class VINetMap(NetworkMethod):
    """M of Eq. 1 as the trained importance network gives it, whatever the class."""

    info = MethodInfo(
        name="vinet",
        title="VINet",
        paper="Gu et al. 2020, doi 10.1109/TMM.2020.2971170",
        explains="vinet",
        scaling="as-is",
        sign="unsigned",
        class_specific=False,
    )
    explained: type[VINet] = VINet

    @torch.no_grad()
    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        if not isinstance(self.model, self.explained):
            raise TypeError(f"the method '{self.info.name}' explains a {self.explained.__name__}")
        return self.model.importance_map(images)[:, 0]


class SealedVINetMap(VINetMap):
    """The map of a VINet that is trained so that it cannot be a code (docs/sealed.md)."""

    info = MethodInfo(
        name="vinet-sealed",
        title="VINet (sealed)",
        paper="after Jethani et al. 2021, arXiv 2103.01890",
        explains="sealed",
        scaling="as-is",
        sign="unsigned",
        class_specific=False,
        variant="its form, share and reader are those of the settings sealed.*; by default one"
        " disc, read by a classifier that learns under masks of other places",
    )
    explained = SealedVINet
