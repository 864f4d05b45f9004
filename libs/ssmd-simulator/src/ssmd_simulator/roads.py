"""The two things this exchange can do with a client: play a market, or play back a recording.

Between `server`, which opens connections, and the pure modules, which decide what is said in them. Both keep
the time, neither knows sockets.
"""

from __future__ import annotations

import asyncio
import bisect
import time
from typing import TYPE_CHECKING, Protocol

from ssmd_simulator.acks import Acks
from ssmd_simulator.directory import Directory
from ssmd_simulator.market import Exchange
from ssmd_simulator.pace import Pace
from ssmd_simulator.protocol import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from ssmd_simulator.captures import Capture
    from ssmd_simulator.clock import Clock
    from ssmd_simulator.peer import Peer

__all__ = ["GeneratedRoad", "ReplayedRoad", "Road"]

#: Frames sent before other tasks get their turn.
_GROUP = 64
#: A client that said nothing for so long has sent all its first commands.
_SETTLED_S = 0.3
#: How long news of the markets may wait while nothing else is sent.
_NEWS_S = 0.1


class Road(Protocol):
    """What a client is served with.

    Attributes:
        directory: The markets REST tells of.
    """

    directory: Directory

    async def live(self, clock: Clock, /) -> None:
        """Do what happens without any client, until the task is cancelled."""

    async def serve(self, peer: Peer) -> None:
        """Serve one client until it is gone or the task is cancelled."""


class GeneratedRoad:
    """Markets from a seed; each connection has its own, so clients do not disturb each other.

    The nth connection of every run with the same seed, markets and commands gets the same frames, times apart.

    Args:
        seed: The run's seed.
        markets: How many markets are listed.
        rate: Data frames a second for each connection; None for as fast as it reads.
        open_every_s: Seconds after which one more market is listed, again and again; None for never.
        settle_every_s: Seconds after which the oldest market is settled, again and again; None for never. The last
            one that trades is left alone.

    Attributes:
        directory: The markets, shared by all connections; tests open and settle them here.
    """

    def __init__(
        self,
        *,
        seed: int,
        markets: int,
        rate: float | None,
        open_every_s: float | None = None,
        settle_every_s: float | None = None,
    ) -> None:
        self.directory = Directory(markets)
        self._seed = seed
        self._rate = rate
        self._open_every_s = open_every_s
        self._settle_every_s = settle_every_s

    async def live(self, clock: Clock, /) -> None:
        """Open and settle markets in their time."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_repeat(self.directory.open_next, self._open_every_s, clock))
            tasks.create_task(_repeat(self.directory.settle_oldest, self._settle_every_s, clock))

    async def serve(self, peer: Peer) -> None:
        """Answer commands as they come and send data frames as they fall due, from this one task.

        One task, since frames have to leave in the order in which they got their seqs.
        """
        session = Session(Exchange(self._seed, self.directory, stream=peer.number))
        pace = Pace(self._rate)
        while True:
            wait_s = _NEWS_S if session.subscribed else None
            if session.streaming:
                wait_s = min(_NEWS_S, pace.wait_s(time.monotonic()))
            message = await peer.receive(wait_s)
            if message is not None:
                await peer.send(session.handle(message, peer.now_ns()))
                continue
            while (code := peer.failure()) is not None:
                await peer.send(session.fail(code))
            await peer.send(session.news(peer.now_ns()))
            if not session.streaming:
                continue
            due = pace.take(time.monotonic(), _GROUP)
            await peer.send(session.next_frames(due, peer.now_ns()))
            await asyncio.sleep(0)


class ReplayedRoad:
    """A recording, sent verbatim once in a run; every connection gets answers to its commands and pings.

    The first client to subscribe gets the recording. When it is cut off in the middle, the next one (waiting
    or yet to come) goes on with the frame that was interrupted; after the last frame there are pings only.

    Args:
        capture: The recording.
        speed: How many times faster than recorded.
        rate: Frames a second at speed 1 where the recording has no times; None for as fast as possible.
    """

    def __init__(self, capture: Capture, *, speed: float, rate: float | None) -> None:
        # Which of a recording's markets were open is not known.
        self.directory = Directory(0)
        self._frames = capture.frames
        self._due_s = capture.due_s(speed=speed, rate=rate)
        self._sids = capture.sids()
        self._next = 0
        self._turn = asyncio.Lock()

    async def live(self, clock: Clock, /) -> None:
        """Nothing happens without a client."""

    async def serve(self, peer: Peer) -> None:
        """Answer commands; once they have settled, play what is left of the recording."""
        acks = Acks(self._sids)
        timeout_s: float | None = None
        while (message := await peer.receive(timeout_s)) is not None:
            timeout_s = _SETTLED_S
            await peer.send(acks.answer(message))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._play(peer))
            while (message := await peer.receive()) is not None:
                await peer.send(acks.answer(message))

    async def _play(self, peer: Peer) -> None:
        async with self._turn:
            begun_s, first_due_s = time.monotonic(), self._due_s[min(self._next, len(self._frames) - 1)]
            while self._next < len(self._frames):
                elapsed_s = time.monotonic() - begun_s + first_due_s
                due = bisect.bisect_right(
                    self._due_s, elapsed_s, self._next, min(self._next + _GROUP, len(self._frames))
                )
                await peer.send(self._frames[self._next : due])
                self._next = due
                ahead_s = 0.0 if due == len(self._frames) else self._due_s[due] - elapsed_s
                await asyncio.sleep(max(0.0, ahead_s))


async def _repeat(act: Callable[[int], object], every_s: float | None, clock: Clock) -> None:
    """Do something each interval, told the time in epoch nanoseconds; None for never."""
    while every_s is not None:
        await asyncio.sleep(every_s)
        act(clock.now_ns())
