"""The way out: every message goes to JetStream once, and is held until its PubAck has come.

In order of age a message is *in flight* (sent, unacknowledged: at most a window), in the *spool* on disk, or
*waiting* in memory. As long as JetStream answers nothing touches the disk. When it is away, or answers only errors,
everything held goes to the spool in order and new messages follow it there; when it answers again the spool is sent
from its beginning. Whoever brings a message has to wait only when memory and spool are both full.

One inbox takes all answers; a message's reply subject ends in its token, which finds it again. Nothing is dropped:
a message is retried, with its id unchanged, until it is acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING

import structlog

from ssmd_connector.answers import Verdict, read_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ssmd_common.nats.connection import NatsClient
    from ssmd_connector.capture import Message
    from ssmd_connector.ledger import Ledger
    from ssmd_connector.metrics import ConnectorMetrics
    from ssmd_connector.spool import Mark, Spool

__all__ = ["Publisher"]

log = structlog.get_logger()

_BLOCK_MESSAGES = 512
_BLOCK_BYTES = 512 * 1024
_TICK_S = 0.25
_AWAY_S = 1.0
_PROBE_WINDOW = 16
_LOG_EVERY_S = 10.0
_UNRESPONSIVE_TIMEOUTS = 3
_MAX_BACKOFF_DOUBLINGS = 4
_SUBSTITUTE_BYTES = 1024
_ENTRY_OVERHEAD_BYTES = 300
"""What a held message costs beside its bytes, so that the memory bound holds for small ones too."""


class _Entry:
    """One message held in memory."""

    __slots__ = ("attempts", "due", "mark", "message", "size")

    def __init__(self, message: Message, mark: Mark | None = None) -> None:
        self.message = message
        self.mark = mark
        self.size = message.size + _ENTRY_OVERHEAD_BYTES
        self.due = 0.0
        self.attempts = 0


class Publisher:
    """Publishes messages with acknowledgement. For one event loop; :meth:`run` must be running.

    Args:
        nc: The connection.
        stream_limit: Largest message the stream takes, in bytes; -1 without a limit.
        window: Most messages in flight.
        ack_timeout_s: How long to wait for an answer before a message is sent again.
        memory_bytes: Bound of what is held in memory.
        spool: The spool; None for none.
        ledger: Told of every frame's acknowledgement.
        substitute: Makes the small message that stands for one that turned out too large to store.
        metrics: Told of everything.
    """

    def __init__(
        self,
        nc: NatsClient,
        *,
        stream_limit: int,
        window: int,
        ack_timeout_s: float,
        memory_bytes: int,
        spool: Spool | None,
        ledger: Ledger,
        substitute: Callable[[Message, int], Message],
        metrics: ConnectorMetrics,
    ) -> None:
        self._nc = nc
        self._stream_limit = stream_limit
        self._window = window
        self._window_now = window
        self._ack_timeout_s = ack_timeout_s
        self._memory_bytes = memory_bytes
        self._spool = spool
        self._ledger = ledger
        self._substitute = substitute
        self._metrics = metrics
        self._token = 0
        self._in_flight: dict[int, _Entry] = {}
        self._waiting: deque[_Entry] = deque()
        self._spool_order: deque[tuple[int, Mark]] = deque()
        self._held_bytes = 0
        self._work = asyncio.Event()
        self._room = asyncio.Event()
        self._sampled: dict[int, float] = {}
        self._last_answer_at = self._last_stored_at = time.monotonic()
        self._away_since: float | None = None
        self._spool_failed = False
        self._said_at: dict[Verdict, float] = {}
        self._refusing: Verdict | None = None
        self._reply_prefix = b""
        metrics.window_depth.observe(lambda: len(self._in_flight))
        metrics.waiting.observe(lambda: len(self._waiting))
        metrics.memory_bytes.observe(lambda: self._held_bytes)
        metrics.spool_bytes.observe(lambda: spool.size_bytes if spool is not None else 0)

    @property
    def limit(self) -> int:
        """Largest message, header included, that can be published now."""
        limit = self._nc.max_payload
        return min(limit, self._stream_limit) if self._stream_limit > 0 else limit

    @property
    def is_idle(self) -> bool:
        """Whether every message brought so far has its acknowledgement."""
        return not (self._in_flight or self._waiting) and (self._spool is None or self._spool.is_empty)

    @property
    def is_spooling(self) -> bool:
        """Whether messages wait on disk."""
        return self._spool is not None and not self._spool.is_empty

    @property
    def unacknowledged(self) -> int:
        """Messages in memory without acknowledgement; the spool's are beside it."""
        return len(self._in_flight) + len(self._waiting)

    def try_put(self, message: Message) -> bool:
        """Take a message if there is room now; the hot path."""
        spool = self._spool
        # Behind the spool, unless younger messages wait in memory already.
        if spool is not None and not spool.is_empty and not self._waiting and self._spool_append([message]):
            return True
        return self._put_in_memory(message)

    async def put(self, message: Message) -> None:
        """Take a message, waiting for room; returning is the only sign, there is no failure."""
        while not self.try_put(message):
            if not self._spill():
                self._metrics.stalls.add()
                self._room.clear()
                await self._room.wait()

    async def run(self) -> None:
        """Send, read answers and retry, until cancelled."""
        inbox = self._nc.new_inbox()
        self._reply_prefix = f"{inbox}.".encode()
        subscription = await self._nc.subscribe_raw(f"{inbox}.*", self._on_answer)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._send())
                tasks.create_task(self._watch())
        finally:
            await self._nc.unsubscribe_raw(subscription)

    async def drained(self, timeout_s: float) -> bool:
        """Wait until everything is acknowledged, at most ``timeout_s``; return whether it is."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not self.is_idle:
                    self._room.clear()
                    await self._room.wait()
        return self.is_idle

    def keep_rest(self) -> int:
        """Move what is left in memory to the spool before the process ends; return how much could not be kept."""
        self._recall()
        self._spill()
        return len(self._waiting)

    def on_disconnected(self) -> None:
        """Take note that the connection is lost: what is in flight has to be sent again."""
        self._away_since = time.monotonic()

    def on_reconnected(self) -> None:
        """Send everything in flight again, in order: its answers went to a connection that is gone."""
        self._away_since = None
        self._last_answer_at = self._last_stored_at = time.monotonic()
        self._recall()
        self._work.set()

    def _put_in_memory(self, message: Message) -> bool:
        entry = _Entry(message)
        if self._held_bytes + entry.size > self._memory_bytes and self._held_bytes:
            return False
        self._held_bytes += entry.size
        self._waiting.append(entry)
        self._work.set()
        return True

    async def _send(self) -> None:
        """Write blocks of messages while the window has room."""
        while True:
            await self._work.wait()
            room = self._window_now - len(self._in_flight)
            entries = self._take(min(room, _BLOCK_MESSAGES)) if room > 0 and self._nc.is_connected else []
            if entries:
                await self._write(entries)
            else:
                self._work.clear()

    def _take(self, count: int) -> list[_Entry]:
        """Return the oldest messages that are not in flight: those on disk, then those in memory."""
        spool = self._spool
        if spool is not None and spool.has_unread:
            entries = [_Entry(message, mark) for message, mark in spool.read(count)]
            self._held_bytes += sum(entry.size for entry in entries)
            return entries
        entries = []
        size = 0
        while self._waiting and len(entries) < count and size < _BLOCK_BYTES:
            entry = self._waiting.popleft()
            size += entry.size
            entries.append(entry)
        return entries

    async def _write(self, entries: Iterable[_Entry]) -> None:
        now = time.monotonic()
        limit, first = self.limit, self._token + 1
        parts: list[bytes] = []
        for entry in entries:
            if entry.message.size > limit:
                self._replace(entry, limit)
            self._token += 1
            self._arm(entry, now)
            self._in_flight[self._token] = entry
            if entry.mark is not None:
                self._spool_order.append((self._token, entry.mark))
            if entry.attempts == 0:
                self._metrics.messages_published.add()
            parts.append(self._command(self._token, entry.message))
        self._sampled[first] = now
        await self._nc.write_block(b"".join(parts))

    def _arm(self, entry: _Entry, now: float) -> None:
        entry.due = now + self._ack_timeout_s * 2 ** min(entry.attempts, _MAX_BACKOFF_DOUBLINGS)

    def _command(self, token: int, message: Message) -> bytes:
        headers, payload = message.headers, message.payload
        return b"HPUB %b %b%d %d %d\r\n%b%b\r\n" % (
            message.subject,
            self._reply_prefix,
            token,
            len(headers),
            len(headers) + len(payload),
            headers,
            payload,
        )

    def _on_answer(self, subject: bytes, _reply: bytes, headers: bytes | None, payload: bytes) -> None:
        """Match an answer to its message; called from the client's read loop, so it must not raise."""
        number = subject[len(self._reply_prefix) :]
        token = int(number) if number.isdigit() else 0
        entry = self._in_flight.get(token)
        if entry is None:
            return
        self._last_answer_at = time.monotonic()
        answer = read_answer(headers, payload)
        if answer.verdict is Verdict.STORED or answer.verdict is Verdict.DUPLICATE:
            self._stored(token, entry, duplicate=answer.verdict is Verdict.DUPLICATE)
        else:
            self._refused(entry, answer.verdict, answer.text)

    def _stored(self, token: int, entry: _Entry, *, duplicate: bool) -> None:
        del self._in_flight[token]
        self._held_bytes -= entry.size
        self._metrics.pubacks.add()
        if duplicate:
            self._metrics.duplicates.add()
        message = entry.message
        if message.frame_no:
            self._ledger.acked(message.connection, message.frame_no)
        sent_at = self._sampled.pop(token, None)
        if sent_at is not None and entry.attempts == 0:
            self._metrics.puback_latency.record(self._last_answer_at - sent_at)
        self._last_stored_at = self._last_answer_at
        if self._window_now < self._window:
            self._window_now = min(self._window, self._window_now * 2)
        if self._refusing is not None:
            log.info("publish_accepted_again", after=self._refusing.value)
            self._refusing = None
        if self._spool_order:
            self._commit()
        self._room.set()
        self._work.set()

    def _commit(self) -> None:
        """Let the spool go as far as its messages are acknowledged without a hole."""
        done: Mark | None = None
        while self._spool_order and self._spool_order[0][0] not in self._in_flight:
            done = self._spool_order.popleft()[1]
        if done is not None and self._spool is not None:
            self._spool.commit(done)
            if self._spool.is_empty:
                log.info("spool_drained")

    def _refused(self, entry: _Entry, verdict: Verdict, text: str) -> None:
        now = time.monotonic()
        self._metrics.refusals.add(reason=verdict.value)
        entry.due = now + verdict.retry_after_s
        if verdict is Verdict.TOO_LARGE and len(entry.message.payload) > _SUBSTITUTE_BYTES:
            self._replace(entry, self.limit)
            entry.due = now
        if self._refusing is not verdict or now - self._said_at.get(verdict, now) >= _LOG_EVERY_S:
            self._said_at[verdict] = now
            self._refusing = verdict
            log.warning(_EVENT_OF[verdict], answer=text, unacknowledged=self.unacknowledged, retrying=True)

    def _replace(self, entry: _Entry, limit: int) -> None:
        """Put the message that tells of a frame too large in its place."""
        self._held_bytes -= entry.size
        entry.message = self._substitute(entry.message, limit)
        entry.size = entry.message.size + _ENTRY_OVERHEAD_BYTES
        self._held_bytes += entry.size
        self._metrics.oversize.add()

    async def _watch(self) -> None:
        """Look at deadlines, at the connection, and at what does not move."""
        while True:
            await asyncio.sleep(_TICK_S)
            now = time.monotonic()
            if self._is_stalled(now):
                self._fall_back()
            if not self._nc.is_connected:
                continue
            overdue = [(token, entry) for token, entry in self._in_flight.items() if entry.due <= now]
            if overdue:
                await self._retry(overdue, now)
            if len(self._sampled) > self._window:
                self._sampled.clear()
            silent_s = now - self._last_answer_at
            if self._in_flight and silent_s > _UNRESPONSIVE_TIMEOUTS * self._ack_timeout_s:
                self._last_answer_at = now
                log.error(
                    "publish_unanswered",
                    seconds=round(silent_s, 1),
                    unacknowledged=self.unacknowledged,
                    cause=self._nc.violation or "JetStream does not answer; connecting anew",
                )
                if not self._nc.violation:
                    await self._nc.force_reconnect()
            self._work.set()

    def _is_stalled(self, now: float) -> bool:
        if self._away_since is not None:
            return now - self._away_since >= _AWAY_S
        oldest = next(iter(self._in_flight.values()), None)
        if oldest is None or (oldest.attempts == 0 and oldest.due > now):
            return False
        return now - self._last_stored_at > self._ack_timeout_s

    async def _retry(self, overdue: list[tuple[int, _Entry]], now: float) -> None:
        for start in range(0, len(overdue), _BLOCK_MESSAGES):
            part = overdue[start : start + _BLOCK_MESSAGES]
            for _, entry in part:
                if entry.message.size > self.limit:
                    self._replace(entry, self.limit)
                entry.attempts += 1
                self._arm(entry, now)
            self._metrics.retries.add(len(part))
            await self._nc.write_block(b"".join(self._command(token, entry.message) for token, entry in part))

    def _recall(self) -> None:
        """Take everything in flight back to the front of the waiting, or leave it to the spool it came from."""
        entries = list(self._in_flight.values())
        self._in_flight.clear()
        self._sampled.clear()
        if self._spool is not None and self._spool_order:
            self._spool_order.clear()
            self._spool.rewind()
        kept = [entry for entry in entries if entry.mark is None]
        self._held_bytes -= sum(entry.size for entry in entries if entry.mark is not None)
        for entry in kept:
            entry.attempts += 1
        self._metrics.retries.add(len(kept))
        self._waiting.extendleft(reversed(kept))

    def _fall_back(self) -> None:
        """Take what is in flight to the disk too: JetStream is away, or stores nothing."""
        if self._spool is None or self._spool_failed:
            return
        if any(entry.mark is None for entry in self._in_flight.values()) or self._waiting:
            self._recall()
            self._window_now = min(self._window, _PROBE_WINDOW)
            self._spill()

    def _spill(self) -> bool:
        """Move what waits in memory to the spool, as much as fits; return whether that made room."""
        spool = self._spool
        if spool is None or not self._waiting:
            return False
        was_empty = spool.is_empty
        count = self._spool_append([entry.message for entry in self._waiting])
        for _ in range(count):
            self._held_bytes -= self._waiting.popleft().size
        if was_empty and count:
            log.warning("spooling", messages=count, connected=self._nc.is_connected)
        if count:
            self._room.set()
        return count > 0

    def _spool_append(self, messages: list[Message]) -> int:
        """Write to the spool and return how many it took; a disk that refuses takes none."""
        spool = self._spool
        if spool is None or self._spool_failed or not spool.has_room(messages[0]):
            return 0
        try:
            count = spool.append(messages)
        except OSError as error:
            self._spool_failed = True
            remedy = "free the disk and start the connector again; until then memory is the only room"
            log.error("spool_failed", error=error.strerror, remedy=remedy)  # noqa: TRY400 - the reason says it all
            return 0
        self._metrics.spooled.add(count)
        self._work.set()
        return count


_EVENT_OF = {
    Verdict.FULL: "publish_stream_full",
    Verdict.TOO_LARGE: "publish_too_large",
    Verdict.NO_STREAM: "publish_no_stream",
    Verdict.BUSY: "publish_busy",
    Verdict.OTHER: "publish_refused",
}
