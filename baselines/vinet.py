"""VINet explains itself: its importance map."""

import torch
from torch import Tensor

from baselines.base import NetworkMethod
from vinet_bench.methods import MethodInfo
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

    @torch.no_grad()
    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        if not isinstance(self.model, VINet):
            raise TypeError("the method 'vinet' explains a VINet only")
        return self.model.importance_map(images)[:, 0]
