"""What the publisher holds and has not sent: in memory, or on disk while JetStream is away.

Messages wait in memory as long as JetStream answers. When it does not they are *spilled* to the spool in order, and
new ones follow them there until everything in it has been sent; then memory takes over again. The spool lets go of
a message once it and all before it are acknowledged.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

import msgspec
import structlog

from ssmd_common.ranges import Ranges
from ssmd_connector.capture import Message
from ssmd_connector.spool import EVENT_RESERVE_BYTES, Mark

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from ssmd_common.ranges import Range
    from ssmd_common.service.telemetry import CounterSeries
    from ssmd_connector.spool import Spool

__all__ = ["Entry", "Holding"]

log = structlog.get_logger()

_BLOCK_BYTES = 512 * 1024
_DISK_RETRY_S = 5.0
_ENTRY_OVERHEAD_BYTES = 300
"""What a held message costs beside its bytes, so that the memory bound holds for small ones too."""


class Entry(msgspec.Struct, gc=False):
    """One message in memory.

    Attributes:
        message: The message.
        size: What it counts against the memory bound.
        mark: Where it ends in the spool it was read from; None where it never was there.
        due: When its answer is overdue, by the monotonic clock.
        attempts: How often it was sent in vain.
        refused: How often the stream said that it is this message it does not take.
        refused_at: When it said so first, by the monotonic clock.
    """

    message: Message
    size: int
    mark: Mark | None = None
    due: float = 0.0
    attempts: int = 0
    refused: int = 0
    refused_at: float = 0.0


class Holding:
    """Everything that waits to be sent, bounded in memory and on disk. For one event loop.

    Args:
        memory_bytes: Bound of what is in memory, in flight or waiting.
        spool: The spool; None for none.
        spooled: Counts what is written to it.

    Attributes:
        memory_used: Size of what is in memory.
        waiting: What waits in memory, oldest first.
    """

    def __init__(self, *, memory_bytes: int, spool: Spool | None, spooled: CounterSeries) -> None:
        self.memory_used = 0
        self.waiting: deque[Entry] = deque()
        self._memory_bytes = memory_bytes
        self._spool = spool
        self._refused_at: float | None = None
        self._spooled = spooled
        self._from_spool: deque[tuple[int, Mark]] = deque()

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits, and everything the spool held is acknowledged."""
        return not self.waiting and (self._spool is None or self._spool.is_empty)

    @property
    def is_spooling(self) -> bool:
        """Whether messages lie on disk that are not acknowledged."""
        return self._spool is not None and not self._spool.is_empty

    @property
    def can_spill(self) -> bool:
        """Whether there is a spool that works."""
        refused_at = self._refused_at
        return self._spool is not None and (refused_at is None or time.monotonic() - refused_at >= _DISK_RETRY_S)

    @property
    def has_room(self) -> bool:
        """Whether half of the memory, or of the spool where that comes first, is free."""
        if self.can_spill and self._spool is not None and self._spool.size_bytes <= self._spool.max_bytes // 2:
            return True
        return self.memory_used <= self._memory_bytes // 2 and not self.is_spooling

    def put(self, message: Message) -> bool:
        """Take a message if there is room now; the hot path."""
        spool = self._spool
        # Behind the spool, unless younger messages wait in memory already.
        if spool is not None and spool.has_unread and not self.waiting and self._append([message]):
            return True
        size = message.size + _ENTRY_OVERHEAD_BYTES
        used = self.memory_used + size
        if (
            used > self._memory_bytes
            and self.memory_used
            and (message.frame_no or used > self._memory_bytes + EVENT_RESERVE_BYTES)
        ):
            return False
        self.memory_used += size
        self.waiting.append(Entry(message, size))
        return True

    def take(self, count: int) -> list[Entry]:
        """Return up to ``count`` messages to send: those on disk, then those in memory."""
        spool = self._spool
        if spool is not None and spool.has_unread:
            read = spool.read(count)
            entries = [Entry(message, message.size + _ENTRY_OVERHEAD_BYTES, mark) for message, mark in read]
            self.memory_used += sum(entry.size for entry in entries)
            return entries
        entries = []
        size = 0
        waiting = self.waiting
        while waiting and len(entries) < count and size < _BLOCK_BYTES:
            entry = waiting.popleft()
            size += entry.size
            entries.append(entry)
        return entries

    def sent(self, token: int, mark: Mark) -> None:
        """Take note that what was read from the spool up to ``mark`` is in flight under this token."""
        self._from_spool.append((token, mark))

    def replace(self, entry: Entry, message: Message) -> None:
        """Put another message in an entry's place."""
        self.memory_used -= entry.size
        entry.message = message
        entry.size = message.size + _ENTRY_OVERHEAD_BYTES
        self.memory_used += entry.size

    def let_go(self, in_flight: Container[int]) -> None:
        """Free the spool as far as its messages are acknowledged without a hole.

        Args:
            in_flight: Tokens of the messages without acknowledgement.
        """
        done: Mark | None = None
        while self._from_spool and self._from_spool[0][0] not in in_flight:
            done = self._from_spool.popleft()[1]
        if done is not None and self._spool is not None:
            self._spool.commit(done)
            if self._spool.is_empty:
                log.info("spool_drained")

    def take_back(self, entries: Iterable[Entry]) -> int:
        """Put what was in flight back, to be sent again: to the front of the waiting, or to the spool it is from.

        Returns:
            How many wait in memory again.
        """
        if self._spool is not None and self._from_spool:
            self._from_spool.clear()
            self._spool.rewind()
        kept: list[Entry] = []
        for entry in entries:
            if entry.mark is None:
                entry.attempts += 1
                kept.append(entry)
            else:
                self.memory_used -= entry.size
        self.waiting.extendleft(reversed(kept))
        return len(kept)

    def spill(self, *, connected: bool) -> bool:
        """Move what waits in memory to the spool, as much as fits; return whether that made room."""
        spool = self._spool
        if spool is None or not self.waiting:
            return False
        was_empty = spool.is_empty
        count = self._append([entry.message for entry in self.waiting])
        for _ in range(count):
            self.memory_used -= self.waiting.popleft().size
        if was_empty and count:
            log.warning("spooling", messages=count, connected=connected)
        return count > 0

    def sync(self) -> None:
        """Let the disk have what was written to the spool; to be called every now and then."""
        if self._spool is not None:
            self._spool.sync_when_due()

    def shed(self, connection: int) -> list[Range]:
        """Let go of a connection's frames that wait in memory; return their numbers."""
        shed = Ranges()
        kept: deque[Entry] = deque()
        for entry in self.waiting:
            message = entry.message
            if message.frame_no and message.connection == connection:
                shed.add(message.frame_no)
                self.memory_used -= entry.size
            else:
                kept.append(entry)
        self.waiting = kept
        return shed.pairs()

    def _append(self, messages: list[Message]) -> int:
        """Write to the spool and return how many it took; a disk that refuses takes none."""
        spool = self._spool
        if spool is None or not self.can_spill or not spool.has_room(messages[0]):
            return 0
        try:
            count = spool.append(messages)
        except OSError as error:
            if self._refused_at is None:
                remedy = "free the disk; it is tried again, and until then memory is the only room"
                log.error("spool_failed", error=error.strerror, remedy=remedy)  # noqa: TRY400 - the reason says it all
            self._refused_at = time.monotonic()
            return 0
        if self._refused_at is not None:
            self._refused_at = None
            log.info("spool_works_again")
        self._spooled.add(count)
        return count
