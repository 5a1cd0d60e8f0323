"""Cross-validation: every patient is tested once, and figures are over all of them."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from protocols.sanity import Sanity
from tests.commands import Command, assert_one_line
from tests.tables import read_lines
from tests.test_report import ROWS, a_plan, cells, noted
from tests.test_run import make_folder
from tests.test_splits import dataset, owners, several_slices_each
from vinet_bench.data.dataset import PARTS, SliceDataset
from vinet_bench.data.facts import picture_facts, places_tested
from vinet_bench.data.folder import load_folder
from vinet_bench.data.inspection import inspect_data
from vinet_bench.data.splits import Split, split_as, split_slices
from vinet_bench.errors import UserError
from vinet_bench.machine import Machine
from vinet_bench.networks_needed import Maps
from vinet_bench.patient_clusters import clustered, seed_variance
from vinet_bench.plan import make_plan
from vinet_bench.progress import Silent
from vinet_bench.records import Cell, Record, key_of
from vinet_bench.report import tables, write_report
from vinet_bench.report.audit.of_data import data_findings
from vinet_bench.report.difference import same_pictures
from vinet_bench.settings import Settings
from vinet_bench.stats import clustered_intervals, clustered_test
from vinet_bench.store import Store
from vinet_bench.stored_arrays import check_facts
from vinet_bench.stored_run import read_run
from vinet_bench.workshop import Workshop

FAST = ["split.folds=2", "split.validation=0.2", "control_budget=0.1", "retrain.epochs=1"]


# ---- splits


@pytest.mark.parametrize("folds", [2, 5])
@pytest.mark.parametrize("seed", range(5))
def test_every_patient_is_tested_once_and_classes_stay_in_proportion(folds: int, seed: int) -> None:
    data = several_slices_each(seed=seed)
    split = split_slices(data, 0.1, 0.2, seed, folds=folds)
    tested = np.concatenate([one.test for one in split.folds])
    assert np.array_equal(np.sort(tested), np.arange(len(data)))
    of_each = [owners(data, one.test) for one in split.folds]
    assert sum(map(len, of_each)) == len(set.union(*of_each)) == len(np.unique(data.patients))
    shares = np.bincount(data.labels) / len(data)
    for one in split.folds:
        assert np.array_equal(
            np.sort(np.concatenate(list(one.parts().values()))), np.arange(len(data))
        )
        assert not owners(data, one.train) & owners(data, one.validation)
        assert abs(len(one.test) / len(data) - 1 / folds) < 0.02
        assert abs(len(one.validation) / len(data) - 0.1) < 0.03
        there = np.bincount(data.labels[one.test], minlength=4) / len(one.test)
        assert abs(there - shares).max() < 0.05


def test_a_seed_has_its_fold_and_the_splits_seed_makes_the_folds() -> None:
    data = several_slices_each()
    split, again, other = (split_slices(data, 0.1, 0.2, s, folds=3) for s in (0, 0, 1))
    assert split.of(4) is split.of(1) is split.folds[1]
    assert np.array_equal(split.test, split.of(0).test)
    assert np.array_equal(split.tested([0, 3]), split.of(0).test)
    assert np.array_equal(split.tested(range(3)), np.arange(len(data)))
    assert np.array_equal(split.of(2).train, again.of(2).train)
    assert not np.array_equal(split.of(2).test, other.of(2).test)
    single = split_slices(data, 0.1, 0.2, 0)
    assert single.of(7) is single


@pytest.mark.parametrize("by", ["patient", "slice"])
def test_slices_without_patients_are_divided_too(by: Literal["patient", "slice"]) -> None:
    data = several_slices_each()
    data = data.without_patients() if by == "patient" else data
    split = split_slices(data, 0.1, 0.2, 0, by, folds=4)
    assert np.array_equal(split.tested(range(4)), np.arange(len(data)))
    assert max(len(one.test) for one in split.folds) - min(len(one.test) for one in split.folds) < 2


@pytest.mark.parametrize(
    ("labels", "patients", "folds", "said"),
    [
        ([0, 1] * 8, range(16), 17, "split.folds=17: 16 patients are too few for so many"),
        ([0, 1] * 20, np.arange(40) // 4, 12, "split.folds=12: 10 patients are too few"),
        ([0, 1] * 4, range(8), 5, "split.folds=5: no class has so many slices: give fewer"),
        ([0] * 60 + [1] * 4, range(64), 5, "class 'b' is missing in test: .*fewer split.folds"),
    ],
)
def test_folds_that_cannot_be_made(labels: Any, patients: Any, folds: int, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        split_slices(dataset(labels, list(patients)), 0.2, 0.2, 0, folds=folds)
    assert "\n" not in str(caught.value)


def test_data_with_a_split_of_their_own_have_no_folds() -> None:
    parts = np.array(["test", "train", "validation", "train", "test"])
    data = dataset([0, 0, 1, 1, 1], range(5), given_parts=parts)
    with pytest.raises(UserError, match=r"split\.folds=2: data set made says itself"):
        split_slices(data, 0.1, 0.2, 0, folds=2)


def test_check_counts_each_folds_test_part() -> None:
    data = several_slices_each()
    wanted = Settings().split.model_copy(update={"folds": 3})
    found = inspect_data(data, wanted)
    assert [row[0] for row in found.parts] == [f"test of fold {i}" for i in range(3)]
    assert sum(int(row[1]) for row in found.parts) == len(data)
    assert "no patient of 120 stands in more than one part" in found.facts


def test_real_slices_are_all_tested_in_five_folds(lidc_slices: Path) -> None:
    data = load_folder(lidc_slices)
    split = split_as(data, make_plan(changes=["split.folds=5"]).settings.split)
    tested = np.concatenate([data.patients[one.test] for one in split.folds])
    assert sorted(tested) == sorted(data.patients)
    assert sum(len(np.unique(data.patients[one.test])) for one in split.folds) == len(
        np.unique(data.patients)
    )


# ---- keys


def test_without_folds_settings_are_what_they_were() -> None:
    assert set(Settings().split.model_dump()) == {"by", "validation", "test", "seed"}
    assert Settings().split.model_copy(update={"folds": 2}).model_dump()["folds"] == 2
    assert make_plan(changes=["split.folds=0"]).identity() == make_plan().identity()
    assert make_plan(changes=["split.folds=2"]).identity() != make_plan().identity()
    stored = make_plan(changes=["split.folds=5"]).settings.model_dump(mode="json")
    assert Settings.model_validate(stored).split.folds == 5


def shop_of(folder: Path, *changes: str, seeds: int = 4) -> Workshop:
    data = several_slices_each(40)
    plan = make_plan(preset="smoke", methods=["random"], seeds=seeds, changes=list(changes))
    split = split_as(data, plan.settings.split)
    return Workshop(plan, data, split, Store(folder), Machine(torch.device("cpu"), False), Silent())


def test_a_workshop_has_the_parts_of_a_seeds_fold(tmp_path: Path) -> None:
    shop = shop_of(tmp_path, "split.folds=2")
    assert shop.at(0) is shop
    assert shop.at(2) is shop
    other = shop.at(1)
    ids = [set(one.part("test").ids.tolist()) for one in (shop, other)]
    assert not ids[0] & ids[1]
    assert len(ids[0] | ids[1]) == len(shop.data)
    assert len(other.examples("test")) == len(ids[1])
    assert other.at(3) is other
    assert set(other.at(0).part("test").ids.tolist()) == ids[0]
    single = shop_of(tmp_path / "single")
    assert single.at(3) is single


def test_keys_are_of_the_seeds_own_fold(tmp_path: Path) -> None:
    shop = shop_of(tmp_path, "split.folds=2")
    places = []
    for seed in range(4):
        cell = Cell("occlusion", "random", seed, "equal")
        assert shop.cell_key(cell) == shop.at(seed).cell_key(cell) == shop.at(1).cell_key(cell)
        same_seed = replace(cell, seed=seed)
        places.append((shop.cell_key(same_seed), *shop.places_of(Maps("random", seed, "test"))))
    assert len(set(places)) == 4
    # One seed's maps in two folds: nothing but the pictures differs.
    keys = {s.places_of(Maps("random", 0, "test"))[0] for s in (shop, shop.at(1))}
    assert len(keys) == 1
    assert shop._maps_key("random", 0, "test") != shop.at(1)._maps_key("random", 0, "test")


def test_a_sanity_check_trains_its_other_seed_on_the_same_fold(tmp_path: Path) -> None:
    for folds, expected in ((0, [1, 0, 3, 2]), (2, [2, 3, 0, 1])):
        plan = make_plan(preset="smoke", methods=["cam"], seeds=4, changes=[f"split.folds={folds}"])
        others = [
            {network.seed for network in Sanity().networks(cell, plan)} - {cell.seed}
            for cell in Sanity().cells(plan)
        ]
        assert others == [{seed} for seed in expected]


# ---- intervals


def folded(values: NDArray[np.float64], folds: int, seeds: int = 0) -> NDArray[np.float64]:
    """(M, N) -> (M, S, N) where seed s has the pictures whose place modulo folds is s."""
    seeds = seeds or folds
    own = np.arange(values.shape[1]) % folds == np.arange(seeds)[:, None] % folds
    return np.where(own, values[:, None], np.nan)


def test_the_variance_between_folds_worked_by_hand() -> None:
    # Two folds of two patients, right in one fold and wrong in the other: means 1 and 0, whose
    # variance over 2 is 1/4; the four patients' own variance is 1/3, over 4 it is 1/12.
    found = seed_variance(clustered(folded(np.array([[1.0, 0, 1, 0]]), 2), np.arange(4), None))
    assert found.between == pytest.approx([1 / 4 - 1 / 12])
    assert found.interaction.tolist() == [0]
    assert found.seeds.tolist() == [2]


def test_folds_that_are_alike_have_the_interval_of_their_patients() -> None:
    rng = np.random.default_rng(0)
    values = np.repeat(rng.random((3, 20)), 4, axis=1)  # each fold has the same twenty scores
    patients = np.arange(80)
    plain = clustered_intervals(values, patients)
    found = clustered_intervals(folded(values, 4), patients)
    for name in ("mean", "low", "high"):
        np.testing.assert_allclose(getattr(found, name), getattr(plain, name), rtol=1e-12)


@pytest.mark.parametrize("seeds", [5, 10])
def test_the_interval_holds_the_mean_of_all_pictures_and_unlike_folds_widen_it(seeds: int) -> None:
    rng = np.random.default_rng(1)
    patients = np.arange(100) // 2 * 5 + np.arange(100) % 5
    hits = (rng.random((1, 100)) < 0.7).astype(float)
    unlike = hits * (np.arange(100) % 5 != 0)
    widths = []
    for values in (hits, unlike):
        found = clustered_intervals(folded(values, 5, seeds), patients)
        assert found.mean == pytest.approx(values.mean())
        assert 0 <= found.low[0] < values.mean() < found.high[0] <= 1
        widths.append(found.high[0] - found.low[0])
    plain = clustered_intervals(unlike, patients)
    assert widths[1] > 1.3 * (plain.high[0] - plain.low[0])
    assert widths[1] > 1.3 * widths[0]


def test_rows_with_all_pictures_in_every_seed_are_as_ever_beside_folded_ones() -> None:
    rng = np.random.default_rng(2)
    crossed, nested = rng.random((1, 3, 60)), folded(rng.random((1, 60)), 3)
    who = np.arange(60)
    found = seed_variance(clustered(np.concatenate([crossed, nested]), who, None))
    alone = [seed_variance(clustered(one, who, None)) for one in (crossed, nested)]
    for name in ("between", "interaction", "seeds"):
        expected = np.concatenate([getattr(one, name) for one in alone])
        np.testing.assert_allclose(getattr(found, name), expected)
    assert alone[0].interaction > 0


def test_a_difference_that_one_fold_alone_makes_is_none() -> None:
    rng = np.random.default_rng(3)
    every, one = rng.normal(0.5, 1, (1, 200)), rng.normal(0, 0.1, (1, 200))
    one[:, ::5] += 2.5
    p = [float(clustered_test(folded(d, 5), np.arange(200))[0]) for d in (every, one)]
    assert p[0] < 0.01
    assert p[1] > 0.05


# ---- what a report makes of it


N = 91  # pictures of 30 patients; the folds have 46 and 45


def noise() -> SliceDataset:
    images = np.random.default_rng(0).integers(0, 255, (N, 16, 16)).astype(np.uint8)
    patients = np.array([f"P{i // 3:02}" for i in range(N)])
    ids, labels = np.arange(N).astype(np.str_), np.arange(N) % 5
    return SliceDataset("noise", images, labels, patients, ids, tuple("12345"))


def two_folds() -> Split:
    halves = [np.flatnonzero(np.arange(N) // 3 % 2 == half) for half in (0, 1)]
    folds = tuple(Split(rest[6:], rest[:6], test) for test, rest in (halves, reversed(halves)))
    return replace(folds[0], folds=folds)


def a_run(folder: Path, found: dict[tuple[str, int], NDArray[np.float64]]) -> Path:
    """Table I with the hits of each row in the test part of each seed."""
    store = Store(folder)
    plan = a_plan(rows=ROWS, seeds=sorted({seed for _, seed in found}))
    store.save("pictures", "facts", picture_facts(noise(), two_folds()))
    plan["data"] |= {"pictures": "facts", "folds": 2, "parts": {"test": N}}
    store.start("plan", plan, now=1.0)
    for (name, seed), own in found.items():
        cell = Cell("keep-important", name, seed)
        records = [Record(cell, "accuracy", own.mean(), len(own))]
        store.add("plan", key_of(vars(cell)), cell, records)
        store.save("scores", key_of(vars(cell)), {"accuracy": own.astype(np.float32)})
    store.close()
    return folder


def hits(seeds: int = 2) -> dict[tuple[str, int], NDArray[np.float64]]:
    rng, split = np.random.default_rng(0), two_folds()
    return {
        (name, seed): (rng.random(len(split.of(seed).test)) < share).astype(float)
        for name, share in (("vinet", 0.8), ("cam", 0.3))
        for seed in range(seeds)
    }


def test_a_figure_is_the_mean_of_all_pictures_with_the_interval_of_all_patients(
    tmp_path: Path,
) -> None:
    found, split = hits(), two_folds()
    folder = a_run(tmp_path / "run", found)
    stack = np.full((2, 2, N), np.nan)
    for row, name in enumerate(("vinet", "cam")):
        for seed in range(2):
            stack[row, seed, split.of(seed).test] = found[name, seed]
    made = clustered_intervals(stack, np.arange(N) // 3)
    table = tables(read_run(folder))["table1"]
    for row, name in enumerate(("vinet", "cam")):
        low, high = 100 * made.low[row], 100 * made.high[row]
        mean = 100 * np.nanmean(stack[row])
        assert cells(table, name)["accuracy"].startswith(f"{mean:.2f} [{low:.1f}, {high:.1f}]")
    write_report(folder)
    lines = read_lines(folder, "table1")
    assert lines["vinet"]["pictures"] == str(N)
    assert float(lines["vinet"]["accuracy"]) == pytest.approx(np.nanmean(stack[0]), abs=1e-6)
    assert "seed s tests fold s modulo 2" in noted(table, "Cross-validated")


def test_fewer_seeds_than_folds_say_what_was_not_tested(tmp_path: Path) -> None:
    table = tables(read_run(a_run(tmp_path / "one", hits(1))))["table1"]
    assert "those of 1 of 2 folds: run --seeds 2 for all" in noted(table, "Cross-validated")
    whole = tables(read_run(a_run(tmp_path / "two", hits(2))))["table1"]
    assert "Only some" not in noted(whole, "Cross-validated")


def test_a_second_round_of_seeds_tests_no_more_pictures(tmp_path: Path) -> None:
    run = read_run(a_run(tmp_path / "run", hits(4)))
    assert np.array_equal(run.tested(), np.arange(N))
    write_report(run.folder, formats=("csv",))
    lines = read_lines(run.folder, "table1")
    assert lines["vinet"]["pictures"] == str(N)


def test_two_runs_in_the_same_folds_are_paired(tmp_path: Path) -> None:
    a, b = (read_run(a_run(tmp_path / name, hits())) for name in "ab")
    assert same_pictures(a, b)
    assert not same_pictures(a, read_run(a_run(tmp_path / "c", hits(1))))


def test_the_audit_finds_leaks_in_any_fold() -> None:
    data, split = noise(), two_folds()
    assert [f.verdict for f in data_findings(picture_facts(data, split), True)] == ["fine"] * 3
    images, patients = data.images.copy(), data.patients.copy()
    near, twin, torn = (int(split.folds[1].test[i]) for i in (0, 1, 2))
    images[near] = data.images[0] // 2 + 60
    images[twin] = data.images[1]
    patients[torn] = data.patients[0]
    spoilt = replace(data, images=images, patients=patients)
    found = list(data_findings(picture_facts(spoilt, split), True))
    assert [f.verdict for f in found] == ["broken", "broken", "look"]
    assert "P00" in found[0].reason
    assert found[2].reason.startswith("1 pairs")  # not twice, though each is tested in its fold


def test_facts_of_folds_that_no_run_has_are_refused() -> None:
    facts = picture_facts(noise(), two_folds())
    check_facts(facts, 5)
    assert facts["part"].shape == (2, N)
    assert np.array_equal(places_tested(facts, [5]), two_folds().folds[1].test)
    for part in (facts["part"][:1], facts["part"].repeat(11, axis=0)):
        with pytest.raises(ValueError, match="folds"):
            check_facts(facts | {"part": part}, 5)


# ---- whole runs


def asked(folder: Path, *changes: str) -> list[str]:
    sets = [word for change in changes for word in ("--set", change)]
    return ["--data", str(folder), "--preset", "smoke", "--methods", "random,outline", *sets]


@pytest.mark.slow
def test_a_run_of_two_folds_tests_every_picture_of_a_folder(command: Command) -> None:
    mine = make_folder(command.folder / "mine", masks=True, patients=True)
    words = [*asked(mine, *FAST), "--seeds", "2", "--out", "run"]
    ended = command("run", "keep-important,occlusion", *words)
    assert (ended.code, ended.err) == (0, "")
    run = read_run(command.folder / "run")
    assert len(run.tested()) == 60
    tests = [set(run.tested([seed]).tolist()) for seed in (0, 1)]
    assert not tests[0] & tests[1]
    for number in (1, 2):
        text = (command.folder / "run" / f"table{number}.csv").read_text()
        assert {line["pictures"] for line in csv.DictReader(text.splitlines())} == {"60"}
        assert (command.folder / "run" / f"table{number}.tex").is_file()
    assert len(run.gallery()["places"]) > 0
    assert "in 2 folds" in (command.folder / "run" / "report.html").read_text()
    assert "26 found" in command("run", "keep-important,occlusion", *words).out
    assert command("report", "run").code == command("status", "run").code == 0
    assert "14 ResNet-18" in command("run", "keep-important", *words[:-1], "new", "--dry-run").out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("split.folds=1", ("split.folds=1: one fold leaves nothing to train on; give 0, or 2",)),
        ("split.folds=21", ("split.folds=21", "less than or equal to 20")),
        ("split.folds=13", ("split.folds=13: 12 patients are too few",)),
    ],
)
def test_folds_that_make_no_sense_are_one_line(
    command: Command, change: str, words: tuple[str, ...]
) -> None:
    mine = make_folder(command.folder / "mine", masks=True, patients=True)
    table = (mine / "labels.csv").read_text().splitlines()
    (mine / "labels.csv").write_text("\n".join(table[:37]) + "\n")
    assert_one_line(command("run", "occlusion", *asked(mine, change)), *words)


def test_the_phantom_divides_its_slices_likewise() -> None:
    from vinet_bench.data import load_data

    plan = make_plan(preset="smoke", changes=["split.folds=3", "phantom.slices=60"])
    split = split_as(load_data(plan), plan.settings.split)
    assert np.array_equal(split.tested(range(3)), np.arange(60))
    assert set(split.parts()) == set(PARTS)


@pytest.mark.slow
def test_worker_processes_give_the_same_tables(command: Command) -> None:
    pytest.importorskip("ray")
    mine = make_folder(command.folder / "mine", masks=True, patients=True)
    changes = (*FAST[:2], *FAST[3:], "vinet.epochs=1", "threads=1")
    words = [*asked(mine, *changes), "--seeds", "2", "--device", "cpu", "--out"]
    words[words.index("random,outline")] = "vinet,random"
    for out, workers in (("alone", []), ("there", ["--workers", "1"])):
        assert command("run", "occlusion", *words, out, *workers).code == 0
    alone, there = (
        (command.folder / out / "table2.csv").read_bytes() for out in ("alone", "there")
    )
    assert there == alone
