"""A feed described by data alone, on real sockets: what keeps a connection, what ends it, and what comes after."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from structlog.testing import capture_logs

from ssmd_common import events
from ssmd_common.config.environment import Environment
from ssmd_common.config.feed import Feed
from ssmd_common.config.nats import NatsSettings
from ssmd_common.nats.connection import close, connect
from ssmd_common.nats.streams import direct_get, stream_info
from ssmd_common.nats.testing import free_port
from ssmd_common.service.address import parse_addr
from ssmd_common.service.lifecycle import Stop
from ssmd_common.service.redact import looks_secret
from ssmd_connector import feedloop
from ssmd_connector.backoff import Backoff
from ssmd_connector.plan import Plan
from ssmd_connector.run import run
from ssmd_connector.testing import exchange
from ssmd_connector.venues.generic_refusals import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

    from ssmd_common.nats.testing import NatsServer

ALWAYS = {
    "maintenance": [
        {"day": day, "start": "00:00", "end": "24:00"}
        for day in ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
    ]
}
SILENCE_S = 2


@pytest.fixture(autouse=True)
def _quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedloop, "Backoff", lambda: Backoff(base_s=0.01, cap_s=0.05))


def plan_of(exchange_url: str, nats_url: str, *, calendar: dict[str, Any] | None = None, **websocket: Any) -> Plan:
    feed = Feed.model_validate(
        {
            "name": "f",
            "type": "websocket",
            "versions": [
                {
                    "version": "v1",
                    "effective_from": "2025-01-01",
                    "protocol": {"transport": "wss", "message": "json"},
                    "endpoint": "wss://unused.example",
                }
            ],
            "calendar": calendar or {},
            "websocket": {
                "subscribe": [{"op": "subscribe"}],
                "route": {"type": ["type"], "symbol": ["symbol"]},
                "control": {"types": ["heartbeat"]},
                "silence_limit_s": SILENCE_S,
                **websocket,
            },
        }
    )
    env = {
        "name": "test",
        "feed": "f",
        "instance": "host",
        "endpoint": exchange_url,
        "transport": {"type": "nats", "url": nats_url, "stream": "DEV"},
    }
    return Plan.of(feed, Environment.model_validate(env), {})


@asynccontextmanager
async def running(plan: Plan, *, health: str | None = None) -> AsyncIterator[None]:
    stop = Stop()
    task = asyncio.create_task(run(plan, stop, health_addr=parse_addr(health) if health else None))
    try:
        yield
    finally:
        stop.set("test")
        async with asyncio.timeout(120):
            await asyncio.gather(task, return_exceptions=True)


async def told(server: NatsServer, kind: type[Any]) -> list[Any]:
    """Return the stream's events of one kind, in order."""
    nc = await connect(NatsSettings(url=server.url), name="reader")
    try:
        info = await stream_info(nc, "DEV")
        found = [await direct_get(nc, "DEV", seq=seq) for seq in range(1, info.last_seq + 1)]
    finally:
        await close(nc)
    return [event for m in found if m is not None and isinstance(event := events.decode_event(m.data), kind)]


async def passed(event: asyncio.Event) -> None:
    async with asyncio.timeout(120):
        await event.wait()


@pytest.mark.parametrize(
    ("keep_alive", "answer"),
    [
        (None, ""),
        ({"text": "PING", "interval_s": 0.2, "answer": "PONG"}, "PONG"),
        ({"text": '{"op":"ping"}', "interval_s": 0.2, "answer": "pong"}, '{"type":"pong"}'),
    ],
    ids=["of the protocol", "as text", "as JSON"],
)
async def test_a_socket_that_answers_pings_and_sends_nothing_is_dead(
    nats_server: NatsServer, keep_alive: dict[str, Any] | None, answer: str
) -> None:
    again = asyncio.Event()
    answered = 0

    async def script(connection: ServerConnection, number: int) -> None:
        nonlocal answered
        if number > 1:
            again.set()
        await connection.recv()
        async for _ in connection:
            answered += 1
            await connection.send(answer)

    async with exchange(script) as url, running(plan_of(url, nats_server.url, keep_alive=keep_alive)):
        await passed(again)
    closed = await told(nats_server, events.ConnectionClosed)
    assert closed[0].cause == "silent"
    assert (closed[0].frames > 0) is (answered > 0) is (keep_alive is not None)


