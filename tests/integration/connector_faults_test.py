"""The connector against an exchange that fails in every way the simulator knows: one test a fault, named after it.

A simulator, a connector and NATS, all real. What the simulator put on record as sent is what the stream must hold,
each frame once, in its order, with its bytes; only what was on its way when a connection broke may be missing, at
its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from integration.accounting import SentConnection, matched, read_sent
from integration.connector_bench import MARKETS, STREAM, Bench, Recorded, until
from integration.nats_server import NatsServer, running_nats
from ssmd_common import events
from ssmd_common.config.nats import NatsSettings
from ssmd_common.errors import CredentialError
from ssmd_common.nats.connection import close, connect
from ssmd_common.service.lifecycle import Stop
from ssmd_connector import feedloop, link
from ssmd_connector.backoff import Backoff
from ssmd_connector.plan import Plan
from ssmd_connector.run import run
from ssmd_simulator.harm import MALFORMED
from ssmd_simulator.keys import own_key
from ssmd_simulator.records import SentLog
from ssmd_simulator.roads import GeneratedRoad
from ssmd_simulator.server import Simulator

RATE = 600.0
_MIB = 1 << 20


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedloop, "Backoff", lambda: Backoff(base_s=0.01, cap_s=0.1))
    monkeypatch.setattr(link, "_TICK_S", 0.1)


@pytest.fixture(scope="module")
def one_server(tmp_path_factory: pytest.TempPathFactory, nats_kind: str) -> Iterator[NatsServer]:  # noqa: ARG001 - recorded once it is used
    """One server for all tests here: each takes its stream away."""
    with running_nats(tmp_path_factory.mktemp("nats")) as server:
        yield server


@dataclass
class Stand:
    """Exchange and connector of one test.

    Attributes:
        bench: The connector's side.
        sent: The exchange's record.
    """

    bench: Bench
    sent: Path

    def plan(self, exchange_url: str, **websocket: Any) -> Plan:
        """Return a connector's plan, with what differs of the feed's ``websocket``."""
        plan = self.bench.plan(exchange_url)
        return replace(plan, settings=plan.settings.model_copy(update=websocket))

    @asynccontextmanager
    async def exchange(self, *, rate: float = RATE) -> AsyncIterator[Simulator]:
        """Run an exchange that admits the bench's key."""
        with closing(SentLog(self.sent)) as log:
            road = GeneratedRoad(seed=7, markets=MARKETS, rate=rate)
            keys = dict([own_key(self.bench.keys)]) if self.bench.keys is not None else None
            async with Simulator(road, keys=keys, sent_log=log, ping_interval_s=0.2) as simulator:
                yield simulator

    @asynccontextmanager
    async def capturing(self, *, flowing: int = 200, **websocket: Any) -> AsyncIterator[Simulator]:
        """Run exchange and connector until frames flow; both end in order behind the block."""
        async with self.exchange() as simulator:
            stop = Stop()
            task = asyncio.create_task(run(self.plan(simulator.url, **websocket), stop))
            try:
                await until(lambda: simulator.frames >= flowing or task.done())
                yield simulator
            finally:
                stop.set("SIGTERM")
                async with asyncio.timeout(120):
                    code = await task
            assert code == 0

    async def recorded(self) -> tuple[Recorded, list[tuple[SentConnection, int]]]:
        """Return the stream, and the exchange's side of each connection with how many frames it lost at its end."""
        recorded = await self.bench.recorded()
        return recorded, matched(list(recorded.connections().values()), read_sent(self.sent))


@pytest.fixture
async def stand(one_server: NatsServer, tmp_path: Path) -> AsyncIterator[Stand]:
    yield Stand(Bench(one_server, tmp_path), tmp_path / "sent.jsonl")
    client = await connect(NatsSettings.model_validate({"url": one_server.url}), name="cleaner")
    with contextlib.suppress(Exception):  # a test that failed early made none
        await client.request(f"$JS.API.STREAM.DELETE.{STREAM}", b"", timeout=60)
    await close(client)


async def goes_on(simulator: Simulator, *, connections: int, frames: int = 100) -> None:
    """Wait for so many connections, and frames on the last of them."""
    await until(lambda: simulator.connections >= connections)
    before = simulator.frames
    await until(lambda: simulator.frames >= before + frames)


