"""One task over many items in several processes, which end with the process that began them."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from vinet_bench.errors import UserError

Item = TypeVar("Item")
_task: Callable[[Any], object] | None = None  # a worker's own; what it holds is sent to it once


def each(task: Callable[[Item], object], items: Sequence[Item], workers: int) -> Iterator[None]:
    """Does the task for every item and yields as each is done; one worker is this process.

    Raises what a task raises, after the others that had begun; UserError if a process dies.
    """
    count = min(workers, len(items))
    if count < 2:
        for item in items:
            task(item)
            yield
        return
    # spawn: a fork of a process with threads (progress bars) can hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, context, initializer=_begin, initargs=(task,))
    try:
        for done in as_completed([pool.submit(_do, item) for item in items]):
            done.result()
            yield
    except BrokenProcessPool:
        raise UserError(
            "a worker process died (out of memory?): give the command again with --workers 1"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(task: Callable[[Any], object]) -> None:
    global _task
    _task = task
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that began them
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do(item: Any) -> None:
    if _task is None:
        raise RuntimeError("a worker without its task")
    _task(item)