async def test_every_other_frame_keeps_a_connection(nats_server: NatsServer) -> None:
    """Heartbeats of the exchange too: a quiet market has nothing else to send."""
    enough = asyncio.Event()

    async def script(connection: ServerConnection, _number: int) -> None:
        await connection.recv()
        for _ in range(5):
            await connection.send('{"type":"heartbeat"}')
            await asyncio.sleep(SILENCE_S / 4)
        enough.set()
        await connection.wait_closed()

    async with exchange(script) as url, running(plan_of(url, nats_server.url)):
        await passed(enough)
    assert [event.cause for event in await told(nats_server, events.ConnectionClosed)] == ["stopped"]


async def test_silence_in_maintenance_is_expected_and_its_end_is_on_record(nats_server: NatsServer) -> None:
    connected = asyncio.Event()
    let_go = asyncio.Event()
    again = asyncio.Event()

    async def script(connection: ServerConnection, number: int) -> None:
        if number > 1:
            again.set()
            await connection.wait_closed()
        await connection.recv()
        connected.set()
        await let_go.wait()
        await connection.close(1012, "see you")

    with capture_logs() as logs:
        async with exchange(script) as url, running(plan_of(url, nats_server.url, calendar=ALWAYS)):
            await passed(connected)
            await asyncio.sleep(2 * SILENCE_S)
            assert not again.is_set()
            let_go.set()
            await passed(again)
    closed = await told(nats_server, events.ConnectionClosed)
    assert (closed[0].cause, closed[0].code, closed[0].reason) == ("maintenance", 1012, "peer_closed see you")
    assert [line["reason"] for line in logs if line["event"] == "expected_silence"] == ["maintenance"]


async def test_a_door_closed_in_maintenance_is_tried_calmly_and_ready_says_why(nats_server: NatsServer) -> None:
    asked = 0
    often = asyncio.Event()

    def door(connection: ServerConnection, _request: Request) -> Response | None:
        nonlocal asked
        asked += 1
        if asked >= 5:
            often.set()
        return connection.respond(503, "closed for maintenance")

    async def script(_connection: ServerConnection, _number: int) -> None:
        raise AssertionError("nobody gets in")

    port = free_port()
    with capture_logs() as logs:
        async with (
            exchange(script, door=door) as url,
            running(plan_of(url, nats_server.url, calendar=ALWAYS), health=f"127.0.0.1:{port}"),
            httpx.AsyncClient() as client,
        ):
            await passed(often)
            ready = await client.get(f"http://127.0.0.1:{port}/ready")
            metrics = await client.get(f"http://127.0.0.1:{port}/metrics")
    assert ready.status_code == 503
    assert "maintenance until" in ready.text
    assert "closed for maintenance" in ready.text
    assert "ssmd_connector_expected_silence 1" in metrics.text
    assert [line for line in logs if line["event"] in ("connect_failed", "reconnecting")] == []


async def test_what_the_exchange_asks_to_wait_is_waited(nats_server: NatsServer) -> None:
    times: list[float] = []
    let_in = asyncio.Event()

    def door(connection: ServerConnection, _request: Request) -> Response | None:
        times.append(time.monotonic())
        if len(times) > 1:
            return None
        refusal = connection.respond(429, "slow down")
        refusal.headers["Retry-After"] = "2"
        return refusal

    async def script(connection: ServerConnection, _number: int) -> None:
        let_in.set()
        await connection.wait_closed()

    async with exchange(script, door=door) as url, running(plan_of(url, nats_server.url)):
        await passed(let_in)
    assert times[1] - times[0] >= 2


async def test_a_symbol_that_stays_refused_costs_no_other(nats_server: NatsServer) -> None:
    """It is asked for anew at first; then the rest is captured, and log, /ready and a metric say what is not."""
    captured = asyncio.Event()
    asked: list[int] = []

    async def script(connection: ServerConnection, number: int) -> None:
        asked.append(number)
        await connection.recv()
        await connection.send(json.dumps({"type": "error", "text": "no such symbol OLD", "at": time.time_ns()}))
        for moment in range(4 * SILENCE_S * 10):
            await connection.send(json.dumps({"type": "trade", "symbol": "A", "n": moment}))
            await asyncio.sleep(0.1)
            if number == PATIENCE and moment == 2 * SILENCE_S * 10:
                captured.set()

    port = free_port()
    rules = {"control": {"refused": [{"path": "type", "equals": "error"}]}}
    with capture_logs() as logs:
        async with (
            exchange(script) as url,
            running(plan_of(url, nats_server.url, **rules), health=f"127.0.0.1:{port}"),
            httpx.AsyncClient() as client,
        ):
            await passed(captured)
            ready = await client.get(f"http://127.0.0.1:{port}/ready")
            metrics = await client.get(f"http://127.0.0.1:{port}/metrics")
    closed = await told(nats_server, events.ConnectionClosed)
    assert [event.cause for event in closed] == ["subscription_refused"] * (PATIENCE - 1) + ["stopped"]
    assert asked == list(range(1, PATIENCE + 1))
    assert len(await told(nats_server, events.Control)) == PATIENCE
    (said,) = [line for line in logs if line["event"] == "refusal_stays"]
    assert (said["connection"], "no such symbol OLD" in said["answer"]) == (PATIENCE, True)
    assert ready.status_code == 200
    assert "no such symbol OLD" in ready.json()["checks"]["subscribed"]["note"]
    assert "ssmd_connector_subscriptions_refused 1" in metrics.text