def ends(recorded: Recorded) -> list[tuple[str, int | None]]:
    return [(event.cause, event.code) for event in recorded.events(events.ConnectionClosed)]


def confirmed(recorded: Recorded, connection: int) -> Counter[str]:
    """Return how many markets each channel was confirmed with on a connection."""
    found: Counter[str] = Counter()
    for event in recorded.events(events.Subscribed):
        if event.connection == connection:
            found[event.channel] += len(event.tickers)
    return found


EVERYTHING = {"ticker": MARKETS, "trade": MARKETS, "orderbook_delta": MARKETS}


async def all_confirmed(stand: Stand, *, connection: int) -> None:
    """Wait until the exchange has confirmed everything on a connection; frames may flow before."""
    await stand.bench.seen(lambda recorded: confirmed(recorded, connection) == EVERYTHING)


async def test_every_close_code_is_followed_by_the_next_connection_and_costs_no_frame(stand: Stand) -> None:
    codes = [1000, 1001, 1008, 1011, 1012, 1013, 4000]
    async with stand.capturing() as simulator:
        for number, code in enumerate(codes, start=2):
            await all_confirmed(stand, connection=number - 1)
            await simulator.faults.inject("close", code)
            await goes_on(simulator, connections=number)
        await all_confirmed(stand, connection=len(codes) + 1)
    recorded, connections = await stand.recorded()
    assert ends(recorded) == [*(("peer_closed", code) for code in codes), ("stopped", None)]
    assert [one.whole for one, _ in connections[:-1]] == [True] * len(codes)
    assert [lost for _, lost in connections[:-1]] == [0] * len(codes)
    assert all(confirmed(recorded, number) == EVERYTHING for number in range(1, len(codes) + 2))


@pytest.mark.parametrize("fault", ["reset", "eof"])
async def test_a_connection_that_ends_without_a_closing_handshake_is_followed_by_the_next(
    stand: Stand, fault: str
) -> None:
    async with stand.capturing() as simulator:
        await simulator.faults.inject(fault)
        await goes_on(simulator, connections=2)
    recorded, connections = await stand.recorded()
    assert [cause for cause, _ in ends(recorded)] == ["connection_lost", "stopped"]
    assert len(connections) == 2


async def test_a_half_open_socket_is_given_up_after_the_silence_limit(stand: Stand) -> None:
    async with stand.capturing(silence_limit_s=1) as simulator:
        await simulator.faults.inject("half-open")
        await goes_on(simulator, connections=2)
    recorded, connections = await stand.recorded()
    assert [cause for cause, _ in ends(recorded)] == ["silent", "stopped"]
    (first, lost), _ = connections
    # What had left the socket was received; what never left is the loss, and no stranger to the record.
    assert lost == 0
    assert {withheld.fault for withheld in first.withheld} == {"half-open"}
    opened, closed = recorded.events(events.ConnectionOpened), recorded.events(events.ConnectionClosed)
    sent_ms, withheld_ms = (
        [ms for frame in frames if (ms := json.loads(frame)["msg"].get("ts_ms"))]
        for frames in (first.frames, [one.frame for one in first.withheld])
    )
    assert withheld_ms
    assert max(sent_ms) <= min(withheld_ms)
    assert max(received_ns(recorded, connection=1)) < opened[1].at_ns
    assert max(withheld_ms) * 1_000_000 < opened[1].at_ns
    assert closed[0].frames == len(first.frames)


def received_ns(recorded: Recorded, *, connection: int) -> list[int]:
    """Return when the frames of a connection were received."""
    return [
        int(message.headers["Ssmd-Received-Ns"])
        for message in recorded.messages
        if ".json." in message.subject and message.headers["Nats-Msg-Id"].split(".")[1] == str(connection)
    ]


async def test_silence_with_pings_reconnects(stand: Stand) -> None:
    async with stand.capturing(silence_limit_s=1) as simulator:
        await simulator.faults.inject("silence")
        await goes_on(simulator, connections=2)
    recorded, connections = await stand.recorded()
    assert [cause for cause, _ in ends(recorded)] == ["silent", "stopped"]
    assert connections[0][1] == 0


async def test_a_silence_below_the_limit_costs_neither_connection_nor_frame(stand: Stand) -> None:
    async with stand.capturing(silence_limit_s=30) as simulator:
        await simulator.faults.inject("silence", 1.5)
        await goes_on(simulator, connections=1, frames=200)
    recorded, _ = await stand.recorded()
    assert len(recorded.connections()) == 1
    assert recorded.events(events.ExchangeGap) == []


