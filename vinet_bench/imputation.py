"""Noisy linear imputation (Rong et al. 2022, arXiv 2202.00449, Sec. 4): removed pixels become the
weighted mean of their neighbours, known and removed alike, for many pictures at once."""

import torch
from torch import Tensor
from torch.nn import functional as F

NOISE = 0.01  # standard deviation, pictures in [0, 1]
TOLERANCE = 1e-8  # of the residual, as a share of the right-hand side
_CHUNK = {"cpu": 16}  # pictures that fit the cache together; a GPU takes all that EVERY says
_EVERY = 1024


def impute(images: Tensor, masks: Tensor, noise: Tensor) -> Tensor:
    """The pictures with their masked pixels imputed.

    images (N, 1, H, W) float32, masks (N, H, W) bool, noise (N, 1, H, W) standard normal ->
    (N, 1, H, W) float32. A picture that is masked whole has nothing to go by and becomes noise.
    """
    size = _CHUNK.get(images.device.type, _EVERY)
    chunks = zip(torch.split(images, size), torch.split(masks, size), strict=True)
    filled = torch.cat([_solve(i.double(), m[:, None].double()) for i, m in chunks])
    return torch.where(masks[:, None], filled.float() + NOISE * noise, images)


def _neighbours(values: Tensor) -> Tensor:
    """The sum of every pixel's neighbours, weighted 1/6 beside and 1/12 across; 0 outside."""
    padded = F.pad(values, (1, 1, 1, 1))
    across = padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]
    both = across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]
    return (both - 4 * values) / 12


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum(dim=(1, 2, 3), keepdim=True)


def _solve(images: Tensor, masks: Tensor) -> Tensor:
    """Conjugate gradients on all pictures side by side; a picture that is done stands still.

    For a masked pixel i, with weights w of the neighbours j that lie in the picture:
    sum_j w_ij (x_i - x_j) = 0. Symmetric and positive, so this many steps always suffice. The
    diagonal is the preconditioner: it differs from 1 at the border alone.
    """
    weights = _neighbours(torch.ones_like(images[:1]))
    residual = masks * _neighbours((1 - masks) * images)
    found, bound = torch.zeros_like(residual), TOLERANCE**2 * _dot(residual, residual)
    scaled = residual / weights
    direction, height = scaled, _dot(residual, scaled)
    for _ in range(masks[0].numel()):
        active = _dot(residual, residual) > bound
        if not active.any():
            break
        image = masks * (weights * direction - _neighbours(direction))
        step = torch.where(active, height / _dot(direction, image), 0)
        found = found + step * direction
        residual = residual - step * image
        scaled = residual / weights
        last, height = height, _dot(residual, scaled)
        direction = scaled + torch.where(active, height / last, 0) * direction
    return found
