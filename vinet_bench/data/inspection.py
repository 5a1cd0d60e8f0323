"""What a data set holds, what is wrong with it, and how it looks, before anything is trained."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vinet_bench.data.dataset import SliceDataset, reader_masks
from vinet_bench.data.splits import Indices, Split, split_as
from vinet_bench.data.tables import named
from vinet_bench.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from vinet_bench.settings import SplitSettings

# Okabe and Ito's colours, told apart by the colour-blind; the consensus is the strong one.
CONSENSUS_COLOUR, READER_COLOURS = "#E69F00", ("#56B4E9", "#009E73", "#CC79A7", "#0072B2")


@dataclass(frozen=True)
class Inspection:
    """parts: a row for each part: its name, slices, patients, slices of each class; facts: what
    holds; problems: what should be mended before a table is believed."""

    header: tuple[str, ...]
    parts: tuple[tuple[str, ...], ...]
    facts: tuple[str, ...]
    problems: tuple[str, ...]


def inspect_data(data: SliceDataset, wanted: "SplitSettings") -> Inspection:
    """Counts by part, overlaps of patients, intensities, and pictures that are there twice.

    Data that cannot be split as wanted is one part and a problem.
    """
    facts, problems = [_intensities(data)], []
    try:
        parts = _parts_of(split_as(data, wanted))
    except UserError as error:
        problems.append(str(error))
        parts = {"all": np.arange(len(data))}
    for found in (_overlaps(data, parts), _twins(data, parts), _constant(data), _masks(data)):
        facts += found[0]
        problems += found[1]
    return Inspection(
        header=("part", "slices", "patients", *(f"class {c}" for c in data.class_names)),
        parts=tuple(_part(data, name, parts[name]) for name in parts),
        facts=tuple(facts),
        problems=tuple(problems),
    )


def _parts_of(split: Split) -> dict[str, Indices]:
    """The parts by name; with cross-validation what each fold tests, which is all there is."""
    if not split.folds:
        return split.parts()
    return {f"test of fold {number}": one.test for number, one in enumerate(split.folds)}


Found = tuple[list[str], list[str]]  # facts, problems
Parts = Mapping[str, Indices]


def _part(data: SliceDataset, name: str, indices: Any) -> tuple[str, ...]:
    patients = str(len(np.unique(data.patients[indices]))) if data.patients_known else "unknown"
    counts = np.bincount(data.labels[indices], minlength=data.num_classes)
    return (name, str(len(indices)), patients, *map(str, counts.tolist()))


def _intensities(data: SliceDataset) -> str:
    pictures = data.images
    scale = 255 if pictures.dtype == np.uint8 else 1
    low, high = float(pictures.min()) / scale, float(pictures.max()) / scale
    # Sums picture by picture: the stack may be larger than memory.
    mean = float(np.mean([p.mean(dtype=np.float64) for p in pictures])) / scale
    clipped = float(np.mean([np.mean((p == 0) | (p == scale)) for p in pictures]))
    height, width = data.size
    return (
        f"pictures of {width} x {height}, intensities {low:.3g} to {high:.3g} of 0..1, "
        f"mean {mean:.3f}, {100 * clipped:.1f} % of the pixels at an end of the range"
    )


def _overlaps(data: SliceDataset, parts: Parts) -> Found:
    if not data.patients_known:
        return [], ["patients are unknown: nobody can say whether one is on both sides"]
    homes: dict[str, set[str]] = defaultdict(set)
    for part, indices in parts.items():
        for patient in np.unique(data.patients[indices]).tolist():
            homes[patient].add(part)
    torn = sorted(patient for patient, parts in homes.items() if len(parts) > 1)
    if torn:
        return [], [f"{len(torn)} patients stand in more than one part: {named(torn)}"]
    return [f"no patient of {len(homes)} stands in more than one part"], []


def _twins(data: SliceDataset, parts: Parts) -> Found:
    """Pictures with the same content, and whether they leak across parts or contradict labels."""
    part_of = {int(i): name for name, indices in parts.items() for i in indices}
    places: dict[bytes, list[int]] = defaultdict(list)
    for place, picture in enumerate(data.images):
        places[hashlib.sha256(np.ascontiguousarray(picture).tobytes()).digest()].append(place)
    groups = [group for group in places.values() if len(group) > 1]
    if not groups:
        return ["no picture is there twice"], []
    kinds = {
        "in more than one part": [g for g in groups if len({part_of.get(i) for i in g}) > 1],
        "with different labels": [g for g in groups if len({int(data.labels[i]) for i in g}) > 1],
        "of different patients": [g for g in groups if len({data.patients[i] for i in g}) > 1],
    }
    problems = [
        f"{len(found)} picture(s) stand twice or more {how}: "
        + named([named(data.ids[g].tolist(), between=" = ") for g in found])
        for how, found in kinds.items()
        if found
    ]
    return [f"{len(groups)} picture(s) stand twice or more, by their content"], problems


def _constant(data: SliceDataset) -> Found:
    flat = [str(data.ids[i]) for i, p in enumerate(data.images) if p.min() == p.max()]
    return [], [f"{len(flat)} pictures have one value only: {named(flat)}"] if flat else []


def _masks(data: SliceDataset) -> Found:
    if data.evidence is None:
        return ["no masks: what is found of the evidence cannot be measured"], []
    sizes = np.array([mask.mean() for mask in data.evidence])
    empty = data.ids[sizes == 0].tolist()
    mean, median = 100 * sizes.mean(), 100 * np.median(sizes)
    fact = f"masks fill {mean:.2f} % of a picture (median {median:.2f} %)"
    return [fact], [f"{len(empty)} masks are empty: {named(empty)}"] if empty else []


# ---- a picture of it


def draw_samples(data: SliceDataset, path: Path, each: int, seed: int) -> None:
    """Writes a PNG with a row for each class: `each` slices of it, drawn by seed, and outlines."""
    from matplotlib.figure import Figure

    rows = data.num_classes
    figure = Figure(figsize=(1.6 * each + 0.9, 1.75 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, each, squeeze=False)
    rng = np.random.default_rng(seed)
    for label, row in enumerate(axes):
        places = np.flatnonzero(data.labels == label)
        chosen = rng.permutation(places)[:each].tolist()
        row[0].set_ylabel(f"class {data.class_names[label]}\n{len(places)} slices", visible=True)
        for turn, axis in enumerate(row):
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            if turn < len(chosen):
                _draw(axis, data, chosen[turn])
    figure.suptitle(_legend(data), fontsize=9)
    figure.savefig(path, dpi=150, format="png")


def _legend(data: SliceDataset) -> str:
    outlines = "orange: half of the readers or more; thin: each reader"
    if data.readers is None:
        outlines = "orange: the mask" if data.evidence is not None else "no masks"
    return f"{data.name}: {outlines}"


def _draw(axis: "Axes", data: SliceDataset, place: int) -> None:
    axis.imshow(
        data.images[place], cmap="gray", vmin=0, vmax=255 if data.images.dtype == np.uint8 else 1
    )
    axis.set_title(_short(str(data.patients[place])), fontsize=7, pad=2)
    if data.evidence is not None:
        _outline(axis, data.evidence[place], CONSENSUS_COLOUR, 2.0)
    if data.readers is not None:
        masks, colours = reader_masks(data.readers[place]), cycle(READER_COLOURS)
        for mask, colour in zip(masks, colours, strict=False):
            _outline(axis, mask, colour, 0.7)


def _outline(axis: "Axes", mask: Any, colour: str, width: float) -> None:
    if mask.any() and not mask.all():
        axis.contour(mask.astype(float), levels=[0.5], colors=[colour], linewidths=[width])


def _short(name: str) -> str:
    return name if len(name) <= 20 else f"…{name[-19:]}"