async def test_an_exchange_that_reads_slowly_gets_its_commands_in_time_and_no_frame_is_lost(stand: Stand) -> None:
    async with stand.capturing() as simulator:
        await simulator.faults.inject("slow-reads", 2)
        # Books are asked for while nobody reads; of so many frames some are a book's, which alone has a way back.
        await simulator.faults.inject("missing-seq", 5)
        await until(lambda: simulator.frames > 2500)
    recorded, _ = await stand.recorded()
    assert len(recorded.connections()) == 1
    gaps = {event.gap_no: event for event in recorded.events(events.ExchangeGap)}
    assert sum(gap.missing_count or 0 for gap in gaps.values()) == 5
    (resynced,) = recorded.events(events.ExchangeResynced)
    assert resynced.gap_no in gaps
    assert not resynced.healed


async def test_frames_that_come_in_crumbs_are_put_together(stand: Stand) -> None:
    async with stand.capturing() as simulator:
        await simulator.faults.inject("slow-writes", 1.5)
        await until(lambda: simulator.frames > 1500)
    recorded, _ = await stand.recorded()
    assert len(recorded.connections()) == 1
    assert recorded.events(events.ExchangeGap) == []


async def test_frames_of_4_mib_arrive_whole(stand: Stand) -> None:
    async with stand.capturing() as simulator:
        for _ in range(3):
            await simulator.faults.inject("huge-frame", 4 * _MIB)
            await goes_on(simulator, connections=1)
    recorded, ((sent, _),) = await stand.recorded()
    assert [len(frame) for frame in recorded.data if len(frame) > _MIB] == [4 * _MIB] * 3
    assert [len(frame) for frame in sent.frames if len(frame) > _MIB] == [4 * _MIB] * 3
    assert recorded.events(events.FrameOversize) == []


async def test_a_frame_above_the_feeds_limit_ends_the_connection_and_the_next_follows(stand: Stand) -> None:
    async with stand.capturing(max_frame_bytes=_MIB) as simulator:
        await simulator.faults.inject("huge-frame", 2 * _MIB)
        await goes_on(simulator, connections=2)
    recorded, connections = await stand.recorded()
    assert ends(recorded)[0] == ("frame_too_large", 1009)
    (first, lost), _ = connections
    assert len(first.frames[-lost]) == 2 * _MIB


async def test_compressed_frames_arrive_as_the_exchange_wrote_them(stand: Stand) -> None:
    async with stand.capturing() as simulator:
        await simulator.faults.inject("compressed")
        await goes_on(simulator, connections=2)
        await simulator.faults.inject("huge-frame", 4 * _MIB)
        await goes_on(simulator, connections=2, frames=300)
        (peer,) = simulator.faults.peers
        compressed = peer.extensions
    recorded, connections = await stand.recorded()
    assert len(connections) == 2
    assert compressed == ["permessage-deflate"]
    assert [len(frame) for frame in recorded.data if len(frame) > _MIB] == [4 * _MIB]


async def test_a_frame_against_the_protocol_ends_the_connection_and_the_next_follows(stand: Stand) -> None:
    async with stand.capturing() as simulator:
        await simulator.faults.inject("bad-frame")
        await goes_on(simulator, connections=2)
    recorded, connections = await stand.recorded()
    assert ends(recorded)[0] == ("protocol_error", 1002)
    assert len(connections) == 2


async def test_malformed_json_becomes_frame_unparsed_with_its_bytes(stand: Stand) -> None:
    async with stand.capturing() as simulator:
        await simulator.faults.inject("malformed-json", len(MALFORMED))
        await goes_on(simulator, connections=1, frames=200)
    recorded, _ = await stand.recorded()
    unparsed = recorded.events(events.FrameUnparsed)
    by_identity = recorded.frames()
    frames = [by_identity[identity] for identity in by_identity if by_identity[identity] in MALFORMED]
    assert Counter(frames) == Counter(MALFORMED)
    assert len(unparsed) == len(MALFORMED)
    assert all(event.reason for event in unparsed)
    assert len(recorded.connections()) == 1


