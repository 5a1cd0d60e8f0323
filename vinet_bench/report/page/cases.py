"""The page's gallery: test pictures with every method's map, each method's in one PNG."""

import base64
import io
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import rankdata

from vinet_bench.data.facts import names_of
from vinet_bench.records import Cell
from vinet_bench.stored_run import Run

Bytes = NDArray[np.uint8]
Arrays = Mapping[str, NDArray[Any]]


def gallery(run: Run) -> dict[str, Any] | None:
    """The gallery as JSON keeps it, or None for a run that keeps no pictures for it.

    cases: id, label, area (evidence, in percent of the picture) and disagreement; methods: title,
    sheet (a PNG of all cases, one below the other) and by case the loss of probability.
    """
    shown, facts = run.gallery(), run.pictures()
    if not shown or not facts:
        return None
    names = [row for row in run.plan["rows"] if f"map:{row['name']}" in shown]
    maps = {row["name"]: shown[f"map:{row['name']}"] for row in names}
    evidence = shown.get("evidence")
    height, width = shown["pictures"].shape[1:]
    methods = [row["name"] for row in names if row["kind"] == "method"]
    differ = disagreement({n: maps[n] for n in methods}) or [0.0] * len(shown["places"])
    return {
        "size": [int(width), int(height)],
        "threshold": run.plan["threshold"],
        "cases": _cases(run, shown, differ),
        "pictures": _sheet(shown["pictures"]),
        "evidence": None if evidence is None else _sheet(evidence * 255),
        "methods": [
            {
                "title": row["title"],
                "sheet": _sheet(maps[row["name"]]),
                "drops": _drops(run, row["name"], shown["places"]),
            }
            for row in names
        ],
    }


def _cases(run: Run, shown: Arrays, differ: list[float]) -> list[dict[str, Any]]:
    facts = run.pictures()
    test = run.tested(run.seeds[:1])[shown["places"]]
    ids, classes = names_of(facts, "ids"), run.plan["data"]["class_names"]
    areas: list[float | None] = [None] * len(test)
    if "evidence" in shown:
        areas = [round(100 * float(outline.mean()), 2) for outline in shown["evidence"]]
    return [
        {
            "id": ids[i],
            "label": str(classes[int(facts["label"][i])]),
            "area": area,
            "disagreement": round(apart, 3),
        }
        for i, area, apart in zip(test.tolist(), areas, differ, strict=True)
    ]


def disagreement(maps: Mapping[str, Bytes]) -> list[float]:
    """Of each case, 1 minus the mean rank correlation between two methods' maps; maps (C, H, W).

    >>> a = np.arange(4, dtype=np.uint8).reshape(1, 2, 2)
    >>> disagreement({"a": a, "b": a}), disagreement({"a": a, "b": 3 - a})
    ([0.0], [2.0])
    """
    stack = list(maps.values())
    if len(stack) < 2:
        return [0.0] * (len(stack[0]) if stack else 0)
    ranks = rankdata(np.stack(stack).reshape(len(stack), len(stack[0]), -1), axis=-1)
    ranks -= ranks.mean(axis=-1, keepdims=True)
    norms = np.maximum(np.linalg.norm(ranks, axis=-1, keepdims=True), 1e-9)  # a constant map: 0
    unit = ranks / norms
    alike = [np.einsum("cp,cp->c", unit[a], unit[b]) for a, b in combinations(range(len(unit)), 2)]
    found: list[float] = (1 - np.mean(alike, axis=0)).round(9).tolist()
    return found


def _drops(run: Run, name: str, places: NDArray[np.int64]) -> list[float | None]:
    """Loss of the true class's probability in the occlusion test, in points, by case."""
    budgets = ("equal", "threshold")
    seed = run.plan["seeds"][0]
    cells = [Cell("occlusion", name, seed, budget=budget) for budget in budgets]
    scores = next((s for c in cells if (s := run.scores(c)) and "probability_drop" in s), None)
    if scores is None or scores["probability_drop"].ndim != 1:
        return [None] * len(places)
    if len(scores["probability_drop"]) <= places.max():
        return [None] * len(places)
    drops = scores["probability_drop"][places]
    return [round(100 * float(d), 1) if np.isfinite(d) else None for d in drops]


def _sheet(stack: Bytes) -> str:
    """(C, H, W) as a grey PNG of C * H by W, in a data URI."""
    grey = Image.fromarray(stack.reshape(-1, stack.shape[-1]))
    buffer = io.BytesIO()
    grey.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
