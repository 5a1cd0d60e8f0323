"""Noisy linear imputation (Rong et al. 2022, arXiv 2202.00449, Sec. 4): removed pixels become the
weighted mean of their neighbours, known and removed alike.

For a masked pixel i, with weights w of the neighbours j that lie in the picture:
sum_j w_ij (x_i - x_j) = 0.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg.lapack import dpbsv
from torch import Tensor
from torch.nn import functional as F

NOISE = 0.01  # standard deviation, pictures in [0, 1]
TOLERANCE = 1e-8  # of the residual, as a share of the right-hand side, where steps are taken
_AT_ONCE = {"cuda": 1024}  # pictures side by side in memory; elsewhere one is solved at a time
_FEW = 64
# The neighbours that come later, row by row, and twelve times their weights.
_LATER = (((0, 1), 2), ((1, -1), 1), ((1, 0), 2), ((1, 1), 1))
Floats = NDArray[np.float64]


def impute(images: Tensor, masks: Tensor, noise: Tensor) -> Tensor:
    """The pictures with their masked pixels imputed.

    images (N, 1, H, W) float32, masks (N, H, W) bool, noise (N, 1, H, W) standard normal ->
    (N, 1, H, W) float32. A picture that is masked whole has nothing to go by and becomes noise.
    """
    solve = _by_steps if images.is_cuda else _directly
    size = _AT_ONCE.get(images.device.type, _FEW)
    chunks = zip(torch.split(images, size), torch.split(masks, size), strict=True)
    filled = torch.cat([solve(i.double(), m[:, None].double()) for i, m in chunks])
    return torch.where(masks[:, None], filled.float() + NOISE * noise, images)


def _neighbours(values: Tensor) -> Tensor:
    """The sum of every pixel's neighbours, weighted 1/6 beside and 1/12 across; 0 outside."""
    padded = F.pad(values, (1, 1, 1, 1))
    across = padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]
    both = across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]
    return (both - 4 * values) / 12


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum(dim=(1, 2, 3), keepdim=True)


def _by_steps(images: Tensor, masks: Tensor) -> Tensor:
    """Conjugate gradients on all pictures side by side; a picture that is done stands still.

    The equations are symmetric and positive, so this many steps always suffice. The diagonal is
    the preconditioner: it differs from 1 at the border alone.
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


def _directly(images: Tensor, masks: Tensor) -> Tensor:
    """Picture after picture by LAPACK's banded Cholesky: row by row, a pixel's neighbours are at
    most a row and a pixel away. Five times as fast as the steps on a processor."""
    weights = _neighbours(torch.ones_like(images[:1]))[0, 0].numpy()
    right = (masks * _neighbours((1 - masks) * images))[:, 0].numpy()
    found = np.zeros_like(right)
    for filled, mask, known in zip(found, masks[:, 0].bool().numpy(), right, strict=True):
        if known.any():  # else all around is 0, or nothing is known
            bands = _bands(mask, weights)
            filled[mask] = dpbsv(bands, known[mask], lower=1, overwrite_ab=1)[1]
    return torch.from_numpy(found[:, None])


def _bands(mask: NDArray[np.bool_], weights: Floats) -> Floats:
    """The equations' matrix as LAPACK takes the lower half of a banded one. (H, W) twice."""
    height, width = mask.shape
    number = np.full((height + 1, width + 2), -1)  # with a border, so that every neighbour exists
    number[:height, 1:-1][mask] = np.arange(mask.sum())
    flat = number.ravel()
    places = np.flatnonzero(flat >= 0)
    others = [flat[places + down * (width + 2) + across] for (down, across), _ in _LATER]
    apart = [other - flat[places] for other in others]
    reach = max(0, *(int(a.max()) for a in apart))
    bands = np.zeros((reach + 1, len(places)), order="F")
    bands[0] = weights[mask]
    for distance, other, (_, twelfths) in zip(apart, others, _LATER, strict=True):
        there = np.flatnonzero(other >= 0)
        bands[distance[there], there] = -twelfths / 12
    return bands