async def test_ready_says_why_nats_is_not_reached_at_the_start() -> None:
    nats_port, port = free_port(), free_port()
    plan = plan_of("ws://unused.example", f"nats://someone:hidden@127.0.0.1:{nats_port}")
    reason = ""
    async with running(plan, health=f"127.0.0.1:{port}"), httpx.AsyncClient() as client, asyncio.timeout(120):
        while "not reached" not in reason:
            await asyncio.sleep(0.1)
            with suppress(httpx.TransportError):
                answer = await client.get(f"http://127.0.0.1:{port}/ready")
                reason = answer.json()["checks"]["nats"]["reason"]
    assert answer.status_code == 503
    assert reason.startswith(f"nats://[redacted]@127.0.0.1:{nats_port} is not reached: ")
    assert "Connect call failed" in reason or "refused" in reason
    assert "hidden" not in answer.text


async def test_types_without_numbers_are_declared(nats_server: NatsServer) -> None:
    sent = asyncio.Event()

    async def script(connection: ServerConnection, _number: int) -> None:
        await connection.recv()
        for frame in (
            {"type": "trade", "symbol": "A", "n": 1},
            {"type": "ticker", "symbol": "A"},
            {"type": "heartbeat"},
            {"type": "book", "symbol": "A", "s": 7},
        ):
            await connection.send(json.dumps(frame))
        sent.set()
        await connection.wait_closed()

    rules = [
        {"kind": "contiguous", "types": ["trade"], "value": "n"},
        {"kind": "increasing", "types": ["book"], "value": "s"},
    ]
    async with exchange(script) as url, running(plan_of(url, nats_server.url, sequences=rules)):
        await passed(sent)
    (closed,) = await told(nats_server, events.ConnectionClosed)
    assert closed.unverifiable == ["book", "ticker"]


async def test_arrays_of_several_symbols_are_followed_and_a_gap_is_told_by_its_sequence(
    nats_server: NatsServer,
) -> None:
    """What is told in the log stands under names that are not cut out of it as secrets."""
    sent = asyncio.Event()
    frames = [
        [("A", 1), ("B", 7)],
        [("B", 8)],
        [("A", 2), ("B", 9)],
        [("A", 4), ("B", 10)],
        [("B", 10)],
        [("A", 3)],
    ]

    async def script(connection: ServerConnection, _number: int) -> None:
        await connection.recv()
        for frame in frames:
            await connection.send(
                json.dumps({"type": "t", "d": [{"s": name, "n": number} for name, number in frame]})
            )
        sent.set()
        await connection.wait_closed()

    rules: dict[str, Any] = {
        "route": {"type": ["type"], "symbol": ["d.*.s"]},
        "sequences": [{"kind": "contiguous", "key": ["d.*.s"], "value": "d.*.n"}],
    }
    with capture_logs() as logs:
        async with exchange(script) as url, running(plan_of(url, nats_server.url, **rules)):
            await passed(sent)
    (gap,) = await told(nats_server, events.ExchangeGap)
    assert (gap.key, gap.after_seq, gap.next_seq, gap.missing_count, gap.frame_no) == ("all:A", 2, 4, 1, 4)
    (healed,) = await told(nats_server, events.ExchangeResynced)
    assert (healed.gap_no, healed.key, healed.healed) == (gap.gap_no, "all:A", True)
    (closed,) = await told(nats_server, events.ConnectionClosed)
    assert (closed.frames, closed.unverifiable) == (6, [])
    found = [(line["event"], line["sequence"]) for line in logs if line["event"].startswith("exchange_")]
    assert sorted(found) == [
        ("exchange_gap", "all:A"),
        ("exchange_resynced", "all:A"),
        ("exchange_sequence_repeat", "all:A"),
        ("exchange_sequence_repeat", "all:B"),
    ]
    assert [name for line in logs for name in line if looks_secret(name)] == []
