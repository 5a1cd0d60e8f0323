"""The sealed VINet: a fixed share, masks that know nothing, and no way back to the classifier."""

import csv
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from protocols.sealing import VARIANTS as ROWS
from protocols.sealing import moved_by
from vinet_bench.machine import Examples, Machine
from vinet_bench.mask_forms import (
    Disc,
    disc_of,
    graded,
    highest,
    in_cells,
    pixels_of,
    random_masks,
    soft_highest,
)
from vinet_bench.models import build_sealed
from vinet_bench.networks import IMPORTANCE, build_importance
from vinet_bench.networks.critic import mask_critic
from vinet_bench.plan import make_plan
from vinet_bench.presets import PRESETS
from vinet_bench.report import write_report
from vinet_bench.run import run
from vinet_bench.sealed import DONORS, SealedVINet, only_asked
from vinet_bench.sealed_training import SMALLEST, SealedTask, moved
from vinet_bench.seeds import generator, picture_generators
from vinet_bench.settings import SealedTraining
from vinet_bench.training import Fit, fit

SMOKE = PRESETS["smoke"].settings.sealed
M0 = torch.tensor([[[[4.0, 1.0], [3.0, -2.0]]]])


def pictures(count: int, seed: int = 0, side: int = 32) -> Tensor:
    return torch.rand(count, 1, side, side, generator=generator("pictures", seed))


def sealed(**changes: object) -> SealedVINet:
    wanted = SealedTraining.model_validate(SMOKE.model_dump() | changes)
    return build_sealed(wanted, 5, (32, 32), seed=0)


# ---- the fixed share


def test_the_highest_by_hand() -> None:
    assert highest(M0, 2).tolist() == [[[[True, False], [True, False]]]]
    assert [pixels_of(s, (64, 64)) for s in (0.04, 1e-9, 1.0)] == [164, 1, 4095]


def test_the_soft_highest_by_hand() -> None:
    """Mean 1.5, standard deviation sqrt(7): the edge lies between 3 and 1, at 2."""
    m0 = M0.clone().requires_grad_()
    mask = soft_highest(m0, 2)
    assert mask.detach().round(decimals=6).tolist() == [[[[1, 0], [1, 0]]]]
    (mask * torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])).sum().backward()  # type: ignore[no-untyped-call]
    assert m0.grad is not None
    assert m0.grad[0, 0, 0, 0] > 0  # a sigmoid's, though the mask is flat there
    assert m0.grad.sum().abs() < 1e-6  # a level added to M0 changes nothing


def test_eq_9_reserves_exactly_the_share() -> None:
    scores = torch.randn(3, 1, 16, 16, generator=generator("scores"))
    m = graded(scores, 10)
    assert m.dtype == torch.float32 and ((m >= 0) & (m <= 1)).all()
    assert (m >= 0.1).sum(dim=(1, 2, 3)).tolist() == [10, 10, 10]
    assert torch.equal(m >= 0.1, highest(scores, 10))
    assert torch.equal(graded(scores + 5, 10).round(decimals=4), m.round(decimals=4))


def test_a_constant_map_stays_constant() -> None:
    assert not graded(torch.ones(2, 1, 8, 8), 3).any()


def test_cells_average_what_lies_in_them() -> None:
    picture = torch.zeros(1, 1, 8, 8)
    picture[..., ::2, ::2] = 4.0  # a pattern finer than a cell
    torch.testing.assert_close(in_cells(picture, 4), torch.ones(1, 1, 8, 8))


# ---- one disc


def disc(share: float = 0.05) -> Disc:
    return Disc(SealedTraining(share=share, form="disc"))


def spot(row: int, column: int, size: tuple[int, int] = (24, 32)) -> Tensor:
    m0 = torch.zeros(1, 1, *size)
    m0[..., row - 1 : row + 2, column - 1 : column + 2] = 1.0
    return m0


def test_a_disc_by_hand() -> None:
    assert disc_of(5, (9, 9))[0, 0].tolist() == [
        *([0, 0, 0, 0, 0], [0, 0, 1, 0, 0]),
        *([0, 1, 1, 1, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]),
    ]
    assert disc_of(200, (9, 30)).shape[-2:] == (9, 9)  # no larger than the picture
    assert disc_of(200, (9, 30)).sum() == 81


