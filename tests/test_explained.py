"""Any classifier can be explained, with the weights of a user, or it is said why not."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Generator, Tensor, nn

from baselines.canonical import canonical
from baselines.heads import last_maps
from baselines.lrp import LRP, LRPEpsilon
from vinet_bench.check_one import example_case
from vinet_bench.data.dataset import SliceDataset
from vinet_bench.errors import UserError
from vinet_bench.methods import SaliencyMethod, method
from vinet_bench.networks import build_explained
from vinet_bench.networks.explained import load_weights
from vinet_bench.plan import Plan, make_plan
from vinet_bench.presets import DEFAULT_METHODS
from vinet_bench.report import tables
from vinet_bench.run import run
from vinet_bench.stored_run import read_run

SIZE = (64, 64)
RESNET, VIT = "timm:resnet18", "timm:vit_tiny_patch16_224"
FEW = ("hirescam", "lrp-gamma", "fullgrad", "deeplift", "guided-backprop", "deconvolution")


@lru_cache
def network(name: str) -> nn.Module:
    """With statistics and scales in its BatchNorm as training leaves them, and no bias."""
    model = build_explained(name, 5, 0, 0.25, SIZE)
    draws = Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=draws)
            nn.init.uniform_(module.running_var, 0.5, 2.0, generator=draws)  # type: ignore[arg-type]
        elif isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    return model.eval().requires_grad_(False)


@lru_cache
def slices() -> SliceDataset:
    return example_case(LRP).data.resized(SIZE[0])


def pictures() -> Tensor:
    return torch.from_numpy(slices().pictures(slice(3)))


def maps(chosen: SaliencyMethod, name: str) -> Tensor:
    return chosen.fit(network(name), slices()).explain(pictures(), torch.tensor([0, 1, 2]))


def plan(*methods: str, changes: tuple[str, ...] = (), **options: Any) -> Plan:
    fast = ("phantom.slices=30", "control_budget=0.1", "explained.epochs=1", "retrain.epochs=1")
    return make_plan(
        preset="smoke",
        methods=list(methods),
        size=SIZE[0],
        changes=["vinet.epochs=1", *fast, *changes],
        **options,
    )


def test_default_methods_and_more_have_a_row_for_timms_resnet(tmp_path: Path) -> None:
    chosen = plan(*DEFAULT_METHODS, *FEW, changes=(f"explained.network={RESNET}",))
    outcome = run(["occlusion"], chosen, tmp_path / "run", "cpu")
    assert outcome.failed == ()
    (table,) = tables(read_run(tmp_path / "run")).values()
    assert {row.name for row in table.rows} >= {*DEFAULT_METHODS, *FEW}
    (note,) = [note for note in table.notes if note.startswith("Network that is explained")]
    assert "timm:resnet18 (VBP, CAM, LRP," in note
    assert "vgg16" not in note


REFUSED = {
    "cam": "needs global average pooling and one linear layer",
    "ablationcam": "needs global average pooling and one linear layer",
    "vbp": "multiplies the outputs of ReLUs",
    "lrp": "no rule for what the explained network computes (Add, Cat, Gelu,",
    "excitation-backprop": "no rule for",
    "deeplift": "no rule for",
    "guided-backprop": "changes the gradient at ReLUs",
    "deconvolution": "changes the gradient at ReLUs",
    "fullgrad": "has others: LayerNorm",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_vision_transformer_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(UserError) as error:
        maps(method(name), VIT)
    assert REFUSED[name] in str(error.value)
    assert "\n" not in str(error.value)


def test_grad_cam_takes_the_tokens_before_those_that_nothing_reads() -> None:
    last = last_maps(network(VIT), SIZE)
    assert (last.point.size, last.point.prefix, last.linear) == ((4, 4), 1, None)
    assert last.point.module == "network.blocks.10"  # behind block 11 the class token alone is read
    assert maps(method("gradcam"), VIT).amax(dim=(1, 2)).max() > 0.99


def test_a_refusal_is_a_failed_row_and_the_others_go_on(tmp_path: Path) -> None:
    chosen = plan("cam", "saliency", changes=(f"explained.network={VIT}",))
    outcome = run(["occlusion"], chosen, tmp_path / "run", "cpu")
    assert {reason.split(" seed")[0] for reason in outcome.failed} == {"occlusion cam"}
    assert all("global average pooling" in reason for reason in outcome.failed)


# -- heads


@pytest.mark.parametrize(
    ("name", "module"), [("vgg16", "features"), ("resnet18", "layer4"), ("densenet121", "features")]
)
def test_the_last_maps_and_the_layer_behind_them_are_found(name: str, module: str) -> None:
    last = last_maps(network(name), SIZE)
    assert last.point.module == module
    assert last.pooled_linear.out_features == 5


def test_cam_is_the_logit_shared_out_over_the_places() -> None:
    chosen = method("cam").fit(network(RESNET), slices())
    cam = chosen.explain(pictures(), torch.tensor([0, 1, 2]))
    # Bilinear upsampling of 2 x 2 to 64 x 64 keeps the mean.
    logits = network(RESNET)(pictures()).gather(1, torch.tensor([[0], [1], [2]]))[:, 0]
    torch.testing.assert_close(cam.mean(dim=(1, 2)), logits, rtol=1e-4, atol=1e-4)


def test_maps_of_one_cell_are_refused() -> None:
    with pytest.raises(UserError, match=r"1 x 1 for pictures of 32 x 32.*--size"):
        last_maps(network(RESNET), (32, 32))


# -- relevance


@pytest.mark.parametrize("name", [RESNET, "resnet50"])
def test_a_canonical_network_has_the_same_logits_and_is_put_back(name: str) -> None:
    model = network(name)
    state, before = {k: v.clone() for k, v in model.state_dict().items()}, model(pictures())
    with canonical(model, SIZE) as same:
        torch.testing.assert_close(same(pictures()), before, rtol=1e-4, atol=1e-5)
        assert not torch.equal(same.state_dict()["conv1.weight"], state["conv1.weight"])
    assert torch.equal(model(pictures()), before)
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    ("kind", "name", "tolerance"),
    [
        (LRP, RESNET, 1e-4),
        (LRPEpsilon, RESNET, 1e-4),
        (LRPEpsilon, "resnet50", 1e-4),
        # z+ has nowhere to put what a branch gets of a unit that nothing speaks for (0.7 % here,
        # in float64 as well).
        (LRP, "resnet50", 1e-2),
    ],
)
def test_relevance_is_conserved_through_residual_blocks(
    kind: type[LRP] | type[LRPEpsilon], name: str, tolerance: float
) -> None:
    # Without biases (a BatchNorm's mean and shift are 0): the stabilisers' share alone is lost.
    relevance = maps(kind(), name).sum(dim=(1, 2))
    logits = network(name)(pictures()).gather(1, torch.tensor([[0], [1], [2]]))[:, 0]
    torch.testing.assert_close(relevance, logits, rtol=tolerance, atol=0)


def test_squeeze_and_excitation_has_no_rule() -> None:
    with pytest.raises(UserError, match=r"no rule for .*Mul, Sigmoid"):
        maps(LRP(), "seresnet50")


# -- a user's own weights


def saved(folder: Path, ending: str, **changes: Tensor) -> Path:
    state = {k: v.clone() for k, v in network("resnet18").state_dict().items()} | changes
    path = folder / f"mine{ending}"
    if ending == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state, "epoch": 3}, path)
    return path


@pytest.mark.parametrize("ending", [".safetensors", ".pt"])
def test_a_checkpoint_is_explained_as_it_is(tmp_path: Path, ending: str) -> None:
    model = build_explained("resnet18", 5, 1, 0.25, SIZE).eval()
    load_weights(model, "resnet18", saved(tmp_path, ending))
    assert torch.equal(model(pictures()), network("resnet18")(pictures()))


def test_a_run_with_a_checkpoint_trains_no_explained_network(tmp_path: Path) -> None:
    chosen = plan(
        "saliency",
        changes=("explained.network=resnet18",),
        checkpoint=saved(tmp_path, ".safetensors"),
    )
    outcome = run(["occlusion"], chosen, tmp_path / "run", "cpu")
    assert outcome.failed == ()
    assert len(list((tmp_path / "run" / "artefacts" / "networks").iterdir())) == 1  # Original
    (table,) = tables(read_run(tmp_path / "run")).values()
    words = f"resnet18 with the weights of mine.safetensors, {chosen.settings.explained.weights}"
    assert any(words in note for note in table.notes)
    assert not any("explained.epochs" in note for note in table.notes)


def test_the_content_of_a_checkpoint_is_in_the_keys_and_its_place_is_not(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    first = plan("cam", checkpoint=saved(here, ".safetensors"))
    moved = plan("cam", checkpoint=saved(there, ".safetensors"))
    other = plan("cam", checkpoint=saved(there, ".safetensors", **{"fc.bias": torch.ones(5)}))
    assert first.identity() == moved.identity()
    assert first.identity() != other.identity()


NOT_WEIGHTS: dict[str, Callable[[Path], object]] = {
    "pickled.pt": lambda path: torch.save(nn.Linear(2, 2), path),
    "list.pt": lambda path: torch.save([1, 2], path),
    "damaged.safetensors": lambda path: path.write_bytes(b"no weights"),
    "damaged.pt": lambda path: path.write_bytes(b"no weights"),
}


@pytest.mark.parametrize("name", NOT_WEIGHTS)
def test_a_file_without_weights_is_one_line(tmp_path: Path, name: str) -> None:
    NOT_WEIGHTS[name](tmp_path / name)
    with pytest.raises(UserError) as error:
        load_weights(network("resnet18"), "resnet18", tmp_path / name)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fc.bias": torch.ones(7)}, r"fc.bias is \(7,\), not \(5,\)"),
        ({"fc.bias": torch.full((5,), np.nan)}, "fc.bias has values that are not finite"),
        ({"head.bias": torch.ones(5)}, "head.bias is unknown to it"),
    ],
)
def test_weights_that_do_not_fit_stop_before_anything_is_made(
    tmp_path: Path, changes: dict[str, Tensor], words: str
) -> None:
    file = saved(tmp_path, ".pt", **changes)
    chosen = plan("saliency", changes=("explained.network=resnet18",), checkpoint=file)
    with pytest.raises(UserError, match=f"--checkpoint .*mine.pt does not fit resnet18.*{words}"):
        run(["occlusion"], chosen, tmp_path / "run", "cpu")
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--checkpoint .*gone\.pt: cannot be read"):
        plan("cam", checkpoint=tmp_path / "gone.pt")
