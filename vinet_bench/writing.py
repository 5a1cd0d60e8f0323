"""Files that are whole or not there, whatever ends the process that writes them."""

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from vinet_bench.errors import StoreError, UserError

LOCK = ".lock"


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Raises StoreError where the disk is full or the folder cannot be written."""
    try:
        yield
    except (OSError, sqlite3.OperationalError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StoreError(
            f"cannot write to {folder}: {reason}; what is done is kept: mend it and run the same"
            " command again"
        ) from None


@contextmanager
def alone(folder: Path, who: Callable[[], str] = str) -> Iterator[None]:
    """No other process writes to the folder meanwhile; a dead one holds nothing.

    who: names the other one, asked where there is one. Raises UserError if there is, StoreError if
    the folder cannot be written.
    """
    lock = FileLock(folder / LOCK)
    with writing(folder):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"another vinet-bench writes to {folder}{who()}: wait for it, or give another --out"
            ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside it, which takes its place when it is whole, and is gone if it never was.

    Its folder must be there.
    """
    part = path.with_name(f"{path.name}.part-{os.getpid()}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def sweep(parts: Iterable[Path]) -> None:
    """Removes those of such half-written files whose process no longer lives."""
    for part in parts:
        process = part.suffix.removeprefix(".part-")
        if process.isdecimal() and not alive(int(process)):
            part.unlink(missing_ok=True)


def alive(pid: int) -> bool:
    """Whether there is such a process on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
