"""Files read once and again only when they change: the API's one way to keep what it read.

A file counts as unchanged while its inode, size and modification time stay; the archiver replaces a manifest by
rename, so a fresh one is seen at the next request.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

__all__ = ["FileCache", "Stamp"]

ValueT = TypeVar("ValueT")

Stamp = tuple[int, int, int]
"""Inode, modification time in nanoseconds, size in bytes."""


class FileCache(Generic[ValueT]):
    """What was made of files, by path; the least recently used goes first.

    Args:
        parse: Makes the value of a file's bytes and its stamp; what it raises is not kept.
        allowed: Tells whether a path may be read; one that may not is as good as none.
        limit: How many values are kept.
    """

    def __init__(
        self, parse: Callable[[Path, bytes, Stamp], ValueT], *, allowed: Callable[[Path], bool], limit: int
    ) -> None:
        self._parse = parse
        self._allowed = allowed
        self._limit = limit
        self._kept: dict[Path, tuple[Stamp, ValueT]] = {}
        self._lock = threading.Lock()

    def get(self, path: Path) -> ValueT | None:
        """Return the value of a file as it is now; None where there is no such file."""
        try:
            stamp = _stamp(os.stat(path))  # noqa: PTH116 - a descriptor's stat below, and this one, in one shape
        except (FileNotFoundError, NotADirectoryError):
            return None
        with self._lock:
            known = self._kept.pop(path, None)
            if known is not None:
                self._kept[path] = known
        if known is not None and known[0] == stamp:
            return known[1]
        return self._read(path) if self._allowed(path) else None

    def _read(self, path: Path) -> ValueT | None:
        try:
            with path.open("rb") as file:
                stamp = _stamp(os.fstat(file.fileno()))
                data = file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        value = self._parse(path, data, stamp)
        with self._lock:
            self._kept.pop(path, None)
            self._kept[path] = (stamp, value)
            while len(self._kept) > self._limit:
                del self._kept[next(iter(self._kept))]
        return value


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_ino, status.st_mtime_ns, status.st_size
