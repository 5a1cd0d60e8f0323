"""Saliency methods by name; one file a family, one class a method. Rows stand in this order."""

from collections.abc import Callable
from functools import partial

from baselines.cam import (
    CAM,
    AblationCAM,
    EigenCAM,
    FullGrad,
    GradCAM,
    GradCAMPlusPlus,
    HiResCAM,
    LayerCAM,
    ScoreCAM,
    XGradCAM,
)
from baselines.controls import Blurred, Centre, Edges, Intensity, Outline, Random, Reader
from baselines.given import Given
from baselines.gradients import (
    Deconvolution,
    DeepLIFT,
    GradientSHAP,
    GuidedBackprop,
    InputXGradient,
    IntegratedGradients,
    Saliency,
    SmoothGrad,
    VarGrad,
)
from baselines.lrp import LRP, ExcitationBackprop, LRPAlphaBeta, LRPEpsilon, LRPGamma
from baselines.maskers import MeaningfulPerturbation, RealTimeMasker
from baselines.perturbation import LIME, KernelSHAP, Occlusion
from baselines.rise import RISE
from baselines.vbp import VisualBackProp
from baselines.vinet import SealedVINetMap, VINetMap
from vinet_bench.given_maps import WORD
from vinet_bench.methods import MethodFactory, SaliencyMethod, Wrapper

METHODS: dict[str, MethodFactory] = {
    "vinet": VINetMap,
    "vinet-sealed": SealedVINetMap,
    "vbp": VisualBackProp,
    "cam": CAM,
    "lrp": LRP,
    "lrp-epsilon": LRPEpsilon,
    "lrp-gamma": LRPGamma,
    "lrp-alpha-beta": LRPAlphaBeta,
    "excitation-backprop": ExcitationBackprop,
    "gradcam": GradCAM,
    "gradcam++": GradCAMPlusPlus,
    "hirescam": HiResCAM,
    "xgradcam": XGradCAM,
    "layercam": LayerCAM,
    "eigencam": EigenCAM,
    "scorecam": ScoreCAM,
    "ablationcam": AblationCAM,
    "fullgrad": FullGrad,
    "ig": IntegratedGradients,
    "saliency": Saliency,
    "input-x-gradient": InputXGradient,
    "smoothgrad": SmoothGrad,
    "vargrad": VarGrad,
    "gradient-shap": GradientSHAP,
    "deeplift": DeepLIFT,
    "guided-backprop": GuidedBackprop,
    "deconvolution": Deconvolution,
    "occlusion": Occlusion,
    "lime": LIME,
    "kernel-shap": KernelSHAP,
    "rise": RISE,
    "meaningful-perturbation": MeaningfulPerturbation,
    "real-time-masker": RealTimeMasker,
    "random": Random,
    "centre": Centre,
    "intensity": Intensity,
    "edges": Edges,
    "outline": Outline,
    **{f"reader-{number}": partial(Reader, number) for number in (1, 2, 3, 4)},
}

WRAPPERS: dict[str, Wrapper] = {"blurred": Blurred}

BY_WORD: dict[str, Callable[[str], SaliencyMethod]] = {WORD: Given}