async def test_a_duplicate_seq_is_kept_twice_and_is_no_gap(stand: Stand) -> None:
    async with stand.capturing() as simulator:
        await simulator.faults.inject("duplicate-seq", 3)
        await goes_on(simulator, connections=1, frames=200)
    recorded, _ = await stand.recorded()
    received = next(iter(recorded.connections().values()))
    # Quotes have no number, and two in a row may well be the same.
    assert sum(one == other and b'"seq"' in one for one, other in itertools.pairwise(received)) == 3
    assert recorded.events(events.ExchangeGap) == []
    assert len(recorded.connections()) == 1


async def test_missing_seq_is_a_recorded_gap_and_books_are_fetched_again(stand: Stand) -> None:
    async with stand.capturing() as simulator:
        await simulator.faults.inject("missing-seq", 3)
        await goes_on(simulator, connections=1, frames=600)
    recorded, ((sent, _),) = await stand.recorded()
    missing: dict[int, list[int]] = {}
    for withheld in sent.withheld:
        head = json.loads(withheld.frame)
        missing.setdefault(head["sid"], []).append(head["seq"])
    gaps = {event.key: event for event in recorded.events(events.ExchangeGap)}
    assert sum(event.missing_count or 0 for event in gaps.values()) == 3
    for sid, seqs in missing.items():
        gap = gaps[f"sid:{sid}"]
        assert (gap.after_seq, gap.next_seq) == (min(seqs) - 1, max(seqs) + 1)
    # Another subscription has no way back: its gap stays as it is.
    books = {event.key for event in recorded.events(events.ExchangeResynced)}
    assert books <= gaps.keys()
    snapshots = [json.loads(frame) for frame in recorded.data if b'"orderbook_snapshot"' in frame[:40]]
    for key in books:
        after = [one for one in snapshots if f"sid:{one['sid']}" == key and one["seq"] >= gaps[key].next_seq]
        assert len({one["msg"]["market_ticker"] for one in after}) == MARKETS
    assert books, "no frame of a book was among those withheld"


async def test_a_seq_that_comes_late_heals_its_gap(stand: Stand) -> None:
    async with stand.capturing() as simulator:
        await simulator.faults.inject("reordered-seq")
        await goes_on(simulator, connections=1, frames=600)
    recorded, _ = await stand.recorded()
    (gap,) = recorded.events(events.ExchangeGap)
    assert gap.missing_count == 1
    assert [event.healed for event in recorded.events(events.ExchangeResynced)][0:1] == [True]
    assert len(recorded.connections()) == 1


async def test_acks_out_of_order_with_data_before_and_between_them_are_all_taken(stand: Stand) -> None:
    async with stand.exchange() as simulator:
        await simulator.faults.inject("late-acks", 0.5)
        stop = Stop()
        task = asyncio.create_task(run(stand.plan(simulator.url), stop))
        await until(lambda: simulator.frames >= 1000)
        stop.set("SIGTERM")
        assert await task == 0
    recorded, _ = await stand.recorded()
    assert confirmed(recorded, 1) == EVERYTHING
    received = [json.loads(frame) for frame in next(iter(recorded.connections().values()))]
    acks = [frame["id"] for frame in received if frame["type"] == "subscribed"]
    assert acks == sorted(acks, reverse=True)
    assert len(acks) == 3
    assert received[0]["type"] not in {"subscribed", "ok"}
    assert recorded.events(events.ExchangeGap) == []


@pytest.mark.parametrize("code", [18, 26, 27])
async def test_a_refused_command_is_asked_again_and_nothing_is_given_up(stand: Stand, code: int) -> None:
    async with stand.exchange() as simulator:
        await simulator.faults.inject(f"error-{code}", 2)
        stop = Stop()
        task = asyncio.create_task(run(stand.plan(simulator.url), stop))
        try:
            await until(lambda: simulator.faults.performed[f"error-{code}"] == 2)
            await all_confirmed(stand, connection=1)
        finally:
            stop.set("SIGTERM")
            assert await task == 0
    recorded, _ = await stand.recorded()
    assert confirmed(recorded, 1) == EVERYTHING
    assert len(recorded.connections()) == 1
    told = [json.loads(event.frame) for event in recorded.events(events.Control)]
    assert [one["msg"]["code"] for one in told if one["type"] == "error"] == [code, code]


