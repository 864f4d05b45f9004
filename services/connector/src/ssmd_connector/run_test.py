from __future__ import annotations

import asyncio
import base64
import json
import signal
import subprocess
import sys
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ssmd_common import events
from ssmd_common.errors import ConfigError, CredentialError
from ssmd_common.frames import FrameId, parse_msg_id
from ssmd_common.service.lifecycle import Stop
from ssmd_connector import feedloop
from ssmd_connector import run as run_module
from ssmd_connector.backoff import Backoff
from ssmd_connector.capture import Message
from ssmd_connector.run import run
from ssmd_connector.spool import Spool
from ssmd_connector.testing import answer_subscribe, exchange, held, kalshi_plan, private_key_pem, stored, trade

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

    from ssmd_common.nats.streams import StoredMessage
    from ssmd_common.nats.testing import NatsServer
    from ssmd_connector.plan import Plan


@pytest.fixture(autouse=True)
def _quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedloop, "Backoff", lambda: Backoff(base_s=0.01, cap_s=0.05))


@asynccontextmanager
async def running(plan: Plan) -> AsyncIterator[tuple[Stop, asyncio.Task[int]]]:
    stop = Stop()
    task = asyncio.create_task(run(plan, stop))
    try:
        yield stop, task
    finally:
        stop.set("test")
        async with asyncio.timeout(120):
            await asyncio.gather(task, return_exceptions=True)


def told(messages: list[StoredMessage], kind: type[Any]) -> list[Any]:
    return [event for m in messages if isinstance(event := events.decode_event(m.data), kind)]


async def settled(condition: asyncio.Event) -> None:
    async with asyncio.timeout(120):
        await condition.wait()


async def test_frames_of_every_kind_are_captured_once_with_their_bytes(nats_server: NatsServer) -> None:
    done = asyncio.Event()
    frames = [
        '{ "type":"trade" , "sid":1,"seq":1,"msg":{"market_ticker":"A.5"} }',
        '{"type":"brand_new","sid":1,"seq":2,"msg":{}}',
        "not json \u00e9",
        '{"type":"ok","id":99,"sid":1,"seq":3,"msg":{}}',
        '{"type":"trade","sid":1,"seq":6,"msg":{"market_ticker":"B"}}',
        '["no type"]',
    ]

    async def script(connection: ServerConnection, _number: int) -> None:
        await answer_subscribe(connection)
        for frame in frames:
            await connection.send(frame)
        await connection.send(b"\xff\x00 binary")
        done.set()
        await connection.wait_closed()

    async with exchange(script) as url, running(kalshi_plan(url, nats_server.url)) as (stop, task):
        await settled(done)
        stop.set("SIGTERM")
        assert await task == 0
    messages = await stored(nats_server)
    data = [(m.subject, m.data.decode()) for m in messages if ".json." in m.subject]
    assert data == [
        ("dev.kalshi.json.trade.A%2E5", frames[0]),
        ("dev.kalshi.json.brand_new._", frames[1]),
        ("dev.kalshi.json.trade.B", frames[4]),
        ("dev.kalshi.json.untyped._", frames[5]),
    ]
    assert told(messages, events.Control)[1].frame == frames[3]
    unparsed = told(messages, events.FrameUnparsed)
    assert [base64.b64decode(event.data) for event in unparsed] == [frames[2].encode(), b"\xff\x00 binary"]
    (gap,) = told(messages, events.ExchangeGap)
    assert (gap.key, gap.after_seq, gap.next_seq, gap.missing_count, gap.frame_no) == ("sid:1", 3, 6, 2, 6)
    identities = [parse_msg_id(m.headers["Nats-Msg-Id"]) for m in messages]
    numbers = sorted(found.frame_no for found in identities if isinstance(found, FrameId))
    assert numbers == list(range(1, 9))
    kinds = [type(events.decode_event(m.data)) for m in messages if ".capture." in m.subject]
    assert (kinds[0], kinds[-2], kinds[-1]) == (events.SessionStarted, events.ConnectionClosed, events.SessionEnded)
    (closed,) = told(messages, events.ConnectionClosed)
    assert (closed.cause, closed.frames, closed.acked_through, closed.lost) == ("stopped", 8, 8, [])
    assert Counter(kinds)[events.Subscribed] == 1


