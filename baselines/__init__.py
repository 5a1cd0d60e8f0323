"""Saliency methods by name; one file a family, one class a method. Rows stand in this order."""

from baselines.cam import CAM, GradCAM
from baselines.controls import Centre, Edges, Outline, Random
from baselines.gradients import IntegratedGradients, Saliency
from baselines.lrp import LRP, LRPEpsilon
from baselines.vbp import VisualBackProp
from baselines.vinet import VINetMap
from vinet_bench.methods import MethodFactory

METHODS: dict[str, MethodFactory] = {
    "vinet": VINetMap,
    "vbp": VisualBackProp,
    "cam": CAM,
    "lrp": LRP,
    "lrp-epsilon": LRPEpsilon,
    "gradcam": GradCAM,
    "ig": IntegratedGradients,
    "saliency": Saliency,
    "random": Random,
    "centre": Centre,
    "edges": Edges,
    "outline": Outline,
}
