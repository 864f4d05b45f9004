"""An archive reduced to some feeds: to who may not see the others, they are not there."""

from __future__ import annotations

from collections.abc import Collection

from ssmd_common.archive.store import Content, Listing, Source, Stat, Store

__all__ = ["ScopedStore"]


class ScopedStore:
    """A store without the folders of other feeds, so nothing that reads through it can show them.

    Args:
        store: The whole archive.
        feeds: The feeds to keep.
    """

    def __init__(self, store: Store, feeds: Collection[str]) -> None:
        self._store = store
        self._feeds = frozenset(feeds)

    def why_not_ready(self) -> str | None:
        """Return why nothing can be read; None where it can."""
        return self._store.why_not_ready()

    def list(self, folder: str = "") -> Listing:
        """List a folder; of the base only the kept feeds."""
        if folder:
            return self._store.list(folder) if self._keeps(folder) else Listing()
        return Listing(folders=tuple(name for name in self._store.list().folders if name in self._feeds))

    def stat(self, key: str) -> Stat | None:
        """Look at a file."""
        return self._store.stat(key) if self._keeps(key) else None

    def read(self, key: str) -> Content | None:
        """Read a file whole."""
        return self._store.read(key) if self._keeps(key) else None

    def open(self, key: str) -> Source | None:
        """Open a file to read ranges of it."""
        return self._store.open(key) if self._keeps(key) else None

    def _keeps(self, key: str) -> bool:
        return key.partition("/")[0] in self._feeds
