"""The ways from a WebSocket into a stream that are compared: our connector, and three loops on the client's calls.

Each function is run in a process of its own, takes every frame the source sends on one connection, and returns what
that took: from the first frame's sending to the last frame's acknowledgement (where there is none: to the flush).
The loops get the connector's own routing, headers and message ids for nothing: only publishing differs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nats
import nats.js.client
from nats.aio.client import Client
from nats.js.api import StorageType, StreamConfig
from nats.js.errors import NotFoundError
from picows.websockets import connect as picows_connect
from websockets.asyncio.client import connect as websockets_connect

from bench import quiet
from bench.fill import FEED, MAX_BYTES, STREAM, SUBJECTS
from bench.machine import peak_bytes
from bench.source import MARKETS, Marks
from ssmd_common.config.environment import Environment
from ssmd_common.config.loading import load_feed
from ssmd_common.frames import MSG_ID_HEADER, RECEIVED_NS_HEADER, TYPE_HEADER
from ssmd_common.nats.connection import close, connect
from ssmd_common.service.lifecycle import Stop
from ssmd_common.service.telemetry import Metrics
from ssmd_connector import handshake
from ssmd_connector.capture import Capture, Message
from ssmd_connector.feedloop import FeedLoop
from ssmd_connector.journal import Journal
from ssmd_connector.ledger import Ledger
from ssmd_connector.metrics import ConnectorMetrics
from ssmd_connector.plan import Plan
from ssmd_connector.publisher import Publisher
from ssmd_connector.spool import Spool
from ssmd_connector.venues.kalshi import KalshiVenue
from ssmd_simulator.keys import KEY_ID_FILE, PRIVATE_KEY_FILE, own_key
from ssmd_simulator.market import Channel
from ssmd_simulator.markets import listing

__all__ = ["Places", "Took", "connector", "loop_of", "one_by_one", "publish_async", "without_acks"]

KALSHI = Path(__file__).parents[2] / "exchanges/feeds/kalshi.yaml"
CHANNELS = tuple(channel.value for channel in Channel)
TICKERS = tuple(listing(number).ticker for number in range(MARKETS))
SESSION = "bench-01ARZ3NDEKTSV4RRFFQ69G5FAV"
RUN_TIMEOUT_S = 900
POLL_S = 0.002
NS_PER_S = 1_000_000_000
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Places:
    """Where a run takes place.

    Attributes:
        exchange: The source's address, which says how much it sends and how fast.
        nats: The server's address.
        nats_pid: Its process.
        source_pid: The source's process.
        folder: For the spool.
        markets: How many markets are subscribed to.
    """

    exchange: str
    nats: str
    nats_pid: int
    source_pid: int
    folder: Path
    markets: int = MARKETS


@dataclass(frozen=True, slots=True)
class Took:
    """What one run took.

    Attributes:
        frames: Frames taken off the socket.
        seconds: From the first one's sending to the last one's acknowledgement.
        cpu_seconds: Processor time of the publishing process meanwhile.
        nats_cpu_seconds: Of the server.
        source_cpu_seconds: Of the source.
        peak_bytes: Most memory the process ever held.
        latencies_ns: From a frame's receipt to its acknowledgement, where that was asked for.
    """

    frames: int
    seconds: float
    cpu_seconds: float
    nats_cpu_seconds: float
    source_cpu_seconds: float
    peak_bytes: int
    latencies_ns: list[int] = field(default_factory=list)


class _Clock:
    """Waits for the source to begin, and says in the end what it took."""

    def __init__(self, marks: Marks, places: Places) -> None:
        self._marks = marks
        self._pids = places.nats_pid, places.source_pid
        self._before = (0.0, 0.0, 0.0)

    async def until(self, acknowledged: Callable[[], int]) -> None:
        """Return once everything the source sent is acknowledged."""
        async with asyncio.timeout(RUN_TIMEOUT_S):
            while not self._marks.sending.value:  # noqa: ASYNC110 - another process tells
                await asyncio.sleep(POLL_S)
            self._before = self._cpu()
            while acknowledged() < self._marks.total.value:  # noqa: ASYNC110 - the hot path sets no event
                await asyncio.sleep(POLL_S)

    def _cpu(self) -> tuple[float, float, float]:
        others = [_cpu_seconds(pid) for pid in self._pids]
        return time.process_time(), others[0], others[1]

    def took(self, latencies_ns: list[int]) -> Took:
        """Return what it took up to now."""
        seconds = time.monotonic() - self._marks.sending.value
        own, server, source = (now - before for now, before in zip(self._cpu(), self._before, strict=True))
        peak = peak_bytes()
        return Took(self._marks.total.value, seconds, own, server, source, peak, latencies_ns)


def _cpu_seconds(pid: int) -> float:
    """Return the processor time of another process, where the system tells it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


