"""Every frame yields one message, whatever NATS does; what cannot be kept is on record with its count."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from integration.connector_bench import (
    MARKETS,
    STREAM,
    Bench,
    Recorded,
    killed,
    proven,
    running_process,
    sent_frames,
    until,
)
from integration.connector_outage import outage
from integration.nats_server import NatsServer, running_nats
from ssmd_common import events
from ssmd_common.archive.gaps import GapLayer, GapStatus
from ssmd_common.config.nats import NatsSettings
from ssmd_common.frames import FrameId, parse_msg_id
from ssmd_common.nats.connection import NatsClient, close, connect
from ssmd_common.nats.streams import StreamLimits, ensure_stream
from ssmd_connector import link
from ssmd_simulator.records import SentLog
from ssmd_simulator.roads import GeneratedRoad, Road
from ssmd_simulator.server import Simulator

SUBJECTS = ("dev.kalshi.json.>", "dev.kalshi.capture.>")
FAST = 1500.0
SLOW = 100.0

Capfd = pytest.CaptureFixture[str]


@pytest.fixture
def bench(nats_server: NatsServer, tmp_path: Path) -> Bench:
    return Bench(nats_server, tmp_path)


@pytest.fixture
def sent_log(tmp_path: Path) -> Iterator[SentLog]:
    with closing(SentLog(tmp_path / "sent.jsonl")) as log:
        yield log


def market(rate: float = FAST) -> Road:
    return GeneratedRoad(seed=11, markets=MARKETS, rate=rate)


@asynccontextmanager
async def administering(bench: Bench) -> AsyncIterator[NatsClient]:
    """Connect as somebody who may do everything."""
    settings = NatsSettings.model_validate({"url": bench.server.url, **bench.administrator})
    client = await connect(settings, name="admin")
    try:
        yield client
    finally:
        await close(client)


async def asked(bench: Bench, what: str, **body: Any) -> dict[str, Any]:
    """Ask JetStream's API as its administrator."""
    async with administering(bench) as client:
        told = await client.request(f"$JS.API.{what}", json.dumps(body).encode())
    answer: dict[str, Any] = json.loads(told.data)
    assert "error" not in answer
    return answer


async def changed(bench: Bench, **settings: Any) -> None:
    """Change the stream's settings, as its administrator does."""
    info = await asked(bench, f"STREAM.INFO.{STREAM}")
    await asked(bench, f"STREAM.UPDATE.{STREAM}", **info["config"] | settings)


async def created(bench: Bench, limits: StreamLimits | None = None) -> None:
    """Create the stream, as its administrator does."""
    async with administering(bench) as client:
        await ensure_stream(client, STREAM, SUBJECTS, create=True, limits=limits)


class Said:
    """What the connector in this process has logged so far."""

    def __init__(self, capfd: Capfd) -> None:
        self._capfd = capfd
        self._text = ""

    def lines(self, event: str) -> list[str]:
        """The lines of one event."""
        self._text += self._capfd.readouterr().out
        return [line for line in self._text.splitlines() if event in line]


async def test_nats_away_for_a_while_loses_and_doubles_nothing(nats_server: NatsServer, tmp_path: Path) -> None:
    outcome = await outage(nats_server, tmp_path, seconds=5, rate=1000)
    assert outcome.sent >= 5000
    assert (outcome.stored, outcome.doubled, outcome.out_of_place) == (outcome.sent, 0, 0)
    assert outcome.spool_bytes > outcome.frames_away * 200
    assert outcome.exit_code == 0


_LATE_TO_THE_SPOOL = "from ssmd_connector import pulse; pulse._AWAY_S = 600.0\n"


