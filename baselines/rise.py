"""RISE (Petsiuk et al. 2018, arXiv 1806.07421), many masked pictures in one forward pass."""

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from baselines.base import AT_ONCE, NetworkMethod
from vinet_bench.methods import MethodInfo
from vinet_bench.seeds import picture_generators

CELLS = 7  # of a random grid across the picture (s = 7 in the paper)
KEPT = 0.5  # the probability of a cell (p of the paper)
MASKS = 256
MASKS_A_STEP = 16  # for each picture


class RISE(NetworkMethod):
    """The mean of random smooth masks, each weighted by the class's probability behind it (Eq. 6).

    The paper takes 4,000 masks; 256 are what a table's worth of pictures can pay for.
    """

    info = MethodInfo(
        name="rise",
        title="RISE",
        paper="Petsiuk et al. 2018, arXiv 1806.07421",
        variant="256 masks of 7 x 7 cells",
        scaling="minmax",
        sign="unsigned",
        forwards=MASKS,
        costly=True,
    )
    masks = MASKS

    @torch.no_grad()
    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        generators = picture_generators(images, "RISE")
        count, size = len(images), images.shape[-2:]
        classes = targets.repeat_interleave(MASKS_A_STEP)[:, None]
        total = images.new_zeros(count, *size)
        for _ in range(self.masks // MASKS_A_STEP):
            masks = torch.stack([random_masks(MASKS_A_STEP, size, g) for g in generators]).to(
                images
            )
            behind = (images[:, None] * masks[:, :, None]).flatten(0, 1)
            logits = torch.cat([self.model(some) for some in torch.split(behind, AT_ONCE)])
            scores = logits.softmax(dim=1).gather(1, classes).view(count, MASKS_A_STEP)
            total += torch.einsum("bn,bnhw->bhw", scores, masks)
        return total / (self.masks * KEPT)


def random_masks(count: int, size: torch.Size, draws: Generator) -> Tensor:
    """Random grids scaled up bilinearly, each cut out at a random place (Sec. 3.2).

    size (H, W) -> (count, H, W) float32 in [0, 1], on the CPU.
    """
    grid = (torch.rand(count, 1, CELLS, CELLS, generator=draws) < KEPT).float()
    cell = [-(-n // CELLS) for n in size]  # rounded up
    large = [(CELLS + 1) * n for n in cell]
    masks = F.interpolate(grid, size=large, mode="bilinear", align_corners=False)[:, 0]
    rows, columns = (
        torch.randint(step, (count, 1), generator=draws) + torch.arange(n)
        for step, n in zip(cell, size, strict=True)
    )
    return masks[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
