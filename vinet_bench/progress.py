"""How a run says what it is doing: silent, or bars with the time left."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars


class Progress(Protocol):
    """A bar for a piece of work; `advance()` is called for each of its parts."""

    def step(self, title: str, total: int) -> AbstractContextManager[Callable[[], None]]: ...


class Silent:
    """No output at all: the Python API and pipes."""

    @contextmanager
    def step(self, title: str, total: int) -> Iterator[Callable[[], None]]:
        yield lambda: None


class Shown:
    """Bars in a terminal, with the time that is left; use inside `with`."""

    def __init__(self, console: Console) -> None:
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )

    def __enter__(self) -> "Shown":
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    @contextmanager
    def step(self, title: str, total: int) -> Iterator[Callable[[], None]]:
        bar = self._bars.add_task(title, total=total)
        try:
            yield lambda: self._bars.advance(bar)
        finally:
            self._bars.remove_task(bar)