async def test_what_a_killed_connector_held_in_memory_alone_is_a_recorded_gap(
    bench: Bench, sent_log: SentLog, tmp_path: Path
) -> None:
    log = tmp_path / "connector.log"
    async with Simulator(market(), keys=None, sent_log=sent_log) as simulator:
        # Before it dies nothing goes to the spool: what comes meanwhile is in memory alone.
        with running_process(bench.command(simulator.url, prelude=_LATE_TO_THE_SPOOL), log) as process:
            await bench.seen(lambda recorded: len(recorded.frames()) >= 1000)
            await asyncio.to_thread(bench.server.kill)
            gone = simulator.frames
            await until(lambda: simulator.frames >= gone + 300)
            killed(process)
        assert bench.spooled_bytes == 0
        await asyncio.to_thread(bench.server.start)
        with running_process(bench.command(simulator.url), log):
            recorded = await bench.seen(lambda recorded: len(recorded.connections()) == 2)
    first, second = recorded.connections().items()
    sent = sent_frames(tmp_path / "sent.jsonl")
    assert first[1] == sent[1][: len(first[1])]
    assert len(sent[1]) >= len(first[1]) + 300
    (gap,) = proven(recorded)
    assert (gap.layer, gap.cause, gap.status) == (GapLayer.CONNECTION, "crashed", GapStatus.PERMANENT)
    # How many the dead one had received nobody knows; when it was is known.
    assert gap.missing_count is None
    received = {
        parse_msg_id(message.headers["Nats-Msg-Id"]): int(message.headers["Ssmd-Received-Ns"])
        for message in recorded.messages
    }
    assert gap.start_ns == received[FrameId(*first[0], len(first[1]))]
    assert gap.end_ns is not None
    assert gap.start_ns < gap.end_ns <= received[FrameId(*second[0], 1)]


async def test_a_full_stream_is_waited_for_and_then_takes_everything(
    bench: Bench, sent_log: SentLog, tmp_path: Path, capfd: Capfd
) -> None:
    said = Said(capfd)
    begun_s = time.monotonic()
    await created(bench, StreamLimits(max_bytes=300_000))
    async with Simulator(market(), keys=None, sent_log=sent_log) as simulator, bench.capturing(simulator.url):
        await until(lambda: bench.spooled_bytes > 300_000)
        await changed(bench, max_bytes=1 << 28)
        await until(lambda: bench.spooled_bytes == 0)
        at_stop = simulator.frames
    recorded = await bench.recorded()
    ((_, frames),) = recorded.connections().items()
    assert len(frames) >= at_stop
    assert frames == sent_frames(tmp_path / "sent.jsonl")[1][: len(frames)]
    assert proven(recorded) == []
    refusals, ends = said.lines("publish_stream_full"), said.lines("publish_accepted_again")
    assert "(10077)" in refusals[0]
    # One line, and one every ten seconds for as long as it lasts; a small message that still fits begins it anew.
    assert len(refusals) <= len(ends) + (time.monotonic() - begun_s) / 10
    assert ends


async def test_frames_the_stream_finds_too_large_become_events_and_the_rest_arrives(
    bench: Bench, sent_log: SentLog, tmp_path: Path, capfd: Capfd
) -> None:
    said = Said(capfd)
    await created(bench)
    async with Simulator(market(), keys=None, sent_log=sent_log) as simulator, bench.capturing(simulator.url):
        await until(lambda: simulator.frames >= 500)
        # Behind the connector's back: it learns of it by the answers alone.
        await changed(bench, max_msg_size=520)
        await until(lambda: len(said.lines("publish_too_large")) > 0)
        await changed(bench, max_msg_size=-1)
        before = simulator.frames
        await until(lambda: simulator.frames >= before + 500)
    assert "(10054)" in said.lines("publish_too_large")[0]
    recorded = await bench.recorded()
    sent = sent_frames(tmp_path / "sent.jsonl")[1]
    oversize = {event.frame_no: event for event in recorded.events(events.FrameOversize)}
    assert oversize
    for number, event in oversize.items():
        frame = sent[number - 1]
        assert (event.length, event.sha256) == (len(frame), hashlib.sha256(frame).hexdigest())
    _every_frame_once(recorded)


