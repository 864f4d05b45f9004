"""Where messages wait on disk while NATS is away: append-only files, replayed in order, surviving the process.

A message is in the file when :meth:`Spool.append` returns: a killed process loses none. The machine's power is
another matter: a thread syncs the file a second after it was written to, at the latest, and when it is full. Files
are deleted once everything in them has its PubAck; how far the first one is done stands in ``head``, and what is
sent twice after a crash JetStream or the archiver drops by its message id. Where a file is damaged the records
behind the damage are found again.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from filelock import FileLock, Timeout

from ssmd_common.errors import ConfigError
from ssmd_connector.spool_records import decode_record, encode_record, next_record, record_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from ssmd_connector.capture import Message

__all__ = ["EVENT_RESERVE_BYTES", "Mark", "Spool"]

log = structlog.get_logger()

_FILE_BYTES = 16 << 20
_SYNC_EVERY_S = 1.0
EVENT_RESERVE_BYTES = 256 << 10
"""Room beyond every bound for what tells of the capture: a full spool still takes the record of what was lost."""
_SUFFIX = ".spool"


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A place in the spool: everything before it is meant."""

    file: int
    offset: int


class Spool:
    """A bounded queue on disk. One process at a time; not for threads.

    Args:
        folder: Where its files lie; made when missing.
        max_bytes: Bound of what it holds.
        file_bytes: Size at which the next file begins.

    Attributes:
        max_bytes: Bound of what it holds; events may go beyond by :data:`EVENT_RESERVE_BYTES`.
        size_bytes: What it holds on disk, acknowledged parts of the first file among it.

    Raises:
        ConfigError: The folder or a file in it cannot be used, or another process uses it.
    """

    def __init__(self, folder: Path, *, max_bytes: int, file_bytes: int = _FILE_BYTES) -> None:
        self._folder = folder
        self.max_bytes = max_bytes
        self._file_bytes = max(1, min(file_bytes, max_bytes // 4))
        self._lock = FileLock(folder / "lock")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(blocking=False)
        except Timeout:
            raise ConfigError(
                "another process uses this folder",
                file=str(folder),
                remedy="give each connector its own limits.spool_dir",
            ) from None
        except OSError as error:
            raise ConfigError(
                f"cannot be used: {error.strerror}",
                file=str(folder),
                remedy="check limits.spool_dir and its permissions",
            ) from None
        self._sizes: dict[int, int] = self._found()
        numbers = list(self._sizes)
        self.size_bytes = sum(self._sizes.values())
        self._first_own = numbers[-1] + 1 if numbers else 1
        self._head = self._load_head(numbers[0] if numbers else self._first_own)
        self._cursor = self._head
        self._write_no = self._first_own
        self._write_fd: int | None = None
        self._syncer = ThreadPoolExecutor(1, "spool-sync")
        self._synced_at = time.monotonic()
        self._is_synced = True
        self._read_ahead: deque[tuple[Message, Mark]] = deque()
        self._damaged: set[Mark] = set()

    @property
    def is_empty(self) -> bool:
        """Whether everything in it has its acknowledgement."""
        return not self._sizes or self._head >= self._end

    @property
    def has_unread(self) -> bool:
        """Whether :meth:`read` has something to give."""
        return bool(self._read_ahead) or (bool(self._sizes) and self._cursor < self._end)

    def has_room(self, message: Message) -> bool:
        """Whether :meth:`append` would take this message."""
        size = record_bytes(message)
        return self.size_bytes + size <= self._bound(message)

    def append(self, messages: Iterable[Message]) -> int:
        """Write messages behind all others, as many as there is room for, and return how many.

        Raises:
            OSError: The disk refused, and took none.
        """
        count = 0
        for records in self._chunks(messages):
            try:
                self._write(b"".join(records))
            except OSError:
                if not count:
                    raise
                break
            count += len(records)
        return count

    def _chunks(self, messages: Iterable[Message]) -> Iterator[list[bytes]]:
        """Iterate over the records of as many messages as there is room for, in pieces of a file's size."""
        chunk: list[bytes] = []
        size = self.size_bytes
        for message in messages:
            record = encode_record(message)
            size += len(record)
            if size > self._bound(message):
                break
            chunk.append(record)
            if size - self.size_bytes >= self._file_bytes:
                yield chunk
                chunk = []
        if chunk:
            yield chunk

    def read(self, limit: int) -> list[tuple[Message, Mark]]:
        """Return up to ``limit`` messages not read yet, in order, each with the mark of its end.

        Messages of an earlier life of the connector count for no connection of this one.
        """
        while len(self._read_ahead) < limit and self._cursor < self._end:
            self._load_file()
        return [self._read_ahead.popleft() for _ in range(min(limit, len(self._read_ahead)))]

    def oldest_subject(self) -> bytes | None:
        """Return where the first message without an acknowledgement goes; None where there is none."""
        self.rewind()
        read = self.read(1)
        self.rewind()
        return read[0][0].subject if read else None

    def commit(self, mark: Mark) -> None:
        """Let go of everything before ``mark``: it has its acknowledgement."""
        self._head = max(self._head, mark)
        for number in [number for number in self._sizes if number < self._head.file]:
            self._delete(number)
        if self.is_empty:
            self._close_write(sync=False)
            # Before the files: left alone it would be taken for the head of the next ones.
            self._forget_head()
            for number in list(self._sizes):
                self._delete(number)
            self._head = self._cursor = Mark(self._write_no, 0)
            return
        # A head that is not written costs no message: more is sent twice after a crash.
        with contextlib.suppress(OSError):
            self._head_path.write_text(f"{self._head.file} {self._head.offset}", "ascii")

    def rewind(self) -> None:
        """Read again from the first message without an acknowledgement."""
        self._read_ahead.clear()
        self._cursor = self._head

    def sync_when_due(self) -> None:
        """Sync what was written, once the last time is long enough ago; to be called every now and then."""
        now = time.monotonic()
        if self._write_fd is not None and not self._is_synced and now - self._synced_at >= _SYNC_EVERY_S:
            try:
                # Another descriptor: this one may be closed before the thread comes to it.
                other_fd = os.dup(self._write_fd)
            except OSError:
                # Too many are open. What was written is no less written for that: it is synced later.
                return
            self._synced_at, self._is_synced = now, True
            self._syncer.submit(_sync_and_close, other_fd)

    def close(self) -> None:
        """Sync and let go of the folder."""
        self._close_write()
        self._syncer.shutdown(wait=True)
        self._lock.release()

    def _bound(self, message: Message) -> int:
        return self.max_bytes if message.frame_no else self.max_bytes + EVENT_RESERVE_BYTES

    @property
    def _end(self) -> Mark:
        return self._end_of(max(self._sizes, default=self._write_no))

    def _end_of(self, number: int) -> Mark:
        return Mark(number, self._sizes.get(number, 0))

    def _write(self, data: bytes) -> None:
        if self._write_fd is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            self._write_fd = os.open(self._path(self._write_no), flags, 0o600)
            self._sizes.setdefault(self._write_no, 0)
            # The new file's name has to outlast a power cut, too.
            self._syncer.submit(_sync_and_close, os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY))
        before = self._sizes[self._write_no]
        try:
            _write_all(self._write_fd, data)
        except OSError:
            # A half-written record would hide everything after it.
            os.ftruncate(self._write_fd, before)
            raise
        self._sizes[self._write_no] = before + len(data)
        self.size_bytes += len(data)
        self._is_synced = False
        if self._sizes[self._write_no] >= self._file_bytes:
            self._close_write()
        else:
            self.sync_when_due()

    def _close_write(self, *, sync: bool = True) -> None:
        if self._write_fd is not None:
            if sync:
                self._syncer.submit(_sync_and_close, self._write_fd)
            else:
                os.close(self._write_fd)
            self._write_fd = None
            self._write_no += 1

    def _load_file(self) -> None:
        """Read the rest of the cursor's file and move on."""
        number, offset = self._cursor.file, self._cursor.offset
        size = self._sizes.get(number, 0)
        data = self._read_file(number, offset, size - offset)
        position, own = 0, number >= self._first_own
        while position < len(data):
            decoded = decode_record(data, position, own=own)
            if decoded is None:
                behind = next_record(data, position + 1)
                if behind is None:
                    self._cut(number, offset + position)
                    break
                self._tell_damage(number, offset + position, behind - position)
                position = behind
                continue
            message, position = decoded
            self._read_ahead.append((message, Mark(number, offset + position)))
        following = min((other for other in self._sizes if other > number), default=None)
        if following is None:
            self._cursor = Mark(number, self._sizes[number])
        else:
            self._cursor = Mark(following, 0)
            if self._read_ahead:
                message, _ = self._read_ahead.pop()
                # Whoever commits the file's last message is done with the file.
                self._read_ahead.append((message, Mark(following, 0)))
            elif self._head >= self._end_of(number):
                # Nothing of it was handed out that is not acknowledged.
                self.commit(Mark(following, 0))

    def _cut(self, number: int, offset: int) -> None:
        """Cut a file where its records end: the tail of a write that did not finish."""
        self._tell_damage(number, offset, self._sizes[number] - offset)
        os.truncate(self._path(number), offset)
        self.size_bytes -= self._sizes[number] - offset
        self._sizes[number] = offset

    def _tell_damage(self, number: int, offset: int, lost_bytes: int) -> None:
        """Tell of a damage once, however often what lies around it is read again."""
        if Mark(number, offset) in self._damaged:
            return
        self._damaged.add(Mark(number, offset))
        log.error("spool_damaged", file=self._path(number).name, offset=offset, lost_bytes=lost_bytes)

    def _read_file(self, number: int, offset: int, size: int) -> bytes:
        with self._path(number).open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def _delete(self, number: int) -> None:
        try:
            self._path(number).unlink(missing_ok=True)
        except OSError as error:
            # It costs no message: the next life sends it again.
            log.error("spool_not_freed", file=self._path(number).name, error=error.strerror)  # noqa: TRY400 - the reason says it all
        self.size_bytes -= self._sizes.pop(number)

    def _forget_head(self) -> None:
        with contextlib.suppress(OSError):
            self._head_path.unlink(missing_ok=True)

    def _found(self) -> dict[int, int]:
        """Return number and size of the files an earlier life left, by number.

        Raises:
            ConfigError: One of them cannot be used.
        """
        paths = [path for path in self._folder.glob(f"*{_SUFFIX}") if path.stem.isdecimal()]
        numbers = sorted(int(path.stem) for path in paths if path == self._path(int(path.stem)))
        for number in numbers:
            try:
                self._path(number).open("r+b").close()
            except OSError as error:
                self._lock.release()
                raise ConfigError(
                    f"cannot be used: {error.strerror}",
                    file=str(self._path(number)),
                    remedy="give it to the connector's user: it holds messages that are not published yet",
                ) from None
        return {number: self._path(number).stat().st_size for number in numbers}

    def _load_head(self, first: int) -> Mark:
        try:
            file, offset = self._head_path.read_text("ascii").split()
            head = Mark(int(file), int(offset))
        except (OSError, ValueError):
            head = Mark(first, 0)
        if self._is_place(head, first):
            return head
        # Left as it is it might fit a file that comes later.
        self._forget_head()
        return Mark(first, 0)

    def _is_place(self, head: Mark, first: int) -> bool:
        """Tell whether it is a place of the first file, at a record or at the end: all else says nothing."""
        left = self._sizes.get(first, -1) - head.offset
        if head.file != first or head.offset < 0 or left < 0:
            return False
        return left == 0 or decode_record(self._read_file(first, head.offset, left), 0, own=False) is not None

    @property
    def _head_path(self) -> Path:
        return self._folder / "head"

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:010d}{_SUFFIX}"


def _sync_and_close(fd: int) -> None:
    try:
        os.fsync(fd)
    except OSError as error:
        # The process still has the data; only a power cut could take it.
        log.error("spool_not_synced", error=error.strerror)  # noqa: TRY400 - the reason says it all
    finally:
        os.close(fd)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
