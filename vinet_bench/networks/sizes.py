"""Channel numbers under a width, and picture sizes that a network would refuse."""

from torch import Tensor, nn
from torch.nn import functional as F


def scaled(channels: int, width: float) -> int:
    """A share of a number of channels, a multiple of 8."""
    return max(8, round(channels * width / 8) * 8)


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
