"""Words of the environment that libraries read, set for a while."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def environment(words: Mapping[str, str]) -> Iterator[None]:
    """What is set already stays; the rest is taken back afterwards."""
    added = {name: word for name, word in words.items() if name not in os.environ}
    os.environ |= added
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
