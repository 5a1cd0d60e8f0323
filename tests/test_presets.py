"""What a report says of its settings beside the preset `paper`."""

import pytest

from vinet_bench.presets import PAPER, deviations
from vinet_bench.settings import setting_names, with_changes

# The data, the split, the machine and the masks' size have notes of their own.
ELSEWHERE = {"threads", "precision", "mask_size"}


def test_the_papers_own_settings_deviate_in_nothing() -> None:
    assert deviations(PAPER, sealed=True) == []


@pytest.mark.parametrize(
    "change",
    [
        "vinet.alpha=2",
        "sealed.share=0.2",
        "explained.width=0.5",
        "retrain.epochs=8",
        "evaluation.blur=0.2",
        "curves.percents=10",
        "control_budget=0.04",
        "costly_pictures=8",
        "size=64",
    ],
)
def test_a_change_is_told_with_what_the_paper_has(change: str) -> None:
    key, value = change.split("=")
    (told,) = (
        words
        for words in deviations(with_changes(PAPER, [change]), sealed=True)
        if not words.startswith("mask-only")  # they see masks at a size of their own
    )
    assert told.startswith(f"{key} = ")
    assert value in told.split(" (there: ")[0]
    assert not told.split(" (there: ")[1].startswith(value)


def test_every_section_is_told_of_somewhere() -> None:
    """A section that is new must be told of, or named here."""
    sections = {key.split(".")[0] for key in setting_names()} - ELSEWHERE
    told = {"vinet", "sealed", "explained", "retrain", "evaluation", "curves"}
    told |= {"control_budget", "costly_pictures", "size"}
    assert sections - told == {"phantom", "split"}


def test_sealed_settings_are_no_concern_of_tables_without_one() -> None:
    changed = with_changes(PAPER, ["sealed.share=0.2"])
    assert deviations(changed, sealed=False) == []
