"""What stands in the two tables: each column, and where its figures are in the records."""

from dataclasses import dataclass

MASKED = frozenset({"method", "control", "oracle"})
ANY = MASKED | {"reference"}


@dataclass(frozen=True)
class Figure:
    """One figure of a row. Without a heading it stands in the CSV file alone.

    kinds: the rows that ought to have it; core: printed even if no row has it.
    """

    key: str
    metric: str
    heading: str = ""
    digits: int = 2
    trained_on: str = "pictures"
    equal: bool = False
    interval: bool = False
    core: bool = False
    kinds: frozenset[str] = ANY


@dataclass(frozen=True)
class Layout:
    """A table's protocol, words and figures, in the order of its columns."""

    name: str
    protocol: str
    title: str
    caption: str
    figures: tuple[Figure, ...]


def _second(key: str, heading: str, trained_on: str) -> tuple[Figure, Figure]:
    """Accuracy of a network that was trained on something else than the kept pixels."""
    return (
        Figure(f"{key}_accuracy", "accuracy", heading, trained_on=trained_on, kinds=MASKED),
        Figure(
            f"{key}_balanced_accuracy", "balanced_accuracy", trained_on=trained_on, kinds=MASKED
        ),
    )


_PLAIN = (
    Figure("fraction_kept", "fraction_kept", "Reserved %", core=True),
    Figure("accuracy", "accuracy", "Accuracy %", core=True),
    Figure("balanced_accuracy", "balanced_accuracy", "Balanced acc. %"),
)

KEEP = Layout(
    "table1",
    "keep-important",
    "Table I. Keep-important",
    "Keep-important on {data}: a {network} trained from scratch and tested on pictures whose"
    " reserved pixels stay and whose other pixels are {filled}.",
    (
        *_PLAIN,
        *_second("masks", "Masks alone %", "masks"),
        *_second("swapped", "Swapped masks %", "swapped"),
        Figure("evidence_recall", "evidence_recall", "Evidence found %", kinds=MASKED),
        Figure("evidence_precision", "evidence_precision", "Evidence precision %", kinds=MASKED),
        Figure(
            "explained_accuracy",
            "explained_accuracy",
            "Explained net %",
            kinds=frozenset({"method"}),
        ),
        Figure("commonest_class_share", "commonest_class_share"),
        Figure("constant_maps", "constant_maps", kinds=MASKED),
        Figure("empty_masks", "empty_masks", kinds=MASKED),
        Figure("train_accuracy", "train_accuracy"),
    ),
)


def _drop(prefix: str, heading: str, equal: bool) -> tuple[Figure, ...]:
    """The loss of probability, in percentage points, and the ends of its bootstrap interval."""
    key = f"{prefix}probability_drop"
    return (
        Figure(key, "probability_drop", heading, 1, "pictures", equal, True, kinds=MASKED),
        Figure(f"{key}_low", "probability_drop_low", equal=equal, kinds=MASKED),
        Figure(f"{key}_high", "probability_drop_high", equal=equal, kinds=MASKED),
    )


def _equal(metric: str) -> Figure:
    return Figure(f"equal_{metric}", metric, equal=True, kinds=MASKED)


OCCLUSION = Layout(
    "table2",
    "occlusion",
    "Table II. Occlusion",
    "Occlusion on {data}: a {network} trained once on the original pictures and tested on"
    " pictures whose reserved pixels are {filled}. Reserved: what is left (100 - S).",
    (
        *_PLAIN,
        *_drop("", "Drop", False),
        Figure("commonest_class_share", "commonest_class_share", "Commonest class %"),
        *_drop("equal_", "Drop at equal budget", True),
        _equal("fraction_kept"),
        _equal("accuracy"),
        _equal("balanced_accuracy"),
        _equal("commonest_class_share"),
    ),
)

LAYOUTS = (KEEP, OCCLUSION)