@pytest.mark.parametrize("code", [25, 10])
async def test_an_error_that_ends_a_subscription_subscribes_again(stand: Stand, code: int) -> None:
    async with stand.capturing() as simulator:
        await all_confirmed(stand, connection=1)
        await simulator.faults.inject(f"error-{code}")
        await goes_on(simulator, connections=2)
        await all_confirmed(stand, connection=2)
    recorded, _ = await stand.recorded()
    assert [cause for cause, _ in ends(recorded)] == ["terminal_error", "stopped"]
    assert f"code {code}" in recorded.events(events.ConnectionClosed)[0].reason
    assert confirmed(recorded, 2) == EVERYTHING


async def test_429_waits_as_long_as_retry_after_says(stand: Stand) -> None:
    async with stand.capturing() as simulator:
        await simulator.faults.inject("handshake-429", 2)
        await goes_on(simulator, connections=2)
    recorded, _ = await stand.recorded()
    closed, opened = recorded.events(events.ConnectionClosed)[0], recorded.events(events.ConnectionOpened)[1]
    assert (closed.cause, closed.code) == ("peer_closed", 1012)
    # The closing handshake ended before the refused opening one began.
    assert opened.at_ns - max(received_ns(recorded, connection=1)) >= 2_000_000_000
    assert simulator.faults.performed["handshake-429"] == 1


@pytest.mark.parametrize("fault", ["handshake-429=0", "handshake-500=3", "handshake-503=3"])
async def test_a_handshake_refused_for_now_is_tried_again(stand: Stand, fault: str) -> None:
    name, _, value = fault.partition("=")
    async with stand.capturing() as simulator:
        await simulator.faults.inject(name, float(value))
        await goes_on(simulator, connections=2)
        assert simulator.faults.performed[name] == max(1, int(value))
    recorded, _ = await stand.recorded()
    assert ends(recorded) == [("peer_closed", 1012), ("stopped", None)]


@pytest.mark.parametrize(
    ("fault", "value", "words"),
    [
        ("handshake-401", None, "401"),
        ("handshake-403", None, "403"),
        ("clock-skew", 3600.0, "behind; synchronise it"),
        ("clock-skew", -3600.0, "ahead; synchronise it"),
    ],
)
async def test_a_refused_key_or_a_skewed_clock_stops_the_connector_and_says_so(
    stand: Stand, tmp_path: Path, fault: str, value: float | None, words: str
) -> None:
    stand.bench.keys = tmp_path / "exchange"
    async with stand.exchange() as simulator:
        task = asyncio.create_task(run(stand.plan(simulator.url), Stop()))
        await until(lambda: simulator.frames >= 200)
        # A clock is looked at by handshakes alone.
        await simulator.faults.inject(fault, value)
        if fault == "clock-skew":
            await simulator.faults.inject("close", 1012)
        async with asyncio.timeout(120):
            with pytest.raises(CredentialError) as caught:
                await task
    assert words in str(caught.value)
    recorded, connections = await stand.recorded()
    assert [lost for _, lost in connections] == [0]
    assert ends(recorded) == [("peer_closed", 1012)]


async def test_a_small_clock_skew_changes_nothing_but_the_exchanges_own_times(stand: Stand, tmp_path: Path) -> None:
    stand.bench.keys = tmp_path / "exchange"
    async with stand.capturing() as simulator:
        for seconds in (5, -5):
            before = simulator.connections
            await simulator.faults.inject("clock-skew", seconds)
            await simulator.faults.inject("close", 1012)
            await goes_on(simulator, connections=before + 1)
    recorded, connections = await stand.recorded()
    assert len(connections) == 3
    offsets_s = [skew_s(recorded, number) for number in (1, 2, 3)]
    assert [None if offset is None else round(offset) for offset in offsets_s] == [0, 5, -5]


def skew_s(recorded: Recorded, connection: int) -> float | None:
    """Return how far the exchange's own times are ahead of the connector's on a connection."""
    offsets: list[float] = [
        json.loads(message.data)["msg"]["ts_ms"] / 1000 - int(message.headers["Ssmd-Received-Ns"]) / 1e9
        for message in recorded.messages
        if ".json.ticker." in message.subject and message.headers["Nats-Msg-Id"].split(".")[1] == str(connection)
    ]
    # The later a frame is read, the less its time is ahead; the last few are perhaps of the next clock.
    return sorted(offsets)[len(offsets) * 9 // 10] if offsets else None
