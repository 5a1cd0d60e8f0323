"""What pytorch-grad-cam does otherwise than these methods need; it takes a second to import."""

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_grad_cam import AblationCAM, EigenCAM, ScoreCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection_with_sign_correction
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.base import AT_ONCE
from baselines.heads import LastMaps


class SignedEigenCAM(EigenCAM):  # type: ignore[misc]
    """A singular vector has no sign of its own: rounding would turn a map over."""

    def get_cam_image(
        self,
        input_tensor: Tensor,
        target_layer: nn.Module,
        targets: list[nn.Module],
        activations: NDArray[np.float32],
        grads: None,
        eigen_smooth: bool,
    ) -> NDArray[np.float32]:
        maps: NDArray[np.float32] = get_2d_projection_with_sign_correction(activations)
        return maps


class BatchedScoreCAM(ScoreCAM):  # type: ignore[misc]
    """The library takes one picture after another, 16 masks at a time, and draws a bar for each."""

    @torch.no_grad()
    def get_cam_weights(
        self,
        input_tensor: Tensor,
        target_layer: nn.Module,
        targets: list[ClassifierOutputTarget],
        activations: NDArray[np.float32],
        grads: None,
    ) -> NDArray[np.float32]:
        maps = torch.from_numpy(activations).to(input_tensor)
        classes = torch.tensor([t.category for t in targets], device=maps.device)
        count, channels = maps.shape[:2]
        which = torch.arange(count, device=maps.device).repeat_interleave(channels)
        scores = [
            self.model(input_tensor[rows] * _as_masks(some, input_tensor.shape[-2:])).gather(
                1, classes[rows, None]
            )
            for some, rows in zip(
                *(torch.split(x, AT_ONCE) for x in (maps.flatten(0, 1)[:, None], which)),
                strict=True,
            )
        ]
        return torch.cat(scores).view(count, channels).softmax(dim=1).cpu().numpy()


def _as_masks(maps: Tensor, size: torch.Size) -> Tensor:
    """Feature maps scaled up, and each to [0, 1]. (B, 1, h, w) -> (B, 1, *size)."""
    masks = F.interpolate(maps, size=size, mode="bilinear", align_corners=True)
    low, high = (end(dim=(2, 3), keepdim=True) for end in (masks.amin, masks.amax))
    scaled: Tensor = (masks - low) / (high - low + 1e-8)
    return scaled


class HeadAblationCAM(AblationCAM):  # type: ignore[misc]
    """The library runs the whole network for every channel; what lies below the ablated layer
    stays the same, so the head alone is run again."""

    def __init__(self, model: nn.Module, last: LastMaps) -> None:
        super().__init__(model, [last.module], last.point.to_maps)
        self.linear = last.pooled_linear

    @torch.no_grad()
    def get_cam_weights(
        self,
        input_tensor: Tensor,
        target_layer: nn.Module,
        targets: list[ClassifierOutputTarget],
        activations: NDArray[np.float32],
        grads: None,
    ) -> NDArray[np.float32]:
        maps = torch.from_numpy(activations).to(input_tensor)
        classes = torch.tensor([t.category for t in targets], device=maps.device)[:, None]
        whole = self.outputs.gather(1, classes)
        without = []
        for channel in range(maps.shape[1]):
            left = maps.clone()
            left[:, channel] = 0
            without.append(self.linear(left.mean(dim=(2, 3))).gather(1, classes))
        weights: NDArray[np.float32] = ((whole - torch.cat(without, dim=1)) / whole).cpu().numpy()
        return weights
