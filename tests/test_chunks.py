"""What is made a few pictures at a time, in mapped files, is what is made at once, bit for bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from protocols.keep_important import _of_each
from protocols.shared import living_maps, not_negative, ranks, shown
from vinet_bench.artefacts import load_arrays, save_arrays
from vinet_bench.data import load_data, stacks
from vinet_bench.data.splits import split_slices
from vinet_bench.data.stacks import made
from vinet_bench.machine import Machine
from vinet_bench.masks import fraction, keep, ranking, remove, reserved, scale, tied, top_k
from vinet_bench.plan import make_plan
from vinet_bench.probe import areas, shares_in_cells
from vinet_bench.progress import Silent
from vinet_bench.seeds import picture_generators
from vinet_bench.store import Store
from vinet_bench.workshop import Workshop

METHOD, COUNT, PART = "outline", 150, "test"  # its maps are 0 and 1: they have ties


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    changes = ["phantom.slices=60", "control_budget=0.3"]
    plan = make_plan(preset="smoke", methods=[METHOD], changes=changes)
    data = load_data(plan)
    split = split_slices(data, 1 / 6, 1 / 3, 0, "patient")
    store = Store(tmp_path / "shop")
    return Workshop(plan, data, split, store, Machine(torch.device("cpu"), False), Silent())


def by_the_shop(shop: Workshop) -> dict[str, Tensor]:
    masks = shop.highest(METHOD, 0, PART, COUNT)
    maps = shop.maps(METHOD, 0, PART)
    ways = ("pictures", "removed", "masks", "swapped")
    return {
        "maps": maps,
        "living": living_maps(shop, METHOD, 0),
        "scaled": torch.from_numpy(not_negative(maps, "minmax")),
        "ranks": ranks(shop, METHOD, 0),
        "highest": masks,
        "reserved": shop.masks(METHOD, 0, PART, "threshold"),
        "tied": torch.from_numpy(shop.tied_shares(METHOD, 0)),
        **{way: shown(way, shop, PART, masks).images for way in ways},
    }


def at_once(shop: Workshop) -> dict[str, Tensor]:
    images = shop.examples(PART).images
    maps = shop.explainer(METHOD, 0)(images, torch.zeros(len(images), dtype=torch.int64))

    def draws() -> list[torch.Generator]:
        return picture_generators(images, "ties", METHOD)

    masks, side = top_k(maps, COUNT, draws()), shop.settings.mask_size
    grey = F.interpolate(masks[:, None].float() * 255, size=(side, side), mode="area")
    return {
        "maps": maps,
        "living": maps,
        "scaled": scale(maps, "minmax"),
        "ranks": ranking(maps, draws()),
        "highest": masks,
        "reserved": reserved(maps, shop.plan.threshold),
        "tied": tied(maps, shop.equal_pixels(0)),
        "pictures": keep(images, masks),
        "removed": remove(images, masks),
        "masks": grey.round().to(torch.uint8),
        "swapped": keep(images, masks[shop.other_patients(PART)]),
    }


@pytest.fixture
def mapped(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Where the stacks in mapped files begin."""
    starts: set[int] = set()
    plain = np.memmap

    def noted(*words: Any, **named: Any) -> Any:
        found = plain(*words, **named)
        starts.add(found.ctypes.data)
        return found

    monkeypatch.setattr(np, "memmap", noted)
    return starts


def test_a_few_at_a_time_are_all_at_once(
    shop: Workshop, mapped: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = at_once(shop)
    assert expected["tied"].any()
    assert len(expected["maps"]) % 7
    monkeypatch.setattr(stacks, "CHUNK", 7)
    monkeypatch.setattr(stacks, "LARGE", 0)
    made_now, read_back = by_the_shop(shop), by_the_shop(shop)
    for name, whole in expected.items():
        for found in (made_now[name], read_back[name]):
            assert found.dtype == whole.dtype, name
            assert torch.equal(found, whole), name
            assert found.data_ptr() in mapped, name


def test_what_masks_give_away_is_read_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = np.random.default_rng(0).random((20, 24, 24)) < 0.3
    expected = [features(masks) for features in (areas, shares_in_cells)]
    monkeypatch.setattr(stacks, "CHUNK", 7)
    found = [_of_each(features, masks) for features in (areas, shares_in_cells)]
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_the_share_of_masks_is_their_mean() -> None:
    masks = torch.rand(50, 31, 29, generator=torch.Generator().manual_seed(0)) < 1 / 3
    assert fraction(masks) == masks.double().mean().item()


@pytest.mark.parametrize("count", [0, 1, 6, 7, 8, 20])
def test_made_asks_for_every_picture_once(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "CHUNK", 7)
    asked: list[int] = []

    def make(some: slice) -> np.ndarray:
        asked.extend(range(some.start, some.stop))
        return np.arange(some.start, some.stop, dtype=np.int32)[:, None]

    assert made(count, make).tolist() == [[n] for n in range(count)]
    assert asked == list(range(count))


@pytest.mark.parametrize(
    "shape", [(20, 3, 2), (0, 3, 2), (10**15, 0, 2), (3, 2), (5,), (2, 3, 4, 5)]
)
def test_arrays_of_any_shape_come_back(
    shape: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stacks, "CHUNK", 7)
    whole = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    save_arrays(tmp_path, "maps", "key", {"maps": whole, "masks": whole > 3})
    loaded = load_arrays(tmp_path, "maps", "key")
    assert loaded is not None
    for name, array in (("maps", whole), ("masks", whole > 3)):
        assert loaded[name].dtype == array.dtype
        assert np.array_equal(loaded[name], array)
