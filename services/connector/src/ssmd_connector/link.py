"""One connection at work: frames off the socket, through venue and session, to the publisher.

The reader is the hot path. What the session decides is performed here; how the connection ended is returned.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import structlog

from ssmd_common.events import ExchangeGap, ExchangeResynced, Subscribed, Unsubscribed
from ssmd_connector.causes import Cause
from ssmd_connector.effects import (
    Confirmed,
    Disconnect,
    GapFound,
    Heard,
    Left,
    Ready,
    Refreshed,
    Repeated,
    Resynced,
    Send,
    Warn,
)
from ssmd_connector.venues.venue import Kind
from ssmd_connector.websocket import Ended

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ssmd_common.service.lifecycle import Stop
    from ssmd_connector.calendar_watch import CalendarWatch
    from ssmd_connector.capture import Capture, Message
    from ssmd_connector.effects import Effect
    from ssmd_connector.journal import Journal, Track
    from ssmd_connector.metrics import ConnectorMetrics
    from ssmd_connector.publisher import Publisher
    from ssmd_connector.session import Session
    from ssmd_connector.venues.venue import Route, Venue
    from ssmd_connector.websocket import Socket

__all__ = ["Link", "TypeWatch"]

log = structlog.get_logger()

_TICK_S = 1.0
_STALL_S = 30.0
_LAST_FRAMES_S = 3.0
_MAX_TYPES = 1000
_REPEATS_LOGGED = 10
_FULL = "memory and spool are full"


class TypeWatch:
    """Warns once of each message type nobody expected, or of which frames are too large.

    Args:
        venue: Knows the expected ones; when it names none, every type is expected.
        metrics: Told of them.
    """

    def __init__(self, venue: Venue, metrics: ConnectorMetrics) -> None:
        self._known = venue.known_types
        self._metrics = metrics
        self._seen: set[str] = set()

    def look(self, route: Route) -> None:
        """Take a frame's route."""
        if route.kind is not Kind.DATA:
            if route.kind is Kind.UNPARSED:
                self._metrics.unparsed.add()
                self._warn("unparsed", "frame_unparsed", reason=route.reason)
        elif not route.routed:
            self._metrics.unrouted.add()
            self._warn("unrouted", "frame_without_type", reason=route.reason)
        elif self._known and route.type not in self._known and route.type not in self._seen:
            self._metrics.unknown_types.add()
            self._warn(route.type, "unknown_message_type", type=route.type[:100], published=True)

    def too_large(self, route: Route, frame_bytes: int, limit: int) -> None:
        """Take note of a frame of which length and hash are kept alone."""
        self._metrics.oversize.add()
        self._warn(
            f"too large {route.type}", "frame_oversize", bytes=frame_bytes, limit=limit, type=route.type[:100]
        )

    def _warn(self, key: str, event: str, **fields: object) -> None:
        if key not in self._seen and len(self._seen) < _MAX_TYPES:
            self._seen.add(key)
            log.warning(event, **fields)


