"""The archiver's writes to disk, in one place, so that a test can stand in for a disk."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from pathlib import Path

from ssmd_common.errors import ArchiveBusyError, ArchiveError

__all__ = ["Disk", "FolderLock", "explain", "low_space"]


class Disk:
    """Appends, syncs, renames: what the archive's durability rests on."""

    def make_folder(self, folder: Path) -> None:
        """Create a folder and its parents, each durable in its parent."""
        if folder.is_dir():
            return
        self.make_folder(folder.parent)
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise explain(error, folder) from error
        self.sync_folder(folder.parent)

    def open_append(self, path: Path, *, new: bool) -> int:
        """Open a file for appending; ``new`` refuses one that exists."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
        try:
            return os.open(path, flags | (os.O_CREAT | os.O_EXCL if new else 0), 0o644)
        except OSError as error:
            raise explain(error, path) from error

    def append(self, fd: int, data: bytes, path: Path) -> None:
        """Write all of ``data`` at the file's end."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(fd, view) :]
            except OSError as error:
                raise explain(error, path) from error

    def sync(self, fd: int, path: Path) -> None:
        """Make a file's content durable."""
        try:
            os.fdatasync(fd)
        except OSError as error:
            raise explain(error, path) from error

    def truncate(self, path: Path, length: int) -> None:
        """Cut a file, durably."""
        try:
            with path.open("r+b") as file:
                file.truncate(length)
                os.fsync(file.fileno())
        except OSError as error:
            raise explain(error, path) from error

    def rename(self, source: Path, target: Path) -> None:
        """Rename within the archive; what is sealed is never overwritten."""
        if target.exists():
            raise ArchiveError("exists already and would be overwritten", where=str(target))
        try:
            source.rename(target)
        except OSError as error:
            raise explain(error, target) from error

    def sync_folder(self, folder: Path) -> None:
        """Make a folder's entries durable."""
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def replace(self, path: Path, data: bytes) -> None:
        """Write a whole file so that readers see the old or the new one, and the new one lasts."""
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            raise explain(error, path) from error
        self.sync_folder(path.parent)

    def remove(self, path: Path) -> None:
        """Remove a file that never came to count."""
        path.unlink(missing_ok=True)


LOW_FRACTION = 0.05


def low_space(free_bytes: int, total_bytes: int) -> str | None:
    """Return why a disk is called nearly full, before it is; None where it is not."""
    if free_bytes >= total_bytes * LOW_FRACTION:
        return None
    return f"{free_bytes / 2**30:.1f} GiB free, below {LOW_FRACTION:.0%} of the disk: free space, or give it more"


_REMEDIES = {
    errno.ENOSPC: "free space on the disk and start the archiver again; what was acknowledged is safe",
    errno.EDQUOT: "raise the quota and start the archiver again; what was acknowledged is safe",
    errno.EROFS: "remount the disk writable and start the archiver again",
    errno.EACCES: "give the archiver's user write permission on the folder",
    errno.EPERM: "give the archiver's user write permission on the folder",
    errno.EIO: "check the disk; what was acknowledged before is safe",
}


def explain(error: OSError, path: Path) -> ArchiveError:
    """Return a failed write as an error that names the file and the remedy."""
    problem = os.strerror(error.errno) if error.errno else str(error)
    return ArchiveError(f"cannot write: {problem}", where=str(path), remedy=_REMEDIES.get(error.errno or 0, ""))


class FolderLock:
    """The right to write a feed's folder: held by one process, gone with it.

    Raises:
        ArchiveBusyError: Another process holds it; the error names that process.
    """

    def __init__(self, path: Path, holder: dict[str, object]) -> None:
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise explain(error, path) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            text = os.pread(self._fd, 4096, 0).decode("utf-8", "replace").strip() or "another process"
            os.close(self._fd)
            raise ArchiveBusyError(
                f"another archiver writes this folder: {text}",
                where=str(path.parent),
                remedy="stop it, or give this one another storage.path",
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, json.dumps(holder).encode() + b"\n", 0)

    def release(self) -> None:
        """Let another process write."""
        os.close(self._fd)
