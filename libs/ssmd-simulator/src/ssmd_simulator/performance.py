"""Performs the faults: waits until each falls due, finds whom it happens to, does it, and puts it on record.

The shell around `faults` (what goes wrong when). What happens to one connection is performed by `peer`, what
happens to a handshake or a request by `server`, which asks here.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from http import HTTPStatus
from typing import TYPE_CHECKING

import structlog

from ssmd_simulator import rest
from ssmd_simulator.clock import Clock
from ssmd_simulator.faults import Fault, Where, fault
from ssmd_simulator.harm import refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ssmd_simulator.peer import Peer
    from ssmd_simulator.records import FaultLog

__all__ = ["Performance"]

log = structlog.get_logger()

_NS_PER_S = 1_000_000_000
_LOOK_S = 0.05
_SERVICE_RESTART = 1012
_COMPRESSED = "compressed"
_OF_A_CONNECTION = (Where.CONNECTION, Where.FRAMES)
_STATUSES = {
    "401": ("unauthorized", "unauthorized"),
    "403": ("forbidden", "forbidden"),
    "429": ("too_many_requests", "too many requests"),
    "500": ("internal_server_error", "internal server error"),
    "503": ("service_unavailable", "service unavailable"),
}


class Performance:
    """What goes wrong at one exchange.

    Args:
        due: Faults and when they fall due, in seconds after :meth:`run` begins, earliest first.
        seed: Decides whom a fault happens to.
        log: Where faults are put on record, if anywhere; the caller closes it.

    Attributes:
        clock: The exchange's clock.
        peers: The clients that are connected; the server keeps it.
        performed: How often each fault was performed, by name.
    """

    def __init__(
        self, due: Iterable[tuple[float, Fault]] = (), *, seed: int = 0, log: FaultLog | None = None
    ) -> None:
        self.clock = Clock()
        self.peers: set[Peer] = set()
        self.performed: Counter[str] = Counter()
        self._due = due
        # Not for secrets: the same seed has to make the same choices.
        self._random = random.Random(f"{seed}/whom")  # noqa: S311 - a reproducible choice, no secret
        self._log = log
        self._handshakes: deque[Fault] = deque()
        self._requests: deque[Fault] = deque()
        self._refusals: dict[str, tuple[Fault, int]] = {}
        self._hold: Fault | None = None

    async def run(self) -> None:
        """Perform each fault when it falls due; one that happens to a connection waits until there is one."""
        begun_s = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for at_s, one in self._due:
                await asyncio.sleep(max(0.0, begun_s + at_s - time.monotonic()))
                while (victim := self._victim(one)) is None and one.kind.where in _OF_A_CONNECTION:  # noqa: ASYNC110 - they come and go in other tasks
                    await asyncio.sleep(_LOOK_S)
                # A closing handshake takes its time, which is not the schedule's.
                tasks.create_task(self._perform(one, victim))
                await asyncio.sleep(0)

    async def inject(self, name: str, value: float | None = None) -> None:
        """Perform a fault now.

        Args:
            name: Its name in the catalogue.
            value: What goes with it; None for its default.

        Raises:
            ConfigError: There is no such fault.
            RuntimeError: It happens to a connection, and none is open that is sent frames.
        """
        one = fault(name, value)
        victim = self._victim(one)
        if victim is None and one.kind.where in _OF_A_CONNECTION:
            raise RuntimeError(f"{one} happens to an open connection, and there is none")
        await self._perform(one, victim)

    async def _perform(self, one: Fault, victim: Peer | None) -> None:
        if victim is not None:
            await victim.suffer(one)
            return
        match one.kind.where:
            case Where.HANDSHAKE:
                times = 1 if one.kind.name == "handshake-429" else max(1, int(one.value))
                self._handshakes.extend([one] * times)
                await asyncio.gather(*(peer.close(_SERVICE_RESTART) for peer in list(self.peers)))
            case Where.REST:
                times = 1 if one.kind.name == "rest-429" else max(1, int(one.value))
                self._requests.extend([one] * times)
            case Where.COMMANDS if one.kind.name == "late-acks":
                self._hold = one
            case Where.COMMANDS:
                self._refusals[one.kind.name] = (one, int(one.value))
            case Where.EXCHANGE:
                self.clock.skew_ns = round(one.value * _NS_PER_S)
                self.note(one, None)

    def handshake(self) -> tuple[rest.Reply | None, bool]:
        """Return how the handshake that came is answered (None: as always), and whether to offer compression."""
        if not self._handshakes:
            return None, False
        one = self._handshakes.popleft()
        self.note(one, None)
        return (None, True) if one.kind.name == _COMPRESSED else (_reply(one), False)

    def request(self) -> rest.Reply | None:
        """Return how the REST request that came is answered, None for as always."""
        if not self._requests:
            return None
        one = self._requests.popleft()
        self.note(one, None)
        return _reply(one)

    def refuse(self, message: bytes, peer: Peer) -> bytes | None:
        """Return the error a client's message is answered with, None where it is done."""
        refused = refusal(message, list(self._refusals)) if self._refusals else None
        if refused is None:
            return None
        name, answer = refused
        one, left = self._refusals.pop(name)
        if left > 1:
            self._refusals[name] = (one, left - 1)
        self.note(one, peer)
        return answer

    def take_hold(self, peer: Peer) -> float:
        """Return for how many seconds a client's next commands are held, from now on; 0 for not at all."""
        if self._hold is None:
            return 0.0
        one, self._hold = self._hold, None
        self.note(one, peer)
        return one.value

    def note(self, one: Fault, peer: Peer | None) -> None:
        """Put a fault on record as performed."""
        self.performed[one.kind.name] += 1
        connection, frames = (None, None) if peer is None else (peer.number, peer.frames)
        log.info("fault_performed", fault=str(one), connection=connection, frames=frames)
        if self._log is not None:
            self._log.write(one, connection, frames)

    def _victim(self, one: Fault) -> Peer | None:
        """Return whom a fault happens to; None where nobody can be found, or it is about no connection."""
        if one.kind.where not in _OF_A_CONNECTION:
            return None
        well = sorted((peer for peer in self.peers if peer.is_well), key=lambda peer: peer.number)
        return self._random.choice(well) if well else None


def _reply(one: Fault) -> rest.Reply:
    number = one.kind.name[-3:]
    code, message = _STATUSES[number]
    reply = rest.problem(HTTPStatus(int(number)), code, message)
    wait_s = int(one.value) if number == "429" else 0
    return rest.Reply(reply.status, reply.body, retry_after_s=wait_s)
