"""The phantom: what follows from its settings, what its evidence may and may not tell."""

from typing import Any

import numpy as np
import pydantic
import pytest

from vinet_bench.data.phantom import PhantomSettings, _draw, phantom
from vinet_bench.data.phantom_shapes import GLYPHS, pixel_centres, weights_of_knots


def make(**settings: Any) -> Any:
    return phantom(PhantomSettings(**{"slices": 60, **settings}))


def hu(images: Any) -> Any:
    return images.astype(float) * (1400 / 255) - 1000


@pytest.mark.parametrize("evidence", ["shape", "texture"])
def test_same_settings_same_pixels(evidence: str) -> None:
    first, second = (make(evidence=evidence, confounder=0.5) for _ in range(2))
    assert first.fingerprint == second.fingerprint


@pytest.mark.parametrize("shared", [{}, {"slices_per_nodule": 3, "nodules_per_patient": 2}])
def test_a_longer_phantom_begins_with_the_shorter_one(shared: dict[str, int]) -> None:
    short, long = (make(slices=n, confounder=0.7, **shared) for n in (50, 100))
    for column in ("images", "labels", "patients", "ids", "evidence", "marker"):
        assert np.array_equal(getattr(long, column)[:50], getattr(short, column)), column


def test_every_setting_changes_the_content() -> None:
    others: list[dict[str, Any]] = [
        {"slices": 61},
        {"size": 32},
        {"seed": 1},
        {"difficulty": 0.6},
        {"evidence": "texture"},
        {"confounder": 1.0},
        {"slices_per_nodule": 2},
        {"nodules_per_patient": 2},
    ]
    prints = {make(**other).fingerprint for other in [{}, *others]}
    assert len(prints) == len(others) + 1


def test_columns_are_what_a_slice_dataset_promises() -> None:
    data = make(slices=60)
    assert data.images.dtype == np.uint8 and data.labels.dtype == np.int64
    assert data.size == (64, 64) and data.class_names == ("1", "2", "3", "4", "5")
    assert data.evidence.dtype == bool and data.marker is None and data.name == "phantom"
    assert data.patients[12] == "phantom-00012" and data.ids[12] == "00012-0-0"
    assert np.bincount(data.labels).tolist() == [12] * 5


@pytest.mark.parametrize("evidence", ["shape", "texture"])
@pytest.mark.parametrize("size", [32, 64, 128])
def test_evidence_is_never_empty_nor_cut_by_the_border(evidence: str, size: int) -> None:
    slices = 200 if size < 128 else 40
    found = make(slices=slices, evidence=evidence, size=size, difficulty=1.0).evidence
    assert found.any((1, 2)).all()
    assert not found[:, [0, -1]].any() and not found[:, :, [0, -1]].any()


def test_mean_evidence_is_near_the_real_share() -> None:
    shares = [make(slices=300, evidence=kind).evidence.mean() for kind in ("shape", "texture")]
    assert all(0.03 < share < 0.055 for share in shares)


def test_nodules_lie_off_centre() -> None:
    found = make(slices=300, evidence="texture").evidence
    rows = (found.any(2) * np.arange(64)).sum(1) / found.any(2).sum(1) / 64 - 0.5
    columns = (found.any(1) * np.arange(64)).sum(1) / found.any(1).sum(1) / 64 - 0.5
    for places in (rows, columns):
        assert abs(places.mean()) < 0.03 and places.std() > 0.08
        assert places.min() < -0.13 and places.max() > 0.13


def test_textures_outline_says_nothing_of_the_label() -> None:
    settings = PhantomSettings(evidence="texture", difficulty=0)
    for index in range(20):
        drawn = [_draw(settings, index, label) for label in range(5)]
        assert all(np.array_equal(drawn[0].evidence, other.evidence) for other in drawn)
        changed = np.any([drawn[0].image != other.image for other in drawn], axis=0)
        # The margin's soft pixels reach a little beyond the outline.
        assert changed.sum() > 0 and (changed & ~_grown(drawn[0].evidence, 4)).sum() == 0


def _grown(mask: Any, steps: int) -> Any:
    for _ in range(steps):
        padded = np.pad(mask, 1)
        mask = np.any(
            [
                padded[y : y + mask.shape[0], x : x + mask.shape[1]]
                for y in range(3)
                for x in (0, 1, 2)
            ],
            axis=0,
        )
    return mask


def test_only_the_nodule_depends_on_the_label_in_shape_mode() -> None:
    settings = PhantomSettings(evidence="shape", difficulty=0)
    for index in range(20):
        low, high = _draw(settings, index, 0), _draw(settings, index, 4)
        around = ~_grown(low.evidence | high.evidence, 4)
        assert np.array_equal(low.image[around], high.image[around])
        assert high.evidence.sum() > 2 * low.evidence.sum()


