"""Networks by name: sizes in and out, parameters, and what makes each of them what it is."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vinet_bench.errors import UserError
from vinet_bench.machine import Examples, Machine
from vinet_bench.networks import (
    CLASSIFIERS,
    IMPORTANCE,
    build_classifier,
    build_importance,
    build_mask_reader,
    check_classifier,
    check_importance,
    he_initialised,
)
from vinet_bench.networks.foreign import Resized, smp_names
from vinet_bench.networks.segnet import STAGES, SegNet
from vinet_bench.settings import Training
from vinet_bench.training import fit
from vinet_bench.training_tasks import VINetTask
from vinet_bench.vinet import VINet

SIZES = (64, 96, 128, 130)


def rand(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def discs(size: int, radii: range) -> Tensor:
    """Pictures of 1 in the middle and 0 elsewhere, (N, 1, size, size)."""
    from_middle = (torch.arange(size) - (size - 1) / 2).abs()
    distance = torch.hypot(from_middle[:, None], from_middle)
    return torch.stack([(distance <= radius).float() for radius in radii])[:, None]


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@torch.no_grad()
@pytest.mark.parametrize("name", [*IMPORTANCE, *smp_names()])
def test_m0_has_the_pictures_size(name: str) -> None:
    model = build_importance(name, seed=0, width=0.25).eval()
    for size in (*SIZES, 16):
        m0 = model(rand(1, 1, size, size))
        assert m0.shape == (1, 1, size, size)
        assert torch.isfinite(m0).all()
    assert model(rand(2, 1, 70, 50)).shape == (2, 1, 70, 50)


@torch.no_grad()
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_takes_any_size(name: str) -> None:
    model = build_classifier(name, 5, seed=0, width=0.25).eval()
    for size in SIZES:
        assert model(rand(2, 1, size, size)).shape == (2, 5)


def test_parameters() -> None:
    """At width 1, one channel in; five classes. ResNets and VGGs as published but for these."""
    found = {name: parameters(build_importance(name, 0)) for name in IMPORTANCE}
    assert found == {
        "deeplabv3plus": 26_671_313,
        "gridnet": 859_633,
        "local": 73_273,  # 264 + 10_464 + 3 * 20_832 + 49
        "segnet": 29_434_497,
        "shallow-unet": 877_841,  # 676_800 + 147_712 + 46_208 + 6_976 + 145
        "unet": 14_321_937,
    }
    found = {name: parameters(build_classifier(name, 5, 0)) for name in CLASSIFIERS}
    assert found == {
        "resnet18": 11_172_805,
        "resnet50": 23_512_005,
        "seresnet50": 26_042_997,
        "densenet121": 6_952_709,
        "vgg16": 14_716_101,
        "vgg19": 20_025_797,
    }


@pytest.mark.parametrize(
    "name", ["deeplabv3plus", "gridnet", "local", "segnet", "shallow-unet", "unet", "smp:PSPNet"]
)
def test_it_trains_where_one_picture_is_left_over(name: str) -> None:
    """DeepLab's pooled branch has maps of 1 x 1: BatchNorm cannot train on one picture there."""
    classifier = nn.Sequential(nn.Conv2d(1, 2, 3, stride=2), nn.Flatten(), nn.Linear(450, 2))
    importance = build_importance(name, seed=0, width=0.25)
    model = VINet(importance, classifier, torch.zeros(1, 1, 32, 32))
    data = Examples(rand(5, 1, 32, 32), torch.arange(5) % 2)
    before = [p.clone() for p in importance.parameters()]
    settings = Training(epochs=1, batch=4, learning_rate=1e-3)
    machine = Machine(torch.device("cpu"), bfloat16=False)
    fit(model, VINetTask(0.25, 0.0, 0.0), data, data, settings, 0, machine)
    changed = [not torch.equal(a, b) for a, b in zip(before, importance.parameters(), strict=True)]
    assert sum(changed) > 0.5 * len(changed)  # PSPNet leaves its encoder's deepest stages alone


