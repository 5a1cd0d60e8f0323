"""A training that is killed at any step goes on to the same weights, bit for bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.test_training import CPU, examples, normed, same_weights, tiny_vinet
from vinet_bench.checkpoints import Checkpoint, State
from vinet_bench.errors import StoreError
from vinet_bench.settings import Training
from vinet_bench.training import Fit, fit
from vinet_bench.training_tasks import Classification, Task, VINetTask

SETTINGS = Training(epochs=3, batch=8, learning_rate=0.01, schedule="one-cycle", flips=True)


class KilledError(Exception):
    """Stands for SIGKILL."""


class Killed(Checkpoint):
    """Saves after every step, and ends the training after `saves` of them."""

    def __init__(self, path: Path, saves: int) -> None:
        super().__init__(path, every=0.0)
        self.left = saves

    def save(self, state: State) -> None:
        super().save(state)
        self.left -= 1
        if self.left == 0:
            raise KilledError


def dropping() -> nn.Module:
    """With dropout, which draws from torch's global random numbers."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 2))


def a_fit(
    model: nn.Module,
    task: Task,
    checkpoint: Checkpoint | None = None,
    epochs: list[int] | None = None,
) -> Fit:
    seen = [] if epochs is None else epochs
    return fit(
        model, task, examples(40), examples(20, 1), SETTINGS, 0, CPU, lambda: seen.append(1),
        checkpoint,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("build", "task"),
    [
        (normed, Classification()),
        (dropping, Classification()),
        (tiny_vinet, VINetTask(0.5, 0.2, 0.2)),
    ],
)
@pytest.mark.parametrize("saves", [1, 4, 5, 7, 14])  # five steps an epoch
def test_a_killed_training_ends_as_an_undisturbed_one(
    build: Callable[[], nn.Module], task: Task, saves: int, tmp_path: Path
) -> None:
    whole = build()
    wanted = a_fit(whole, task)
    path = tmp_path / "some" / "key.pt"
    with pytest.raises(KilledError):
        a_fit(build(), task, Killed(path, saves))
    torch.rand(17)  # the process that goes on has drawn other numbers meanwhile
    again, epochs = build(), list[int]()
    assert a_fit(again, task, Checkpoint(path), epochs) == wanted
    assert same_weights(again, whole)
    assert len(epochs) == SETTINGS.epochs


def test_dropout_depends_on_the_seed_and_leaves_the_global_numbers_alone() -> None:
    runs: list[nn.Module] = []
    for _ in range(2):
        model = dropping()
        torch.manual_seed(len(runs))
        before = torch.random.get_rng_state()
        a_fit(model, Classification())
        assert torch.equal(torch.random.get_rng_state(), before)
        runs.append(model)
    assert same_weights(*runs)


def test_a_damaged_checkpoint_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "key.pt"
    with pytest.raises(KilledError):
        a_fit(normed(), Classification(), Killed(path, 4))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert Checkpoint(path).load() is None
    path.write_bytes(b"short")
    assert Checkpoint(path).load() is None


def test_a_short_training_writes_no_checkpoint(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "key.pt")
    a_fit(normed(), Classification(), checkpoint)
    assert list(tmp_path.iterdir()) == []
    checkpoint.remove()  # nothing to remove is no error


def test_a_full_disk_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, mode: str) -> Any:
        """The device that every write fills."""
        return open("/dev/full", mode)  # noqa: PTH123 (Path.open is this function)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(StoreError, match="No space left on device; what is done is kept"):
        a_fit(normed(), Classification(), Checkpoint(tmp_path / "key.pt", every=0.0))
    assert list(tmp_path.iterdir()) == []