class Link:
    """One open connection.

    Args:
        socket: The open socket.
        track: Its number and how far it is.
        session: Decides.
        venue: Routes.
        capture: Makes messages.
        publisher: Takes them.
        journal: Takes events.
        types: Watches types.
        calendar: Knows when silence is expected.
        metrics: Told of everything.
        heard: Told what the exchange says about its markets.
    """

    def __init__(
        self,
        socket: Socket,
        track: Track,
        session: Session,
        *,
        venue: Venue,
        capture: Capture,
        publisher: Publisher,
        journal: Journal,
        types: TypeWatch,
        calendar: CalendarWatch,
        metrics: ConnectorMetrics,
        heard: Callable[[Heard], None],
    ) -> None:
        self._socket = socket
        self._track = track
        self.session = session
        self._venue = venue
        self._capture = capture
        self._publisher = publisher
        self._journal = journal
        self._types = types
        self._calendar = calendar
        self._metrics = metrics
        self._heard = heard
        self._decided: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self._repeats = 0
        self.is_blocked = False
        self._is_discarding = False
        self.ready_at: float | None = None

    async def run(self, stop: Stop) -> Ended:
        """Capture until the connection ends, the session gives it up, or a stop is asked for."""
        reader = asyncio.create_task(self._read())
        ticker = asyncio.create_task(self._tick())
        stopping = asyncio.create_task(stop.wait())
        tasks: set[asyncio.Future[Any]] = {reader, ticker, stopping}
        try:
            await self._perform(self.session.opened(time.monotonic_ns()))
            await asyncio.wait({*tasks, self._decided}, return_when=asyncio.FIRST_COMPLETED)
            if ticker.done():
                ticker.result()
            if reader.done():
                ended = reader.result()
                return self._decided.result() if self._decided.done() else ended
            ended = self._decided.result() if self._decided.done() else Ended(Cause.STOPPED, None, stop.reason)
            await self._part(reader)
            return ended
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._socket.close()

    async def change_markets(self, added: tuple[str, ...], removed: tuple[str, ...]) -> None:
        """Subscribe to other markets without a new connection."""
        await self._perform(self.session.change_markets(added, removed, time.monotonic_ns()))

    async def refresh_books(self) -> None:
        """Ask for full books."""
        await self._perform(self.session.refresh_books(time.monotonic_ns()))

    async def _part(self, reader: asyncio.Task[Ended]) -> None:
        """Say goodbye and take the frames that are still on their way, for a short while."""
        for effect in self.session.stopping():
            if isinstance(effect, Send):
                await self._socket.send(effect.text)
        closing = asyncio.create_task(self._socket.close())
        await asyncio.wait({reader, closing}, timeout=_LAST_FRAMES_S, return_when=asyncio.ALL_COMPLETED)
        if not closing.done():
            closing.cancel()
            await asyncio.gather(closing, return_exceptions=True)
        if reader.done():
            reader.result()

    async def _read(self) -> Ended:
        """Take what the socket gives, read by read, until it has ended; what finds no room is counted."""
        while True:
            read = await self._socket.receive()
            if isinstance(read, Ended):
                return read
            received_ns, frames = read
            self._metrics.frames_received.value += len(frames)
            self._metrics.received_bytes.value += sum(map(len, frames))
            kept = 0 if self._is_discarding else await self._keep(received_ns, frames)
            if kept < len(frames):
                self._discard(len(frames) - kept)

    async def _keep(self, received_ns: int, frames: list[bytes]) -> int:
        """Route and publish the frames of one read; return how many: not all where there is no room for long."""
        venue, capture, publisher = self._venue, self._capture, self._publisher
        session, track, types = self.session, self._track, self._types
        number, limit, now_ns = track.number, publisher.limit, time.monotonic_ns()
        for index, frame in enumerate(frames):
            route = venue.route(frame)
            frame_no = track.frames + 1
            message = capture.frame(
                route, frame, connection=number, frame_no=frame_no, received_ns=received_ns, limit=limit
            )
            types.look(route)
            if (not route.seq_key or route.leaves_holes) and route.type not in track.unverifiable:
                track.add_unverifiable(route)
            if message.is_oversize:
                types.too_large(route, len(frame), limit)
            if not publisher.try_put(message):
                if not await self._has_waited_for_room(message, frames_behind=len(frames) - index - 1):
                    return index
                now_ns = time.monotonic_ns()
            track.frames = frame_no
            effects = session.received(route, frame, now_ns, received_ns=received_ns)
            if effects:
                await self._perform(effects)
        return len(frames)

    async def _has_waited_for_room(self, message: Message, *, frames_behind: int) -> bool:
        """Keep the frame in hand, and the exchange waiting, until there is room; False when that takes too long."""
        self.is_blocked = True
        try:
            async with asyncio.timeout(_STALL_S):
                await self._publisher.put(message)
        except TimeoutError:
            log.error("frames_not_kept", reason=_FULL, waited_s=_STALL_S)  # noqa: TRY400 - the reason says it all
            self._is_discarding = True
            return False
        except asyncio.CancelledError:
            # The process ends: this frame and those behind it have no place.
            self._discard(1 + frames_behind)
            raise
        finally:
            self.is_blocked = self._is_discarding
            self.session.excuse_silence(time.monotonic_ns())
        return True

    def _discard(self, count: int) -> None:
        """Count frames there is no room for; once there is room again a new connection takes over."""
        lost = self._journal.lose(self._track, count)
        self._metrics.frames_lost.add(count)
        self.session.excuse_silence(time.monotonic_ns())
        if self._publisher.has_room and not self._decided.done():
            log.error("frames_lost", connection=self._track.number, frames=lost, reason=_FULL)
            self._decided.set_result(Ended(Cause.BACKLOG_FULL, None, f"{lost} frames not kept: {_FULL}"))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            now_ns = time.monotonic_ns()
            if self.is_blocked or self._calendar.silence() is not None:
                self.session.excuse_silence(now_ns)
            await self._perform(self.session.tick(now_ns))

    async def _perform(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            await self._perform_one(effect)

    async def _perform_one(self, effect: Effect) -> None:
        number = self._track.number
        match effect:
            case Send():
                await self._socket.send(effect.text)
            case Confirmed() | Left():
                await self._journal.tell(
                    Subscribed if isinstance(effect, Confirmed) else Unsubscribed,
                    connection=number,
                    channel=effect.channel,
                    sid=effect.sid,
                    tickers=list(effect.tickers),
                )
            case Heard():
                self._heard(effect)
            case Refreshed():
                log.info("books_refreshed", connection=number, books=effect.books)
            case Ready():
                self.ready_at = time.monotonic()
                log.info("subscribed", connection=number, refused=effect.refused)
            case Disconnect():
                if not self._decided.done():
                    self._decided.set_result(Ended(effect.cause, None, effect.reason))
            case Warn():
                log.warning(effect.event, connection=number, **effect.fields)
            case GapFound() | Resynced() | Repeated():
                await self._record(effect)

    async def _record(self, effect: GapFound | Resynced | Repeated) -> None:
        """Put what the exchange's sequence showed on record."""
        match effect:
            case GapFound():
                await self._record_gap(effect)
            case Resynced():
                self._metrics.resyncs.add()
                number, told = self._track.number, {"gap_no": effect.gap_no, "healed": effect.healed}
                # Not `key`: what stands under that name is cut out of logs as a secret.
                log.info("exchange_resynced", connection=number, sequence=effect.key, **told)
                await self._journal.tell(ExchangeResynced, connection=number, key=effect.key, **told)
            case Repeated():
                self._metrics.repeats.add()
                self._repeats += 1
                if self._repeats <= _REPEATS_LOGGED:
                    repeat = effect.repeat
                    log.warning(
                        "exchange_sequence_repeat",
                        connection=self._track.number,
                        sequence=repeat.key,
                        seq=repeat.seq,
                        highest=repeat.highest_seq,
                    )

    async def _record_gap(self, effect: GapFound) -> None:
        gap = effect.gap
        self._metrics.gaps.add()
        number = self._track.number
        log.warning(
            "exchange_gap", connection=number, sequence=gap.key, after_seq=gap.after_seq, missing=gap.missing_count
        )
        await self._journal.tell(
            ExchangeGap,
            connection=number,
            gap_no=effect.gap_no,
            key=gap.key,
            after_seq=gap.after_seq,
            next_seq=gap.next_seq,
            missing_count=gap.missing_count,
            frame_no=self._track.frames,
            after_ns=gap.after_ns,
        )