def test_segnets_parameters_by_hand() -> None:
    """VGG-16's convolutions with BatchNorm, twice, and the last to one channel with a bias."""
    flat = [c for stage in STAGES for c in stage]
    encoder = sum(9 * a * b + 2 * b for a, b in zip([1, *flat], flat, strict=False))
    # Backwards: from c_n to c_(n-1), ..., from 64 to 64, from 64 to 1.
    decoder = sum(9 * a * b + 2 * b for a, b in zip(flat[::-1], flat[-2::-1], strict=False))
    assert len(flat) == 13
    assert parameters(SegNet(1.0)) == encoder + decoder + (9 * 64 + 1)


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 64), (70, 50)])
def test_segnet_unpools_where_its_own_pooling_found_the_maxima(size: tuple[int, int]) -> None:
    model = SegNet(0.125).eval()
    he_initialised(model)
    pooled: list[Tensor] = []
    decoded: list[tuple[Tensor, Tensor]] = []  # in and out
    for encoder in model.encoders:
        encoder.register_forward_hook(lambda _m, _i, output: pooled.append(output))
    for decoder in model.decoders:
        decoder.register_forward_hook(lambda _m, i, output: decoded.append((i[0], output)))
    model(rand(2, 1, *size))
    handed_on = F.max_pool2d(pooled[-1], 2)
    for before, (unpooled, out) in zip(reversed(pooled), decoded, strict=True):
        _, indices = F.max_pool2d(before, 2, return_indices=True)
        assert unpooled.shape == before.shape
        found = unpooled.flatten(2).gather(2, indices.flatten(2))
        assert torch.equal(found, handed_on.flatten(2))
        assert unpooled.count_nonzero() == handed_on.count_nonzero() > 0
        handed_on = out


@torch.no_grad()
def test_gridnet_is_made_of_residual_streams() -> None:
    """With every unit silenced the top stream hands the first convolution's output through."""
    padded = build_importance("gridnet", seed=0, width=0.5).eval()
    model = padded.get_submodule("network")
    columns = [*model.get_submodule("columns").children()]
    assert [len([*c.get_submodule("along").children()]) for c in columns] == [1, 3, 3, 3, 3, 3]
    for module in model.get_submodule("columns").modules():
        if isinstance(module, nn.Conv2d):
            nn.init.zeros_(module.weight)
    images = rand(2, 1, 64, 64)
    first, last = model.get_submodule("first"), model.get_submodule("last")
    assert torch.equal(model(images), last(first(images)))


@torch.no_grad()
def test_he_draws_give_unit_gain_also_going_up() -> None:
    up = he_initialised(nn.ConvTranspose2d(64, 64, 4, stride=2, padding=1))
    x = torch.randn(4, 64, 16, 16, generator=torch.Generator().manual_seed(0)).relu()
    assert up(x).std().item() == pytest.approx(1.0, rel=0.2)


def test_the_seed_alone_decides() -> None:
    for name in ("gridnet", "smp:FPN"):
        first, again, other = (build_importance(name, seed, 0.25) for seed in (0, 0, 1))
        pairs = list(zip(first.parameters(), again.parameters(), strict=True))
        assert all(torch.equal(a, b) for a, b in pairs)
        assert not all(map(torch.equal, first.parameters(), other.parameters()))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("unett", "did you mean 'unet'"),
        ("smp:FNP", "did you mean 'smp:FPN'"),
        ("xyzzy", "known: deeplabv3plus, gridnet, local, segnet, shallow-unet, smp:NAME, unet"),
        ("timm:resnet18", "importance network"),
    ],
)
def test_an_unknown_importance_network(name: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        check_importance(name)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("resnet81", "did you mean 'resnet18'"),
        ("timm:convnext_tinny", "did you mean 'timm:convnext_tiny'"),
        ("convnext_tiny", "did you mean 'timm:convnext_tiny'"),
        ("xyzzy", "known: densenet121, .*timm:NAME"),
    ],
)
def test_an_unknown_classifier(name: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        check_classifier(name)


def test_names_of_smp_are_taken_in_any_case() -> None:
    check_importance("smp:fpn")
    check_importance("smp:FPN")


@torch.no_grad()
def test_a_size_that_a_library_refuses_is_resampled() -> None:
    """Inception v3 needs 75 pixels; a ViT's side must be a multiple of its patches'."""
    vit = build_classifier("timm:vit_tiny_patch16_224", 3, seed=0, size=(70, 50)).eval()
    assert isinstance(vit, Resized)
    assert vit.taken == (80, 64)
    assert vit(rand(2, 1, 70, 50)).shape == (2, 3)
    assert not isinstance(build_classifier("timm:resnet10t", 3, seed=0, size=(70, 50)), Resized)


def test_a_model_of_timm_that_is_no_classifier_is_refused() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("timm.create_model", lambda *_a, **_k: nn.Identity())
        with pytest.raises(UserError, match="timm:test_vit cannot be used"):
            build_classifier("timm:test_vit", 3, seed=0, size=(32, 32))


@pytest.mark.parametrize("size", [32, 64])
def test_a_reader_tells_small_masks_in_the_middle_apart_from_its_first_step(
    size: int,
) -> None:
    model = build_mask_reader(5, seed=0).train()
    model.fc = nn.Identity()
    features = model(discs(size, range(1, 9)))
    assert features.std(dim=0).mean() > 0.1  # 1e-5 where residual branches start at zero
