"""Reading what lies in an archive, wherever it lies: by key, never by path.

A key is a file's place under the archive's base, names joined by ``/``: of a feed's name, a date and a segment's
stem :class:`~ssmd_common.archive.layout.DayKeys` makes it. Every name of a key begins with a letter, a digit or
``_``, so no key leads upwards, to a hidden file or to the root, whatever it was made of. The port is what an object
store can do as well: list a folder, look at a file, read it whole, or read ranges of the version that was opened.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from ssmd_common.errors import WireError

__all__ = ["Content", "Listing", "LocalStore", "Source", "Stat", "Store", "check_key"]

_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(?:/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
_GONE = (FileNotFoundError, NotADirectoryError)


@lru_cache(1 << 16)  # the same keys are looked at again and again
def check_key(key: str) -> str:
    """Return a key that is one.

    Raises:
        WireError: It could lead out of the archive, or to what is no part of it.
    """
    if not _KEY.fullmatch(key):
        raise WireError(f"{key!r} is no key of an archive")
    return key


@dataclass(frozen=True, slots=True)
class Stat:
    """What a store tells of a file without reading it.

    Attributes:
        size: In bytes.
        modified_ns: When its content was last written.
        version: Another one whenever the content may be another; an object store's ETag.
    """

    size: int
    modified_ns: int
    version: str


@dataclass(frozen=True, slots=True)
class Content:
    """A whole file, and what it was when it was read."""

    data: bytes
    stat: Stat


@dataclass(frozen=True, slots=True)
class Listing:
    """The names directly in a folder."""

    files: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()


class Source(Protocol):
    """One version of a file, held open: renamed, replaced or removed meanwhile, it reads on as it was."""

    @property
    def stat(self) -> Stat:
        """What the file was when it was opened."""

    def read(self, offset: int, length: int) -> bytes:
        """Read a range; what comes is shorter only where the file ends."""

    def close(self) -> None:
        """Let the file go."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Store(Protocol):
    """An archive to read, safe to use from several threads. What is not there is None, or an empty listing.

    Raises:
        WireError: A key is none.
        OSError: What is there cannot be read.
    """

    def why_not_ready(self) -> str | None:
        """Return why nothing can be read; None where it can."""

    def list(self, folder: str = "") -> Listing:
        """List a folder; the archive's base where none is named."""

    def stat(self, key: str) -> Stat | None:
        """Look at a file."""

    def read(self, key: str) -> Content | None:
        """Read a file whole."""

    def open(self, key: str) -> Source | None:
        """Open a file to read ranges of it."""


class LocalStore:
    """An archive in a folder of this machine.

    Links are followed only to places inside of the archive; one that leaves it leads nowhere.

    Args:
        base: The archive's base folder; it may come to be later.
        on_escape: Called for each link met that leaves it.
    """

    def __init__(self, base: Path, *, on_escape: Callable[[], None] = lambda: None) -> None:
        self._base = base
        self._on_escape = on_escape
        self._root = os.fspath(base)

    def why_not_ready(self) -> str | None:
        """Return why nothing can be read; None where it can."""
        if not self._base.is_dir():
            return f"{self._base} is no folder (yet): the archiver creates it with the first segment"
        return None if os.access(self._base, os.R_OK | os.X_OK) else f"{self._base} may not be read"

    def list(self, folder: str = "") -> Listing:
        """List a folder; the archive's base where none is named."""
        path = self._inside(folder) if folder else self._root
        if path is None:
            return Listing()
        files: list[str] = []
        folders: list[str] = []
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    (folders if entry.is_dir() else files).append(entry.name)
        except _GONE:
            return Listing()
        return Listing(tuple(sorted(files)), tuple(sorted(folders)))

    def stat(self, key: str) -> Stat | None:
        """Look at a file."""
        try:
            status = os.lstat(f"{self._root}/{check_key(key)}")
            if stat.S_ISLNK(status.st_mode):
                path = self._inside(key)
                if path is None:
                    return None
                status = os.stat(path)  # noqa: PTH116 - as the others here
        except _GONE:
            return None
        return _stat(status)

    def read(self, key: str) -> Content | None:
        """Read a file whole."""
        source = self.open(key)
        if source is None:
            return None
        with source:
            return Content(source.read(0, source.stat.size), source.stat)

    def open(self, key: str) -> Source | None:
        """Open a file to read ranges of it."""
        path = self._inside(key)
        if path is None:
            return None
        try:
            # Links are resolved above, so one met here came meanwhile; a pipe must not make us wait for a writer.
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except _GONE:
            return None
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            return None
        return _LocalSource(fd, _stat(status))

    def _inside(self, key: str) -> str | None:
        """Return where a key leads once its links are followed; None where that is outside of the archive."""
        if not self._has_link(check_key(key)):
            return f"{self._root}/{key}"
        root = os.path.realpath(self._root)
        path = os.path.realpath(f"{root}/{key}")
        if path.startswith(f"{root}/"):
            return path
        self._on_escape()
        return None

    def _has_link(self, key: str) -> bool:
        """Tell whether a part of a key is a link: seldom, and to resolve links takes far longer than this."""
        path = self._root
        try:
            for part in key.split("/"):
                path = f"{path}/{part}"
                if stat.S_ISLNK(os.lstat(path).st_mode):
                    return True
        except _GONE:
            pass  # nothing is there to lead anywhere
        return False


class _LocalSource:
    def __init__(self, fd: int, status: Stat) -> None:
        self._fd = fd
        self.stat = status

    def read(self, offset: int, length: int) -> bytes:
        parts = []
        while length and (part := os.pread(self._fd, length, offset)):
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def _stat(status: os.stat_result) -> Stat:
    # A rename puts another inode there; an append or a rewrite in place changes times or size.
    version = f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_ctime_ns:x}-{status.st_size:x}"
    return Stat(status.st_size, status.st_mtime_ns, version)
