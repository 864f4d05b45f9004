"""Connect, capture, connect again: one feed's connections for as long as the process lives."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING

import structlog

from ssmd_common.events import ConnectionOpened
from ssmd_common.service.redact import redact_text
from ssmd_connector.auth import explain_refusal
from ssmd_connector.backoff import Backoff
from ssmd_connector.calendar_watch import CalendarWatch
from ssmd_connector.causes import Cause
from ssmd_connector.link import Link, TypeWatch
from ssmd_connector.session import Session, State
from ssmd_connector.websocket import Ended, OpenError, RefusedError, open_socket

if TYPE_CHECKING:
    from ssmd_common.service.lifecycle import Stop
    from ssmd_connector.capture import Capture
    from ssmd_connector.journal import Journal, Track
    from ssmd_connector.metrics import ConnectorMetrics
    from ssmd_connector.plan import Plan
    from ssmd_connector.publisher import Publisher

__all__ = ["FeedLoop"]

log = structlog.get_logger()

_NS_PER_S = 1_000_000_000
_SETTLE_TICK_S = 0.05


class FeedLoop:
    """The connections of one feed, one after another.

    Args:
        plan: What to connect to and how.
        capture: Makes messages.
        publisher: Takes them.
        journal: Takes events.
        metrics: Told of everything.
    """

    def __init__(
        self, plan: Plan, *, capture: Capture, publisher: Publisher, journal: Journal, metrics: ConnectorMetrics
    ) -> None:
        self._plan = plan
        self._capture = capture
        self._publisher = publisher
        self._journal = journal
        self._metrics = metrics
        self._backoff = Backoff()
        self._gap_numbers = itertools.count(1)
        self._types = TypeWatch(plan.venue, metrics)
        self._calendar = CalendarWatch(plan.feed.calendar, metrics)
        self._link: Link | None = None
        self._open_failure = "not connected yet"
        self._closing: set[asyncio.Task[None]] = set()
        self._close_order = asyncio.Lock()
        self._give_up_at: float | None = None

    def why_not_open(self) -> str | None:
        """Return why no socket is open, or None."""
        return None if self._link is not None else self._calendar.explained(self._open_failure)

    def why_not_subscribed(self) -> str | None:
        """Return why the feed is not subscribed, or None."""
        link = self._link
        if link is None:
            return "no socket"
        return None if link.session.state is State.STREAMING else "waiting for the exchange's confirmation"

    def why_not_flowing(self) -> str | None:
        """Return why frames do not flow, or None."""
        link = self._link
        if link is None:
            return "no socket"
        return "memory and spool are full" if link.is_blocked else None

    async def run(self, stop: Stop) -> None:
        """Capture until a stop is asked for.

        Raises:
            CredentialError: The exchange refused the credentials.
            ConfigError: The endpoint is no address.
        """
        while not stop.is_set():
            delay_s = await self._one(stop)
            if stop.is_set():
                return
            if self._calendar.silence() is None:
                log.info("reconnecting", in_s=round(delay_s, 2), attempt=self._backoff.attempts)
            if await stop.wait_for(delay_s):
                return
            self._metrics.reconnects.add()

    async def settled(self, timeout_s: float) -> None:
        """Wait until every connection's end is on record, the frames acknowledged or the time over."""
        deadline = time.monotonic() + timeout_s
        while self._closing and time.monotonic() < deadline:
            await asyncio.wait(self._closing, timeout=_SETTLE_TICK_S)
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def _one(self, stop: Stop) -> float:
        """Open one connection and capture until it ends; return how long to wait before the next."""
        plan = self._plan
        track = self._journal.open_track()
        url = ""
        try:
            url, headers, where = await asyncio.to_thread(plan.handshake)
            opening = asyncio.create_task(
                open_socket(url, headers=headers, max_frame_bytes=plan.settings.max_frame_bytes)
            )
            if not await self._opened_before(opening, stop):
                self._journal.drop_track(track)
                return 0.0
            socket = opening.result()
        except OpenError as error:
            self._journal.drop_track(track)
            self._open_failure = error.reason
            if self._calendar.silence() is None:
                log.warning("connect_failed", url=redact_text(url), reason=error.reason)
            return self._calendar.delay_s(self._backoff, at_least_s=error.retry_after_s)
        except RefusedError as refused:
            self._journal.drop_track(track)
            raise explain_refusal(
                refused.status, refused.body, refused.headers, url=url, where=where, now_s=time.time()
            ) from None
        self._metrics.connections.add()
        shown = redact_text(url)
        log.info("connection_opened", connection=track.number, url=shown)
        await self._journal.tell(ConnectionOpened, connection=track.number, url=shown)
        session = Session(
            plan.dialogue(),
            gap_numbers=self._gap_numbers,
            silence_ns=int(plan.settings.silence_limit_s * _NS_PER_S),
            sequence_starts_at=plan.sequence_starts_at,
        )
        self._link = Link(
            socket,
            track,
            session,
            venue=plan.venue,
            capture=self._capture,
            publisher=self._publisher,
            journal=self._journal,
            types=self._types,
            calendar=self._calendar,
            metrics=self._metrics,
        )
        try:
            ended = await self._link.run(stop)
        finally:
            link, self._link = self._link, None
        self._note_end(link, track, ended, stop)
        return self._backoff.next_delay_s()

    async def _opened_before(self, opening: asyncio.Task[object], stop: Stop) -> bool:
        """Wait for the socket, but not past a stop."""
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({opening, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
        if opening.done():
            return True
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        return False

    def _note_end(self, link: Link, track: Track, ended: Ended, stop: Stop) -> None:
        ended = self._calendar.ended(ended)
        self._open_failure = f"{ended.cause} {ended.reason}".strip()
        if ended.cause is not Cause.STOPPED:
            self._metrics.disconnects.add(cause=ended.cause.value)
        log.info(
            "connection_closed",
            connection=track.number,
            cause=ended.cause,
            code=ended.code,
            reason=ended.reason,
            frames=track.frames,
        )
        healthy_s = time.monotonic() - link.ready_at if link.ready_at is not None else 0.0
        self._backoff.connection_ended(healthy_s)
        task = asyncio.create_task(self._close_when_acknowledged(track, ended, stop))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close_when_acknowledged(self, track: Track, ended: Ended, stop: Stop) -> None:
        """Put the end on record behind the last frame's PubAck; a stop waits only so long for all of them.

        It does not wait at all where NATS is away and everything lies on disk: the next life publishes it.
        Ends are recorded in the order in which the connections ended: the lock lets its waiters in as they came.
        """
        async with self._close_order:
            while not self._journal.is_acknowledged(track):
                if stop.is_set():
                    if self._give_up_at is None:
                        self._give_up_at = time.monotonic() + self._plan.drain_s
                    if time.monotonic() >= self._give_up_at or self._publisher.is_parked:
                        break
                await asyncio.sleep(_SETTLE_TICK_S)
            await self._journal.close_track(track, ended)
