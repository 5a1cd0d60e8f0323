"""The further controls: intensity, blurred copies, single readers; names of the registry."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from baselines import METHODS
from baselines.cam import CAM
from baselines.controls import Blurred, Intensity, Outline, Reader
from baselines.gradients import Saliency
from vinet_bench.check_one import example_case
from vinet_bench.errors import UserError
from vinet_bench.masks import scale
from vinet_bench.methods import in_order, method
from vinet_bench.plan import make_plan
from vinet_bench.presets import DEFAULT_METHODS
from vinet_bench.run import suited


def test_intensity_is_the_picture() -> None:
    case = example_case(Intensity)
    assert torch.equal(case.explain(case.images, case.targets), case.images[:, 0])


def test_a_blurred_copy_is_the_scaled_map_smoothed() -> None:
    case = example_case(partial(method, "blurred:cam"))
    maps = case.explain(case.images, case.targets)
    sharp = scale(example_case(CAM).explain(case.images, case.targets), "minmax")
    for m, s in zip(maps, sharp, strict=True):
        expected = gaussian_filter(s.numpy(), 1.0)
        torch.testing.assert_close(m, torch.from_numpy(expected))
    assert (maps.std(dim=(1, 2)) < sharp.std(dim=(1, 2))).all()


def test_a_blurred_copy_explains_what_its_method_explains() -> None:
    info = Blurred(Saliency()).info
    assert (info.name, info.kind, info.explains) == ("blurred:saliency", "control", "classifier")
    assert (info.forwards, info.backwards, info.class_specific) == (1, 1, True)


def maps_of(chosen: Reader | Outline) -> Tensor:
    case = example_case(partial(Reader, 1))
    readers = np.zeros_like(case.data.readers)
    readers[:, :4] |= 1  # the first reader's
    readers[:, :, :4] |= 4  # the third's
    data = replace(case.data, readers=readers)
    return chosen.fit(nn.Identity(), data).explain(case.images, case.targets)


def test_each_readers_outline_is_his_own() -> None:
    first, second, third = (maps_of(Reader(number)) for number in (1, 2, 3))
    assert first[:, :4].eq(1).all()
    assert not first[:, 4:].any()
    assert not second.any()
    assert third[:, :, :4].eq(1).all()
    assert not third[:, :, 4:].any()


def test_readers_need_a_data_set_with_readers() -> None:
    data = replace(example_case(Intensity).data, readers=None)
    with pytest.raises(UserError, match="no single readers: leave 'reader-2' out"):
        Reader(2).fit(nn.Identity(), data)


# -- names


def test_an_unknown_wrapper_or_inner_method_gets_a_hint() -> None:
    with pytest.raises(UserError, match="did you mean 'gradcam'"):
        method("blurred:grad-cam")
    with pytest.raises(UserError, match="unknown method 'dimmed:cam'"):
        method("dimmed:cam")


def test_methods_stand_in_the_registrys_order_and_wrapped_ones_behind() -> None:
    names = ["blurred:random", "outline", "cam", "original", "vinet", "cam"]
    assert in_order(names) == ("vinet", "cam", "outline", "blurred:random")


def test_all_stands_for_every_method_that_the_data_has_something_for() -> None:
    plan = make_plan(preset="smoke", methods=["all", "blurred:cam"])
    assert plan.methods == (*METHODS, "blurred:cam")
    data = replace(example_case(Intensity).data, readers=None)
    left = suited(plan, data).methods
    assert set(METHODS) - set(left) == {"reader-1", "reader-2", "reader-3", "reader-4"}
    named = make_plan(preset="smoke", methods=["reader-1"])
    with pytest.raises(UserError, match="reader-1: the data set phantom has no masks of single"):
        suited(named, data)


def test_the_presets_methods_stay() -> None:
    assert (
        *("vinet", "vbp", "cam", "lrp", "lrp-epsilon", "gradcam", "ig"),
        *("random", "centre", "edges", "outline"),
    ) == DEFAULT_METHODS
    assert in_order(DEFAULT_METHODS) == DEFAULT_METHODS
