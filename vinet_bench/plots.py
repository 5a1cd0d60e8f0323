"""Pictures for people: training curves, and slices with what a map calls important."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vinet_bench.report.draw import overlay


def save_curves(path: Path, train: Sequence[float], validation: Sequence[float], kept: int) -> None:
    """Losses by epoch (from 1), and the epoch whose weights were kept."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    epochs = range(1, len(train) + 1)
    axes.plot(epochs, train, marker=".", label="training")
    axes.plot(epochs, validation, marker=".", label="validation")
    axes.axvline(kept, color="grey", linestyle=":", label=f"kept: epoch {kept}")
    axes.set(xlabel="epoch", ylabel="loss")
    axes.legend()
    _save(figure, path)


def save_explanation(
    path: Path, picture: NDArray[np.float32], heat: NDArray[np.float32], title: str
) -> None:
    """Slice, overlay in red and map side by side, as in the paper's Fig. 4.

    picture, heat: (H, W) in [0, 1].
    """
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    panels = {"slice": picture, "overlay": overlay(picture, heat), "map": heat}
    for axes, (name, pixels) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(name)
        axes.set_axis_off()
    figure.suptitle(title, parse_math=False)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, format="png")
