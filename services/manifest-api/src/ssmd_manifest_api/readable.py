"""An archive whose unreadable places are named, so that one of them spoils its own day and no other."""

from __future__ import annotations

from ssmd_common.archive.store import Content, Listing, Source, Stat, Store
from ssmd_common.errors import ArchiveError

__all__ = ["ReadableStore", "UnreadableError"]


class UnreadableError(ArchiveError):
    """The system cannot read a file or folder of the archive; what is in it may be well."""


class ReadableStore:
    """A store that says what cannot be read where the system says only why.

    Args:
        store: The whole archive.

    Raises:
        UnreadableError: In place of the system's error.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def why_not_ready(self) -> str | None:
        """Return why nothing can be read; None where it can."""
        return self._store.why_not_ready()

    def list(self, folder: str = "") -> Listing:
        """List a folder; the archive's base where none is named."""
        try:
            return self._store.list(folder)
        except OSError as error:
            raise _unreadable(folder or "the archive", error) from error

    def stat(self, key: str) -> Stat | None:
        """Look at a file."""
        try:
            return self._store.stat(key)
        except OSError as error:
            raise _unreadable(key, error) from error

    def read(self, key: str) -> Content | None:
        """Read a file whole."""
        try:
            return self._store.read(key)
        except OSError as error:
            raise _unreadable(key, error) from error

    def open(self, key: str) -> Source | None:
        """Open a file to read ranges of it."""
        try:
            return self._store.open(key)
        except OSError as error:
            raise _unreadable(key, error) from error


def _unreadable(where: str, error: OSError) -> UnreadableError:
    problem = f"reading it failed: {error.strerror or type(error).__name__}"
    return UnreadableError(problem, where=where, remedy="see to its permissions and its disk")