async def test_a_lost_connection_is_recorded_and_followed_by_another(nats_server: NatsServer) -> None:
    done = asyncio.Event()

    async def script(connection: ServerConnection, number: int) -> None:
        await answer_subscribe(connection)
        await connection.send(trade(1))
        if number == 1:
            await connection.close(4001, "moving on")
            return
        if number == 2:
            await connection.send('{"type":"error","sid":1,"seq":2,"msg":{"code":25,"msg":"overflow"}}')
            await connection.wait_closed()
            return
        done.set()
        await connection.wait_closed()

    async with exchange(script) as url, running(kalshi_plan(url, nats_server.url)) as (stop, task):
        await settled(done)
        stop.set("SIGTERM")
        assert await task == 0
    messages = await stored(nats_server)
    closes = [(e.connection, e.cause, e.code, e.reason, e.frames) for e in told(messages, events.ConnectionClosed)]
    assert closes == [
        (1, "peer_closed", 4001, "moving on", 2),
        (2, "terminal_error", None, "code 25: overflow", 3),
        (3, "stopped", None, "SIGTERM", 2),
    ]
    assert told(messages, events.ExchangeGap) == []
    assert told(messages, events.SessionEnded)[0].frames == 7


async def test_silence_ends_a_connection_that_answers_pings(nats_server: NatsServer) -> None:
    done = asyncio.Event()

    async def script(connection: ServerConnection, number: int) -> None:
        await answer_subscribe(connection)
        if number > 1:
            done.set()
        await connection.wait_closed()

    async with exchange(script) as url, running(kalshi_plan(url, nats_server.url, silence_limit_s=1)):
        await settled(done)
    closed = told(await stored(nats_server), events.ConnectionClosed)
    assert closed[0].cause == "silent"


async def test_a_frame_above_the_feeds_limit_is_on_record_as_the_end(nats_server: NatsServer) -> None:
    done = asyncio.Event()

    async def script(connection: ServerConnection, number: int) -> None:
        await answer_subscribe(connection)
        if number == 1:
            await connection.send(trade(1, ticker="x" * 5000))
        else:
            done.set()
        await connection.wait_closed()

    async with exchange(script) as url, running(kalshi_plan(url, nats_server.url, max_frame_bytes=4000)):
        await settled(done)
    closed = told(await stored(nats_server), events.ConnectionClosed)
    assert (closed[0].cause, closed[0].code) == ("frame_too_large", 1009)


@pytest.mark.parametrize(
    ("body", "remedy"),
    [
        ("timestamp too old", "milliseconds"),
        ("query string signed", "without the query string"),
        ("INCORRECT_API_KEY_SIGNATURE", "does not belong to this API key"),
        ("go away", "demo and production keys do not mix"),
    ],
)
async def test_a_refused_handshake_ends_the_process_and_explains_itself(
    nats_server: NatsServer, body: str, remedy: str
) -> None:
    def door(connection: ServerConnection, request: Request) -> Response | None:
        assert request.headers["KALSHI-ACCESS-KEY"] == "the-key-id"
        return connection.respond(401, body)

    async def script(_connection: ServerConnection, _number: int) -> None:
        raise AssertionError("nobody gets in")

    pem = private_key_pem()
    environ = {"KALSHI_API_KEY": "the-key-id", "KALSHI_PRIVATE_KEY": pem}
    async with exchange(script, door=door) as url:
        plan = kalshi_plan(url, nats_server.url, auth="api_key", environ=environ)
        with pytest.raises(CredentialError, match=remedy) as caught:
            await run(plan, Stop())
    assert caught.value.exit_code == 2
    assert "the-key-id" not in str(caught.value)
    assert told(await stored(nats_server), events.SessionEnded)[0].cause == "failed"


