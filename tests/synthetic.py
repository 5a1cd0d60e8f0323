"""A run of any size with invented records, scores and pictures, to try the report on."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols import PROTOCOLS
from tests.test_report import a_plan
from vinet_bench.data.dataset import SliceDataset
from vinet_bench.data.facts import picture_facts
from vinet_bench.data.splits import Split
from vinet_bench.protocols import OwnTable
from vinet_bench.records import Cell, Record, key_of
from vinet_bench.report.layout import KEEP, OCCLUSION, Figure, Layout
from vinet_bench.store import Store

BROUGHT = ("localisation", "deletion", "road", "sanity", "complexity", "faithfulness")
SIDE, STEPS = 64, 11
Scores = dict[str, NDArray[np.float32]]


def rows(methods: Sequence[str]) -> list[dict[str, str]]:
    """A plan's rows: the references, methods of these titles, a control and the outline."""
    told = [("original", "Original", "reference"), ("majority", "Majority", "reference")]
    told += [(f"m{i}", title, "method") for i, title in enumerate(methods)]
    told += [("random", "Random", "control"), ("outline", "Outline", "oracle")]
    return [{"name": n, "title": t, "kind": k, "scaling": "minmax"} for n, t, k in told]


def layouts() -> list[Layout]:
    """Tables I and II and those of six more protocols."""
    made = (PROTOCOLS[name]() for name in BROUGHT)
    return [KEEP, OCCLUSION, *(how.layout for how in made if isinstance(how, OwnTable))]


def data(pictures: int) -> SliceDataset:
    """Two slices of each patient, an evidence in each."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (pictures, SIDE, SIDE)).astype(np.uint8)
    evidence = np.zeros(images.shape, np.bool_)
    for i, size in enumerate(rng.integers(4, 24, pictures)):
        evidence[i, 20 : 20 + size, 20 : 20 + size] = True
    patients = np.array([f"P{i // 2:04}" for i in range(pictures)])
    ids = np.array([f"slice-{i:04}" for i in range(pictures)])
    labels = np.arange(pictures) // 2 % 5
    return SliceDataset("noise", images, labels, patients, ids, tuple("12345"), evidence)


def _cell(layout: Layout, row: Mapping[str, str], figure: Figure, seed: int) -> Cell:
    budget = "everything"
    if layout in (KEEP, OCCLUSION) and row["kind"] != "reference":
        budget = "equal" if figure.equal or row["kind"] == "control" else "threshold"
    return Cell(layout.protocol, row["name"], seed, budget, figure.trained_on)


def _cells(
    plan_rows: Sequence[Mapping[str, str]], seeds: Sequence[int]
) -> Iterator[tuple[Cell, list[str]]]:
    for layout in layouts():
        found: dict[Cell, list[str]] = defaultdict(list)
        for row in plan_rows:
            for figure in layout.figures:
                if row["kind"] in figure.kinds:
                    for seed in seeds:
                        found[_cell(layout, row, figure, seed)].append(figure.metric)
        yield from found.items()


def _scores(cell: Cell, metrics: Sequence[str], n: int, rng: np.random.Generator) -> Scores:
    level = {"random": 0.3, "outline": 0.9}.get(cell.method, 0.4 + len(cell.method) / 20)
    found = {m: (rng.random(n) < level).astype(np.float32) for m in dict.fromkeys(metrics)}
    if cell.protocol in ("deletion", "road"):
        fills = ("air", "blur") if cell.protocol == "deletion" else ("imputed",)
        curve = np.linspace(1, 0.2, STEPS, dtype=np.float32) ** (1 + level)
        found |= {f"{way}_{f}": np.tile(curve, (n, 1)) for way in ("morf", "lerf") for f in fills}
        found["fractions"] = np.linspace(0, 1, STEPS, dtype=np.float32)
    return found


def a_big_run(
    folder: Path, methods: Sequence[str], seeds: int = 1, pictures: int = 80, **plan: Any
) -> Path:
    """Eight protocols; every method with every figure, and 24 cases for the gallery."""
    rng, every, own = np.random.default_rng(1), data(pictures), rows(methods)
    split = Split(np.array([0, 1]), np.array([2, 3]), np.arange(4, pictures))
    store = Store(folder)
    store.save("pictures", "facts", picture_facts(every, split))
    told = a_plan(rows=own, seeds=list(range(seeds)), gallery="shown", **plan)
    told["data"] |= {"pictures": "facts"}
    told["layouts"] = {layout.protocol: layout.stored() for layout in layouts()[2:]}
    store.start("plan", told, now=1.0)
    for cell, metrics in _cells(own, range(seeds)):
        scores, key = _scores(cell, metrics, len(split.test), rng), key_of(vars(cell))
        means = {m: float(scores[m].mean()) for m in dict.fromkeys(metrics)}
        records = [Record(cell, m, v, len(split.test), 1.5) for m, v in means.items()]
        store.add("plan", key, cell, records)
        store.save("scores", key, scores)
    store.save("gallery", "shown", _gallery(every.subset(split.test), own, rng))
    store.close()
    return folder


def _gallery(
    test: SliceDataset, own: Sequence[Mapping[str, str]], rng: np.random.Generator
) -> dict[str, NDArray[Any]]:
    """Maps of smooth noise, as a network's are."""
    places = np.arange(24)
    shown: dict[str, NDArray[Any]] = {
        "places": places,
        "pictures": test.images[places],
        "evidence": (test.evidence if test.evidence is not None else test.images)[places].astype(
            np.uint8
        ),
    }
    for row in own:
        if row["kind"] != "reference":
            coarse = rng.integers(0, 255, (24, SIDE // 4, SIDE // 4)).astype(np.uint8)
            shown[f"map:{row['name']}"] = coarse.repeat(4, axis=1).repeat(4, axis=2)
    return shown
