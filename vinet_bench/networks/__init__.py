"""Networks by name, trained from scratch with He initialisation."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

import torch
from torch import nn

from vinet_bench.errors import unknown_name
from vinet_bench.networks import classifiers, foreign, gridnet, importance, local, segnet
from vinet_bench.networks.critic import mask_critic
from vinet_bench.networks.explained import without_inplace

CLASSIFIERS: Mapping[str, Callable[[int, float], nn.Module]] = MappingProxyType(
    {
        "resnet18": classifiers.resnet18,
        "resnet50": classifiers.resnet50,
        "seresnet50": classifiers.seresnet50,
        "densenet121": classifiers.densenet121,
        "vgg16": classifiers.vgg16,
        "vgg19": classifiers.vgg19,
    }
)
IMPORTANCE: Mapping[str, Callable[[float], nn.Module]] = MappingProxyType(
    {
        "deeplabv3plus": importance.deeplabv3plus,
        "gridnet": gridnet.gridnet,
        "local": local.local,
        "segnet": segnet.segnet,
        "shallow-unet": importance.shallow_unet,
        "unet": importance.unet,
    }
)


def check_classifier(name: str, kind: str = "classifier") -> None:
    """Raises UserError, with the nearest name, for one that is neither ours nor timm:NAME."""
    if name not in CLASSIFIERS and name not in (others := foreign.timm_names()):
        raise unknown_name(kind, name, [*CLASSIFIERS, "timm:NAME"], others)


def check_importance(name: str, kind: str = "importance network") -> None:
    """Raises UserError, with the nearest name, for one that is neither ours nor smp:NAME."""
    others = foreign.smp_names()
    if name not in IMPORTANCE and name.lower() not in map(str.lower, others):
        raise unknown_name(kind, name, [*IMPORTANCE, "smp:NAME"], others)


def build_classifier(
    name: str, num_classes: int, seed: int, width: float = 1.0, size: tuple[int, int] = (128, 128)
) -> nn.Module:
    """A classifier (B, 1, H, W) -> (B, K). Raises UserError for an unknown name.

    The width is for our own networks, the pictures' size for timm's.
    """
    check_classifier(name)
    with _seeded(seed):
        if name in CLASSIFIERS:
            return he_initialised(CLASSIFIERS[name](num_classes, width))
        return he_initialised(foreign.timm_network(name, num_classes, size))


def build_explained(
    name: str, num_classes: int, seed: int, width: float, size: tuple[int, int]
) -> nn.Module:
    """A classifier as build_classifier makes it, which libraries of saliency methods can follow."""
    return without_inplace(build_classifier(name, num_classes, seed, width, size))


def build_importance(name: str, seed: int, width: float = 1.0) -> nn.Module:
    """An importance network (B, 1, H, W) -> (B, 1, H, W). Raises UserError for an unknown name.

    The width is for our own networks.
    """
    check_importance(name)
    with _seeded(seed):
        if name in IMPORTANCE:
            return he_initialised(IMPORTANCE[name](width))
        return he_initialised(foreign.smp_network(name))


def build_mask_reader(num_classes: int, seed: int, width: float = 1.0) -> nn.Module:
    """The ResNet-18 that is trained on masks alone, (B, 1, H, W) -> (B, K)."""
    with _seeded(seed):
        return he_initialised(classifiers.mask_reader(num_classes, width))


def build_critic(num_classes: int, seed: int) -> nn.Module:
    """A reader of masks alone, (B, 1, H, W) -> (B, K)."""
    with _seeded(seed):
        return he_initialised(mask_critic(num_classes))


def he_initialised(model: nn.Module) -> nn.Module:
    """Convolutions drawn as He et al. 2015 (arXiv 1502.01852), the paper's [1]; biases zero."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, nn.ConvTranspose2d):
            # A pixel of the output sums over kernel / stride taps an axis, not the kernel.
            taps = math.prod(module.kernel_size) / math.prod(module.stride)
            nn.init.normal_(module.weight, std=math.sqrt(2 / (module.in_channels * taps)))
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    return model


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Initialisers draw from torch's global state: set it inside, put it back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
