"""Every method's maps are the same bytes, whatever process makes them and what it made before."""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import torch

from baselines.maskers import RealTimeMasker
from vinet_bench.check_one import example_case
from vinet_bench.methods import MethodFactory, method, methods

SHORTER: dict[str, MethodFactory] = {"real-time-masker": partial(RealTimeMasker, steps=2)}


def maps_of(name: str) -> bytes:
    """Two pictures' maps, as a cell makes them: with the threads that its run has."""
    torch.set_num_threads(1)
    case = example_case(SHORTER.get(name, partial(method, name)))
    return case.method.explain(case.images[:2], case.targets[:2]).numpy().tobytes()


def test_the_same_bytes_of_maps_in_any_number_of_processes() -> None:
    names = list(methods())
    assert {"vinet", "cam", "lrp", "rise", "random"} <= set(names)
    found: list[dict[str, bytes]] = []
    for workers, order in ((1, names), (2, names[::-1])):
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            found.append(dict(zip(order, pool.map(maps_of, order), strict=True)))
    assert [name for name in names if found[0][name] != found[1][name]] == []
    assert len(set(found[0].values())) > len(names) / 2  # they are not one and the same
