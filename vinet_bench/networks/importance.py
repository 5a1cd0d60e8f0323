"""Importance networks for single-channel pictures, (B, 1, H, W) -> (B, 1, H, W)."""

import segmentation_models_pytorch as smp
from torch import Tensor, nn
from torch.nn import functional as F


class Padded(nn.Module):
    """Pads the input to a multiple that the network takes, and crops its output back."""

    def __init__(self, network: nn.Module, multiple: int) -> None:
        super().__init__()
        self.network = network
        self.multiple = multiple

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        below, right = -height % self.multiple, -width % self.multiple
        padded: Tensor = self.network(F.pad(images, (0, right, 0, below), mode="replicate"))
        return padded[..., :height, :width]


def unet(width: float) -> nn.Module:
    """U-Net (Ronneberger et al. 2015) with a ResNet-18 encoder."""
    decoder = [max(8, round(c * width)) for c in (256, 128, 64, 32, 16)]
    network = smp.Unet(
        "resnet18", encoder_weights=None, decoder_channels=decoder, in_channels=1, classes=1
    )
    return Padded(network, multiple=32)


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
