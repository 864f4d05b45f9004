"""The way out: every message goes to JetStream once, and is held until its PubAck has come.

In order of age a message is *in flight* (sent, unacknowledged: at most a window), in the *spool* on disk, or
*waiting* in memory. As long as JetStream answers nothing touches the disk. When it is away, or answers only errors,
everything held goes to the spool in order and new messages follow it there; when it answers again the spool is sent
from its beginning. Whoever brings a message has to wait only when memory and spool are both full. Until it is found
for the first time NATS is away, too.

One inbox takes all answers; a message's reply subject ends in its token, which finds it again. Nothing is dropped:
a message is retried, with its id unchanged, until it is acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from typing import TYPE_CHECKING

import structlog

from ssmd_connector.answers import DUPLICATE, STORED, Verdict, read_answer
from ssmd_connector.holding import Holding
from ssmd_connector.pulse import Pulse
from ssmd_connector.refusals import Refusals

if TYPE_CHECKING:
    from collections.abc import Callable

    from ssmd_common.nats.client import NatsClient, RawMessage
    from ssmd_connector.capture import Message
    from ssmd_connector.holding import Entry
    from ssmd_connector.ledger import Ledger
    from ssmd_connector.metrics import ConnectorMetrics
    from ssmd_connector.spool import Spool

__all__ = ["Publisher"]

log = structlog.get_logger()

_BLOCK_MESSAGES = 512
_TICK_S = 0.25
_PROBE_WINDOW = 16
_MAX_BACKOFF_DOUBLINGS = 4
_MAX_REFUSALS = 5


class Publisher:
    """Publishes messages with acknowledgement. For one event loop; :meth:`run` must be running.

    What is put before :meth:`attach` is held, as while NATS is away.

    Args:
        stream: The stream that has to acknowledge.
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
        *,
        stream: str,
        window: int,
        ack_timeout_s: float,
        memory_bytes: int,
        spool: Spool | None,
        ledger: Ledger,
        substitute: Callable[[Message, int], Message],
        metrics: ConnectorMetrics,
    ) -> None:
        self._nc: NatsClient | None = None
        self._stream = stream
        self._stream_limit = -1
        self._window = window
        self._window_now = window
        self._ack_timeout_s = ack_timeout_s
        self._holding = Holding(memory_bytes=memory_bytes, spool=spool, spooled=metrics.spooled)
        self._ledger = ledger
        self._substitute = substitute
        self._metrics = metrics
        self._pubacks = metrics.pubacks
        self._token = 0
        self._shed = 0
        self._in_flight: dict[int, Entry] = {}
        self._work = asyncio.Event()
        self._room = asyncio.Event()
        self._sampled: dict[int, float] = {}
        self._pulse = Pulse(time.monotonic(), ack_timeout_s=ack_timeout_s)
        self._pulse.disconnected(time.monotonic())
        self._refusals = Refusals(metrics)
        self._reply_prefix = b""
        metrics.window_depth.observe(lambda: len(self._in_flight))
        metrics.waiting.observe(lambda: len(self._holding.waiting))
        metrics.memory_bytes.observe(lambda: self._holding.memory_used)
        metrics.spool_bytes.observe(lambda: spool.size_bytes if spool is not None else 0)

    @property
    def limit(self) -> int:
        """Largest message, header included, that can be published now; before NATS is found none is known.

        What turns out too large by then is replaced when it is sent.
        """
        if self._nc is None:
            return sys.maxsize
        limit = self._nc.max_payload
        return min(limit, self._stream_limit) if self._stream_limit > 0 else limit

    @property
    def has_room(self) -> bool:
        """Whether memory or spool have room again, and not for one message alone."""
        return self._holding.has_room

    @property
    def is_idle(self) -> bool:
        """Whether every message brought so far has its acknowledgement."""
        return not self._in_flight and self._holding.is_empty

    @property
    def is_spooling(self) -> bool:
        """Whether messages wait on disk."""
        return self._holding.is_spooling

    @property
    def is_parked(self) -> bool:
        """Whether nothing is stored and all that is held lies on disk: waiting for acknowledgements is in vain."""
        if self._holding.waiting or not self.is_spooling or not self._is_stalled(time.monotonic()):
            return False
        return all(entry.mark is not None for entry in self._in_flight.values())

    @property
    def unacknowledged(self) -> int:
        """Messages in memory without acknowledgement; the spool's are beside it."""
        return len(self._in_flight) + len(self._holding.waiting)

    def try_put(self, message: Message) -> bool:
        """Take a message if there is room now; the hot path."""
        if not self._holding.put(message):
            return False
        self._work.set()
        return True

    async def put(self, message: Message) -> None:
        """Take a message, waiting for room; returning is the only sign, there is no failure."""
        stalled = False
        while not self.try_put(message):
            if self._holding.spill(connected=self._is_connected):
                continue
            if not stalled:
                stalled = True
                self._metrics.stalls.add()
            self._room.clear()
            await self._room.wait()

    async def run(self) -> None:
        """Send, read answers and retry, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._send())
            tasks.create_task(self._watch())

    async def attach(self, nc: NatsClient, *, stream_limit: int) -> None:
        """Publish over this connection from now on, what is held first.

        Args:
            nc: The connection, on which the stream was found.
            stream_limit: Largest message the stream takes, in bytes; -1 without a limit.
        """
        inbox = nc.new_inbox()
        self._reply_prefix = f"{inbox}.".encode()
        await nc.subscribe_raw(f"{inbox}.*", self._on_answers)
        self._nc, self._stream_limit = nc, stream_limit
        if nc.is_connected:
            self.on_reconnected()

    async def drained(self, timeout_s: float) -> bool:
        """Wait until everything is acknowledged, at most ``timeout_s``; return whether it is.

        Where NATS is away and everything lies on disk there is nothing to wait for.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not (self.is_idle or self.is_parked):
                    self._room.clear()
                    await self._room.wait()
        return self.is_idle

    def keep_rest(self) -> int:
        """Move what is left in memory to the spool before the process ends; return how much could not be kept."""
        self._recall()
        self._holding.spill(connected=self._is_connected)
        return len(self._holding.waiting) + self._shed

    def shed(self, connection: int) -> None:
        """Move what is in memory to the spool before the process ends, and record the frames it has no room for."""
        self._recall()
        self._holding.spill(connected=self._is_connected)
        for first, end in self._holding.shed(connection):
            self._shed += end - first
            self._lose(connection, first, end)

    def on_disconnected(self) -> None:
        """Take note that the connection is lost: what is in flight has to be sent again."""
        self._pulse.disconnected(time.monotonic())

    def on_reconnected(self) -> None:
        """Send everything in flight again, in order: its answers went to a connection that is gone."""
        self._pulse.reconnected(time.monotonic())
        self._recall()
        self._work.set()

    @property
    def _is_connected(self) -> bool:
        return self._nc is not None and self._nc.is_connected

    async def _send(self) -> None:
        """Write blocks of messages while the window has room; woken by new messages and by answers."""
        while True:
            await self._work.wait()
            self._work.clear()
            self._holding.let_go(self._in_flight)
            self._room.set()
            nc = self._nc
            while nc and nc.is_connected and (room := self._window_now - len(self._in_flight)) > 0:
                entries = self._holding.take(min(room, _BLOCK_MESSAGES))
                if not entries:
                    break
                await self._write(nc, entries)

    async def _write(self, nc: NatsClient, entries: list[Entry]) -> None:
        now = time.monotonic()
        due = now + self._ack_timeout_s
        limit, token, in_flight, reply_prefix = self.limit, self._token, self._in_flight, self._reply_prefix
        self._sampled[token + 1] = now
        parts: list[bytes] = []
        fresh = 0
        for entry in entries:
            token += 1
            if entry.mark is not None:
                self._holding.sent(token, entry.mark)
            # `size` is never below the message's own.
            if entry.size > limit and not self._fits(entry, limit, nc.max_payload):
                continue
            in_flight[token] = entry
            if entry.attempts:
                self._arm(entry, now)
            else:
                entry.due = due
                fresh += 1
            parts.append(entry.message.command(reply_prefix, token))
        self._token = token
        self._metrics.messages_published.add(fresh)
        await nc.write_block(b"".join(parts))

    def _arm(self, entry: Entry, now: float) -> None:
        entry.due = now + self._ack_timeout_s * 2 ** min(entry.attempts, _MAX_BACKOFF_DOUBLINGS)

    def _on_answers(self, answers: list[RawMessage]) -> None:
        """Take the answers one read brought; called from the client's read loop, so it must not raise."""
        for answer in answers:
            self._on_answer(*answer)

    def _on_answer(self, subject: bytes, _reply: bytes, headers: bytes | None, payload: bytes) -> None:
        """Match an answer to its message."""
        number = subject[len(self._reply_prefix) :]
        token = int(number) if number.isdigit() else 0
        entry = self._in_flight.get(token)
        if entry is None:
            return
        self._pulse.answered = True
        answer = read_answer(headers, payload, self._stream)
        if answer is not STORED:
            if answer is not DUPLICATE:
                self._refused(token, entry, answer.verdict, answer.text)
                return
            self._metrics.duplicates.add()
        self._take_stored(token, entry)

    def _take_stored(self, token: int, entry: Entry) -> None:
        del self._in_flight[token]
        self._holding.memory_used -= entry.size
        self._pubacks.value += 1
        message = entry.message
        if message.frame_no:
            self._ledger.acked(message.connection, message.frame_no)
        if token in self._sampled:
            sent_at = self._sampled.pop(token)
            if not entry.attempts:
                self._metrics.puback_latency.record(time.monotonic() - sent_at)
        self._pulse.stored = True
        if self._window_now < self._window:
            self._window_now = min(self._window, self._window_now * 2)
        if self._refusals.latest is not None:
            self._refusals.settled(token)
        self._work.set()

    def _refused(self, token: int, entry: Entry, verdict: Verdict, text: str) -> None:
        now = time.monotonic()
        self._refusals.take(token, verdict, text, unacknowledged=self.unacknowledged)
        entry.due = now + verdict.retry_after_s
        if verdict is Verdict.TOO_LARGE and self._replace(entry, self.limit):
            entry.due = now
        elif verdict.is_about_the_message:
            entry.refused_at = entry.refused_at or now
            entry.refused += 1
            # Where nothing else is stored either it is not the message, whatever the answer says.
            if entry.refused > _MAX_REFUSALS and self._pulse.stored_at > entry.refused_at:
                del self._in_flight[token]
                self._refusals.settled(token)
                self._set_aside(entry, text)

    def _fits(self, entry: Entry, limit: int, max_payload: int) -> bool:
        """Tell whether a message may be sent, as it is or as what stands for it.

        The server ends the connection for good over one above its limit, so such a one is not sent at all.
        """
        if entry.message.size <= limit or self._replace(entry, limit) or entry.message.size <= max_payload:
            return True
        self._set_aside(entry, f"larger than the server's max_payload of {max_payload}")
        return False

    def _set_aside(self, entry: Entry, text: str) -> None:
        """Give up a message the stream will never take, so that the others do not wait behind it."""
        message = entry.message
        self._holding.memory_used -= entry.size
        self._metrics.set_aside.add()
        log.error("message_set_aside", msg_id=message.msg_id, answer=text, bytes=message.size)
        if message.frame_no:
            self._lose(message.connection, message.frame_no, message.frame_no + 1)
        self._work.set()

    def _lose(self, connection: int, first: int, end: int) -> None:
        self._metrics.frames_lost.add(end - first)
        self._ledger.lose(connection, first, end)

    def _replace(self, entry: Entry, limit: int) -> bool:
        """Put the message that tells of a frame too large in its place, where that is smaller."""
        told = self._substitute(entry.message, limit)
        if entry.message.is_oversize or told.size >= entry.message.size:
            return False
        self._holding.replace(entry, told)
        self._metrics.oversize.add()
        return True

    async def _watch(self) -> None:
        """Look at deadlines, at the connection, and at what does not move."""
        while True:
            await asyncio.sleep(_TICK_S)
            now, nc = time.monotonic(), self._nc
            if nc is not None and self._pulse.stored:
                nc.violation = ""
            self._pulse.look(now)
            self._holding.sync()
            if self._is_stalled(now):
                self._fall_back()
            # Whoever waits for room looks again: it may be at an end for another reason.
            self._room.set()
            if nc is None or not nc.is_connected:
                continue
            overdue = [(token, entry) for token, entry in self._in_flight.items() if entry.due <= now]
            if overdue:
                await self._retry(nc, overdue, now)
            if len(self._sampled) > self._window:
                self._sampled.clear()
            silent_s = self._pulse.silent_s(now) if self._in_flight else None
            if silent_s is not None:
                log.error(
                    "publish_unanswered",
                    seconds=round(silent_s, 1),
                    unacknowledged=self.unacknowledged,
                    cause=nc.violation or "JetStream does not answer; connecting anew",
                )
                # Who may not publish is heard once he may; answers come only to who has subscribed anew.
                if not nc.violation or "for subscription" in nc.violation.lower():
                    await nc.force_reconnect()
                else:
                    # Said of every message tried again as long as it holds. Where it is not, the right may be back,
                    # and that to hear the answers have been taken away with it.
                    nc.violation = ""
            self._work.set()

    def _is_stalled(self, now: float) -> bool:
        oldest = next(iter(self._in_flight.values()), None)
        is_overdue = oldest is not None and (oldest.attempts > 0 or oldest.due <= now)
        return self._pulse.is_stalled(now, is_overdue=is_overdue)

    async def _retry(self, nc: NatsClient, overdue: list[tuple[int, Entry]], now: float) -> None:
        for start in range(0, len(overdue), _BLOCK_MESSAGES):
            part = overdue[start : start + _BLOCK_MESSAGES]
            commands: list[bytes] = []
            for token, entry in part:
                # While the part before it was written an answer may have come, or the connection gone.
                if self._in_flight.get(token) is not entry:
                    continue
                if not self._fits(entry, self.limit, nc.max_payload):
                    del self._in_flight[token]
                    self._refusals.settled(token)
                    continue
                entry.attempts += 1
                self._arm(entry, now)
                commands.append(entry.message.command(self._reply_prefix, token))
            self._metrics.retries.add(len(commands))
            await nc.write_block(b"".join(commands))

    def _recall(self) -> None:
        """Take everything in flight back, to be sent again."""
        entries = list(self._in_flight.values())
        self._in_flight.clear()
        self._sampled.clear()
        self._refusals.recalled()
        self._metrics.retries.add(self._holding.take_back(entries))

    def _fall_back(self) -> None:
        """Take what is in flight to the disk too: JetStream is away, or stores nothing."""
        holding = self._holding
        if not holding.can_spill:
            return
        if holding.waiting or any(entry.mark is None for entry in self._in_flight.values()):
            self._recall()
            self._window_now = min(self._window, _PROBE_WINDOW)
            holding.spill(connected=self._is_connected)
            self._work.set()
