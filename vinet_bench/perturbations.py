"""Changes to pictures whose random numbers come from each picture's content."""

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional as F
from torchvision.transforms.functional import gaussian_blur


def blurred(images: Tensor, share: float) -> Tensor:
    """The pictures through a Gaussian, borders reflected; sigma is a share of the height.

    images (N, 1, H, W) float32 -> the same shape.
    """
    sigma = share * images.shape[-2]
    radius = min(math.ceil(3 * sigma), min(images.shape[-2:]) - 1)  # what reflection can give
    found: Tensor = gaussian_blur(images, [2 * radius + 1] * 2, [sigma, sigma])
    return found


def random_squares(side: tuple[int, int], count: int, draws: Generator) -> Tensor:
    """Squares of random place and size, 1 pixel to half the shorter side. -> (count, H, W) bool."""
    height, width = side
    sizes = torch.randint(1, max(2, min(side) // 2 + 1), (count,), generator=draws)
    places = torch.rand(2, count, generator=draws)
    masks = torch.zeros(count, height, width, dtype=torch.bool)
    for mask, size, y, x in zip(masks, sizes.tolist(), *places.tolist(), strict=True):
        top, left = int(y * (height - size + 1)), int(x * (width - size + 1))
        mask[top : top + size, left : left + size] = True
    return masks


def random_subsets(side: tuple[int, int], n: int, count: int, draws: Generator) -> Tensor:
    """Sets of exactly n pixels, each as likely as any other. -> (count, H, W) bool."""
    height, width = side
    values = torch.rand(count, height * width, generator=draws)
    masks = torch.zeros(count, height * width, dtype=torch.bool)
    return masks.scatter_(1, values.topk(n, dim=1).indices, True).view(count, height, width)


def uniform_noise(images: Tensor, radius: float, draws: list[Generator]) -> Tensor:
    """Independent noise in [-radius, radius], one CPU generator a picture. As images, on CPU."""
    noise = [torch.rand(images.shape[1:], generator=g) for g in draws]
    return (2 * torch.stack(noise) - 1) * radius


def normal_noise(images: Tensor, draws: list[Generator]) -> Tensor:
    """Independent standard normal noise, one CPU generator a picture. As images, on the CPU."""
    return torch.stack([torch.randn(images.shape[1:], generator=g) for g in draws])


def zoomed(images: Tensor, factor: float) -> Tensor:
    """The picture of the same side with pixels `factor` times as wide about the same centre.

    images (N, C, H, W) -> the same shape, bilinear. Below 1 the field of view shrinks and all that
    is shown was there; above 1 the border is repeated outwards.
    """
    matrix = torch.tensor([[factor, 0.0, 0.0], [0.0, factor, 0.0]], device=images.device)
    grid = F.affine_grid(
        matrix.expand(len(images), -1, -1), list(images.shape), align_corners=False
    )
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def centre_crop(maps: Tensor, share: float) -> Tensor:
    """The central window whose sides are this share of the picture's. (N, H, W) -> (N, h, w)."""
    height, width = maps.shape[-2:]
    top, left = (math.ceil(n * (1 - share) / 2) for n in (height, width))
    return maps[:, top : height - top, left : width - left]
