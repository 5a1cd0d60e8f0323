"""The maps of pytorch-grad-cam against the library called by hand, one picture at a time."""

import pytest
import pytorch_grad_cam as library
import torch
from pytorch_grad_cam.ablation_layer import AblationLayer
from pytorch_grad_cam.base_cam import BaseCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor

from baselines.cam import (
    AblationCAM,
    EigenCAM,
    FullGrad,
    GradCAM,
    GradCAMPlusPlus,
    HiResCAM,
    LayerCAM,
    ScoreCAM,
    XGradCAM,
)
from vinet_bench.check_one import example_case
from vinet_bench.checks import MethodCase
from vinet_bench.methods import MethodFactory
from vinet_bench.networks.classifiers import VGGGAP

LIBRARY: dict[MethodFactory, type[BaseCAM]] = {
    GradCAM: library.GradCAM,
    GradCAMPlusPlus: library.GradCAMPlusPlus,
    HiResCAM: library.HiResCAM,
    XGradCAM: library.XGradCAM,
    LayerCAM: library.LayerCAM,
    ScoreCAM: library.ScoreCAM,
    AblationCAM: library.AblationCAM,
    FullGrad: library.FullGrad,
}


def by_hand(kind: type[BaseCAM], case: MethodCase) -> Tensor:
    """The library on one picture after another, (B, H, W)."""
    model = case.model
    assert isinstance(model, VGGGAP)
    layers = [] if kind is library.FullGrad else [model.features[-1]]
    with kind(model, layers) as cam:
        if kind is library.AblationCAM:
            cam.ablation_layer = AblationLayer()
        maps = [
            torch.from_numpy(
                cam(case.images[i : i + 1].clone().requires_grad_(), [ClassifierOutputTarget(t)])
            )
            for i, t in enumerate(case.targets.tolist())
        ]
    return torch.cat(maps)


@pytest.mark.parametrize("method", LIBRARY)
def test_it_is_the_librarys_map(method: MethodFactory) -> None:
    case = example_case(method)
    maps = case.explain(case.images, case.targets)
    torch.testing.assert_close(maps, by_hand(LIBRARY[method], case), rtol=0, atol=1e-4)
    assert (maps.amax(dim=(1, 2)) > 0.9).sum() >= 2  # an untrained class may have no map


def test_eigencam_is_the_librarys_but_for_the_sign() -> None:
    case = example_case(EigenCAM)
    method, model = case.method, case.model
    assert isinstance(method, EigenCAM)
    assert isinstance(model, VGGGAP)
    features = model.features(case.images).numpy()
    with library.EigenCAM(model, method.layers()) as theirs, method.library() as ours:
        expected, maps = (
            torch.from_numpy(cam.get_cam_image(None, None, None, features, None, False))
            for cam in (theirs, ours)
        )
    torch.testing.assert_close(maps.abs(), expected.abs())
    assert torch.equal(maps.amax(dim=(1, 2)), maps.abs().amax(dim=(1, 2)))


def test_hirescam_is_grad_cam_behind_global_average_pooling() -> None:
    case = example_case(HiResCAM)
    maps = case.explain(case.images, case.targets)
    expected = example_case(GradCAM).explain(case.images, case.targets)
    torch.testing.assert_close(maps, expected, rtol=0, atol=1e-5)


def test_no_method_prints(capfd: pytest.CaptureFixture[str]) -> None:
    everyone: list[MethodFactory] = [*LIBRARY, EigenCAM]
    for method in everyone:
        case = example_case(method)
        case.explain(case.images, case.targets)
    assert capfd.readouterr() == ("", "")
