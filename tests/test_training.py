"""The training loop: it learns, it repeats itself bit for bit, and it keeps the best epoch."""

from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor, nn

from vinet_bench import prediction
from vinet_bench.errors import CellError
from vinet_bench.hooks import evaluating
from vinet_bench.machine import Examples, Machine
from vinet_bench.prediction import predict
from vinet_bench.settings import Training
from vinet_bench.training import Fit, fit
from vinet_bench.training_tasks import WARMUP, Classification, VINetTask
from vinet_bench.vinet import VINet

CPU = Machine(torch.device("cpu"), bfloat16=False)
SETTINGS = Training(epochs=8, batch=8, learning_rate=0.01)


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 2))


def normed() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(16, 2),
    )  # fmt: skip


def examples(n: int, seed: int = 0) -> Examples:
    """Noise, with the left half brighter in class 0 and the right half in class 1. 8 x 8."""
    drawn = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    images = torch.randint(0, 100, (n, 1, 8, 8), generator=drawn, dtype=torch.uint8)
    images[labels == 0, :, :, :4] += 120
    images[labels == 1, :, :, 4:] += 120
    return Examples(images, labels)


def tiny_vinet() -> VINet:
    torch.manual_seed(0)
    importance = nn.Conv2d(1, 1, 3, padding=1)
    classifier = nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Conv2d(4, 4, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 2),
    )  # fmt: skip
    return VINet(importance, classifier, torch.zeros(1, 1, 8, 8))


def trained(
    build: Callable[[], nn.Module] = linear,
    settings: Training = SETTINGS,
    seed: int = 0,
    data: Examples | None = None,
) -> tuple[nn.Module, Fit]:
    model = build()
    done = fit(model, Classification(), data or examples(40), examples(20, 1), settings, seed, CPU)
    return model, done


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def accuracy(model: nn.Module, data: Examples) -> float:
    right = predict(model, data.images, CPU).argmax(dim=1) == data.labels
    return right.double().mean().item()


@pytest.mark.parametrize("build", [linear, normed])
@pytest.mark.parametrize("schedule", ["constant", "one-cycle"])
def test_it_learns(build: Callable[[], nn.Module], schedule: str) -> None:
    settings = Training.model_validate(
        {"epochs": 20, "batch": 8, "learning_rate": 0.02, "schedule": schedule}
    )
    model, done = trained(build, settings)
    assert accuracy(model, examples(40, 2)) == 1.0
    assert done.train_losses[-1] < done.train_losses[0] / 2
    assert len(done.train_losses) == len(done.validation_losses) == 20


@pytest.mark.parametrize("build", [linear, normed, tiny_vinet])
@pytest.mark.parametrize("flips", [False, True])
def test_the_seed_alone_decides(build: Callable[[], nn.Module], flips: bool) -> None:
    task = VINetTask(0.5, ramp=0.5, warmup=0.0) if build is tiny_vinet else Classification()
    settings = Training(epochs=3, batch=8, learning_rate=0.01, flips=flips)
    models: list[nn.Module] = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(models))  # the global state must not matter
        torch.rand(len(models) + 1)
        model = build()
        fit(model, task, examples(40), examples(20, 1), settings, seed, CPU)
        models.append(model)
    assert same_weights(models[0], models[1])
    assert not same_weights(models[0], models[2])


