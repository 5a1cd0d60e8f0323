"""Classifiers for single-channel pictures, (B, 1, H, W) -> (B, K)."""

import timm
from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

from vinet_bench.networks.sizes import scaled


def resnet18(num_classes: int, width: float) -> nn.Module:
    """ResNet-18 (He et al. 2016)."""
    return _resnet("resnet18", num_classes, width)


def resnet50(num_classes: int, width: float) -> nn.Module:
    """ResNet-50 (He et al. 2016)."""
    return _resnet("resnet50", num_classes, width)


def seresnet50(num_classes: int, width: float) -> nn.Module:
    """SEResNet-50 (Hu et al. 2018), the paper's standard classifier."""
    return _resnet("seresnet50", num_classes, width)


def mask_reader(num_classes: int, width: float) -> nn.Module:
    """ResNet-18 whose residual branches answer from the first step on, as in He et al. 2016.

    timm starts each of them at zero: then a network sees every 32nd pixel at first, and of small
    masks that lie in the middle nothing but rounding errors, from which a GPU's kernels never let
    it learn.
    """
    return _resnet("resnet18", num_classes, width, zero_init_last=False)


def _resnet(name: str, num_classes: int, width: float, zero_init_last: bool = True) -> nn.Module:
    channels = tuple(scaled(c, width) for c in (64, 128, 256, 512))
    model: nn.Module = timm.create_model(
        name,
        in_chans=1,
        num_classes=num_classes,
        channels=channels,
        stem_width=channels[0],
        zero_init_last=zero_init_last,
    )
    return model


def densenet121(num_classes: int, width: float) -> nn.Module:
    """DenseNet-121 (Huang et al. 2017)."""
    model: nn.Module = timm.create_model(
        "densenet121", in_chans=1, num_classes=num_classes, growth_rate=scaled(32, width)
    )
    return model


class VGGGAP(nn.Module):
    """A VGG for CAM (Zhou et al. 2016): no BatchNorm, the last pooling dropped, global average
    pooling and one linear layer in place of the three, so that pictures of any size fit.

    layout: torchvision's letter, 'D' for VGG-16 and 'E' for VGG-19.
    """

    def __init__(self, layout: str, num_classes: int, width: float) -> None:
        super().__init__()
        layers = [c if c == "M" else scaled(int(c), width) for c in cfgs[layout][:-1]]
        self.features = make_layers(layers)
        first, last = int(layers[0]), int(layers[-1])
        self.features[0] = nn.Conv2d(1, first, kernel_size=3, padding=1)
        for module in self.features:
            if isinstance(module, nn.ReLU):
                module.inplace = False  # captum and zennit read the tensors on both sides
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(last, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.flatten(self.pool(self.features(images))))
        return logits


def vgg16(num_classes: int, width: float) -> nn.Module:
    """VGG-16 with global average pooling, the network that CAM, VBP and LRP explain."""
    return VGGGAP("D", num_classes, width)


def vgg19(num_classes: int, width: float) -> nn.Module:
    """VGG-19 (Simonyan & Zisserman 2015) with global average pooling."""
    return VGGGAP("E", num_classes, width)
