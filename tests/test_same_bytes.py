"""Every method's maps are the same bytes, whatever process makes them and what it made before."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch

from tests.shorter import shorter
from vinet_bench.check_one import example_case
from vinet_bench.methods import methods


def maps_of(name: str) -> bytes:
    """Two pictures' maps, as a cell makes them: with the threads that its run has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        case = example_case(shorter(name))
        return case.method.explain(case.images[:2], case.targets[:2]).numpy().tobytes()
    finally:
        torch.set_num_threads(before)


def test_the_same_bytes_of_maps_in_any_number_of_processes() -> None:
    names = list(methods())
    assert {"vinet", "cam", "lrp", "rise", "random"} <= set(names)
    here = {name: maps_of(name) for name in names}
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        there = dict(zip(names[::-1], pool.map(maps_of, names[::-1]), strict=True))
    assert [name for name in names if here[name] != there[name]] == []
    assert len(set(here.values())) > len(names) / 2  # they are not one and the same
