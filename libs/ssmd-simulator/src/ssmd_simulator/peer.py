"""One client's connection, as the two roads see it: messages in, frames out, each frame counted.

The only way out of the simulator: every frame leaves through :meth:`Peer.send`, so this is where frames are counted
and put on record, and where faults stand.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING

from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from ssmd_simulator.commands import ErrorCode
from ssmd_simulator.faults import Where
from ssmd_simulator.harm import Harm

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ssmd_simulator.connection import FaultyConnection
    from ssmd_simulator.faults import Fault
    from ssmd_simulator.harm import Leaving
    from ssmd_simulator.performance import Performance
    from ssmd_simulator.records import SentLog

__all__ = ["Peer"]

#: Commands waiting to be read; beyond this the client has to wait.
_WAITING_COMMANDS = 1024
#: What a half-open connection would have sent is put on record up to here; then its market stands still.
_MOST_WITHHELD = 10_000
_CHOKED_S = 0.005
_FAILURES = {"error-10": ErrorCode.CHANNEL_ERROR, "error-25": ErrorCode.BUFFER_OVERFLOW}
#: Between two commands that were held, so that data comes between their answers.
_BETWEEN_HELD_S = 0.05


class Peer:
    """A client.

    Args:
        socket: The open connection.
        number: Its number in this run, from 1.
        faults: What goes wrong at this exchange.
        sent_log: Where its frames are noted, if anywhere.

    Attributes:
        number: As given.
        frames: How many frames were handed to the socket so far.
    """

    def __init__(
        self, socket: FaultyConnection, number: int, faults: Performance, sent_log: SentLog | None
    ) -> None:
        self.number = number
        self.frames = 0
        self._socket = socket
        self._faults = faults
        self._sent_log = sent_log
        self._messages: asyncio.Queue[bytes] = asyncio.Queue(_WAITING_COMMANDS)
        self._held: list[bytes] | None = None
        self._harm = Harm(number)
        self._armed: dict[str, Fault] = {}
        self._failures: deque[ErrorCode] = deque()
        self._withheld = 0
        self._talks = asyncio.Event()
        self._talks.set()

    @property
    def is_well(self) -> bool:
        """Whether it is open, speaks, and is sent frames: a fault would tell."""
        return (
            self._socket.protocol.state is State.OPEN
            and not self._socket.is_half_open
            and self._talks.is_set()
            and self.frames > 0
        )

    @property
    def extensions(self) -> list[str]:
        """The WebSocket extensions agreed on with its client."""
        return [extension.name for extension in self._socket.protocol.extensions]

    def now_ns(self) -> int:
        """Return the exchange's time, epoch nanoseconds."""
        return self._faults.clock.now_ns()

    async def send(self, frames: Sequence[bytes]) -> None:
        """Send frames; waits while the client's buffer is full. Frames leave in the order of the calls.

        Raises:
            ConnectionClosed: The client is gone.
        """
        if not frames:
            return
        await self._talks.wait()
        while self._socket.is_choked:  # noqa: ASYNC110 - a rare fault; no event is worth it
            await asyncio.sleep(_CHOKED_S)
        if self._withheld >= _MOST_WITHHELD:
            await asyncio.Event().wait()
        # Nothing between here and the end of the block waits, and what is in it is written when it ends.
        async with self._socket.send_context():
            if self._socket.is_half_open:
                self._withhold("half-open", frames)
            elif self._harm.is_idle:
                self._put(frames)
            else:
                self._leave(self._harm.leaving(frames))

    async def receive(self, timeout_s: float | None = None) -> bytes | None:
        """Return the client's next message, or None when none came in time (None: wait for ever)."""
        if not self._messages.empty():
            return self._messages.get_nowait()
        if timeout_s == 0:
            return None
        try:
            async with asyncio.timeout(timeout_s):
                return await self._messages.get()
        except TimeoutError:
            return None

    def failure(self) -> ErrorCode | None:
        """Return the error one of its subscriptions has to end with now, if any."""
        return self._failures.popleft() if self._failures else None

    async def listen(self) -> None:
        """Take in the client's messages until it is gone.

        Raises:
            ConnectionClosedError: It went without a closing handshake.
        """
        async with asyncio.TaskGroup() as tasks:
            async for received in self._socket:
                message = received.encode() if isinstance(received, str) else received
                refusal = self._faults.refuse(message, self)
                if refusal is not None:
                    await self.send([refusal])
                    continue
                hold_s = self._faults.take_hold(self)
                if hold_s and self._held is None:
                    self._held, self._harm.holds_acks = [], True
                    tasks.create_task(self._answer_late(self._held, hold_s))
                if self._held is not None:
                    self._held.append(message)
                else:
                    await self._messages.put(message)

    async def ping(self, interval_s: float, body: bytes) -> None:
        """Send a ping each interval, for ever, as long as the one before was answered.

        Raises:
            ConnectionClosed: The client is gone.
        """
        while True:
            await asyncio.sleep(interval_s)
            # A client that is slow to answer is not cut off: it may be reading what lies before the ping.
            await (await self._socket.ping(body))

    async def close(self, code: int) -> None:
        """Close it in order."""
        if self._socket.protocol.state is State.OPEN:
            with contextlib.suppress(ConnectionClosed):
                await self._socket.close(code)

    async def suffer(self, fault: Fault) -> None:
        """Let a fault of a connection or its frames happen to it."""
        name = fault.kind.name
        if fault.kind.where is Where.FRAMES:
            self._harm.arm(fault)
            self._armed[name] = fault
            return
        self._faults.note(fault, self)
        if name == "close":
            await self.close(int(fault.value))
        elif name == "silence":
            self._talks.clear()
            if fault.value:
                asyncio.get_running_loop().call_later(fault.value, self._talks.set)
        elif name in _FAILURES:
            self._failures.append(_FAILURES[name])
        else:
            self._socket.suffer(fault)

    def end(self) -> None:
        """Put on record how it ended, and what never left."""
        self._leave(self._harm.end())
        if self._sent_log is None:
            return
        protocol = self._socket.protocol
        received, sent = protocol.close_rcvd, protocol.close_sent
        by_client = bool(protocol.close_rcvd_then_sent)
        if received is None or sent is None or self._socket.is_half_open:
            self._sent_log.end(self.number, frames=self.frames, code=None, by="nobody", whole=False)
        elif by_client:
            self._sent_log.end(self.number, frames=self.frames, code=received.code, by="client", whole=False)
        else:
            # An answer repeats the code; another one was on its way already, and so may frames have been.
            whole = received.code == sent.code
            self._sent_log.end(self.number, frames=self.frames, code=sent.code, by="exchange", whole=whole)

    async def _answer_late(self, held: list[bytes], hold_s: float) -> None:
        """Hold commands for a while, then pass them on, the last first, and no answer before some data."""
        await asyncio.sleep(hold_s)
        self._held = None
        for message in reversed(held):
            await self._messages.put(message)
            await asyncio.sleep(_BETWEEN_HELD_S)
        self._harm.holds_acks = False
        async with self._socket.send_context():
            self._leave(self._harm.released())

    def _leave(self, leaving: Iterable[Leaving]) -> None:
        """Send, or put on record as withheld, what became of frames."""
        for one in leaving:
            if one.withheld:
                self._withhold(one.fault, [one.frame])
            elif self._socket.is_half_open:
                self._withhold("half-open", [one.frame])
            else:
                self._put([one.frame])
            fault = self._armed.get(one.fault)
            if fault is not None:
                self._faults.note(fault, self)

    def _put(self, frames: Sequence[bytes]) -> None:
        if self._sent_log is not None:
            self._sent_log.write(self.number, self.frames + 1, frames)
        self.frames += len(frames)
        for frame in frames:
            if _is_text(frame):
                self._socket.protocol.send_text(frame)
            else:
                self._socket.protocol.send_binary(frame)

    def _withhold(self, fault: str, frames: Sequence[bytes]) -> None:
        if fault == "half-open":
            self._withheld += len(frames)
        if self._sent_log is not None:
            self._sent_log.withhold(self.number, fault, frames)


def _is_text(frame: bytes) -> bool:
    if frame.isascii():
        return True
    try:
        frame.decode()
    except UnicodeDecodeError:
        return False
    return True