# --- our connector


class _TimedCapture(Capture):
    """Notes when each frame was received."""

    received_ns: dict[int, int]

    def frame(self, *args: Any, received_ns: int, frame_no: int, **more: Any) -> Message:
        self.received_ns[frame_no] = received_ns
        return super().frame(*args, received_ns=received_ns, frame_no=frame_no, **more)


class _TimedLedger(Ledger):
    """Notes when each frame was acknowledged."""

    __slots__ = ("acked_ns",)

    def __init__(self) -> None:
        super().__init__()
        self.acked_ns: dict[int, int] = {}

    def acked(self, connection: int, frame_no: int) -> None:
        super().acked(connection, frame_no)
        self.acked_ns[frame_no] = time.time_ns()


def _plan(places: Places) -> Plan:
    keys = places.folder / "keys"
    own_key(keys)
    environment = {
        "name": "bench",
        "feed": FEED,
        "instance": "bench",
        "endpoint": places.exchange,
        "capture": {"channels": list(CHANNELS), "symbols": [listing(n).ticker for n in range(places.markets)]},
        "keys": {
            "kalshi": {
                "fields": ["api_key", "private_key"],
                "source": f"file:{keys / KEY_ID_FILE},{keys / PRIVATE_KEY_FILE}",
            }
        },
        "transport": {"type": "nats", "url": places.nats, "stream": STREAM},
        "limits": {"spool_dir": str(places.folder / "spool")},
    }
    return Plan.of(load_feed(KALSHI), Environment.model_validate(environment), {})


async def _connect_and_capture(places: Places, marks: Marks, *, timed: bool) -> Took:
    plan = _plan(places)
    limits = plan.env.limits
    nc = await connect(plan.env.transport.with_secrets({}), name="bench")
    await _new_stream(nc)
    ledger = _TimedLedger() if timed else Ledger()
    capture = _TimedCapture(SESSION, SUBJECTS) if timed else Capture(SESSION, SUBJECTS)
    if isinstance(capture, _TimedCapture):
        capture.received_ns = {}
    metrics = ConnectorMetrics(Metrics("bench"))
    spool = Spool(places.folder / "spool", max_bytes=limits.spool_bytes)
    publisher = Publisher(
        stream=STREAM,
        window=limits.ack_window,
        ack_timeout_s=limits.ack_timeout_s,
        memory_bytes=limits.memory_bytes,
        spool=spool,
        ledger=ledger,
        substitute=capture.substitute,
        metrics=metrics,
    )
    await publisher.attach(nc, stream_limit=-1)
    feed = FeedLoop(
        plan,
        capture=capture,
        publisher=publisher,
        journal=Journal(capture, publisher, ledger),
        metrics=metrics,
    )
    stop, clock = Stop(), _Clock(marks, places)
    async with asyncio.TaskGroup() as tasks:
        publishing = tasks.create_task(publisher.run())
        capturing = tasks.create_task(feed.run(stop))
        await clock.until(lambda: ledger.through(1))
        latencies: list[int] = []
        if isinstance(ledger, _TimedLedger) and isinstance(capture, _TimedCapture):
            first = marks.total.value // 10
            latencies = [
                ledger.acked_ns[number] - capture.received_ns[number]
                for number in ledger.acked_ns
                if number > first
            ]
        took = clock.took(latencies)
        stop.set("measured")
        await capturing
        publishing.cancel()
    spool.close()
    await close(nc)
    return took


def connector(
    places: Places, sending: Any, total: Any, *, timed: bool = False, socket: Callable[..., Any] | None = None
) -> Took:
    """Capture with our connector: its socket (or another's), session, publisher and spool."""
    quiet()
    if socket is not None:
        if "open_socket" not in vars(handshake):
            raise RuntimeError("the connector opens its sockets elsewhere: all of them would be measured alike")
        vars(handshake)["open_socket"] = socket
    return asyncio.run(_connect_and_capture(places, Marks(sending, total), timed=timed))


