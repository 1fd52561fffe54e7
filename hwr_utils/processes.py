"""Spread work over processes that end with the one that started them."""

import multiprocessing
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import TypeVar

from tqdm import tqdm

from hwr_utils.errors import InputError, writing

Item = TypeVar("Item")
Result = TypeVar("Result")


def run(
    step: Callable[[Item], Result], items: Sequence[Item], title: str, unit: str = "file", workers: int | None = None
) -> list[Result]:
    """Call `step` with each item in processes of their own, one a core or so many `workers`, and show a bar.

    A `step` is a function of a module, or a `functools.partial` of one: it is pickled. The first error stops the rest;
    an InputError where a process was killed. Returns the results in the items' order.
    """
    with writing("/dev/shm/semaphores"):  # by which processes agree
        pool = ProcessPoolExecutor(workers, initializer=_end_with_parent)
    with pool:
        try:
            return list(tqdm(pool.map(step, items), total=len(items), unit=unit, desc=title))
        except BrokenProcessPool as error:
            raise InputError(
                f"a process was killed while {title}, as it happens where memory or the disk runs out. Free some, "
                "and run the same command again."
            ) from error


def end_with_snakemake() -> None:
    """End this process soon after the Snakemake that started it is gone, which HWR_ENDS_WITH names as HOST:NUMBER.

    On another host it does nothing, for there the number means another process, or none.
    """
    host, _, number = os.environ.get("HWR_ENDS_WITH", "").rpartition(":")

    def wait() -> None:
        with suppress(ProcessLookupError):
            while True:
                os.kill(int(number), 0)  # is it there?
                time.sleep(0.2)

    if host == socket.gethostname():
        _end_after(wait)


def _end_with_parent() -> None:
    """End with the process that started this one: nobody stops the workers of a process that was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    _end_after(parent.join)


def _end_after(wait: Callable[[], None]) -> None:
    """End this process, whatever it does, when `wait` returns."""

    def watch() -> None:
        wait()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
