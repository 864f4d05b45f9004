"""Files read once and again only when they change: the API's one way to keep what it read.

A file counts as unchanged while the store tells the same version of it; the archiver replaces a manifest by rename,
so a fresh one is seen at the next request.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from ssmd_common.archive.store import Content, Store

__all__ = ["FileCache"]

ValueT = TypeVar("ValueT")


class FileCache(Generic[ValueT]):
    """What was made of files, by key; the least recently used goes first.

    Args:
        store: Where the files lie.
        parse: Makes the value of a key and its file; what it raises is not kept.
        limit: How many values are kept.
    """

    def __init__(self, store: Store, parse: Callable[[str, Content], ValueT], *, limit: int) -> None:
        self._store = store
        self._parse = parse
        self._limit = limit
        self._kept: dict[str, tuple[str, ValueT]] = {}
        self._lock = threading.Lock()

    def over(self, store: Store) -> FileCache[ValueT]:
        """Return a cache that sees another store of the same files and keeps them together with this one."""
        other = copy.copy(self)
        vars(other).update(_store=store)
        return other

    def get(self, key: str) -> ValueT | None:
        """Return the value of a file as it is now; None where there is no such file."""
        stat = self._store.stat(key)
        if stat is None:
            return None
        with self._lock:
            known = self._kept.pop(key, None)
            if known is not None:
                self._kept[key] = known
        if known is not None and known[0] == stat.version:
            return known[1]
        return self._read(key)

    def _read(self, key: str) -> ValueT | None:
        content = self._store.read(key)
        if content is None:
            return None
        value = self._parse(key, content)
        with self._lock:
            self._kept.pop(key, None)
            self._kept[key] = (content.stat.version, value)
            while len(self._kept) > self._limit:
                del self._kept[next(iter(self._kept))]
        return value
