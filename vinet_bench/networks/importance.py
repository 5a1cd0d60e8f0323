"""Importance networks for single-channel pictures, (B, 1, H, W) -> (B, 1, H, W)."""

import segmentation_models_pytorch as smp
from torch import nn

from vinet_bench.networks.sizes import Padded


def unet(width: float) -> nn.Module:
    """U-Net (Ronneberger et al. 2015) with a ResNet-18 encoder."""
    decoder = [max(8, round(c * width)) for c in (256, 128, 64, 32, 16)]
    network = smp.Unet(
        "resnet18", encoder_weights=None, decoder_channels=decoder, in_channels=1, classes=1
    )
    return Padded(network, multiple=32)


def shallow_unet(width: float) -> nn.Module:
    """U-Net of three levels, over a ResNet-18's first stages, whose borders repeat.

    Zeros there would tell it where the centre is. (B, 1, H, W) -> (B, 1, H, W).
    """
    decoder = [max(8, round(c * width)) for c in (64, 32, 16)]
    network = smp.Unet(
        "tu-resnet18",
        encoder_depth=len(decoder),
        encoder_weights=None,
        decoder_channels=decoder,
        in_channels=1,
        classes=1,
    )
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and any(module.padding):
            module.padding_mode = "replicate"
    return Padded(network, multiple=8)


def deeplabv3plus(width: float) -> nn.Module:
    """DeepLabv3+ (Chen et al. 2018) with a ResNet-50 encoder, the paper's standard."""
    network = smp.DeepLabV3Plus(
        "resnet50",
        encoder_weights=None,
        decoder_channels=max(8, round(256 * width)),
        in_channels=1,
        classes=1,
    )
    return Padded(network, multiple=16)
