"""An importance network that sees each pixel's neighbourhood only."""

from torch import nn

from vinet_bench.networks.sizes import Padded, scaled


def local(width: float) -> nn.Module:
    """Six convolutions that see 33 x 33 pixels, whose borders repeat.

    Enough to tell a nodule from a vessel or the chest's wall, too little for what lies elsewhere;
    zeros at the border would tell it where the centre is. (B, 1, H, W) -> (B, 1, H, W).
    """
    narrow, wide = scaled(24, width), scaled(48, width)
    network = nn.Sequential(
        *_block(1, narrow),
        *_block(narrow, wide, stride=2),
        *(layer for dilation in (1, 2, 4) for layer in _block(wide, wide, dilation=dilation)),
        nn.Conv2d(wide, 1, 1),
        nn.Upsample(scale_factor=2),
    )
    return Padded(network, multiple=2)


def _block(before: int, after: int, stride: int = 1, dilation: int = 1) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(
        before,
        after,
        kernel_size=3,
        stride=stride,
        padding=dilation,
        dilation=dilation,
        bias=False,
        padding_mode="replicate",
    )
    return convolution, nn.BatchNorm2d(after), nn.ReLU()
