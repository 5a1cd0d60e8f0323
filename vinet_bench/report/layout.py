"""What stands in the tables: each column, and where its figures are in the records."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

MASKED = frozenset({"method", "control", "oracle"})
METHOD = frozenset({"method"})
ANY = MASKED | {"reference"}
ABSENT = "–"  # a cell without a figure, in ours and in the paper's tables


@dataclass(frozen=True)
class Figure:
    """One figure of a row. Without a heading it stands in the CSV file alone.

    kinds: the rows that ought to have it; core: printed even if no row has it; interval: printed
    with its 95 % interval; better: 'high' or 'low' where rows are tested against each other;
    percent: a share, printed in percent.
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
    better: str = ""
    percent: bool = True

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """What `asdict` and JSON made of one."""
        return cls(**{**stored, "kinds": frozenset(stored["kinds"])})


@dataclass(frozen=True)
class Layout:
    """A table's protocol, words and figures, in the order of its columns.

    first: the heading of the rows. own_rows: the protocol's own, not the plan's methods. notes:
    how the columns are to be read. rankings: keys of figures, each group's first one compared
    with the others in how it orders methods and controls. judged_by: the key of the figure whose
    best row the page names; else the first by which rows are tested, at equal budget if any is.
    """

    name: str
    protocol: str
    title: str
    caption: str
    figures: tuple[Figure, ...]
    first: str = "Method"
    own_rows: bool = False
    notes: tuple[str, ...] = ()
    rankings: tuple[tuple[str, ...], ...] = ()
    judged_by: str = ""

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of rows that have a figure here."""
        return frozenset().union(*(figure.kinds for figure in self.figures))

    def stored(self) -> dict[str, Any]:
        """As a plan keeps it (JSON)."""
        figures = [{**vars(f), "kinds": sorted(f.kinds)} for f in self.figures]
        return {**vars(self), "figures": figures}

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """What `stored` made of one."""
        made = {
            "figures": tuple(map(Figure.of, stored["figures"])),
            "notes": tuple(stored.get("notes", ())),
            "rankings": tuple(map(tuple, stored.get("rankings", ()))),
        }
        return cls(**{**stored, **made})


def _second(key: str, heading: str, trained_on: str) -> tuple[Figure, Figure]:
    """Accuracy of a network that was trained on something else than the kept pixels."""
    return (
        Figure(
            f"{key}_accuracy",
            "accuracy",
            heading,
            trained_on=trained_on,
            interval=True,
            kinds=MASKED,
        ),
        Figure(
            f"{key}_balanced_accuracy", "balanced_accuracy", trained_on=trained_on, kinds=MASKED
        ),
    )


def _accuracy(better: str) -> tuple[Figure, ...]:
    return (
        Figure("accuracy", "accuracy", "Accuracy %", interval=True, core=True, better=better),
        Figure("balanced_accuracy", "balanced_accuracy", "Balanced acc. %"),
        Figure("quadratic_kappa", "quadratic_kappa"),
        Figure("calibration_error", "calibration_error"),
        Figure("brier_score", "brier_score"),
    )


_KEPT = Figure("fraction_kept", "fraction_kept", "Reserved %", core=True)

KEEP = Layout(
    "table1",
    "keep-important",
    "Table I. Keep-important",
    "Keep-important on {data}: a {network} trained from scratch and tested on pictures whose"
    " reserved pixels stay and whose other pixels are {filled}.",
    (
        _KEPT,
        *_accuracy("high"),
        *_second("masks", "Masks alone %", "masks"),
        *_second("swapped", "Swapped masks %", "swapped"),
        Figure("evidence_recall", "evidence_recall", "Evidence found %", kinds=MASKED),
        Figure("evidence_precision", "evidence_precision", "Evidence precision %", kinds=MASKED),
        Figure(
            "explained_accuracy",
            "explained_accuracy",
            "Explained net %",
            kinds=METHOD,
        ),
        Figure("commonest_class_share", "commonest_class_share"),
        Figure("constant_maps", "constant_maps", kinds=MASKED),
        Figure("empty_masks", "empty_masks", kinds=MASKED),
        Figure("train_accuracy", "train_accuracy"),
    ),
)


def _drop(key: str, heading: str, equal: bool) -> Figure:
    """The loss of probability in percentage points."""
    return Figure(
        key, "probability_drop", heading, 1, equal=equal, interval=True, kinds=MASKED, better="high"
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
        _KEPT,
        *_accuracy("low"),
        _drop("probability_drop", "Drop", False),
        Figure("commonest_class_share", "commonest_class_share", "Commonest class %"),
        _drop("equal_probability_drop", "Drop at equal budget", True),
        _equal("fraction_kept"),
        _equal("accuracy"),
        _equal("balanced_accuracy"),
        _equal("commonest_class_share"),
    ),
)


def _own(metric: str, heading: str = "", better: str = "") -> Figure:
    """A figure of a VINet's map; a classifier alone has none."""
    return Figure(
        metric,
        metric,
        heading,
        kinds=METHOD,
        core=metric == "importance_loss",
        interval=bool(better),
        better=better,
    )


_MAP = (
    _own("importance_loss", "Importance loss (× 1e-2)", "low"),
    _own("fraction_kept", "Reserved %"),
    _own("evidence_recall", "Evidence found %", "high"),
    _own("evidence_precision", "Evidence precision %", "high"),
    Figure("commonest_class_share", "commonest_class_share"),
    _own("empty_masks"),
)

IMPORTANCE_TABLE = Layout(
    "table3",
    "importance-networks",
    "Table III. Importance networks",
    "VINet on {data} with the classifier {classifier} and each importance network: its own test"
    " accuracy and the mean of its map.",
    (*_accuracy("high"), *_MAP),
    "Importance network",
    own_rows=True,
)
CLASSIFIER_TABLE = Layout(
    "table4",
    "classifiers",
    "Table IV. Classifiers",
    "VINet on {data} with the importance network {importance} and each classifier: its own test"
    " accuracy and the mean of its map.",
    (*_accuracy("high"), *_MAP),
    "Classifier",
    own_rows=True,
)
BINS = 20  # of the histograms, from 0 to 1
DESTRUCTION = Layout(
    "destruction",
    "destruction",
    "Destruction (Fig. 6)",
    "VINet on {data}, one thing changed in each row; kept and masks alone: a {network} trained on"
    " its reserved pixels and on their shape; occluded: one tested with its reserved pixels"
    " {filled}.",
    (
        _accuracy("high")[0],
        *_MAP,
        Figure("balanced_accuracy", "balanced_accuracy"),
        _own("kept_accuracy", "Kept %"),
        _own("masks_accuracy", "Masks alone %"),
        _own("occluded_accuracy", "Occluded %"),
        Figure("probability_drop", "probability_drop", "Drop", 1, interval=True, kinds=METHOD),
        _own("near_zero", "M < 0.1 %"),
        _own("near_one", "M > 0.9 %"),
        *(_own(f"values_{i:02d}") for i in range(BINS)),
    ),
    "VINet",
    own_rows=True,
)

_BUILT_IN = (KEEP, OCCLUSION, IMPORTANCE_TABLE, CLASSIFIER_TABLE, DESTRUCTION)


def layouts_of(plan: Mapping[str, Any]) -> tuple[Layout, ...]:
    """The tables of the paper's protocols, then those that other protocols brought along."""
    brought = [Layout.of(stored) for stored in plan.get("layouts", {}).values()]
    known = {layout.protocol for layout in brought}
    return (*(layout for layout in _BUILT_IN if layout.protocol not in known), *brought)