# --- what it is compared with


async def _new_stream(nc: Client) -> None:
    """Begin with an empty stream, on disk."""
    manager = nc.jsm()
    with contextlib.suppress(NotFoundError):
        await manager.delete_stream(STREAM)
    await manager.add_stream(
        StreamConfig(
            name=STREAM,
            subjects=[SUBJECTS.data_filter, SUBJECTS.capture_filter],
            storage=StorageType.FILE,
            max_bytes=MAX_BYTES,
            allow_direct=True,
        )
    )


@dataclass(slots=True)
class _Counts:
    acknowledged: int = 0
    latencies_ns: list[int] = field(default_factory=list)


_Publish = Callable[[Client, str, bytes, dict[str, str], _Counts], Awaitable[None]]


@asynccontextmanager
async def _subscribed(url: str, library: str) -> AsyncIterator[Any]:
    """Open the socket and subscribe to what the connector subscribes to."""
    opening = picows_connect if library == "picows" else websockets_connect
    async with opening(url, max_size=None, max_queue=256) as socket:
        for number, channel in enumerate(CHANNELS, start=1):
            params = {"channels": [channel], "market_tickers": TICKERS}
            await socket.send(json.dumps({"id": number, "cmd": "subscribe", "params": params}))
        yield socket


async def _loop(places: Places, marks: Marks, library: str, publish: _Publish, *, flush: bool) -> Took:
    nc = await nats.connect(places.nats, pending_size=64 << 20)
    await _new_stream(nc)
    counts, clock, venue = _Counts(), _Clock(marks, places), KalshiVenue()
    subjects: dict[tuple[str, str | None], str] = {}
    flushed = asyncio.Event()

    async def pump(socket: Any) -> None:
        number = 0
        while not (marks.total.value and number >= marks.total.value):
            frame = await socket.recv(decode=False)
            number += 1
            route = venue.route(frame)
            place = route.subject_type, route.ticker
            subject = subjects.get(place) or subjects.setdefault(place, SUBJECTS.json(*place))
            headers = {
                MSG_ID_HEADER: f"{SESSION}.1.{number}",
                RECEIVED_NS_HEADER: str(time.time_ns()),
                TYPE_HEADER: route.type,
            }
            await publish(nc, subject, frame, headers, counts)
        if flush:
            await nc.flush(60)
            counts.acknowledged = number
        flushed.set()

    async with _subscribed(places.exchange, library) as socket, asyncio.TaskGroup() as tasks:
        tasks.create_task(pump(socket))
        await clock.until(lambda: counts.acknowledged)
        took = clock.took(counts.latencies_ns)
        await flushed.wait()
    await nc.close()
    return took


async def one_by_one(nc: Client, subject: str, frame: bytes, headers: dict[str, str], counts: _Counts) -> None:
    """Publish and wait for the acknowledgement before the next frame is read."""
    begun_ns = time.time_ns()
    await nc.jetstream().publish(subject, frame, headers=headers)
    counts.acknowledged += 1
    counts.latencies_ns.append(time.time_ns() - begun_ns)


class _Async:
    """nats-py's own way to have many under way: 4,000 at most, as it ships."""

    stream: nats.js.client.JetStreamContext | None = None


async def publish_async(nc: Client, subject: str, frame: bytes, headers: dict[str, str], counts: _Counts) -> None:
    """Publish with the client's ``publish_async``, and count its futures."""
    begun_ns = time.time_ns()
    if _Async.stream is None:
        _Async.stream = nc.jetstream()

    def done(future: asyncio.Future[Any]) -> None:
        future.result()
        counts.acknowledged += 1
        counts.latencies_ns.append(time.time_ns() - begun_ns)

    future = await _Async.stream.publish_async(subject, frame, headers=headers)
    future.add_done_callback(done)


async def without_acks(nc: Client, subject: str, frame: bytes, headers: dict[str, str], _counts: _Counts) -> None:
    """Publish and never learn what became of it."""
    await nc.publish(subject, frame, headers=headers)


def loop_of(places: Places, sending: Any, total: Any, *, library: str, publish: _Publish) -> Took:
    """Run one of the loops: each frame read with ``library`` is given to ``publish``."""
    quiet()
    marks = Marks(sending, total)
    return asyncio.run(_loop(places, marks, library, publish, flush=publish is without_acks))