class Scripted(Classification):
    """Cross entropy to learn from; validation losses as they are written down."""

    def __init__(self, *scores: float) -> None:
        self.scores = list(scores)
        self.seen: list[dict[str, Tensor]] = []

    def validation_loss(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        self.seen.append({k: v.clone() for k, v in model.state_dict().items()})
        return torch.tensor(self.scores[len(self.seen) - 1])


@pytest.mark.parametrize(
    ("scores", "best"), [((3, 1, 2), 2), ((1, 2, 3), 1), ((3, 2, 1), 3), ((2, 1, 1), 2)]
)
@pytest.mark.parametrize("build", [linear, normed])
def test_the_best_epoch_is_kept(
    build: Callable[[], nn.Module], scores: tuple[float, ...], best: int
) -> None:
    model, task = build(), Scripted(*scores)
    settings = Training(epochs=3, batch=8, learning_rate=0.01)
    done = fit(model, task, examples(40), examples(20, 1), settings, 0, CPU)
    assert done.epoch == best
    assert done.validation_losses == scores
    for epoch, seen in enumerate(task.seen, 1):
        equal = all(torch.equal(v, seen[k]) for k, v in model.state_dict().items())
        assert equal == (epoch == best)


class Warming(Scripted):
    """Scripted, and a part of the network learns in the last epochs only."""

    def __init__(self, warmup: float, *scores: float) -> None:
        super().__init__(*scores)
        self.warmup = warmup


@pytest.mark.parametrize(
    ("warmup", "best"), [(0.0, 1), (0.49, 2), (0.5, 3), (0.58, 3), (0.75, 4), (0.99, 4)]
)
def test_no_epoch_is_kept_that_is_warm_up_alone(warmup: float, best: int) -> None:
    task = Warming(warmup, 1, 2, 3, 4)
    settings = Training(epochs=4, batch=8, learning_rate=0.01)
    done = fit(linear(), task, examples(40), examples(20, 1), settings, 0, CPU)
    assert done.epoch == best
    assert done.validation_losses == (1, 2, 3, 4)


def test_a_share_that_is_no_binary_fraction_is_warm_up_to_its_end() -> None:
    """0.29 of 100 is 28.999... in floating point."""
    task = Warming(0.29, *range(100))
    settings = Training(epochs=100, batch=40, learning_rate=0.01)
    assert fit(linear(), task, examples(40), examples(20, 1), settings, 0, CPU).epoch == 30


def test_a_huge_learning_rate_keeps_an_early_epoch() -> None:
    """Labels that contradict the pictures in the validation part: every step makes it worse."""
    validation = examples(20, 1)
    against = Examples(validation.images, 1 - validation.labels)
    model = linear()
    settings = Training(epochs=6, batch=8, learning_rate=10)
    done = fit(model, Classification(), examples(40), against, settings, 0, CPU)
    assert done.epoch == 1 + done.validation_losses.index(min(done.validation_losses))
    assert done.validation_losses[-1] > min(done.validation_losses)
    kept = nn.functional.cross_entropy(model(against.pictures(slice(None))), against.labels).item()
    assert kept == pytest.approx(min(done.validation_losses))


class Breaking(Classification):
    """Its loss stops being a number in the second half of the training."""

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, progress: float, noise: Generator
    ) -> Tensor:
        scale = float("nan") if progress >= 0.5 else 1.0
        return scale * super().loss(model, images, labels, progress, noise)


def test_a_loss_that_is_not_a_number_names_its_epoch() -> None:
    settings = Training(epochs=4, batch=8, learning_rate=0.01)
    with pytest.raises(CellError, match=r"epoch 3\b.*loss"):
        fit(linear(), Breaking(), examples(40), examples(20, 1), settings, 0, CPU)


def test_a_diverged_validation_loss_is_an_error_too() -> None:
    settings = Training(epochs=2, batch=8, learning_rate=0.01)
    task = Scripted(1.0, float("inf"))
    with pytest.raises(CellError, match="epoch 2"):
        fit(linear(), task, examples(40), examples(20, 1), settings, 0, CPU)


@pytest.mark.parametrize("n", [9, 17, 3])
def test_a_last_batch_of_one_does_not_break_batchnorm(n: int) -> None:
    class Norms(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Flatten(), nn.Linear(64, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))

    settings = Training(epochs=2, batch=2 if n == 3 else 8, learning_rate=0.01)
    for schedule in ("constant", "one-cycle"):
        chosen = settings.model_copy(update={"schedule": schedule})
        _, done = trained(Norms, chosen, data=examples(n))
        assert len(done.train_losses) == 2


def test_every_epoch_is_announced() -> None:
    told = []
    fit(
        linear(), Classification(), examples(40), examples(20, 1),
        Training(epochs=3, batch=8), 0, CPU, lambda: told.append(1),
    )  # fmt: skip
    assert len(told) == 3


@pytest.mark.parametrize("build", [linear, normed])
def test_uint8_and_float_pictures_are_the_same(build: Callable[[], nn.Module]) -> None:
    grey = examples(40)
    floating = Examples(grey.images.float() / 255, grey.labels)
    assert torch.equal(grey.pictures(slice(None)), floating.pictures(slice(None)))
    (a, _), (b, _) = trained(build), trained(build, data=floating)
    assert same_weights(a, b)
    assert torch.equal(predict(a, grey.images, CPU), predict(a, floating.images, CPU))


