"""Anyone's networks by name: timm's classifiers, segmentation_models_pytorch's architectures."""

from collections.abc import Callable, Iterator

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vinet_bench.errors import UserError
from vinet_bench.networks.sizes import Padded

TIMM, SMP = "timm:", "smp:"
Size = tuple[int, int]

# DPT needs a transformer that is fixed to one size; all others take the ResNet-18 below.
_ARCHITECTURES = {k: v for k, v in smp.MODEL_ARCHITECTURES_MAPPING.items() if k != "dpt"}
_MULTIPLES = {"pan": 128}  # its pyramid pools three times more; 32 is enough for the others


def timm_names() -> list[str]:
    """Every name that stands for a classifier of timm, e.g. timm:convnext_tiny."""
    return [TIMM + name for name in timm.list_models()]


def smp_names() -> list[str]:
    """Every name that stands for a network of segmentation_models_pytorch, e.g. smp:FPN."""
    return [SMP + architecture.__name__ for architecture in _ARCHITECTURES.values()]


def smp_network(name: str) -> nn.Module:
    """An architecture of segmentation_models_pytorch with a ResNet-18 encoder, in any case."""
    key = name.removeprefix(SMP).lower()
    network = _ARCHITECTURES[key]("resnet18", encoder_weights=None, in_channels=1, classes=1)
    return Padded(network, multiple=_MULTIPLES.get(key, 32))


class Resized(nn.Module):
    """A classifier that is shown every picture at the size that it takes.

    Resampled, not padded: padding would shift the features against the map that destroys them.
    build: makes the network for a size. given: the pictures' size. taken: the network's.
    """

    def __init__(self, build: Callable[[Size], nn.Module], given: Size, taken: Size) -> None:
        super().__init__()
        self.build = build
        self.scale = (taken[0] / given[0], taken[1] / given[1])
        self.taken = taken
        self.network = build(taken)

    def set_input_size(self, size: Size) -> None:
        """Makes the network anew for pictures of another size, with weights of its own."""
        self.taken = (round(size[0] * self.scale[0]), round(size[1] * self.scale[1]))
        self.network = self.build(self.taken)

    def forward(self, images: Tensor) -> Tensor:
        if tuple(images.shape[-2:]) != self.taken:
            images = F.interpolate(images, self.taken, mode="bilinear", align_corners=False)
        logits: Tensor = self.network(images)
        return logits


def timm_network(name: str, num_classes: int, size: Size) -> nn.Module:
    """A classifier of timm, at the first size that it takes: the pictures' own, if it can be.

    Raises UserError if it takes none.
    """
    plain = name.removeprefix(TIMM)
    fixed = bool(timm.get_pretrained_cfg(plain).fixed_input_size)

    def build(taken: Size) -> nn.Module:
        options = {"img_size": taken} if fixed else {}
        network: nn.Module = timm.create_model(
            plain, pretrained=False, in_chans=1, num_classes=num_classes, **options
        )
        return network

    reasons = []
    for taken in _sizes(plain, size):
        try:
            network = build(taken)
            if fixed:
                _check_patches(network, taken)
            _check_logits(network, taken, num_classes)
        except Exception as error:  # what a library raises for a size is any kind of error
            reasons.append(str(error))
        else:
            return network if taken == size and not fixed else Resized(build, size, taken)
    raise UserError(f"{name} cannot be used as a classifier of grey pictures: {reasons[-1]}")


def _sizes(plain: str, size: Size) -> Iterator[Size]:
    """The pictures' size, larger ones of a round number, and the network's own."""
    yield size
    for multiple in (14, 16, 32, 64, 96, 128):
        yield (-(-size[0] // multiple) * multiple, -(-size[1] // multiple) * multiple)
    height, width = timm.get_pretrained_cfg(plain).input_size[1:]
    yield (height, width)


def _check_patches(network: nn.Module, size: Size) -> None:
    """timm leaves out what is over at the edges, and the maps would not cover the picture."""
    for module in network.modules():
        patch = getattr(module, "patch_size", None)
        if isinstance(patch, tuple) and any(s % p for s, p in zip(size, patch, strict=True)):
            raise ValueError(f"sides of {size} are no multiples of its patches' {patch}")


@torch.no_grad()
def _check_logits(network: nn.Module, size: Size, num_classes: int) -> None:
    logits = network.eval()(torch.zeros(1, 1, *size))
    if not isinstance(logits, Tensor) or logits.shape != (1, num_classes):
        raise ValueError("it does not give one logit for each class")
    network.train()
