"""The pictures and maps that a run keeps for its report's gallery."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vinet_bench.data.dataset import SliceDataset
from vinet_bench.data.splits import Split
from vinet_bench.machine import Machine
from vinet_bench.plan import make_plan
from vinet_bench.progress import Silent
from vinet_bench.seeds import few_by_content
from vinet_bench.showcase import showcase
from vinet_bench.store import Store
from vinet_bench.workshop import Workshop

N = 40


def a_shop(folder: Path, side: int = 16) -> Workshop:
    """A workshop of controls alone, which need no network."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (N + 2, side, side)).astype(np.uint8)
    evidence = rng.random(images.shape) < 0.3
    ids = np.arange(N + 2).astype(np.str_)
    data = SliceDataset("noise", images, np.arange(N + 2) % 2, ids, ids, ("a", "b"), evidence)
    split = Split(np.array([N]), np.array([N + 1]), np.arange(N))
    plan = make_plan(preset="smoke", methods=["random", "centre", "outline"])
    machine = Machine(torch.device("cpu"), False)
    return Workshop(plan, data, split, Store(folder), machine, Silent())


def test_only_what_was_explained_is_shown_and_nothing_is_computed(tmp_path: Path) -> None:
    shop = a_shop(tmp_path)
    assert showcase(shop, shop.plan.methods) == {}
    centre = shop.maps("centre", 0, "test")
    shown = showcase(shop, shop.plan.methods)
    assert set(shown) == {"places", "pictures", "evidence", "map:centre"}
    places, test = shown["places"], shop.part("test")
    assert len(places) == 24
    np.testing.assert_array_equal(shown["pictures"], test.images[places])
    assert test.evidence is not None
    np.testing.assert_array_equal(shown["evidence"], test.evidence[places])
    low, high = centre.amin(), centre.amax()
    wanted = (255 * (centre[places] - low) / (high - low)).round().byte()
    np.testing.assert_array_equal(shown["map:centre"], wanted.numpy())


def test_a_map_that_a_costly_method_did_not_make_is_empty(tmp_path: Path) -> None:
    shop = a_shop(tmp_path)
    maps = shop.maps("centre", 0, "test")
    few = few_by_content(shop.examples("test").images, 4)
    partly = torch.full_like(maps, torch.nan)
    partly[few] = maps[few]
    shop.store.save("maps", shop._maps_key("centre", 0, "test"), {"maps": partly.numpy()})
    shown = showcase(shop, ["centre"])
    filled = shown["map:centre"].reshape(24, -1).any(axis=1)
    np.testing.assert_array_equal(filled, np.isin(shown["places"], few.numpy()))


@pytest.mark.parametrize(("side", "cases"), [(64, 24), (512, 7), (1024, 4)])
def test_large_pictures_are_fewer(tmp_path: Path, side: int, cases: int) -> None:
    shop = a_shop(tmp_path, side)
    for name in ("centre", "outline", "random"):
        shop.maps(name, 0, "test")
    assert len(showcase(shop, shop.plan.methods)["places"]) == cases