async def test_nats_away_in_the_middle_costs_no_frame(nats_server: NatsServer, tmp_path: Path) -> None:
    sent, total = 0, 3000
    done = asyncio.Event()

    async def script(connection: ServerConnection, _number: int) -> None:
        nonlocal sent
        await answer_subscribe(connection)
        while sent < total:
            sent += 1
            await connection.send(trade(sent))
            if sent % 20 == 0:
                await asyncio.sleep(0.01)
            if sent == 1000:
                nats_server.kill()
        nats_server.start()
        done.set()
        await connection.wait_closed()

    plan = kalshi_plan("ws://127.0.0.1:1/x", nats_server.url)
    async with exchange(script) as url:
        plan = kalshi_plan(url, nats_server.url, spool_dir=tmp_path / "spool")
        async with running(plan) as (stop, task):
            await settled(done)
            async with asyncio.timeout(120):
                while await held(nats_server) < total:  # noqa: ASYNC110 - the server sets no event
                    await asyncio.sleep(0.1)
            stop.set("SIGTERM")
            assert await task == 0
    messages = await stored(nats_server)
    trades = [json.loads(m.data)["seq"] for m in messages if ".json." in m.subject]
    assert sorted(trades) == list(range(1, total + 1))
    (closed,) = told(messages, events.ConnectionClosed)
    assert (closed.frames, closed.acked_through) == (total + 1, total + 1)


@asynccontextmanager
async def exchange_that_outlives(nats_server: NatsServer, done: asyncio.Event) -> AsyncIterator[str]:
    """Yield the address of an exchange that sends 50 trades once NATS is killed; ``done`` is set then."""

    async def script(connection: ServerConnection, _number: int) -> None:
        await answer_subscribe(connection)
        await asyncio.to_thread(nats_server.kill)
        for seq in range(1, 51):
            await connection.send(trade(seq))
        done.set()
        await connection.wait_closed()

    async with exchange(script) as url:
        yield url


async def test_a_stop_without_nats_and_spool_ends_soon_and_says_what_is_lost(
    nats_server: NatsServer, capfd: pytest.CaptureFixture[str]
) -> None:
    done = asyncio.Event()

    async with exchange_that_outlives(nats_server, done) as url:
        plan = replace(kalshi_plan(url, nats_server.url), drain_s=0.5)
        async with running(plan) as (stop, task):
            await settled(done)
            stop.set("SIGTERM")
            async with asyncio.timeout(120):
                assert await task == 1
    assert "messages_lost" in capfd.readouterr().out


async def test_a_part_that_dies_without_nats_and_spool_says_what_is_lost(
    nats_server: NatsServer, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = asyncio.Event()

    async def dies(_service: object) -> None:
        await done.wait()
        raise RuntimeError("a part died")

    monkeypatch.setattr(run_module._Service, "_beat", dies)
    async with (
        exchange_that_outlives(nats_server, done) as url,
        running(kalshi_plan(url, nats_server.url)) as (_, task),
    ):
        async with asyncio.timeout(120):
            with pytest.raises(BaseExceptionGroup, match="unhandled"):
                await task
    assert "messages_lost" in capfd.readouterr().out


async def test_a_stop_while_nats_never_came_ends_in_order() -> None:
    plan = kalshi_plan("ws://127.0.0.1:1/x", "nats://127.0.0.1:1")
    async with running(plan) as (stop, task):
        await asyncio.sleep(0.3)
        assert not task.done()
        stop.set("SIGTERM")
        async with asyncio.timeout(120):
            assert await task == 0


def test_sigterm_ends_the_process_in_order(nats_server: NatsServer, tmp_path: Path) -> None:
    feed, env = tmp_path / "feed.yaml", tmp_path / "env.yaml"
    feed.write_text(
        "name: f\ntype: websocket\nversions: [{version: v1, effective_from: 2025-01-01,"
        " protocol: {transport: ws, message: json}, endpoint: 'ws://127.0.0.1:1/'}]\n"
        "websocket: {route: {type: [type]}}\n"
    )
    env.write_text(f"name: e\nfeed: f\ntransport: {{type: nats, url: '{nats_server.url}', stream: DEV}}\n")
    command = "from ssmd_connector.cli import main; main()"
    process = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-c", command, "--feed", str(feed), "--env", str(env)],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if "reconnecting" in line:
                break
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "session_ended" in rest
    assert "Traceback" not in rest


async def test_a_spool_of_another_feed_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=1 << 20)
    spool.append([Message(b"dev.kraken.json.trade.A", b"NATS/1.0\r\n\r\n", b"{}", 1, 1)])
    spool.close()
    file = tmp_path / "0000000001.spool"
    before = file.read_bytes()
    plan = kalshi_plan("ws://127.0.0.1:9/x", "nats://127.0.0.1:9", spool_dir=tmp_path)
    with pytest.raises(ConfigError, match=r"another feed or prefix: dev\.kraken\.json\.trade\.A"):
        await run(plan, Stop())
    assert file.read_bytes() == before