def test_a_vinets_predictions_do_not_depend_on_the_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, images = tiny_vinet().eval(), examples(20).images
    assert model.points  # destruction acts inside too
    whole = predict(model, images, CPU)
    assert torch.allclose(whole.sum(dim=1), torch.ones(20))
    for size in (1, 3, 7):
        monkeypatch.setattr(prediction, "EVALUATION_BATCH", size)
        assert (predict(model, images, CPU) - whole).abs().max() <= 1e-6
    order = torch.randperm(20, generator=Generator().manual_seed(0))
    assert (predict(model, images[order], CPU) - whole[order]).abs().max() <= 1e-6
    assert torch.equal(predict(model, images, CPU, seed=0), predict(model, images, CPU))
    assert not torch.allclose(predict(model, images, CPU, seed=1), whole)


@pytest.mark.parametrize(("side", "size"), [(32, 128), (64, 128), (128, 32), (2048, 1)])
def test_larger_pictures_are_evaluated_fewer_at_once(side: int, size: int) -> None:
    assert prediction.evaluation_batch(torch.empty(3, 1, side, side, device="meta")) == size


def test_a_validation_loss_does_not_depend_on_the_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = []
    for size in (128, 3):
        monkeypatch.setattr(prediction, "EVALUATION_BATCH", size)
        settings = Training(epochs=2, batch=8, learning_rate=0.01)
        model = tiny_vinet()
        found.append(
            fit(model, VINetTask(0.5, 0.0, 0.0), examples(40), examples(20, 1), settings, 0, CPU)
        )
    assert found[0].validation_losses == pytest.approx(found[1].validation_losses, abs=1e-6)


class Failing(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        raise RuntimeError("broken")


def test_evaluating_gives_every_module_its_mode_back() -> None:
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm2d(1), nn.Sequential(nn.ReLU()), Failing())
    model.train()
    model[1].eval()  # frozen by its owner
    modes = [module.training for module in model.modules()]
    assert len(set(modes)) == 2
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == modes
    with pytest.raises(RuntimeError, match="broken"):
        predict(model, torch.zeros(2, 1, 8, 8), CPU)
    assert [module.training for module in model.modules()] == modes


def test_predicting_changes_nothing() -> None:
    model = normed().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    predict(model, examples(20).images, CPU)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert model.training
    assert all(p.grad is None for p in model.parameters())


def losses_at(task: VINetTask, model: VINet, *places: float) -> list[float]:
    data = examples(8)
    images, labels = data.pictures(slice(None)), data.labels
    return [
        task.loss(model, images, labels, progress, Generator().manual_seed(0)).item()
        for progress in places
    ]


def test_the_ramp_raises_alpha_from_nothing() -> None:
    model = tiny_vinet().eval()
    m = model.importance_map(examples(8).pictures(slice(None))).mean().item()
    found = losses_at(VINetTask(100.0, 0.5, 0.0), model, 0.0, 0.25, 0.5, 1.0)
    rises = [loss - found[0] for loss in found]
    assert rises == pytest.approx([0, 50 * m, 100 * m, 100 * m], rel=1e-4)
    later = losses_at(VINetTask(100.0, 0.5, 0.25), model, 0.25, 0.5, 0.75, 1.0)
    assert later == pytest.approx(found)


def test_steps_of_one_phase_have_one_loss() -> None:
    model, places = tiny_vinet().eval(), [0.0, 0.1, 0.3, 0.4, 0.6, 0.9]
    task = VINetTask(2.0, 0.5, 0.25)
    phases = [task.phase(progress) for progress in places]
    assert phases == [WARMUP, WARMUP, pytest.approx(0.2), pytest.approx(0.6), 1.4, 2.0]
    found = losses_at(task, model, *places)
    assert found[0] == found[1]
    assert len(set(found)) == len(set(phases)) == 5
    steady = VINetTask(2.0, 0.0, 0.25)
    assert {steady.phase(progress) for progress in places} == {WARMUP, 2.0}
    assert len(set(losses_at(steady, model, *places))) == 2


def test_a_warm_up_trains_the_classifier_on_whole_pictures() -> None:
    model, data = tiny_vinet().eval(), examples(8)
    logits = model.classifier(data.pictures(slice(None)))
    plain = nn.functional.cross_entropy(logits, data.labels).item()
    task = VINetTask(100.0, 0.0, 0.25)
    found = losses_at(task, model, 0.0, 0.24, 0.25)
    assert found[:2] == pytest.approx([plain, plain])
    assert found[2] > plain + 1

    before = [p.clone() for p in model.importance.parameters()]
    warm = VINetTask(100.0, 0.0, 0.99)
    fit(model, warm, data, data, Training(epochs=1, batch=8), 0, CPU)
    assert all(map(torch.equal, before, model.importance.parameters()))
