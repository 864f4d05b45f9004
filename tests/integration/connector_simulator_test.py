"""The connector between a simulated exchange and real NATS: what was sent is what the stream holds."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import pytest

from integration.connector_bench import Bench, finished, killed, running_process, sent_frames, spooled_ids, until
from integration.nats_server import NatsServer
from ssmd_common import events
from ssmd_common.nats.testing import free_port
from ssmd_connector import feedloop
from ssmd_connector.backoff import Backoff
from ssmd_simulator import captures
from ssmd_simulator.keys import own_key
from ssmd_simulator.records import SentLog
from ssmd_simulator.roads import GeneratedRoad, ReplayedRoad, Road
from ssmd_simulator.server import Simulator

FAST = 1500.0


@pytest.fixture(autouse=True)
def _quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedloop, "Backoff", lambda: Backoff(base_s=0.01, cap_s=0.1))


@pytest.fixture
def bench(nats_server: NatsServer, tmp_path: Path) -> Bench:
    return Bench(nats_server, tmp_path)


@pytest.fixture
def sent_log(tmp_path: Path) -> Iterator[SentLog]:
    with closing(SentLog(tmp_path / "sent.jsonl")) as log:
        yield log


def market(rate: float = FAST) -> Road:
    return GeneratedRoad(seed=7, markets=8, rate=rate)


@asynccontextmanager
async def guarded_exchange(keys: Path) -> AsyncIterator[Simulator]:
    """An exchange that admits one key alone."""
    async with Simulator(market(), keys=dict([own_key(keys)])) as simulator:
        yield simulator


async def test_every_frame_sent_is_in_the_stream_once_in_order_with_its_bytes(
    bench: Bench, sent_log: SentLog, tmp_path: Path
) -> None:
    bench.keys = tmp_path / "exchange"
    keys = dict([own_key(bench.keys)])
    async with Simulator(market(), keys=keys, sent_log=sent_log) as simulator, bench.capturing(simulator.url):
        await until(lambda: simulator.frames >= 4000)
        at_stop = simulator.frames
    recorded = await bench.recorded()
    ((_, connection),) = recorded.connections()
    frames = list(recorded.frames().values())
    assert connection == 1
    assert len(frames) >= at_stop
    assert frames == sent_frames(tmp_path / "sent.jsonl")[1][: len(frames)]
    assert recorded.events(events.ExchangeGap) == []
    (closed,) = recorded.events(events.ConnectionClosed)
    (ended,) = recorded.events(events.SessionEnded)
    assert (closed.frames, closed.acked_through, ended.frames) == (len(frames),) * 3


async def test_a_recording_of_production_arrives_whole_and_shows_no_gap(
    bench: Bench, sent_log: SentLog, tmp_path: Path
) -> None:
    folder = os.environ.get("SSMD_CAPTURES")
    if not folder:
        pytest.skip("SSMD_CAPTURES names no folder with recorded frames")
    capture = captures.read(Path(folder) / "kalshi_prod_orderbook_stream_20260807.jsonl")
    road = ReplayedRoad(capture, speed=1, rate=None)
    async with Simulator(road, keys=None, sent_log=sent_log) as simulator, bench.capturing(simulator.url):
        await until(lambda: simulator.frames > len(capture.frames))
    recorded = await bench.recorded()
    expected = [frame for frame in capture.frames if b'"orderbook_' in frame[:40]]
    assert len(expected) == 257
    assert recorded.data == expected
    assert list(recorded.frames().values()) == sent_frames(tmp_path / "sent.jsonl")[1]
    assert recorded.events(events.ExchangeGap) == []


async def test_a_connection_the_exchange_ends_is_followed_by_the_next_number(bench: Bench, tmp_path: Path) -> None:
    logs = [tmp_path / "first.jsonl", tmp_path / "second.jsonl"]
    port = free_port()
    async with AsyncExitStack() as connector:
        for log_path in logs:
            with closing(SentLog(log_path)) as log:
                async with Simulator(market(), keys=None, port=port, sent_log=log) as simulator:
                    if log_path is logs[0]:
                        await connector.enter_async_context(bench.capturing(simulator.url))
                    await until(lambda: simulator.frames >= 500)
                    if log_path is logs[-1]:
                        await connector.aclose()
    recorded = await bench.recorded()
    connections = recorded.connections()
    assert [number for _, number in connections] == [1, 2]
    for frames, log_path in zip(connections.values(), logs, strict=True):
        assert len(frames) >= 500
        assert frames == sent_frames(log_path)[1][: len(frames)]
    closes = [(event.connection, event.cause) for event in recorded.events(events.ConnectionClosed)]
    assert closes == [(1, "peer_closed"), (2, "stopped")]
    assert [event.connection for event in recorded.events(events.ConnectionOpened)] == [1, 2]


async def test_a_server_killed_in_the_middle_costs_nothing_and_doubles_nothing(
    bench: Bench, sent_log: SentLog, tmp_path: Path
) -> None:
    async with Simulator(market(), keys=None, sent_log=sent_log) as simulator, bench.capturing(simulator.url):
        await until(lambda: simulator.frames >= 1500)
        await asyncio.to_thread(bench.server.kill)
        await until(lambda: bench.spooled_bytes > 0)
        await asyncio.to_thread(bench.server.start)
        await until(lambda: bench.spooled_bytes == 0)
        at_stop = simulator.frames
    recorded = await bench.recorded()
    ((_, frames),) = recorded.connections().items()
    assert len(frames) >= at_stop
    assert frames == sent_frames(tmp_path / "sent.jsonl")[1][: len(frames)]
    (closed,) = recorded.events(events.ConnectionClosed)
    assert (closed.frames, closed.acked_through, closed.lost) == (len(frames), len(frames), [])


async def test_a_connector_killed_while_nats_is_away_loses_nothing_it_had_spooled(
    bench: Bench, sent_log: SentLog, tmp_path: Path
) -> None:
    log = tmp_path / "connector.log"
    async with Simulator(market(), keys=None, sent_log=sent_log) as simulator:
        command = bench.command(simulator.url)
        with running_process(command, log) as process:
            await until(lambda: simulator.frames >= 1000)
            await asyncio.to_thread(bench.server.kill)
            await until(lambda: bench.spooled_bytes > 200_000)
            killed(process)
        spooled = spooled_ids(bench.spool, tmp_path / "copy")
        await asyncio.to_thread(bench.server.start)
        with running_process(command, log) as process:
            await until(lambda: simulator.connections == 2 and bench.spooled_bytes == 0)
            code = await finished(process)
    assert code == 0
    recorded = await bench.recorded()
    started = recorded.events(events.SessionStarted)
    assert [event.instance for event in started] == ["test", "test"]
    first, second = (event.session for event in started)
    assert first != second
    assert [event.session for event in recorded.events(events.SessionEnded)] == [second]
    connections = recorded.connections()
    assert list(connections) == [(first, 1), (second, 1)]
    sent = sent_frames(tmp_path / "sent.jsonl")
    for number, frames in enumerate(connections.values(), start=1):
        assert frames == sent[number][: len(frames)]
    ids = [message.headers["Nats-Msg-Id"] for message in recorded.messages]
    assert len(set(ids)) == len(ids)
    assert len(spooled) > 100
    assert set(spooled) <= set(ids)


_WAITS_FOR_LONG = """\
from dataclasses import replace
from ssmd_connector.plan import Plan
of = Plan.of
Plan.of = lambda *given: replace(of(*given), drain_s=600.0)
"""


async def test_sigterm_while_nats_is_away_ends_soon_and_keeps_everything(
    bench: Bench, sent_log: SentLog, tmp_path: Path
) -> None:
    log = tmp_path / "connector.log"
    async with Simulator(market(), keys=None, sent_log=sent_log) as simulator:
        # It would wait ten minutes for acknowledgements, where it did.
        command = bench.command(simulator.url, prelude=_WAITS_FOR_LONG)
        with running_process(command, log) as process:
            await until(lambda: simulator.frames >= 500)
            await asyncio.to_thread(bench.server.kill)
            gone = simulator.frames
            await until(lambda: simulator.frames >= gone + 200)
            at_stop = simulator.frames
            assert await finished(process) == 0
        await asyncio.to_thread(bench.server.start)
        with running_process(command, log) as process:
            await until(lambda: simulator.connections == 2 and bench.spooled_bytes == 0)
            code = await finished(process)
    assert code == 0
    recorded = await bench.recorded()
    first = next(iter(recorded.connections().values()))
    assert len(first) >= at_stop
    assert first == sent_frames(tmp_path / "sent.jsonl")[1][: len(first)]
    closed, _ = recorded.events(events.ConnectionClosed)
    assert (closed.cause, closed.frames) == ("stopped", len(first))
    assert [event.cause for event in recorded.events(events.SessionEnded)] == ["SIGTERM", "SIGTERM"]


_MINUTE_LATE = """\
import time
now, now_ns = time.time, time.time_ns
time.time, time.time_ns = lambda: now() - 60, lambda: now_ns() - 60_000_000_000
"""


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("the private key of another", "the private key does not belong to this API key"),
        ("a key of another environment", "demo and production keys do not mix"),
        ("a clock that is late", "s behind; synchronise it"),
    ],
)
async def test_a_refused_handshake_exits_2_and_names_the_cause(
    bench: Bench, tmp_path: Path, mistake: str, words: str
) -> None:
    ours, exchanges = tmp_path / "ours", tmp_path / "exchange"
    own_key(ours)
    async with guarded_exchange(exchanges) as simulator:
        if mistake == "the private key of another":
            shutil.copy(exchanges / "key-id", ours / "key-id")
        bench.keys = exchanges if mistake == "a clock that is late" else ours
        prelude = _MINUTE_LATE if mistake == "a clock that is late" else ""
        log = tmp_path / "connector.log"
        with running_process(bench.command(simulator.url, prelude=prelude), log) as process:
            code = await asyncio.to_thread(process.wait, 120)
    told = [line for line in log.read_text().splitlines() if line.startswith("error: ")]
    assert code == 2
    assert len(told) == 1
    assert words in told[0]
    assert (bench.keys / "key-id").read_text() not in log.read_text()
