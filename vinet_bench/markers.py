"""Pictures without their planted marker."""

import torch
from scipy.ndimage import binary_dilation
from torch import Generator, Tensor

from vinet_bench.localisation import Masks


def erase(images: Tensor, marker: Masks, generators: list[Generator]) -> Tensor:
    """The pictures with each marked pixel drawn from the unmarked ones beside the marker: a flat
    patch of the marker's form would be a marker still.

    images (N, 1, H, W) of any type, marker (N, H, W), one CPU generator each -> as images.
    """
    erased = images.clone()
    for picture, pixels, draws in zip(erased[:, 0], marker, generators, strict=True):
        around = binary_dilation(pixels) & ~pixels
        if around.any():
            known = picture[torch.from_numpy(around)]
            chosen = torch.randint(len(known), (int(pixels.sum()),), generator=draws)
            picture[torch.from_numpy(pixels)] = known[chosen]
    return erased
