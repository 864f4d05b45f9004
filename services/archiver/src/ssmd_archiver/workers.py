"""Processes that share work on an archive's files."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager

__all__ = ["available_processors", "worker_processes"]

_WORTHWHILE_BYTES = 16 << 20
"""Less compressed data than that is read sooner than processes are started."""


def available_processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def worker_processes(jobs: int, data_bytes: int) -> Iterator[Executor | None]:
    """Give ``jobs`` processes for so much data; None where this process alone is as fast.

    They are forked at once, so it is to be called before any thread is started.
    """
    if jobs == 1 or data_bytes < _WORTHWHILE_BYTES:
        yield None
        return
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("fork")) as pool:
        pool.submit(os.getpid).result()
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)
