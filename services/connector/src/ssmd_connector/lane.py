"""One of the sockets a session keeps open: connect, capture, connect again, for as long as the process lives."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from ssmd_common.events import ConnectionOpened
from ssmd_common.service.redact import redact_text
from ssmd_connector.handshake import open_before
from ssmd_connector.link import Link
from ssmd_connector.session import Session, State
from ssmd_connector.websocket import OpenError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ssmd_common.service.lifecycle import Stop
    from ssmd_connector.backoff import Backoff
    from ssmd_connector.calendar_watch import CalendarWatch
    from ssmd_connector.capture import Capture
    from ssmd_connector.effects import Heard
    from ssmd_connector.journal import Journal, Track
    from ssmd_connector.link import TypeWatch
    from ssmd_connector.metrics import ConnectorMetrics
    from ssmd_connector.plan import Plan
    from ssmd_connector.publisher import Publisher
    from ssmd_connector.session import Dialogue
    from ssmd_connector.websocket import Ended, Socket

__all__ = ["Lane", "Wiring"]

log = structlog.get_logger()

_NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Wiring:
    """What the lanes of a session share.

    Attributes:
        plan: What to connect to and how.
        capture: Makes messages.
        publisher: Takes them.
        journal: Takes events.
        metrics: Told of everything.
        types: Watches types.
        calendar: Knows when silence is expected.
        gap_numbers: Yields the numbers of gaps.
        heard: Told what the exchange says about its markets.
        ended: Told of every connection's end.
    """

    plan: Plan
    capture: Capture
    publisher: Publisher
    journal: Journal
    metrics: ConnectorMetrics
    types: TypeWatch
    calendar: CalendarWatch
    gap_numbers: Iterator[int]
    heard: Callable[[Heard], None]
    ended: Callable[[Track, Ended], None]


class Lane:
    """One socket after another.

    Args:
        number: Which of the session's sockets, from 1.
        lanes: How many there are.
        wiring: What they share.
        dialogue: Makes the conversation of a new connection.
        backoff: How long to wait before the next.
    """

    def __init__(
        self, number: int, lanes: int, *, wiring: Wiring, dialogue: Callable[[], Dialogue], backoff: Backoff
    ) -> None:
        self.number = number
        self._lanes = lanes
        self._wiring = wiring
        self._dialogue = dialogue
        self._backoff = backoff
        self._link: Link | None = None
        self._open_failure = "not connected yet"

    @property
    def refused(self) -> tuple[str, ...]:
        """What the exchange refused on the open connection, fit to be shown."""
        return tuple(map(redact_text, self._link.session.refused)) if self._link is not None else ()

    def why_not_open(self) -> str | None:
        """Return why no socket is open, or None."""
        if self._link is not None:
            return None
        return self._named(self._wiring.calendar.explained(self._open_failure))

    def why_not_subscribed(self) -> str | None:
        """Return why this lane is not subscribed, or None."""
        link = self._link
        if link is None:
            return self._named("no socket")
        if link.session.state is State.STREAMING:
            return None
        return self._named("waiting for the exchange's confirmation")

    def why_not_flowing(self) -> str | None:
        """Return why frames do not flow, or None."""
        link = self._link
        if link is None:
            return self._named("no socket")
        return "memory and spool are full" if link.is_blocked else None

    async def change_markets(self, added: tuple[str, ...], removed: tuple[str, ...]) -> None:
        """Tell the open connection; the next one asks for what is wanted then."""
        if self._link is not None:
            await self._link.change_markets(added, removed)

    async def refresh_books(self) -> None:
        """Ask for full books on the open connection; a new one begins with them."""
        if self._link is not None:
            await self._link.refresh_books()

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
            if self._wiring.calendar.silence() is None:
                log.info("reconnecting", lane=self.number, in_s=round(delay_s, 2), attempt=self._backoff.attempts)
            if await stop.wait_for(delay_s):
                return
            self._wiring.metrics.reconnects.add()

    async def _one(self, stop: Stop) -> float:
        """Open one connection and capture until it ends; return how long to wait before the next."""
        wiring = self._wiring
        plan = wiring.plan
        try:
            socket = await open_before(plan, stop)
        except OpenError as error:
            self._open_failure = error.reason
            if wiring.calendar.silence() is None:
                log.warning("connect_failed", lane=self.number, url=plan.url(), reason=error.reason)
            return wiring.calendar.delay_s(self._backoff, at_least_s=error.retry_after_s)
        if socket is None:
            return 0.0
        wiring.metrics.connections.add()
        track = wiring.journal.open_track()
        shown = plan.url()
        log.info("connection_opened", connection=track.number, lane=self.number, url=shown)
        await wiring.journal.tell(
            ConnectionOpened, connection=track.number, url=shown, lane=self.number, lanes=self._lanes
        )
        await self._capture(socket, track, stop)
        return self._backoff.next_delay_s()

    async def _capture(self, socket: Socket, track: Track, stop: Stop) -> None:
        wiring = self._wiring
        session = Session(
            self._dialogue(),
            gap_numbers=wiring.gap_numbers,
            silence_ns=int(wiring.plan.settings.silence_limit_s * _NS_PER_S),
            sequence_starts_at=wiring.plan.sequence_starts_at,
        )
        link = self._link = Link(
            socket,
            track,
            session,
            venue=wiring.plan.venue,
            capture=wiring.capture,
            publisher=wiring.publisher,
            journal=wiring.journal,
            types=wiring.types,
            calendar=wiring.calendar,
            metrics=wiring.metrics,
            heard=wiring.heard,
        )
        try:
            ended = await link.run(stop)
        finally:
            self._link = None
        ended = wiring.calendar.ended(ended)
        self._open_failure = f"{ended.cause} {ended.reason}".strip()
        log.info(
            "connection_closed",
            connection=track.number,
            cause=ended.cause,
            code=ended.code,
            reason=ended.reason,
            frames=track.frames,
        )
        self._backoff.connection_ended(time.monotonic() - link.ready_at if link.ready_at is not None else 0.0)
        wiring.ended(track, ended)

    def _named(self, reason: str) -> str:
        return reason if self._lanes == 1 else f"socket {self.number} of {self._lanes}: {reason}"
