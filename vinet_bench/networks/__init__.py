"""Networks by name, trained from scratch with He initialisation."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

import torch
from torch import nn

from vinet_bench.errors import unknown_name
from vinet_bench.networks import classifiers, importance

CLASSIFIERS: Mapping[str, Callable[[int, float], nn.Module]] = MappingProxyType(
    {
        "resnet18": classifiers.resnet18,
        "resnet50": classifiers.resnet50,
        "seresnet50": classifiers.seresnet50,
        "vgg16": classifiers.vgg16,
    }
)
IMPORTANCE: Mapping[str, Callable[[float], nn.Module]] = MappingProxyType(
    {"deeplabv3plus": importance.deeplabv3plus, "unet": importance.unet}
)


def build_classifier(name: str, num_classes: int, seed: int, width: float = 1.0) -> nn.Module:
    """A classifier (B, 1, H, W) -> (B, K). Raises UserError for an unknown name."""
    if name not in CLASSIFIERS:
        raise unknown_name("classifier", name, CLASSIFIERS)
    with _seeded(seed):
        return he_initialised(CLASSIFIERS[name](num_classes, width))


def build_importance(name: str, seed: int, width: float = 1.0) -> nn.Module:
    """An importance network (B, 1, H, W) -> (B, 1, H, W). Raises UserError for an unknown name."""
    if name not in IMPORTANCE:
        raise unknown_name("importance network", name, IMPORTANCE)
    with _seeded(seed):
        return he_initialised(IMPORTANCE[name](width))


def he_initialised(model: nn.Module) -> nn.Module:
    """Convolutions drawn as He et al. 2015 (arXiv 1502.01852), the paper's [1]; biases zero."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Initialisers draw from torch's global state: set it inside, put it back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
