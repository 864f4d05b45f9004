"""NATS that comes later than the connector: what was captured before is in the stream, all of it, in its order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from integration.connector_bench import (
    Bench,
    finished,
    killed,
    proven,
    running_process,
    sent_frames,
    spooled_ids,
    until,
)
from integration.nats_server import NatsServer
from ssmd_common import events
from ssmd_common.archive.gaps import GapLayer
from ssmd_simulator.records import SentLog
from ssmd_simulator.roads import GeneratedRoad
from ssmd_simulator.server import Simulator


@pytest.fixture
def bench(nats_server: NatsServer, tmp_path: Path) -> Bench:
    """A bench whose NATS does not run yet."""
    nats_server.kill()
    return Bench(nats_server, tmp_path)


@pytest.fixture
def sent_log(tmp_path: Path) -> Iterator[SentLog]:
    with closing(SentLog(tmp_path / "sent.jsonl")) as log:
        yield log


def market() -> GeneratedRoad:
    return GeneratedRoad(seed=11, markets=8, rate=1500)


async def spooled_more(bench: Bench, size: int) -> None:
    before = bench.spooled_bytes
    await until(lambda: bench.spooled_bytes > before + size)


async def test_all_that_came_before_nats_is_in_the_stream_in_order_with_its_bytes(
    bench: Bench, sent_log: SentLog, tmp_path: Path
) -> None:
    log = tmp_path / "connector.log"
    async with Simulator(market(), keys=None, sent_log=sent_log) as simulator:
        with running_process(bench.command(simulator.url), log) as process:
            await until(lambda: simulator.frames >= 6000 and bench.spooled_bytes > 1_000_000)
            await asyncio.to_thread(bench.server.start)
            await until(lambda: bench.spooled_bytes == 0)
            drained = simulator.frames
            await until(lambda: simulator.frames >= drained + 1000)
            at_stop = simulator.frames
            code = await finished(process)
    assert code == 0
    recorded = await bench.recorded()
    frames = list(recorded.frames().values())
    assert len(frames) >= at_stop
    assert frames == sent_frames(tmp_path / "sent.jsonl")[1][: len(frames)]
    assert proven(recorded) == []
    (closed,) = recorded.events(events.ConnectionClosed)
    (ended,) = recorded.events(events.SessionEnded)
    assert (closed.frames, closed.acked_through, ended.frames) == (len(frames),) * 3


async def test_connectors_killed_before_nats_ever_came_lose_nothing_they_had_spooled(
    bench: Bench, sent_log: SentLog, tmp_path: Path
) -> None:
    log = tmp_path / "connector.log"
    spooled: list[str] = []
    async with Simulator(market(), keys=None, sent_log=sent_log) as simulator:
        command = bench.command(simulator.url)
        for life in (1, 2):
            with running_process(command, log) as process:
                await spooled_more(bench, 300_000)
                killed(process)
            kept = spooled_ids(bench.spool, tmp_path / f"copy-{life}")
            assert kept[: len(spooled)] == spooled
            spooled = kept
        with running_process(command, log) as process:
            await until(lambda: simulator.connections == 3)
            at_third = simulator.frames
            await until(lambda: simulator.frames >= at_third + 1000)
            await asyncio.to_thread(bench.server.start)
            await until(lambda: bench.spooled_bytes == 0)
            code = await finished(process)
    assert code == 0
    recorded = await bench.recorded()
    ids = [message.headers["Nats-Msg-Id"] for message in recorded.messages]
    assert len(set(ids)) == len(ids)
    # What the dead ones left goes first, in its order.
    assert ids[: len(spooled)] == spooled
    sessions = [event.session for event in recorded.events(events.SessionStarted)]
    assert len(set(sessions)) == 3
    connections = recorded.connections()
    assert list(connections) == [(session, 1) for session in sessions]
    sent = sent_frames(tmp_path / "sent.jsonl")
    for number, frames in enumerate(connections.values(), start=1):
        assert frames == sent[number][: len(frames)]
        assert len(frames) >= 500
    # The lives between the kills are the only gaps.
    assert [(gap.layer, gap.cause) for gap in proven(recorded)] == [(GapLayer.CONNECTION, "crashed")] * 2
