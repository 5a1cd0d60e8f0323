"""The paper's figures from arrays: grey slices, viridis maps (even in luminance, so they print),
and outlines of white on black, which no colour blindness hides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from vinet_bench.errors import UserError
from vinet_bench.report.curves import Curve

Array = NDArray[np.floating[Any]]
WIDTH = 7.0  # inches: a page's text
SMALL = 8  # points
LONGEST = 18  # letters of a slice's name above its column
VERMILION = np.array([0.90, 0.30, 0.0])  # the paper's red, moved to where the colour-blind see it
_STROKE: list[patheffects.AbstractPathEffect] = [
    patheffects.withStroke(linewidth=2.4, foreground="black")
]


@dataclass(frozen=True)
class Case:
    """A slice (H, W) in [0, 1], its words, and its evidence (H, W) where it is known."""

    title: str
    image: Array
    evidence: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Strip:
    """A row of maps (N, H, W) in [0, 1], one for each case."""

    title: str
    maps: Array


def _grid(rows: int, columns: int, gap: float = 0) -> tuple[Figure, NDArray[Any]]:
    """Square axes without ticks, as wide as the page, at most 1.4 inches each.

    gap: between columns, as a share of their width.
    """
    side = min(1.4, (WIDTH - 0.9) / columns)
    layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=gap, hspace=0, compress=True)
    size = (side * (1 + gap) * columns + 0.9, (side + 0.06) * rows + 0.5)
    figure = Figure(figsize=size, layout=layout)
    axes: NDArray[Any] = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        for spine in ax.spines.values():
            spine.set_visible(False)
    return figure, axes


def _show(ax: Axes, pixels: Array, cmap: str = "gray") -> Any:
    return ax.imshow(pixels, cmap=cmap, vmin=0, vmax=1, interpolation="nearest")


def _outline(ax: Axes, evidence: NDArray[np.bool_] | None) -> None:
    if evidence is None or not evidence.any():
        return
    # With a frame of nothing, so that evidence at the border has a closed line too.
    framed = np.pad(evidence, 1).astype(float)
    height, width = framed.shape
    lines = ax.contour(
        np.arange(-1, width - 1), np.arange(-1, height - 1), framed, [0.5], colors="white",
        linewidths=1.0,
    )  # fmt: skip
    lines.set_path_effects(_STROKE)
    ax.set(xlim=(-0.5, width - 2.5), ylim=(height - 2.5, -0.5))


def _titles(axes: NDArray[Any], cases: Sequence[Case], rows: Sequence[str]) -> None:
    for ax, case in zip(axes[0], cases, strict=True):
        name, words = case.title.rsplit(", ", 1)
        ax.set_title(f"{name[-LONGEST:]}\n{words}", fontsize=SMALL)
    for ax, title in zip(axes[:, 0], rows, strict=True):
        ax.set_ylabel(title.replace(" ", "\n", 1), fontsize=SMALL)


def _bar(figure: Figure, axes: NDArray[Any], image: Any) -> None:
    bar = figure.colorbar(image, ax=axes, shrink=0.6, aspect=30, pad=0.02)
    bar.ax.tick_params(labelsize=SMALL - 1)
    bar.set_label("importance", fontsize=SMALL)


def overlay(image: Array, m: Array) -> Array:
    """The slice with vermilion where the map is high. (H, W), (H, W) -> (H, W, 3).

    >>> overlay(np.array([[0.5]]), np.array([[0.0]])).tolist()
    [[[0.5, 0.5, 0.5]]]
    """
    share = 0.7 * m[..., None]
    mixed: Array = image[..., None] * (1 - share) + VERMILION * share
    return mixed.clip(0, 1)  # a resampled slice may leave the range by its last bit


def cases_figure(cases: Sequence[Case], strip: Strip) -> Figure:
    """Slice, red overlay and map of each case (Fig. 4)."""
    figure, axes = _grid(3, len(cases))
    for column, case, m in zip(axes.T, cases, strip.maps, strict=True):
        _show(column[0], case.image)
        _outline(column[0], case.evidence)
        column[1].imshow(overlay(case.image, m), interpolation="nearest")
        shown = _show(column[2], m, "viridis")
    _titles(axes, cases, ("slice", "overlay", f"map of {strip.title}"))
    _bar(figure, axes, shown)
    return figure


def strips_figure(cases: Sequence[Case], strips: Sequence[Strip]) -> Figure:
    """The same slices, and a row of maps for each method or variant (Fig. 5, Fig. 6)."""
    figure, axes = _grid(len(strips) + 1, len(cases))
    for ax, case in zip(axes[0], cases, strict=True):
        _show(ax, case.image)
        _outline(ax, case.evidence)
    for row, strip in zip(axes[1:], strips, strict=True):
        for ax, case, m in zip(row, cases, strip.maps, strict=True):
            shown = _show(ax, m, "viridis")
            _outline(ax, case.evidence)
    _titles(axes, cases, ("slice", *(strip.title for strip in strips)))
    _bar(figure, axes, shown)
    return figure


_STEPS = (
    (("p", "P"), ("normalised", "P′ (Eq. 3)"), ("m", "M (Eq. 1)"), ("kept", "P′ M")),
    (("noise", "N"), ("inverse", "1 − M"), ("filled", "N (1 − M)"), ("destroyed", "P* (Eq. 4, 5)")),
)
_GAP, _MIDDLE = 0.1, -0.12  # the layout leaves a little more than the gap
_SIGNS = (("→", "×", "="), ("×", "=", "→"))


def process_figure(case: Case, steps: Mapping[str, Array]) -> Figure:
    """One slice through the steps of destruction (Fig. 3): P′ M + N (1 - M), scaled back, is P*."""
    figure, axes = _grid(2, 4, _GAP)
    for row, names, signs in zip(axes, _STEPS, _SIGNS, strict=True):
        for ax, (name, title) in zip(row, names, strict=True):
            _show(ax, steps[name])
            ax.set_title(title, fontsize=SMALL + 1)
        for ax, sign in zip(row[1:], signs, strict=True):
            ax.text(
                _MIDDLE, 0.5, sign, transform=ax.transAxes, ha="center", va="center", fontsize=12
            )
    axes[1, 3].text(
        0.5, 1.26, "+", transform=axes[1, 3].transAxes, ha="center", va="center", fontsize=12
    )
    _outline(axes[0, 0], case.evidence)
    figure.suptitle(case.title, fontsize=SMALL)
    return figure


def values_figure(shares: Mapping[str, Sequence[float]]) -> Figure:
    """How the values of M are spread, one panel a row of the table `destruction` (Sec. IV-E).

    shares: by title, the share of the pixels in equal steps from 0 to 1.
    """
    columns = min(4, len(shares))
    rows = -(-len(shares) // columns)
    figure = Figure(figsize=(1.75 * columns, 1.45 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for ax, (title, values) in zip(axes.flat, shares.items(), strict=False):
        _values(ax, title, np.asarray(values))
    for ax in axes.flat[len(shares) :]:
        ax.set_visible(False)
    figure.supxlabel("value of M", fontsize=SMALL)
    figure.supylabel("share of the pixels, %", fontsize=SMALL)
    return figure


def _values(ax: Axes, title: str, shares: Array) -> None:
    bins = len(shares)
    edges = np.arange(bins) / bins
    ends = (edges < 0.1 - 1e-9) | (edges >= 0.9 - 1e-9)
    colours = np.where(ends, "#0072B2", "#BBBBBB").tolist()
    ax.bar(edges, 100 * shares, 1 / bins, align="edge", color=colours, linewidth=0)
    ax.set_title(title, fontsize=SMALL)
    ax.text(
        0.5, 0.88, f"{100 * shares[ends].sum():.0f} % near 0 or 1", transform=ax.transAxes,
        ha="center", fontsize=SMALL - 1,
    )  # fmt: skip
    ax.set(xlim=(0, 1), ylim=(0, 110), xticks=[0, 0.5, 1], yticks=[0, 50, 100])
    ax.tick_params(labelsize=SMALL - 1)


_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = {"method": "-", "control": ":", "oracle": "--"}
_MARKS = "osv^DPX*"  # one more than colours, so that no two lines share both


def curves_figure(curves: Sequence[Curve]) -> Figure:
    """The probability while pixels are replaced: a column for what they become, a row for which go
    first. Controls are dotted, the outline is dashed; marks tell lines without colour."""
    rows, columns = (
        list(dict.fromkeys(getattr(c, of) for c in curves)) for of in ("first", "filled")
    )
    figure = Figure(figsize=(WIDTH, 2.1 * len(rows) + 0.6), layout="constrained")
    axes = figure.subplots(len(rows), len(columns), squeeze=False, sharex=True, sharey=True)
    titles = list(dict.fromkeys(c.title for c in curves))
    lines = {}
    for curve in curves:
        ax = axes[rows.index(curve.first), columns.index(curve.filled)]
        lines[curve.title] = _line(ax, curve, titles.index(curve.title))
    for ax, filled in zip(axes[0], columns, strict=True):
        ax.set_title(f"replaced by {filled}", fontsize=SMALL)
    for ax, first in zip(axes[:, 0], rows, strict=True):
        ax.set_ylabel(first, fontsize=SMALL)
    figure.supxlabel("pixels replaced, %", fontsize=SMALL)
    figure.supylabel("probability of the first choice, %", fontsize=SMALL)
    legend = figure.legend(
        lines.values(), lines.keys(), loc="outside right center", fontsize=SMALL - 1
    )
    for text in legend.get_texts():
        text.set_parse_math(False)  # a method may be called $x
    return figure


def _line(ax: Axes, curve: Curve, number: int) -> Any:
    ax.tick_params(labelsize=SMALL - 1)
    colour, mark = (cycle[number % len(cycle)] for cycle in (_COLOURS, _MARKS))
    (line,) = ax.plot(
        100 * curve.fractions, 100 * curve.heights, _DASHES.get(curve.kind, "-"), color=colour,
        marker=mark, markersize=2.5, linewidth=1,
    )  # fmt: skip
    return line


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Writes the figure as PNG (300 dpi) and PDF, the same bytes for the same figure.

    Raises UserError for a folder that cannot be written.
    """
    unsigned = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Producer": None}}
    paths = [folder / f"{name}.{ending}" for ending in unsigned]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, metadata in zip(paths, unsigned.values(), strict=True):
            figure.savefig(path, dpi=300, metadata=metadata, bbox_inches="tight", pad_inches=0.03)
    except OSError as error:
        raise UserError(
            f"cannot write {folder}: {error.strerror or error}; choose another folder with --out"
        ) from None
    return paths
