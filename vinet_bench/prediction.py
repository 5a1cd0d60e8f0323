"""What a network says of pictures, batch by batch."""

import torch
from torch import Tensor, nn

from vinet_bench.hooks import evaluating
from vinet_bench.machine import Machine, as_pictures
from vinet_bench.seeds import picture_generators
from vinet_bench.vinet import VINet

EVALUATION_BATCH = 128  # of 64 x 64


def evaluation_batch(images: Tensor) -> int:
    """How many pictures are evaluated at once: fewer where they are larger than 64 x 64, so that
    memory does not grow with their size. images (N, 1, H, W)."""
    larger = images.shape[-2] * images.shape[-1] / 64**2
    return max(1, int(EVALUATION_BATCH / max(1.0, larger)))


def predict(model: nn.Module, images: Tensor, machine: Machine, seed: int = 0) -> Tensor:
    """Class probabilities, float32 on the CPU. images (N, 1, H, W) as in Examples -> (N, K).

    A VINet draws its noise from each picture's content and the seed, so that no batch matters.
    """
    return predict_logits(model, images, machine, seed).softmax(dim=1)


@torch.no_grad()
def predict_logits(
    model: nn.Module,
    images: Tensor,
    machine: Machine,
    seed: int = 0,
    noise_of: Tensor | None = None,
) -> Tensor:
    """As `predict`, before the softmax.

    noise_of: pictures whose content a VINet draws its noise from, where it must be the same for
    changed copies of them.
    """
    found = []
    model.to(machine.device)
    sources = images if noise_of is None else noise_of
    with evaluating(model):
        size = evaluation_batch(images)
        batches = (torch.split(some, size) for some in (images, sources))
        for batch, own in zip(*batches, strict=True):
            pictures = as_pictures(batch.to(machine.device))
            if isinstance(model, VINet):
                draws = picture_generators(as_pictures(own), "predict", seed, device=machine.device)
                logits = model(pictures, draws).logits
            else:
                logits = model(pictures)
            found.append(logits.float().cpu())
    return torch.cat(found)