def _every_frame_once(recorded: Recorded) -> None:
    identities = [parse_msg_id(message.headers["Nats-Msg-Id"]) for message in recorded.messages]
    numbers = [identity.frame_no for identity in identities if isinstance(identity, FrameId)]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))


async def test_a_frame_above_the_servers_limit_becomes_an_event_and_the_connection_lives(
    tmp_path: Path, sent_log: SentLog
) -> None:
    with running_nats(tmp_path / "nats", config="max_payload: 1KB") as server:
        bench = Bench(server, tmp_path)
        async with Simulator(market(), keys=None, sent_log=sent_log) as simulator, bench.capturing(simulator.url):
            await until(lambda: simulator.frames >= 1000)
        recorded = await bench.recorded()
    sent = sent_frames(tmp_path / "sent.jsonl")[1]
    # What the exchange sent while it was told goodbye may not have been received.
    (closed,) = recorded.events(events.ConnectionClosed)
    large = [number for number, frame in enumerate(sent[: closed.frames], start=1) if len(frame) > 1024]
    told = [event.frame_no for event in recorded.events(events.FrameOversize)]
    assert large
    assert set(large) <= set(told)
    _every_frame_once(recorded)


async def test_a_stream_that_is_deleted_is_named_and_waited_for(
    bench: Bench, sent_log: SentLog, tmp_path: Path, capfd: Capfd
) -> None:
    said = Said(capfd)
    async with Simulator(market(), keys=None, sent_log=sent_log) as simulator, bench.capturing(simulator.url):
        await until(lambda: simulator.frames >= 1000)
        await asked(bench, f"STREAM.DELETE.{STREAM}")
        gone = simulator.frames
        await until(lambda: bench.spooled_bytes > 200_000)
        await created(bench)
        await until(lambda: bench.spooled_bytes == 0)
        at_stop = simulator.frames
    assert "no stream takes this subject" in said.lines("publish_no_stream")[0]
    recorded = await bench.recorded()
    identities = [parse_msg_id(message.headers["Nats-Msg-Id"]) for message in recorded.messages]
    numbers = sorted(identity.frame_no for identity in identities if isinstance(identity, FrameId))
    # What the old stream held went with it; from the first frame it did not take everything is there.
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    assert numbers[0] <= gone + 1
    assert numbers[-1] >= at_stop
    sent = sent_frames(tmp_path / "sent.jsonl")[1]
    assert all(sent[identity.frame_no - 1] == frame for identity, frame in recorded.frames().items())


async def test_a_server_that_is_busy_is_asked_again_until_it_has_everything(tmp_path: Path, capfd: Capfd) -> None:
    said = Said(capfd)
    # So few may wait for the disk that a burst overruns them.
    busy = f'jetstream {{ store_dir: "{tmp_path / "busy"}", max_buffered_msgs: 8 }}'
    with running_nats(tmp_path / "nats", config=busy) as server:
        bench = Bench(server, tmp_path)
        async with (
            Simulator(market(20_000.0), keys=None) as simulator,
            bench.capturing(simulator.url, drain_s=120),
        ):
            await until(lambda: len(said.lines("publish_busy")) > 0)
        recorded = await bench.recorded()
    _every_frame_once(recorded)
    (closed,) = recorded.events(events.ConnectionClosed)
    assert (closed.acked_through, closed.lost) == (closed.frames, [])


ADMINISTRATOR = {"user": "administrator", "password": "a"}
CONNECTOR = {"user": "connector", "password": "c"}


def _permitting(*may_publish: str) -> str:
    subjects = ", ".join(f'"{subject}"' for subject in may_publish)
    return (
        "authorization { users: [ { user: administrator, password: a }, { user: connector, password: c,"
        f' permissions: {{ publish: [{subjects}], subscribe: ["_INBOX_conn.>"] }} }} ] }}'
    )