def test_a_disc_lies_where_it_holds_the_most() -> None:
    """Around a spot, and never over the border, where it would be another shape."""
    m = torch.cat([disc().importance(spot(*place)) for place in ((11, 20), (12, 9), (2, 2))])
    kept = m >= 0.1
    assert kept.sum(dim=(1, 2, 3)).tolist() == [38, 38, 38]
    centres = [(k[0].nonzero().float().mean(dim=0)).tolist() for k in kept]
    assert all(abs(a - b) < 0.5 for a, b in zip(centres[0], (11, 20), strict=True))
    assert all(abs(a - b) < 0.5 for a, b in zip(centres[1], (12, 9), strict=True))
    assert not kept[2, 0, 12:].any() and not kept[2, 0, :, 12:].any()
    shapes = [k[0].nonzero() - k[0].nonzero().amin(dim=0) for k in kept]
    assert torch.equal(shapes[0], shapes[1]) and torch.equal(shapes[0], shapes[2])


def test_a_disc_moves_to_where_it_is_wanted() -> None:
    """By gradient steps towards a place to the right of where it lies."""
    m0 = (spot(12, 10) + 0.8 * spot(12, 16)).requires_grad_()
    wanted = disc().mask(spot(12, 16)).detach()
    before = disc().mask(m0)
    (before * wanted).sum().backward()  # type: ignore[no-untyped-call]
    assert m0.grad is not None
    after = disc().mask(m0 + 3 * m0.grad)
    assert set(before.detach().round(decimals=4).flatten().tolist()) == {0.0, 1.0}
    assert (after * wanted).sum() > (before * wanted).sum()


def test_the_critic_sees_where_a_disc_lies() -> None:
    """16 pixels apart, its four strides: a mean over all places would be the same."""
    critic = mask_critic(5)
    left, right = (disc().importance(spot(32, c, (64, 64))) >= 0.1 for c in (24, 40))
    assert (critic(left.float()) - critic(right.float())).abs().max() > 1e-3


def test_a_constant_map_has_no_disc() -> None:
    assert not disc().importance(torch.ones(2, 1, 24, 32)).any()


def test_random_discs_know_nothing_of_the_pictures() -> None:
    one, other = (disc().random(pictures(6, s), 0.02, generator("m")) for s in (0, 1))
    assert torch.equal(one, other)
    assert set(one.flatten().tolist()) == {0.0, 1.0}
    shares = one.mean(dim=(1, 2, 3))
    assert shares.min() >= 0.019 and len(set(shares.tolist())) == 6


# ---- masks that know nothing of the picture


def test_random_masks_know_nothing_of_the_pictures() -> None:
    one, other = (random_masks(pictures(6, s), 0.02, 16, generator("m")) for s in (0, 1))
    assert torch.equal(one, other)
    assert set(one.flatten().tolist()) == {0.0, 1.0}


def test_random_masks_have_shares_of_every_size() -> None:
    masks = random_masks(torch.zeros(300, 1, 32, 32), 0.02, 16, generator("m"))
    logs = masks.mean(dim=(1, 2, 3)).log()
    assert logs.min() >= torch.tensor(0.019).log() and logs.max() <= 0
    assert abs(logs.mean() - torch.tensor(0.02).log() / 2) < 0.15  # log-uniform


# ---- what the classifier sees


@pytest.mark.parametrize("fill", ["noise", "air", "swap"])
def test_destroyed_is_exactly_what_the_mask_leaves_out(fill: str) -> None:
    model, images = sealed(replace=fill).eval(), pictures(4)
    model.remember(pictures(DONORS, seed=9))
    mask = random_masks(images, 0.3, 8, generator("m"))
    seen: list[Tensor] = []
    hook = model.classifier.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    model.classify(images, mask, generator("n"))
    changed = images.clone()
    changed[mask == 0] = 0.5 * changed[mask == 0] + 0.25  # inside the range that noise has
    hook.remove()
    assert torch.equal(seen[0][mask == 1], images[mask == 1])
    assert (seen[0] != images)[mask == 0].float().mean() > 0.99
    if fill == "swap":
        donors = {tuple(d.flatten().tolist()) for d in model.donors}
        pasted = seen[0][0] * (1 - mask[0])
        assert any(
            torch.equal(torch.tensor(d).view(1, 32, 32) * (1 - mask[0]), pasted) for d in donors
        )


def test_the_prediction_rests_on_the_kept_pixels_alone() -> None:
    """Under `swap` another picture where it is destroyed changes nothing: no way around."""
    model, images = sealed(replace="swap").eval(), pictures(3)
    mask = random_masks(images, 0.3, 8, generator("m"))
    other = torch.where(mask == 1, images, pictures(3, seed=5))
    logits = [model.classify(some, mask, generator("n")) for some in (images, other)]
    assert torch.equal(*logits)


