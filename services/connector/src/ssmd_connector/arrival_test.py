"""NATS that comes later than the connector, takes what waited for it, or refuses it."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from structlog.testing import capture_logs

from ssmd_common import events
from ssmd_common.errors import CredentialError, SsmdError
from ssmd_common.nats.testing import free_port
from ssmd_common.service.address import parse_addr
from ssmd_common.service.lifecycle import Stop
from ssmd_connector.run import run
from ssmd_connector.testing import answer_subscribe, exchange, kalshi_plan, stored, trade

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from websockets.asyncio.server import ServerConnection

    from ssmd_common.nats.streams import StoredMessage
    from ssmd_common.nats.testing import NatsServer
    from ssmd_connector.plan import Plan

OTHERS_ALONE = "authorization { user: somebody, password: else }"


@asynccontextmanager
async def chatty_exchange(total: int) -> AsyncIterator[str]:
    """An exchange that sends so many trades on each connection, as fast as it can."""

    async def script(connection: ServerConnection, _number: int) -> None:
        await answer_subscribe(connection)
        for seq in range(1, total + 1):
            await connection.send(trade(seq))
        await connection.wait_closed()

    async with exchange(script) as url:
        yield url


@asynccontextmanager
async def running(plan: Plan, *, health_port: int | None = None) -> AsyncIterator[asyncio.Task[int]]:
    """A connector, stopped in order at the end, where it has not ended before."""
    stop = Stop()
    health = parse_addr(f"127.0.0.1:{health_port}") if health_port is not None else None
    task = asyncio.create_task(run(plan, stop, health_addr=health))
    try:
        yield task
    finally:
        stop.set("SIGTERM")
        async with asyncio.timeout(30):
            await asyncio.wait([task])


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110 - files and pages set no event
            await asyncio.sleep(0.05)


async def spooled(folder: Path, trades: int) -> None:
    """Wait until so many trades lie in the spool; 0: until nothing does."""

    async def is_so() -> bool:
        files = _files(folder)
        found = sum(file.count(b'"type": "trade"') for file in files)
        return found >= trades if trades else not files

    await until(is_so)


def _files(folder: Path) -> list[bytes]:
    files: list[bytes] = []
    for path in folder.glob("*.spool"):
        with suppress(FileNotFoundError):  # the connector may just have deleted it
            files.append(path.read_bytes())
    return files


def seqs(messages: list[StoredMessage]) -> list[int]:
    return [json.loads(message.data)["seq"] for message in messages if ".json." in message.subject]


def told(messages: list[StoredMessage]) -> list[Any]:
    return [events.decode_event(message.data) for message in messages if ".capture." in message.subject]


async def test_what_comes_before_nats_is_published_in_order_once_it_is_there(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    nats_server.kill()
    port, spool = free_port(), tmp_path / "spool"
    with capture_logs() as logs:
        async with chatty_exchange(2000) as url, httpx.AsyncClient() as client:
            plan = kalshi_plan(url, nats_server.url, spool_dir=spool)
            async with running(plan, health_port=port) as task:
                await spooled(spool, 2000)
                ready = await client.get(f"http://127.0.0.1:{port}/ready")
                await asyncio.to_thread(nats_server.start)
                await spooled(spool, 0)
                ready_then = await client.get(f"http://127.0.0.1:{port}/ready")
            assert task.result() == 0
    checks = ready.json()["checks"]
    assert (ready.status_code, ready_then.status_code) == (503, 200)
    assert f"{nats_server.url} is not reached" in checks.pop("nats")["reason"]
    assert checks == {name: {"ok": True} for name in ("exchange", "subscribed", "flow")}
    messages = await stored(nats_server)
    assert seqs(messages) == list(range(1, 2001))
    record = told(messages)
    assert [type(event) for event in (record[0], record[-1])] == [events.SessionStarted, events.SessionEnded]
    (closed,) = (event for event in record if isinstance(event, events.ConnectionClosed))
    assert (closed.frames, closed.acked_through, closed.lost) == (2001, 2001, [])
    said = [line["event"] for line in logs]
    assert said.index("capturing_without_nats") < said.index("spooling") < said.index("spool_drained")


async def test_frames_before_nats_are_measured_by_its_limits_once_these_are_known(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    nats_server.kill()
    nats_server.reload("max_payload: 4MB")
    spool = tmp_path / "spool"
    sizes = [3 << 20, 6 << 20, 0]

    async def script(connection: ServerConnection, _number: int) -> None:
        await answer_subscribe(connection)
        for seq, size in enumerate(sizes, 1):
            await connection.send(trade(seq) + " " * size)
        await connection.wait_closed()

    async with exchange(script) as url:
        plan = kalshi_plan(url, nats_server.url, spool_dir=spool, max_frame_bytes=7 << 20)
        async with running(plan) as task:
            await spooled(spool, len(sizes))
            await asyncio.to_thread(nats_server.start)
            await spooled(spool, 0)
        assert task.result() == 0
    messages = await stored(nats_server)
    assert seqs(messages) == [1, 3]
    (oversize,) = (event for event in told(messages) if isinstance(event, events.FrameOversize))
    assert (oversize.frame_no, oversize.length) == (3, len(trade(2)) + sizes[1])


@pytest.mark.parametrize(
    ("config", "transport", "exit_code", "words"),
    [
        (OTHERS_ALONE, {}, 2, "NATS refused the credentials"),
        ("", {"create_stream": False}, 1, "there is no stream 'DEV'"),
    ],
)
async def test_what_a_late_nats_refuses_ends_the_capture_in_order_and_the_next_life_publishes_it(
    nats_server: NatsServer, tmp_path: Path, config: str, transport: dict[str, Any], exit_code: int, words: str
) -> None:
    nats_server.kill()
    nats_server.reload(config)
    spool = tmp_path / "spool"
    with capture_logs() as logs:
        async with chatty_exchange(500) as url:
            plan = kalshi_plan(url, nats_server.url, spool_dir=spool, transport=transport)
            async with running(plan) as refused:
                await spooled(spool, 500)
                await asyncio.to_thread(nats_server.start)
                with pytest.raises(SsmdError, match=words) as caught:
                    await refused
    assert caught.value.exit_code == exit_code
    (kept,) = (line for line in logs if line["event"] == "messages_kept_in_spool")
    assert "the next start publishes them" in kept["remedy"]
    nats_server.kill()
    nats_server.reload("")
    nats_server.start()
    async with running(kalshi_plan("ws://127.0.0.1:1/x", nats_server.url, spool_dir=spool)) as mended:
        await spooled(spool, 0)
    assert mended.result() == 0
    messages = await stored(nats_server)
    assert seqs(messages) == list(range(1, 501))
    record = told(messages)
    assert [event.cause for event in record if isinstance(event, events.SessionEnded)] == ["failed", "SIGTERM"]
    assert len({event.session for event in record}) == 2
    (closed,) = (event for event in record if isinstance(event, events.ConnectionClosed))
    assert (closed.frames, closed.acked_through, closed.lost) == (501, 0, [])


async def test_what_nats_refuses_at_once_ends_the_process_before_the_exchange_is_asked(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    nats_server.kill()
    nats_server.reload(OTHERS_ALONE)
    nats_server.start()
    asked = 0

    async def script(_connection: ServerConnection, _number: int) -> None:
        nonlocal asked
        asked += 1

    async with exchange(script) as url:
        with pytest.raises(CredentialError, match="NATS refused the credentials"):
            await run(kalshi_plan(url, nats_server.url, spool_dir=tmp_path / "spool"), Stop())
    assert asked == 0
    assert list((tmp_path / "spool").glob("*.spool")) == []


async def test_a_stop_before_nats_came_keeps_everything_for_the_next_life(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    nats_server.kill()
    spool = tmp_path / "spool"
    async with chatty_exchange(500) as url:
        async with running(kalshi_plan(url, nats_server.url, spool_dir=spool)) as first:
            await spooled(spool, 500)
        assert first.result() == 0
        nats_server.start()
        async with running(kalshi_plan(url, nats_server.url, spool_dir=spool)) as second:
            await spooled(spool, 0)
            await until(lambda: _has_all(nats_server))
        assert second.result() == 0
    messages = await stored(nats_server)
    assert seqs(messages) == [*range(1, 501), *range(1, 501)]
    ended = [event for event in told(messages) if isinstance(event, events.SessionEnded)]
    assert [event.frames for event in ended] == [501, 501]


async def _has_all(server: NatsServer) -> bool:
    return len(seqs(await stored(server))) == 1000


async def test_without_a_spool_what_waits_in_memory_is_published_and_a_stop_says_what_is_lost(
    nats_server: NatsServer,
) -> None:
    nats_server.kill()
    async with chatty_exchange(500) as url:
        with capture_logs() as logs:
            async with running(kalshi_plan(url, nats_server.url), health_port=(port := free_port())) as stopped:
                await until(lambda: _waiting(port, 500))
            assert stopped.result() == 1
        assert "messages_lost" in [line["event"] for line in logs]
        async with running(kalshi_plan(url, nats_server.url), health_port=(port := free_port())) as followed:
            await until(lambda: _waiting(port, 500))
            await asyncio.to_thread(nats_server.start)
            await until(lambda: _waiting(port, 0))
        assert followed.result() == 0
    assert seqs(await stored(nats_server)) == list(range(1, 501))


async def _waiting(port: int, count: int) -> bool:
    """Tell whether at least so many messages wait in memory; 0: whether none does."""
    async with httpx.AsyncClient() as client:
        try:
            text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
        except httpx.TransportError:
            return False
    values = [
        float(line.split()[-1])
        for line in text.splitlines()
        if line.startswith(("ssmd_connector_waiting ", "ssmd_connector_window_depth "))
    ]
    return bool(values) and (sum(values) >= count if count else not any(values))
