"""Kalshi's markets, found and followed: a simulated exchange with REST, the connector, and real NATS."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from structlog.testing import capture_logs

from integration.connector_bench import FEED, Bench, Recorded, running_process, until
from integration.nats_server import NatsServer
from ssmd_common import events
from ssmd_common.archive.times import SECOND_NS
from ssmd_common.config.feed import Feed
from ssmd_common.config.loading import load_environment
from ssmd_common.service.lifecycle import Stop
from ssmd_connector import discovery, keeper
from ssmd_connector.backoff import Backoff
from ssmd_connector.plan import Plan
from ssmd_connector.run import run
from ssmd_simulator.markets import listing
from ssmd_simulator.roads import GeneratedRoad
from ssmd_simulator.server import Simulator

MARKETS = 8
ALL = ["ticker", "trade", "orderbook_delta", "market_lifecycle_v2"]
TICKERS = [listing(index).ticker for index in range(MARKETS)]


@pytest.fixture(autouse=True)
def _quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "Backoff", lambda: Backoff(base_s=0.01, cap_s=0.1))


@pytest.fixture
def bench(nats_server: NatsServer, tmp_path: Path) -> Bench:
    return Bench(nats_server, tmp_path)


@pytest.fixture
def road() -> GeneratedRoad:
    return GeneratedRoad(seed=7, markets=MARKETS, rate=300.0)


@asynccontextmanager
async def capturing(
    bench: Bench,
    url: str,
    *,
    discover: dict[str, Any] | None = None,
    more: dict[str, Any] | None = None,
    **kalshi: Any,
) -> AsyncIterator[None]:
    """Run a connector that looks for its markets; ``kalshi`` is said by the feed, ``more`` by the environment."""
    document = yaml.safe_load(FEED.read_text("utf-8"))
    document["websocket"]["kalshi"] |= {"channels": ALL, "discover": discover or {}, **kalshi}
    environment = load_environment(bench.write(url, capture={}, **(more or {})))
    stop = Stop()
    task = asyncio.create_task(run(Plan.of(Feed.model_validate(document), environment, {}), stop))
    try:
        yield
    finally:
        stop.set("SIGTERM")
        async with asyncio.timeout(120):
            code = await task
    assert code == 0


def documents(recorded: Recorded) -> list[str]:
    return [event.ticker for event in recorded.events(events.Market)]


def subscribed(recorded: Recorded, kind: type[Any] = events.Subscribed) -> dict[str, list[str]]:
    """Return the tickers each channel was confirmed with, or lost."""
    found: dict[str, list[str]] = defaultdict(list)
    for event in recorded.events(kind):
        found[event.channel] += event.tickers
    return found


def frames(recorded: Recorded, kind: str) -> list[dict[str, Any]]:
    return [frame for data in recorded.data if (frame := json.loads(data))["type"] == kind]


def tickers(recorded: Recorded, kind: str) -> list[str]:
    return [frame["msg"]["market_ticker"] for frame in frames(recorded, kind)]


def holds_no_gap(recorded: Recorded) -> None:
    assert recorded.events(events.ExchangeGap) == []
    last: dict[tuple[int, int], int] = {}
    for (_, connection), received in recorded.connections().items():
        for raw in received:
            frame = json.loads(raw)
            if "sid" in frame and "seq" in frame:
                key = (connection, frame["sid"])
                assert frame["seq"] == last.get(key, 0) + 1
                last[key] = frame["seq"]


async def test_the_markets_of_a_series_are_found_documented_and_captured_and_no_others(
    bench: Bench, road: GeneratedRoad
) -> None:
    series = listing(0).series_ticker
    wanted = sorted(ticker for ticker in TICKERS if ticker.startswith(f"{series}-"))
    assert 0 < len(wanted) < MARKETS
    kinds = ("ticker", "trade", "orderbook_snapshot", "orderbook_delta")
    async with (
        Simulator(road, keys=None) as simulator,
        capturing(bench, simulator.url, discover={"series": series}),
    ):
        await bench.seen(lambda recorded: all(set(tickers(recorded, kind)) >= set(wanted) for kind in kinds))
    recorded = await bench.recorded()
    assert sorted(documents(recorded)) == wanted
    assert [json.loads(json.dumps(e.document))["series_ticker"] for e in recorded.events(events.Market)] == [
        series
    ] * len(wanted)
    for channel in ("ticker", "trade", "orderbook_delta"):
        assert sorted(subscribed(recorded)[channel]) == wanted
    for kind in kinds:
        assert set(tickers(recorded, kind)) == set(wanted)
    assert Counter(tickers(recorded, "orderbook_snapshot")) == dict.fromkeys(wanted, 1)
    holds_no_gap(recorded)


async def test_a_series_that_lists_no_market_is_told_of_once(bench: Bench, road: GeneratedRoad) -> None:
    series = listing(0).series_ticker
    with capture_logs() as logs:
        async with (
            Simulator(road, keys=None) as simulator,
            capturing(bench, simulator.url, discover={"series": [series, "KXTYPO"], "every": "1s"}),
        ):
            await until(lambda: sum(line["event"] == "markets_discovered" for line in logs) >= 2)
    assert [line["of"] for line in logs if line["event"] == "nothing_listed"] == ["KXTYPO"]


async def test_books_of_all_markets_are_had_by_discovering_them(bench: Bench, road: GeneratedRoad) -> None:
    async with Simulator(road, keys=None) as simulator, capturing(bench, simulator.url):
        await until(lambda: simulator.frames > 600)
    recorded = await bench.recorded()
    assert sorted(subscribed(recorded)["orderbook_delta"]) == sorted(TICKERS)
    assert subscribed(recorded)["trade"] == [], "all markets at once"
    assert sorted(documents(recorded)) == sorted(TICKERS)
    holds_no_gap(recorded)


async def test_a_new_market_joins_and_a_settled_one_leaves_without_a_new_connection(
    bench: Bench, road: GeneratedRoad
) -> None:
    series = {listing(index).series_ticker for index in range(MARKETS + 1)}
    found = {"series": sorted(series)}
    async with Simulator(road, keys=None) as simulator, capturing(bench, simulator.url, discover=found):
        await until(lambda: simulator.frames > 200)
        new = road.directory.open_next(time.time_ns()).listing.ticker
        old = TICKERS[0]
        road.directory.settle(old, time.time_ns())
        joined = ("ticker", "trade", "orderbook_delta")
        await bench.seen(
            lambda recorded: (
                all(new in subscribed(recorded)[channel] for channel in joined)
                and all(old in subscribed(recorded, events.Unsubscribed)[channel] for channel in joined)
                and new in tickers(recorded, "orderbook_delta")
                and documents(recorded).count(old) == 2
                and new in documents(recorded)
            ),
        )
    recorded = await bench.recorded()
    assert [event.connection for event in recorded.events(events.ConnectionOpened)] == [1]
    (settled,) = [e.document for e in recorded.events(events.Market) if e.ticker == old and e.document["result"]]
    assert settled["status"] == "finalized"
    counts = Counter(documents(recorded))
    assert counts == dict.fromkeys(TICKERS, 1) | {old: 2, new: 1}, "once, and again when it changed"
    assert not any('"unsubscribe"' in event.frame for event in recorded.events(events.Control))
    holds_no_gap(recorded)


async def test_what_no_frame_told_is_found_by_looking_again(bench: Bench, road: GeneratedRoad) -> None:
    found = {"every": "1s", "events": sorted({listing(index).event_ticker for index in range(MARKETS + 1)})}
    quiet: dict[str, Any] = {"channels": ["trade", "orderbook_delta"]}
    async with Simulator(road, keys=None) as simulator, capturing(bench, simulator.url, discover=found, **quiet):
        await until(lambda: simulator.frames > 100)
        new = road.directory.open_next(time.time_ns()).listing.ticker
        road.directory.settle(TICKERS[0], time.time_ns())
        await bench.seen(
            lambda recorded: (
                new in tickers(recorded, "orderbook_delta")
                and TICKERS[0] in subscribed(recorded, events.Unsubscribed)["trade"]
            ),
        )
    recorded = await bench.recorded()
    assert [event.connection for event in recorded.events(events.ConnectionOpened)] == [1]
    assert Counter(documents(recorded)) == dict.fromkeys(TICKERS, 1) | {TICKERS[0]: 2, new: 1}
    holds_no_gap(recorded)


async def test_sockets_share_the_markets_and_each_comes_back_by_itself(bench: Bench, road: GeneratedRoad) -> None:
    found = {"series": sorted({listing(index).series_ticker for index in range(MARKETS)})}
    async with Simulator(road, keys=None) as simulator, capturing(bench, simulator.url, discover=found, sockets=3):
        await bench.seen(lambda recorded: len(subscribed(recorded)["orderbook_delta"]) == MARKETS)
        await simulator.faults.inject("reset")
        await until(lambda: simulator.connections == 4)
        at_reconnect = simulator.frames
        await until(lambda: simulator.frames > at_reconnect + 500)
    recorded = await bench.recorded()
    opened = recorded.events(events.ConnectionOpened)
    assert [event.connection for event in opened] == [1, 2, 3, 4]
    assert sorted(event.lane for event in opened[:3]) == [1, 2, 3]
    assert {event.lanes for event in opened} == {3}
    shares: dict[int, set[str]] = defaultdict(set)
    for event in recorded.events(events.Subscribed):
        if event.channel == "orderbook_delta":
            shares[event.connection] |= set(event.tickers)
    (broken,) = [event for event in recorded.events(events.ConnectionClosed) if event.cause != "stopped"]
    assert shares[4] == shares[broken.connection]
    assert opened[3].lane == next(event.lane for event in opened if event.connection == broken.connection)
    first = [shares[number] for number in (1, 2, 3)]
    assert sorted(map(len, first)) == [2, 3, 3]
    assert sorted(ticker for share in first for ticker in share) == sorted(TICKERS)
    whole = {event.connection for event in recorded.events(events.Subscribed) if not event.tickers}
    assert whole == {event.connection for event in opened if event.lane == 1}
    holds_no_gap(recorded)


async def test_full_books_come_at_the_time_set_and_break_no_sequence(
    bench: Bench, road: GeneratedRoad, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is put forward to just before that time once the first books are there."""
    ahead_ns = 0
    clock = SimpleNamespace(time_ns=lambda: time.time_ns() + ahead_ns, monotonic=time.monotonic)
    monkeypatch.setattr(keeper, "time", clock)
    monkeypatch.setattr(keeper, "_LONGEST_SLEEP_S", 0.1)
    at_ns = (time.time_ns() // SECOND_NS + 6 * 3600) * SECOND_NS
    soon = f"{datetime.fromtimestamp(at_ns // SECOND_NS, UTC):%H:%M:%S}Z"
    async with Simulator(road, keys=None) as simulator, capturing(bench, simulator.url, snapshot_at=soon):
        await bench.seen(lambda recorded: set(tickers(recorded, "orderbook_delta")) == set(TICKERS))
        ahead_ns = at_ns - SECOND_NS - time.time_ns()
        recorded = await bench.seen(
            lambda recorded: Counter(tickers(recorded, "orderbook_snapshot")) == dict.fromkeys(TICKERS, 2)
        )
    second = [message for message in recorded.messages if b'"orderbook_snapshot"' in message.data][MARKETS:]
    assert min(int(message.headers["Ssmd-Received-Ns"]) for message in second) + ahead_ns >= at_ns
    holds_no_gap(await bench.recorded())


@pytest.mark.parametrize(
    ("fault", "value"),
    [("error-18", 2), ("error-27", 2), ("error-26", 1), ("error-26", 3), ("late-acks", 1), ("rest-429", 1)],
)
async def test_what_passes_costs_no_market_and_no_connection(
    bench: Bench, road: GeneratedRoad, fault: str, value: float
) -> None:
    found = {"series": sorted({listing(index).series_ticker for index in range(MARKETS)}), "status": "open"}
    channels = ("ticker", "trade", "orderbook_delta")
    async with Simulator(road, keys=None) as simulator:
        await simulator.faults.inject(fault, value)
        async with capturing(bench, simulator.url, discover=found):
            # Books may flow before the exchange has confirmed what else was asked for.
            await bench.seen(
                lambda recorded: (
                    set(tickers(recorded, "orderbook_delta")) == set(TICKERS)
                    and all(len(subscribed(recorded)[channel]) >= MARKETS for channel in channels)
                )
            )
        assert simulator.faults.performed[fault] >= 1
    recorded = await bench.recorded()
    assert [event.connection for event in recorded.events(events.ConnectionOpened)] == [1]
    for channel in channels:
        assert sorted(subscribed(recorded)[channel]) == sorted(TICKERS)
    assert Counter(tickers(recorded, "orderbook_snapshot")) == dict.fromkeys(TICKERS, 1)
    holds_no_gap(recorded)


@pytest.mark.parametrize("code", [10, 25])
async def test_a_terminal_error_subscribes_anew_on_a_new_connection(
    bench: Bench, road: GeneratedRoad, code: int
) -> None:
    async with Simulator(road, keys=None) as simulator, capturing(bench, simulator.url):
        await bench.seen(lambda recorded: set(tickers(recorded, "orderbook_delta")) == set(TICKERS))
        await simulator.faults.inject(f"error-{code}")
        await bench.seen(lambda recorded: Counter(tickers(recorded, "orderbook_snapshot"))[TICKERS[0]] == 2)
    recorded = await bench.recorded()
    causes = [(event.connection, event.cause) for event in recorded.events(events.ConnectionClosed)]
    assert causes == [(1, "terminal_error"), (2, "stopped")]
    assert Counter(tickers(recorded, "orderbook_snapshot")) == dict.fromkeys(TICKERS, 2)
    holds_no_gap(recorded)


async def test_books_are_asked_for_after_a_gap_and_whole_again_when_all_have_come(
    bench: Bench, road: GeneratedRoad
) -> None:
    books: dict[str, Any] = {"channels": ["orderbook_delta"]}
    async with Simulator(road, keys=None) as simulator, capturing(bench, simulator.url, **books):
        await bench.seen(lambda recorded: set(tickers(recorded, "orderbook_delta")) == set(TICKERS))
        await simulator.faults.inject("missing-seq", 3)
        recorded = await bench.seen(lambda recorded: bool(recorded.events(events.ExchangeResynced)))
    gaps = recorded.events(events.ExchangeGap)
    assert sum(gap.missing_count or 0 for gap in gaps) == 3
    resynced = {event.gap_no for event in recorded.events(events.ExchangeResynced)}
    assert resynced <= {gap.gap_no for gap in gaps}
    assert all(count >= 2 for count in Counter(tickers(recorded, "orderbook_snapshot")).values())
    assert [event.connection for event in recorded.events(events.ConnectionOpened)] == [1]


@contextmanager
def troubled(statuses: list[int]) -> Iterator[tuple[ThreadingHTTPServer, list[str]]]:
    """Stand before the exchange's REST interface and answer the first requests with these statuses."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            status, body = 200, b""
            if len(paths) <= len(statuses):
                status = statuses[len(paths) - 1]
            else:
                behind: str = self.server.behind  # type: ignore[attr-defined]
                with urllib.request.urlopen(behind + self.path.removeprefix("/v2")) as answer:  # noqa: S310 - our own simulator
                    body = answer.read()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server, paths
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_too_many_requests_and_an_ill_server_delay_discovery_and_lose_nothing(
    bench: Bench, road: GeneratedRoad
) -> None:
    with troubled([429, 429, 503, 500, 429]) as (server, paths):
        rest = {"rest_endpoint": f"http://127.0.0.1:{server.server_port}/v2"}
        async with Simulator(road, keys=None) as simulator:
            server.behind = simulator.rest_url  # type: ignore[attr-defined]
            async with capturing(bench, simulator.url, more=rest):
                await bench.seen(lambda recorded: set(tickers(recorded, "orderbook_delta")) == set(TICKERS))
    recorded = await bench.recorded()
    assert sorted(documents(recorded)) == sorted(TICKERS)
    assert len(set(paths[:6])) == 1, "the same page is asked for until it comes"
    holds_no_gap(recorded)


async def test_a_refused_search_exits_2_and_names_the_endpoint(
    bench: Bench, road: GeneratedRoad, tmp_path: Path
) -> None:
    log = tmp_path / "connector.log"
    with troubled([403] * 9) as (server, _):
        async with Simulator(road, keys=None) as simulator:
            command = bench.command(simulator.url)
            rest = f"http://127.0.0.1:{server.server_port}/v2"
            bench.write(simulator.url, capture={"channels": ALL, "discover": {}}, rest_endpoint=rest)
            with running_process(command, log) as process:
                code = await asyncio.to_thread(process.wait, 120)
    (told,) = [line for line in log.read_text().splitlines() if line.startswith("error: ")]
    assert code == 2
    assert "/v2/markets: rest_endpoint: the exchange answered 403 (the exchange may refuse this address" in told