def test_harder_phantoms_have_more_overlapping_sizes() -> None:
    def order(difficulty: float) -> float:
        data = make(slices=200, difficulty=difficulty)
        return float(np.corrcoef(np.log(data.evidence.sum((1, 2))), data.labels)[0, 1])

    easy, medium, hard = (order(difficulty) for difficulty in (0.0, 0.5, 1.0))
    assert easy > 0.95 and easy > medium > hard > 0.5


@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("agreement", [0.0, 0.7, 1.0])
def test_markers_tell_the_label_as_often_as_asked(agreement: float, size: int) -> None:
    slices = 200 if size == 64 else 40
    data = make(slices=slices, confounder=agreement, size=size)
    assert data.marker is not None and not (data.marker & data.evidence).any()
    assert (data.images[data.marker] == 255).all()
    agrees = np.mean(
        [_shape_of(m) == label for m, label in zip(data.marker, data.labels, strict=True)]
    )
    assert abs(agrees - agreement) <= (0.2 if 0 < agreement < 1 else 0)


def _shape_of(marker: Any) -> int:
    scale = len(marker) // 64
    (y, x) = (np.flatnonzero(marker.any(axis))[0] for axis in (1, 0))
    seen = marker[y : y + 5 * scale : scale, x : x + 5 * scale : scale]
    (shape,) = (i for i, drawing in enumerate(GLYPHS) if np.array_equal(seen, drawing))
    return shape


def test_a_marker_changes_its_own_pixels_only() -> None:
    plain, planted = make(), make(confounder=0.8)
    assert np.array_equal(plain.images[~planted.marker], planted.images[~planted.marker])
    assert np.array_equal(plain.evidence, planted.evidence)


def test_slices_of_a_nodule_share_it_and_nodules_of_a_patient_do_not() -> None:
    data = make(slices=450, slices_per_nodule=3, nodules_per_patient=2, evidence="texture")
    assert data.ids[:7].tolist() == [
        "00000-0-0", "00000-0-1", "00000-0-2", "00000-1-0", "00000-1-1", "00000-1-2", "00001-0-0",
    ]  # fmt: skip
    assert len(set(data.patients)) == 75 and len(set(data.ids)) == 450
    grades = data.labels.reshape(75, 2, 3)
    assert (grades == grades[:, :, :1]).all()
    assert 0.08 < (grades[:, 0, 0] == grades[:, 1, 0]).mean() < 0.35
    assert len({image.tobytes() for image in data.images}) == 450
    masks = data.evidence.reshape(150, 3, 64, 64)
    same = _overlap(masks[:, 0], masks[:, 1])
    assert same.mean() > 0.6 > 0.3 > _overlap(masks[::2, 0], masks[1::2, 0]).mean()


def _overlap(first: Any, second: Any) -> Any:
    return (first & second).sum((1, 2)) / (first | second).sum((1, 2))


def test_densities_are_those_of_a_chest() -> None:
    data = make(slices=200, difficulty=0.0)
    lung = np.median([np.percentile(image, 30) for image in hu(data.images[..., None])])
    assert -900 < lung < -800
    large = hu(data.images[data.labels == 4])[data.evidence[data.labels == 4]]
    assert -80 < np.median(large) < 80
    tissue = np.mean(hu(data.images) > -150)
    assert 0.15 < tissue < 0.45
    assert np.mean(data.images == 255) < 0.03


def test_a_finer_grid_shows_the_same_scene() -> None:
    coarse, fine = make(size=64), make(size=128)
    assert np.array_equal(coarse.labels, fine.labels)
    pooled = fine.images.reshape(60, 64, 2, 64, 2).mean((2, 4))
    assert np.corrcoef(pooled.ravel(), coarse.images.ravel())[0, 1] > 0.97
    assert fine.evidence.mean() == pytest.approx(coarse.evidence.mean(), rel=0.03)


def test_knot_weights_keep_a_constant() -> None:
    assert weights_of_knots(pixel_centres(50), 6).sum(1) == pytest.approx(np.ones(50), abs=1e-6)


@pytest.mark.parametrize(
    "bad",
    [
        {"slices": 14},
        {"size": 31},
        {"size": 513},
        {"seed": -1},
        {"difficulty": 1.1},
        {"evidence": "size"},
        {"confounder": -0.1},
        {"slices_per_nodule": 0},
        {"nodules_per_patient": 0},
        {"dificulty": 0.5},
    ],
)
def test_bad_settings_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError):
        PhantomSettings(**bad)


def test_unusual_settings_stand_in_the_notes() -> None:
    assert phantom(PhantomSettings(slices=15)).notes == ()
    unusual = phantom(PhantomSettings(slices=15, evidence="texture", confounder=0.5))
    assert unusual.notes == ("phantom.evidence = texture", "phantom.confounder = 0.5")
