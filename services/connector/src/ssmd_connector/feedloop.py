"""All sockets of a session: opened side by side, followed until a stop, their ends put on record in order."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING

from ssmd_common.errors import SsmdError
from ssmd_connector.backoff import Backoff
from ssmd_connector.calendar_watch import CalendarWatch
from ssmd_connector.causes import Cause
from ssmd_connector.keeper import MarketKeeper
from ssmd_connector.lane import Lane, Wiring
from ssmd_connector.link import TypeWatch
from ssmd_connector.venues.generic_refusals import Refusals

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from ssmd_common.service.lifecycle import Stop
    from ssmd_connector.capture import Capture
    from ssmd_connector.journal import Journal, Track
    from ssmd_connector.metrics import ConnectorMetrics
    from ssmd_connector.plan import Plan
    from ssmd_connector.publisher import Publisher
    from ssmd_connector.session import Dialogue
    from ssmd_connector.websocket import Ended

__all__ = ["FeedLoop"]

_SETTLE_TICK_S = 0.05


class FeedLoop:
    """The connections of one feed.

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
        self._publisher = publisher
        self._journal = journal
        self._metrics = metrics
        self._keeper = MarketKeeper(plan, journal=journal, publisher=publisher, metrics=metrics)
        wiring = Wiring(
            plan=plan,
            capture=capture,
            publisher=publisher,
            journal=journal,
            metrics=metrics,
            types=TypeWatch(plan.venue, metrics),
            calendar=CalendarWatch(plan.feed.calendar, metrics),
            gap_numbers=itertools.count(1),
            heard=self._keeper.heard,
            ended=self._note_end,
        )
        self._lanes = [self._lane(number, wiring) for number in range(1, plan.sockets + 1)]
        metrics.subscriptions_refused.observe(lambda: sum(len(lane.refused) for lane in self._lanes))
        self._closing: set[asyncio.Task[None]] = set()
        self._close_order = asyncio.Lock()
        self._stop: Stop | None = None
        self._give_up_at: float | None = None
        self._failure: SsmdError | None = None

    def why_not_open(self) -> str | None:
        """Return which socket is not open and why, or None."""
        return next((reason for lane in self._lanes if (reason := lane.why_not_open())), None)

    def why_not_subscribed(self) -> str | None:
        """Return what of the feed is not subscribed to, or None."""
        reasons = (self._keeper.why_not_complete(), *(lane.why_not_subscribed() for lane in self._lanes))
        return next((reason for reason in reasons if reason), None)

    def refused(self) -> str | None:
        """Return what is captured without, since the exchange refuses it, or None."""
        return next((f"the exchange refuses: {text}" for lane in self._lanes for text in lane.refused), None)

    def why_not_flowing(self) -> str | None:
        """Return why frames do not flow, or None."""
        return next((reason for lane in self._lanes if (reason := lane.why_not_flowing())), None)

    async def run(self, stop: Stop) -> None:
        """Capture until a stop is asked for.

        Raises:
            CredentialError: The exchange refused the credentials.
            ConfigError: An endpoint is no address, or refuses what is asked of it.
        """
        self._stop = stop
        async with asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(self._or_stop(self._keeper.run(self._lanes), stop))
            lanes = [tasks.create_task(self._or_stop(lane.run(stop), stop)) for lane in self._lanes]
            await asyncio.wait(lanes)
            keeping.cancel()
        if self._failure is not None:
            raise self._failure

    async def settled(self, timeout_s: float) -> None:
        """Wait until every connection's end is on record, the frames acknowledged or the time over."""
        deadline = time.monotonic() + timeout_s
        while self._closing and time.monotonic() < deadline:
            await asyncio.wait(self._closing, timeout=_SETTLE_TICK_S)
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _lane(self, number: int, wiring: Wiring) -> Lane:
        """Make one socket, whose connections ask for the markets it has to bring when they begin."""
        refusals = Refusals()

        def dialogue() -> Dialogue:
            return self._plan.dialogue(number, self._keeper.markets.tickers(number), refusals)

        return Lane(number, self._plan.sockets, wiring=wiring, dialogue=dialogue, backoff=Backoff())

    async def _or_stop(self, work: Coroutine[None, None, None], stop: Stop) -> None:
        """Do it; where it cannot go on, all other sockets end in order first."""
        try:
            await work
        except SsmdError as error:
            self._failure = self._failure or error
            if not stop.is_set():
                stop.set("failed")

    def _note_end(self, track: Track, ended: Ended) -> None:
        if ended.cause is not Cause.STOPPED:
            self._metrics.disconnects.add(cause=ended.cause.value)
        task = asyncio.create_task(self._close_when_acknowledged(track, ended))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close_when_acknowledged(self, track: Track, ended: Ended) -> None:
        """Put the end on record behind the last frame's PubAck; a stop waits only so long for all of them.

        It does not wait at all where NATS is away and everything lies on disk: the next life publishes it.
        Ends are recorded in the order in which the connections ended: the lock lets its waiters in as they came.
        """
        async with self._close_order:
            while not self._journal.is_settled(track):
                if self._stop is not None and self._stop.is_set():
                    if self._give_up_at is None:
                        self._give_up_at = time.monotonic() + self._plan.drain_s
                    if time.monotonic() >= self._give_up_at or self._publisher.is_parked:
                        self._publisher.shed(track.number)
                        break
                await asyncio.sleep(_SETTLE_TICK_S)
            await self._journal.close_track(track, ended)