def test_a_prediction_depends_on_no_other_picture() -> None:
    for fill in ("noise", "air", "swap"):
        model, images = sealed(replace=fill).eval(), pictures(4)
        model.remember(pictures(DONORS, seed=9))
        together = model(images, picture_generators(images, "p")).logits
        alone = model(images[2:3], picture_generators(images[2:3], "p")).logits
        torch.testing.assert_close(together[2:3], alone, atol=1e-5, rtol=1e-4)


# ---- training


def grads(module: nn.Module) -> list[Tensor]:
    return [p.grad for p in module.parameters() if p.grad is not None and p.grad.any()]


def test_the_classifier_learns_to_read_under_masks_of_the_maps_form() -> None:
    """Random ones: a disc's pixels are its middle's nearest, a free mask's are not."""
    images, seen = pictures(8), []
    for form in ("disc", "free"):
        model = sealed(form=form, masks="random")
        hook = model.classifier.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
        task = SealedTask(model.wanted)
        task.reading(model, images, torch.arange(8) % 5, torch.ones_like(images), generator("n"))
        hook.remove()
    masks = [(batch == images)[4:] for batch in seen]
    expected = sealed(form="disc").form.random(images, SMALLEST, generator("n"))[4:].bool()
    assert torch.equal(masks[0], expected) and not torch.equal(masks[1], expected)


def test_the_map_learns_the_opposite_of_what_the_critic_reads_the_more_the_later() -> None:
    wanted = SealedTraining(warmup=0.5, critic=3.0)
    critic, labels = mask_critic(5), torch.arange(5)
    found = {}
    for progress in (0.5, 0.75, 1.0, None):
        mask = pictures(5).requires_grad_()
        if progress is None:  # the critic's own way, which is not reversed
            loss = nn.functional.cross_entropy(critic(mask), labels)
        else:
            loss = SealedTask(wanted).telling(critic, mask, labels, progress)
        critic.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        assert mask.grad is not None and grads(critic)
        found[progress] = mask.grad
    assert not found[0.5].any()
    torch.testing.assert_close(found[0.75], -1.5 * found[None])
    torch.testing.assert_close(found[1.0], -3.0 * found[None])


def test_the_map_teaches_the_classifier_nothing() -> None:
    """The map's own loss leaves no gradient in the classifier, and random masks none in the map."""
    model, images, labels = sealed(masks="others"), pictures(8), torch.arange(8) % 5
    task = SealedTask(model.wanted)
    mask = model.form.mask(model.scores(images))
    task.explaining(model, images, labels, mask, generator("n")).backward()  # type: ignore[no-untyped-call]
    assert grads(model.importance) and not grads(model.classifier)
    model.zero_grad(set_to_none=True)
    task.reading(model, images, labels, mask, generator("n")).backward()  # type: ignore[no-untyped-call]
    assert grads(model.classifier) and not grads(model.importance)


def test_only_asked_leaves_the_network_as_it_was() -> None:
    model = sealed().classifier.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    frozen = next(model.parameters()).requires_grad_(False)
    with only_asked(model):
        model(pictures(4))
        assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert model.training and not frozen.requires_grad
    assert sum(not p.requires_grad for p in model.parameters()) == 1
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_moved_by_hand() -> None:
    row = torch.arange(5.0).view(1, 1, 1, 5).expand(8, 1, 5, 5)
    found = moved(row, 1, generator("move"))
    rows = {tuple(p[0, 2].tolist()) for p in found}
    assert rows <= {(1, 0, 1, 2, 3), (0, 1, 2, 3, 4), (1, 2, 3, 4, 3)} and len(rows) > 1
    assert moved(row, 0, generator("move")) is row


@pytest.mark.parametrize(("share", "asked"), [(0.0, 2.0), (0.1, 0.0)])
@torch.no_grad()
def test_epochs_are_chosen_by_the_price_too_where_no_share_is_fixed(
    share: float, asked: float
) -> None:
    model = sealed(share=share, price=2.0, form="free", critic=0.0).eval()
    images, labels = pictures(3), torch.tensor([0, 1, 2])
    logits, m = model(images, picture_generators(images, "validation"))
    wanted = nn.functional.cross_entropy(logits, labels) + asked * m.mean()
    found = SealedTask(model.wanted).validation_loss(model, images, labels)
    torch.testing.assert_close(found, wanted)


def trained(task_of: SealedTraining) -> SealedVINet:
    model = build_sealed(task_of, 5, (32, 32), seed=0)
    labels = torch.arange(24) % 5
    part = Examples(pictures(24), labels)
    machine = Machine(torch.device("cpu"), False, 1)
    fit(model, SealedTask(task_of), part, part, task_of, 0, machine)
    return model.eval()


