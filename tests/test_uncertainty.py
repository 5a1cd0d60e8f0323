"""Intervals and marks in the tables come from the scores of the pictures, by patient."""

from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.tables import read_lines
from tests.test_report import ROWS, a_plan, cells, noted
from vinet_bench.data.dataset import SliceDataset
from vinet_bench.data.facts import picture_facts
from vinet_bench.data.splits import Split
from vinet_bench.records import Cell, Record, key_of
from vinet_bench.report import tables, write_report
from vinet_bench.report.audit import audit
from vinet_bench.stats import clustered_intervals, clustered_test, holm
from vinet_bench.store import Store
from vinet_bench.stored_run import read_run

N, EACH = 300, 3  # test pictures; of each patient
PATIENTS = np.repeat(np.arange(N // EACH), EACH)
LRP = {"name": "lrp", "title": "LRP", "kind": "method"}
Hits = NDArray[np.float64]


def hits(share: float, seed: int) -> Hits:
    """Patients that are right in all their pictures or in none."""
    return np.repeat(np.random.default_rng(seed).random(N // EACH) < share, EACH).astype(float)


def data() -> SliceDataset:
    """The test pictures, and one more each to train and to validate."""
    images = np.random.default_rng(0).integers(0, 255, (N + 2, 16, 16)).astype(np.uint8)
    patients = np.array([f"P{i:03}" for i in [*PATIENTS, N, N + 1]])
    ids = np.arange(N + 2).astype(np.str_)
    return SliceDataset("noise", images, np.arange(N + 2) % 5, patients, ids, tuple("12345"))


def split() -> Split:
    return Split(np.array([N]), np.array([N + 1]), np.arange(N))


def a_run(folder: Path, found: dict[tuple[str, int], Hits], patients: bool = True) -> Path:
    """Table I with the hits of each row and seed, and the patients behind them."""
    store = Store(folder)
    plan = a_plan(rows=[*ROWS, LRP], seeds=sorted({seed for _, seed in found}))
    if patients:
        store.save("pictures", "facts", picture_facts(data(), split()))
        plan["data"]["pictures"] = "facts"
    store.start("plan", plan, now=1.0)
    for (name, seed), own in found.items():
        cell = Cell("keep-important", name, seed)
        store.add("plan", key_of(vars(cell)), cell, [Record(cell, "accuracy", own.mean(), N)])
        store.save("scores", key_of(vars(cell)), {"accuracy": own.astype(np.float32)})
    store.close()
    return folder


def table(folder: Path) -> Any:
    return tables(read_run(folder))["table1"]


@pytest.fixture
def three(tmp_path: Path) -> tuple[Path, dict[tuple[str, int], Hits]]:
    good = hits(0.8, 0)
    also = good.copy()
    also[:EACH] = 1 - also[:EACH]
    found = {("vinet", 0): good, ("cam", 0): hits(0.3, 1), ("lrp", 0): also}
    return a_run(tmp_path / "run", found), found


def test_the_interval_is_that_of_whole_patients(three: Any) -> None:
    folder, found = three
    made = clustered_intervals(np.stack(list(found.values()))[:, None], PATIENTS)
    for place, name in enumerate(("vinet", "cam", "lrp")):
        low, high = 100 * made.low[place], 100 * made.high[place]
        assert f" [{low:.1f}, {high:.1f}]" in cells(table(folder), name)["accuracy"]


def test_marks_say_what_differs_from_vinet_and_from_the_best(three: Any) -> None:
    folder, found = three
    best = max(found, key=lambda place: found[place].mean())[0]
    assert cells(table(folder), "cam")["accuracy"].endswith("]†‡")
    for name in ("vinet", "lrp"):  # one patient of a hundred apart
        assert cells(table(folder), name)["accuracy"].endswith("]")
    title = {"vinet": "VINet", "lrp": "LRP"}[best]
    assert f"‡ from {title}" in noted(table(folder), "Accuracy differs:")


def test_the_csv_file_has_the_adjusted_p(three: Any) -> None:
    folder, found = three
    write_report(folder)
    lines = read_lines(folder, "table1")
    apart = [found[name, 0] - found["vinet", 0] for name in ("cam", "lrp")]
    p = holm(clustered_test(np.stack(apart)[:, None], PATIENTS))
    assert float(lines["cam"]["accuracy_p_vinet"]) == pytest.approx(p[0], abs=1e-6)
    assert float(lines["lrp"]["accuracy_p_vinet"]) == pytest.approx(p[1], abs=1e-6)
    assert lines["vinet"]["accuracy_p_vinet"] == ""
    assert float(lines["cam"]["accuracy_low"]) < found["cam", 0].mean()


def test_balanced_accuracys_interval_counts_each_resamples_classes(tmp_path: Path) -> None:
    own, labels = hits(0.8, 0), data().labels[:N]
    weights = N / (5 * np.bincount(labels)[labels])
    store = Store(a_run(tmp_path, {("vinet", 0): own}))
    cell = Cell("keep-important", "vinet", 0)
    key, mean = key_of(vars(cell)), (own * weights).mean()
    records = [Record(cell, "accuracy", own.mean(), N), Record(cell, "balanced_accuracy", mean, N)]
    store.add("plan", key, cell, records)
    both = {"accuracy": own, "balanced_accuracy": own * weights}
    store.save("scores", key, {name: some.astype(np.float32) for name, some in both.items()})
    store.close()
    write_report(tmp_path)
    line = read_lines(tmp_path, "table1")["vinet"]
    made = clustered_intervals(own[None, None], PATIENTS, labels)
    ends = float(line["balanced_accuracy_low"]), float(line["balanced_accuracy_high"])
    assert ends == pytest.approx((made.low[0], made.high[0]), abs=1e-6)


def audited(folder: Path, scores: dict[tuple[str, int, str], dict[str, Hits]]) -> dict[str, str]:
    """The verdicts by topic on a run with these scores of (row, seed, what was trained on)."""
    a_run(folder, {("vinet", 0): hits(0.5, 0)})
    with closing(Store(folder)) as store:
        for (name, seed, on), own in scores.items():
            cell = Cell("keep-important", name, seed, trained_on=on)
            records = [Record(cell, metric, some.mean(), N) for metric, some in own.items()]
            store.add("plan", key_of(vars(cell)), cell, records)
            narrow = {metric: some.astype(np.float32) for metric, some in own.items()}
            store.save("scores", key_of(vars(cell)), narrow)
    return {found.topic: found.verdict for found in audit(read_run(folder))}


def label_scores(told: bool) -> dict[tuple[str, int, str], dict[str, Hits]]:
    """Two seeds whose networks err on other pictures. Masks tell what each network predicts, or
    the right label throughout."""
    right = {0: (PATIENTS % 2).astype(float), 1: (1 - PATIENTS % 2).astype(float)}
    found: dict[tuple[str, int, str], dict[str, Hits]] = {}
    for seed, own in right.items():
        found["vinet", seed, "pictures"] = {"accuracy": own, "explained_accuracy": own}
        found["vinet", seed, "masks"] = {"accuracy": np.ones(N) if told else own}
        found["outline", seed, "masks"] = {"accuracy": hits(0.2, seed)}
    return found


@pytest.mark.parametrize(("told", "verdict"), [(False, "fine"), (True, "broken")])
def test_the_label_is_sought_where_each_seeds_own_network_errs(
    tmp_path: Path, told: bool, verdict: str
) -> None:
    assert audited(tmp_path, label_scores(told))["the test label"] == verdict


def test_rows_that_have_no_seed_in_common_are_not_compared(tmp_path: Path) -> None:
    scores = label_scores(told=True)
    moved = {(n, 7 + s if n == "outline" else s, on): own for (n, s, on), own in scores.items()}
    assert "the test label" not in audited(tmp_path, moved)


def test_seeds_widen_the_interval(tmp_path: Path) -> None:
    alike = {("vinet", seed): hits(0.8, 0) for seed in range(3)}
    apart = {("vinet", seed): hits(0.6 + 0.1 * seed, 0) for seed in range(3)}

    def width(folder: Path) -> float:
        low, high = cells(table(folder), "vinet")["accuracy"].split("[")[1].rstrip("]").split(", ")
        return float(high) - float(low)

    narrow, wide = (width(a_run(tmp_path / n, f)) for n, f in (("a", alike), ("b", apart)))
    assert wide > 1.2 * narrow


def test_without_patients_there_is_no_interval(tmp_path: Path) -> None:
    found = {("vinet", 0): hits(0.8, 0)}
    folder = a_run(tmp_path, found, patients=False)
    assert cells(table(folder), "vinet")["accuracy"] == f"{100 * found['vinet', 0].mean():.2f}"


@pytest.mark.parametrize(
    ("deeplab", "outcome"),
    [(0.1, "came out here ("), (0.9, "did not come out here: it is the other way round (")],
)
def test_a_claim_of_the_papers_is_tested(tmp_path: Path, deeplab: float, outcome: str) -> None:
    names = {"deeplabv3plus+resnet18": deeplab, "segnet+resnet18": 0.5}
    rows = [{"name": n, "title": n.split("+")[0], "kind": "method"} for n in names]
    plan = a_plan(own_rows={"importance-networks": rows}, seeds=[0, 1])
    store = Store(tmp_path)
    store.save("pictures", "facts", picture_facts(data(), split()))
    plan["data"]["pictures"] = "facts"
    store.start("plan", plan, now=1.0)
    for seed, (name, mean) in product((0, 1), names.items()):
        own = mean + 0.05 * hits(0.5, seed)
        cell = Cell("importance-networks", "vinet", seed, variant=name)
        record = Record(cell, "importance_loss", own.mean(), N)
        store.add("plan", key_of(vars(cell)), cell, [record])
        store.save("scores", key_of(vars(cell)), {"importance_loss": own.astype(np.float32)})
    store.close()
    told = noted(tables(read_run(tmp_path))["table3"], "The paper (Table III) finds DeepLabv3+")
    assert f"better than SegNet in 'Importance loss (× 1e-2)'. That {outcome}" in told
