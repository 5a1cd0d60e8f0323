"""Stacks of pictures that are too large for memory."""

import numpy as np
import pytest

from vinet_bench.data import stacks
from vinet_bench.data.phantom import PhantomSettings, phantom
from vinet_bench.data.stacks import empty_stack, taken


def is_mapped(stack: np.ndarray) -> bool:
    return isinstance(stack.base, np.memmap)


def test_a_large_stack_is_mapped_and_a_small_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "LARGE", 1000)
    small, large = empty_stack((10, 10, 10), np.uint8), empty_stack((10, 10, 11), np.uint8)
    assert not is_mapped(small)
    assert is_mapped(large)
    assert not large.any()
    large[3] = 7
    assert large.sum() == 7 * 110


@pytest.mark.parametrize("error", [OSError("no space left"), AttributeError("posix_fallocate")])
def test_without_room_for_the_file_it_is_in_memory(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(stacks, "LARGE", 0)
    monkeypatch.setattr("os.posix_fallocate", fails)
    assert not is_mapped(empty_stack((4, 2, 2), np.uint8))


@pytest.mark.parametrize("large", [0, 2**28])
def test_taken_is_what_indexing_gives(monkeypatch: pytest.MonkeyPatch, large: int) -> None:
    monkeypatch.setattr(stacks, "LARGE", large)
    stack = np.arange(600 * 6).reshape(600, 2, 3)
    chosen = np.random.default_rng(0).permutation(600)[:500]
    assert np.array_equal(taken(stack, chosen), stack[chosen])
    names = np.array([f"{n}" for n in range(600)])
    assert np.array_equal(taken(names, chosen), names[chosen])
    assert taken(stack, chosen[:0]).shape == (0, 2, 3)


def test_a_mapped_data_set_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = PhantomSettings(slices=30, size=32)
    plain = phantom(settings)
    monkeypatch.setattr(stacks, "LARGE", 0)
    mapped = phantom(settings)
    assert is_mapped(mapped.images)
    assert mapped.fingerprint == plain.fingerprint
    part = np.arange(3, 20)
    assert mapped.subset(part).fingerprint == plain.subset(part).fingerprint
