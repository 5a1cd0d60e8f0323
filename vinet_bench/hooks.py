"""Looking into a network and changing what flows through it, only inside a `with`."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Protocol

from torch import nn


class OutputHook(Protocol):
    """Sees a module's name, the number of its call in this pass and its output; may replace it."""

    def __call__(self, name: str, call: int, output: Any) -> Any: ...


@contextmanager
def output_hooks(model: nn.Module, hook: OutputHook, names: Iterable[str]) -> Iterator[None]:
    """Calls the hook after each of the named modules, in the order in which they finish."""
    with ExitStack() as stack:
        for name in set(names):
            calls = [0]

            def after(_m: nn.Module, _i: Any, output: Any, name: str, calls: list[int]) -> Any:
                calls[0] += 1
                return hook(name, calls[0] - 1, output)

            module = model.get_submodule(name)
            handle = module.register_forward_hook(partial(after, name=name, calls=calls))
            stack.callback(handle.remove)
        yield


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, and every module's own mode back afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
