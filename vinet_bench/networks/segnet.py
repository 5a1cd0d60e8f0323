"""SegNet (Badrinarayanan et al. 2017, arXiv 1511.00561), an importance network."""

from torch import Tensor, nn
from torch.nn import functional as F

from vinet_bench.networks.sizes import Padded, scaled

# The convolutions of VGG-16, stage by stage (Fig. 2 of the paper).
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class SegNet(nn.Module):
    """Each decoder puts its values where its own encoder's pooling had found the maxima.

    (B, 1, H, W) -> (B, 1, H, W), sides of 32 or more.
    """

    def __init__(self, width: float) -> None:
        super().__init__()
        stages = [[scaled(c, width) for c in stage] for stage in STAGES]
        outputs = [1, *(stage[-1] for stage in stages[:-1])]  # what each decoder hands on
        inputs = [1, *outputs[1:]]
        self.encoders = nn.ModuleList(map(_encoder, inputs, stages))
        self.decoders = nn.ModuleList(map(_decoder, stages, outputs))

    def forward(self, images: Tensor) -> Tensor:
        x, pooled = images, []
        for encoder in self.encoders:
            before = encoder(x)
            x, indices = F.max_pool2d(before, 2, return_indices=True)
            pooled.append((indices, before.shape[-2:]))
        for decoder in reversed(self.decoders):
            indices, size = pooled.pop()
            x = decoder(F.max_unpool2d(x, indices, (2, 2), output_size=size))
        return x


def _encoder(channels: int, stage: list[int]) -> nn.Sequential:
    before = [channels, *stage[:-1]]
    return nn.Sequential(*(_block(a, b) for a, b in zip(before, stage, strict=True)))


def _decoder(stage: list[int], channels: int) -> nn.Sequential:
    """The stage backwards; the last of all ends in M0, one channel without BatchNorm and ReLU."""
    inner = [_block(a, b) for a, b in zip(stage[:0:-1], stage[-2::-1], strict=True)]
    last = _block(stage[0], channels) if channels > 1 else nn.Conv2d(stage[0], 1, 3, padding=1)
    return nn.Sequential(*inner, last)


def _block(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()
    )


def segnet(width: float) -> nn.Module:
    """SegNet (Badrinarayanan et al. 2017): VGG-16 layout, unpooling by its own indices."""
    return Padded(SegNet(width), multiple=32)
