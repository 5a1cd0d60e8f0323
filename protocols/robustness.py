"""Robustness: do maps stay as they are where the decision does?"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from protocols.shared import Measured, fewer_pictures, living_maps, of_all, records, whole_map_cells
from vinet_bench.data.hounsfield import HU_WINDOW
from vinet_bench.machine import as_pictures
from vinet_bench.methods import method
from vinet_bench.metrics import rank_correlations
from vinet_bench.networks_needed import Network, behind_maps
from vinet_bench.perturbations import centre_crop, normal_noise, uniform_noise, zoomed
from vinet_bench.plan import Plan
from vinet_bench.prediction import predict
from vinet_bench.protocols import ProtocolInfo
from vinet_bench.records import Cell, Record
from vinet_bench.report.layout import MASKED, Figure, Layout
from vinet_bench.robustness import relative_changes
from vinet_bench.seeds import picture_generators
from vinet_bench.workshop import Workshop

RADIUS = 0.02  # of max-sensitivity, as in captum; pictures lie in [0, 1]
HU = 20.0  # of the offset, and the standard deviation of the noise
GREY = HU / (HU_WINDOW[1] - HU_WINDOW[0])
ZOOM = 0.8  # the spacing of the resampled picture, as a share of the picture's own
Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Shift:
    """A change of the pictures, and what brings the old and the new maps to the same pixels."""

    pictures: Change
    before: Change
    after: Change


def _same(maps: Tensor) -> Tensor:
    return maps


def _offset(images: Tensor) -> Tensor:
    return (images + GREY).clamp(0, 1)


def _noise(images: Tensor) -> Tensor:
    noise = normal_noise(images, picture_generators(images, "robustness"))
    return (images + GREY * noise).clamp(0, 1)


def _flip(values: Tensor) -> Tensor:
    return values.flip(-1)


def _zoom(images: Tensor) -> Tensor:
    return zoomed(images, ZOOM)


def _window(maps: Tensor) -> Tensor:
    return centre_crop(maps, ZOOM)


def _unzoomed(maps: Tensor) -> Tensor:
    return centre_crop(zoomed(maps[:, None], 1 / ZOOM)[:, 0], ZOOM)


SHIFTS: Mapping[str, Shift] = {
    "offset": Shift(_offset, _same, _same),
    "noise": Shift(_noise, _same, _same),
    "flip": Shift(_flip, _same, _flip),
    "spacing": Shift(_zoom, _window, _unzoomed),
}


_CHANGEABLE = MASKED - {"oracle"}  # an oracle knows no changed picture


def _agreement(name: str, heading: str) -> tuple[Figure, Figure]:
    return (
        Figure(name, name, heading, interval=True, kinds=_CHANGEABLE, better="high", percent=False),
        Figure(f"{name}_unchanged", f"{name}_unchanged", kinds=_CHANGEABLE),
    )


class Robustness:
    """Max-sensitivity (Yeh et al. 2019), and the rank correlation of maps before and after an
    offset, noise, a flip and another spacing, where these leave the explained network's prediction
    as it is. The class that is explained stays that of the untouched picture.
    """

    info = ProtocolInfo(
        name="robustness",
        title="Robustness",
        paper="Yeh et al. 2019, arXiv 1901.09392",
        in_all=False,
    )
    layout = Layout(
        "robustness",
        "robustness",
        "Robustness",
        "Whether maps on {data} stay where the decision does. Max-sensitivity: the largest relative"
        f" change of the map under uniform noise of at most {RADIUS:g} of the grey range. The"
        f" others: Spearman's correlation of the maps before and after an offset of {HU:g} HU,"
        f" noise of {HU:g} HU, a flip, and pixels {ZOOM:g} times as wide, on the pictures whose"
        " prediction these leave as it is.",
        (
            Figure(
                "max_sensitivity", "max_sensitivity", "Max-sensitivity", interval=True,
                kinds=_CHANGEABLE, better="low", percent=False,
            ),
            *_agreement("offset", "HU offset"),
            *_agreement("noise", "Noise"),
            *_agreement("flip", "Flip"),
            *_agreement("spacing", "Spacing"),
        ),
    )  # fmt: skip

    def cells(self, plan: Plan) -> Iterable[Cell]:
        """None for an oracle, which knows no changed picture."""
        cells = whole_map_cells(self.info.name, plan, again=True)
        return (cell for cell in cells if method(cell.method).info.kind != "oracle")

    def networks(self, cell: Cell, plan: Plan) -> Collection[Network]:
        return behind_maps(cell)

    def run(self, cell: Cell, workshop: Workshop) -> Iterable[Record]:
        chosen = fewer_pictures(workshop)
        subject = _Subject(cell, workshop, chosen)
        found = Measured({"max_sensitivity": subject.max_sensitivities()})
        for name, shift in SHIFTS.items():
            agreement, unchanged = subject.agreement(shift)
            found |= Measured({name: agreement, f"{name}_unchanged": unchanged})
        return records(cell, workshop, of_all(found, chosen, workshop))


class _Subject:
    """A method on the chosen test pictures: its maps of them, and of what is made of them."""

    def __init__(self, cell: Cell, workshop: Workshop, chosen: Tensor) -> None:
        self.cell, self.workshop = cell, workshop
        self.images = as_pictures(workshop.examples("test").images[chosen])
        self.maps = living_maps(workshop, cell.method, cell.seed)[chosen]
        self.targets = workshop.targets(cell.method, cell.seed, "test")[chosen]
        self._explain = workshop.explainer(cell.method, cell.seed)

    def max_sensitivities(self) -> NDArray[np.floating]:
        """The largest relative change of each map over the perturbed copies, (N,)."""
        changes = [
            relative_changes(self.maps.numpy(), self._explain(copies, self.targets).numpy())
            for copies in self._copies()
        ]
        largest: NDArray[np.floating] = np.max(changes, axis=0)
        return largest

    def _copies(self) -> Iterable[Tensor]:
        for number in range(self.workshop.settings.evaluation.perturbations):
            draws = picture_generators(self.images, "max-sensitivity", number)
            yield self.images + uniform_noise(self.images, RADIUS, draws)

    def agreement(self, shift: Shift) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """The rank correlations, NaN where the prediction changed, and where it did not. (N,)."""
        images = shift.pictures(self.images)
        after = shift.after(self._explain(images, self.targets))
        found = rank_correlations(shift.before(self.maps).numpy(), after.numpy())
        unchanged = self._unchanged(images)
        return np.where(unchanged, found, np.nan), unchanged.astype(np.float64)

    def _unchanged(self, images: Tensor) -> NDArray[np.bool_]:
        """Where the explained network still predicts the same; everywhere for a control."""
        kind = method(self.cell.method).info.explains
        if kind == "nothing":
            return np.ones(len(images), np.bool_)
        model = self.workshop.explained(kind, self.cell.seed)
        after = predict(model, images, self.workshop.machine, self.cell.seed).argmax(dim=1)
        same: NDArray[np.bool_] = torch.eq(after, self.targets).numpy()
        return same
