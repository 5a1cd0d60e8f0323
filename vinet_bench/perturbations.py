"""Changes to pictures whose random numbers come from each picture's content."""

import math

from torch import Tensor
from torchvision.transforms.functional import gaussian_blur


def blurred(images: Tensor, share: float) -> Tensor:
    """The pictures through a Gaussian, borders reflected; sigma is a share of the height.

    images (N, 1, H, W) float32 -> the same shape.
    """
    sigma = share * images.shape[-2]
    radius = min(math.ceil(3 * sigma), min(images.shape[-2:]) - 1)  # what reflection can give
    found: Tensor = gaussian_blur(images, [2 * radius + 1] * 2, [sigma, sigma])
    return found