async def test_a_permission_that_is_revoked_is_named_and_costs_nothing_once_it_is_back(
    tmp_path: Path, sent_log: SentLog, capfd: Capfd
) -> None:
    said = Said(capfd)
    asks = (f"$JS.API.STREAM.INFO.{STREAM}", f"$JS.API.DIRECT.GET.{STREAM}")
    transport: dict[str, Any] = {"type": "nats", "stream": STREAM, "create_stream": False, **CONNECTOR}
    with running_nats(tmp_path / "nats", config=_permitting(*SUBJECTS, *asks)) as server:
        bench = Bench(server, tmp_path, administrator=ADMINISTRATOR)
        await created(bench)
        async with (
            Simulator(market(), keys=None, sent_log=sent_log) as simulator,
            bench.capturing(simulator.url, transport={**transport, "url": server.url}),
        ):
            await until(lambda: simulator.frames >= 500)
            server.reload(_permitting(SUBJECTS[1], *asks))
            await until(lambda: bench.spooled_bytes > 300_000)
            await until(lambda: len(said.lines("nats_permission_violation")) > 0)
            server.reload(_permitting(*SUBJECTS, *asks))
            await until(lambda: bench.spooled_bytes == 0)
            at_stop = simulator.frames
        recorded = await bench.recorded()
    assert "dev.kalshi.json." in said.lines("nats_permission_violation")[0]
    ((_, frames),) = recorded.connections().items()
    assert len(frames) >= at_stop
    assert frames == sent_frames(tmp_path / "sent.jsonl")[1][: len(frames)]


async def test_with_memory_and_spool_full_the_frames_not_kept_are_a_gap_with_their_count(
    bench: Bench, sent_log: SentLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capfd
) -> None:
    said = Said(capfd)
    monkeypatch.setattr(link, "_STALL_S", 0.3)
    limits = {"spool_dir": str(bench.spool), "ack_timeout_s": 1, "memory_bytes": "200kB", "spool_bytes": "400kB"}
    # So slow that the little room is enough for what comes while the spool is sent.
    async with (
        Simulator(market(5 * SLOW), keys=None, sent_log=sent_log) as simulator,
        bench.capturing(simulator.url, limits=limits),
    ):
        await until(lambda: simulator.frames >= 500)
        await asyncio.to_thread(bench.server.kill)
        await until(lambda: len(said.lines("frames_not_kept")) > 0)
        counting = simulator.frames
        await until(lambda: simulator.frames >= counting + 1000)
        await asyncio.to_thread(bench.server.start)
        await until(lambda: simulator.connections >= 2 and bench.spooled_bytes == 0)
        again = simulator.frames
        await until(lambda: simulator.frames >= again + 300)
    recorded = await bench.recorded()
    overrun, *_ = recorded.events(events.ConnectionClosed)
    ((first, end),) = overrun.lost
    assert (overrun.connection, overrun.cause, overrun.frames) == (1, "backlog_full", end - 1)
    assert end - first >= 1000
    frames = {identity.frame_no: frame for identity, frame in recorded.frames().items() if identity.connection == 1}
    sent = sent_frames(tmp_path / "sent.jsonl")[1]
    assert sorted(frames) == list(range(1, first))
    assert [frames[number] for number in range(1, first)] == sent[: first - 1]
    (not_kept,) = (gap for gap in proven(recorded) if gap.cause == "not_kept")
    assert (not_kept.start_seq, not_kept.end_seq, not_kept.missing_count) == (first, end, end - first)
    assert said.lines("frames_lost")


async def test_a_stop_while_everything_is_refused_does_not_wait_for_it(bench: Bench) -> None:
    await created(bench)
    # It would wait ten minutes for acknowledgements, where it did.
    async with (
        asyncio.timeout(300),
        Simulator(market(SLOW), keys=None) as simulator,
        bench.capturing(simulator.url, drain_s=600),
    ):
        await until(lambda: simulator.frames >= 100)
        await asked(bench, f"STREAM.DELETE.{STREAM}")
        await until(lambda: bench.spooled_bytes > 20_000)
    assert bench.spooled_bytes > 0
