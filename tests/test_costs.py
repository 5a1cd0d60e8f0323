"""Every method says what it costs: counted where the explained network's first layer ends."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from baselines import METHODS
from protocols.keep_important import KeepImportant
from protocols.occlusion import Occlusion
from vinet_bench.check_one import example_case
from vinet_bench.methods import method
from vinet_bench.plan import make_plan
from vinet_bench.report import tables
from vinet_bench.run import run
from vinet_bench.stored_run import read_run

# One explains itself, one brings its own network, and one runs a copy in float64.
ELSEWHERE = ("vinet", "real-time-masker", "meaningful-perturbation")
COUNTED = [n for n in METHODS if method(n).info.explains == "classifier" and n not in ELSEWHERE]


class Passes:
    """Pictures that went into a layer, and back out of it."""

    def __init__(self) -> None:
        self.forward = self.backward = 0

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.forward += len(inputs[0])
        if inputs[0].requires_grad:
            inputs[0].register_hook(self._back)  # type: ignore[no-untyped-call]

    def _back(self, gradient: Tensor) -> None:
        self.backward += len(gradient)


def second_layer(model: nn.Module) -> nn.Module:
    """What enters it: LRP cuts a layer out of the graph and links its output again."""
    return [layer for layer in model.modules() if not list(layer.children())][1]


def counted(name: str) -> tuple[float, float]:
    """Forward and backward passes a picture."""
    case = example_case(METHODS[name])
    passes, count = Passes(), len(case.images)
    chosen = case.method
    handle = second_layer(case.model).register_forward_pre_hook(passes)
    try:
        chosen.explain(case.images, case.targets)
    finally:
        handle.remove()
    return passes.forward / count, passes.backward / count


@pytest.mark.parametrize("name", COUNTED)
def test_passes_are_as_declared(name: str) -> None:
    info = method(name).info
    forwards = info.forwards
    if name == "scorecam":  # a mask for each of 512 channels, of which this network has a quarter
        forwards = 1 + (info.forwards - 1) // 4
    assert counted(name) == (forwards, info.backwards)


def test_the_perturbations_copy_is_run_as_often_as_declared() -> None:
    case = example_case(METHODS["meaningful-perturbation"])
    passes = Passes()
    copied = case.method.model  # type: ignore[attr-defined]
    handle = second_layer(next(copied.modules())).register_forward_pre_hook(passes)
    case.explain(case.images, case.targets)
    handle.remove()
    assert (passes.forward, passes.backward) == (150, 150)


def test_the_masker_leaves_the_explained_network_alone() -> None:
    from baselines.maskers import RealTimeMasker

    case = example_case(METHODS["real-time-masker"])
    method = RealTimeMasker(steps=1).fit(case.model, case.data)
    passes = Passes()
    handle = case.model.register_forward_pre_hook(passes)
    method.explain(case.images, torch.zeros(3))
    handle.remove()
    assert passes.forward == 0


@pytest.mark.parametrize("name", METHODS)
def test_what_takes_a_hundred_passes_is_costly(name: str) -> None:
    info = method(name).info
    assert info.costly == (info.forwards + info.backwards >= 100)


# -- costly methods are retrained only where they are named


def test_costly_methods_are_retrained_only_by_name() -> None:
    everything, named = (make_plan(methods=names) for names in (["all"], ["rise", "random"]))
    costly = {name for name in METHODS if method(name).info.costly}
    assert costly == {
        *("scorecam", "occlusion", "lime", "kernel-shap", "rise", "meaningful-perturbation"),
    }
    retrained = {cell.method for cell in KeepImportant().cells(everything)}
    assert retrained == {*METHODS, "original", "majority"} - costly
    assert "rise" in {cell.method for cell in KeepImportant().cells(named)}
    assert costly <= {cell.method for cell in Occlusion().cells(everything)}


def test_the_table_says_what_was_not_retrained(tmp_path: Path) -> None:
    changes = ["phantom.slices=60", "control_budget=0.1"]
    plan = make_plan(preset="smoke", methods=["all"], changes=changes)
    plan = plan.model_copy(update={"methods": ("rise", "random")})
    run(["keep-important"], plan, tmp_path / "run", device="cpu")
    table = tables(read_run(tmp_path / "run"))["table1"]
    note = "Costly, and so left out unless --methods names them: RISE."
    assert note in table.notes
    assert not any("No records" in line for line in table.notes)