VARIANTS: list[dict[str, object]] = [
    {},
    {"masks": "own"},
    {"masks": "others", "replace": "air"},
    {"replace": "swap"},
    {"target": "label", "complement": 1.0},
    {"views": True},
    {"share": 0.0},
]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_the_same_seed_gives_the_same_weights(changes: dict[str, object]) -> None:
    wanted = SealedTraining.model_validate(SMOKE.model_dump() | changes)
    one, other = trained(wanted).state_dict(), trained(wanted).state_dict()
    assert all(torch.equal(v, other[k]) for k, v in one.items())
    loaded = build_sealed(wanted, 5, (32, 32), seed=3).eval()
    loaded.load_state_dict(one)
    images = pictures(3, seed=2)
    maps = [m.importance_map(images) for m in (loaded, trained(wanted))]
    torch.testing.assert_close(*maps)


# ---- a network that sees little


@torch.no_grad()
def test_the_local_network_sees_33_pixels() -> None:
    assert "local" in IMPORTANCE
    network = build_importance("local", seed=0, width=0.5).eval()
    images = pictures(1, side=64)
    changed = images.clone()
    changed[..., 32, 32] += 1
    rows = (network(images) != network(changed))[0, 0].any(dim=0).nonzero().flatten()
    assert rows.max() - rows.min() + 1 <= 34  # 33, in cells of 2


# ---- the protocol


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Four rows whose VINets are trained for an epoch, and whose ResNets are not at all."""
    rows, folder = ["outline", "centre", "sealed", "price"], tmp_path_factory.mktemp("sealing")

    def sealed_only(model: Any, *rest: Any) -> Fit:
        return fit(model, *rest) if isinstance(model, SealedVINet) else Fit((1.0,), (1.0,), 1)

    changes = ["phantom.slices=60", "sealed.epochs=1", "sealed.share=0.1"]
    plan = make_plan(preset="smoke", methods=["vinet"], rows=rows, changes=changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vinet_bench.trained.fit", sealed_only)
        outcome = run(["sealing"], plan, folder, "cpu")
    assert (outcome.made, outcome.failed) == (4, ())
    write_report(folder)
    with (folder / "sealing.csv").open(encoding="utf-8", newline="") as file:
        return {line["method"]: line for line in csv.DictReader(file)}


def test_every_row_of_sealing_has_its_figures(table: dict[str, dict[str, str]]) -> None:
    assert list(table) == ["outline", "centre", "sealed", "price"]
    for name, line in table.items():
        for key in (
            "fraction_kept", "masks_accuracy", "swapped_accuracy", "kept_accuracy",
            "probability_drop", "mass", "iou", "equal_precision",
        ):  # fmt: skip
            assert -1 <= float(line[key]) <= 1, (name, key)
    assert float(table["sealed"]["fraction_kept"]) == pytest.approx(0.1, abs=1e-3)
    assert float(table["price"]["fraction_kept"]) != float(table["sealed"]["fraction_kept"])
    assert float(table["outline"]["mass"]) == float(table["outline"]["iou"]) == 1
    assert table["outline"]["accuracy"] == table["outline"]["moved_precision"] == ""
    assert 0 <= float(table["sealed"]["moved_precision"]) <= 1
    assert float(table["centre"]["fraction_kept"]) == pytest.approx(0.1, abs=1e-3)


def test_pictures_are_moved_by_hand() -> None:
    picture = torch.tensor([[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]], dtype=torch.uint8)
    down = moved_by(picture, (1, 0), "reflect")
    assert down.tolist() == [[[[4, 5, 6], [1, 2, 3], [4, 5, 6]]]]
    left = moved_by(picture, (0, -1), "constant")
    assert left.tolist() == [[[[2, 3, 0], [5, 6, 0], [8, 9, 0]]]]


@pytest.mark.parametrize(
    "name", sorted({"local", *(p.settings.sealed.importance for p in PRESETS.values())})
)
def test_a_network_whose_borders_repeat_knows_no_place(name: str) -> None:
    """Nothing but the picture tells it where it is: a flat one has a flat M0. Every preset has
    such a network."""
    network = build_importance(name, seed=0, width=0.5).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # timm's branches begin at 0, and would say nothing
            nn.init.ones_(module.weight)
    assert network(torch.full((1, 1, 64, 64), 0.4)).std() < 1e-5


def test_each_variant_of_sealing_is_one_that_can_be_set() -> None:
    for variant in ROWS.values():
        SealedTraining.model_validate(SMOKE.model_dump() | dict(variant.changes))
    assert len({tuple(v.changes.items()) for v in ROWS.values() if v.changes}) == sum(
        bool(v.changes) for v in ROWS.values()
    )
