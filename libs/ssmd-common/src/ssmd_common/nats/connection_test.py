from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr, ValidationError
from structlog.testing import capture_logs

from ssmd_common.config.nats import NatsSettings, NatsTlsSettings
from ssmd_common.errors import ConfigError, CredentialError, TransportError
from ssmd_common.nats import connection
from ssmd_common.nats.connection import close, connect
from ssmd_common.nats.testing import NatsServer, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[NatsServer]:
    config = (
        "authorization { users: [ { user: writer, password: right,"
        ' permissions: { publish: ["data.>"], subscribe: ["_INBOX_w.>", "data.>"] } } ] }'
    )
    server = NatsServer(tmp_path, config=config)
    server.start()
    yield server
    server.stop()


def settings(server: NatsServer, given: str = "right") -> NatsSettings:
    return NatsSettings(url=server.url, user="writer", password=SecretStr(given))


async def test_a_block_of_messages_goes_out_and_comes_back_raw(guarded: NatsServer) -> None:
    nc = await connect(settings(guarded), name="test", inbox_prefix="_INBOX_w")
    seen: list[tuple[bytes, bytes]] = []
    await nc.subscribe_raw(
        "data.>", lambda messages: seen.extend((subject, data) for subject, _, _, data in messages)
    )
    await nc.write_block(b"PUB data.a 2\r\nhi\r\nPUB data.b 0\r\n\r\n")
    await nc.flush()
    await close(nc)
    assert seen == [(b"data.a", b"hi"), (b"data.b", b"")]


async def test_wrong_credentials_end_the_attempt_and_are_not_shown(guarded: NatsServer) -> None:
    with pytest.raises(CredentialError, match="refused the credentials") as caught:
        await connect(settings(guarded, "wr0ng"), name="test")
    assert "wr0ng" not in str(caught.value)
    assert caught.value.exit_code == 2


async def test_a_permission_violation_is_remembered_by_name(guarded: NatsServer) -> None:
    nc = await connect(settings(guarded), name="test", inbox_prefix="_INBOX_w")
    await nc.publish("forbidden.subject", b"x")
    await nc.flush()
    await close(nc)
    assert "forbidden.subject" in nc.violation


async def test_a_permission_that_lacks_for_many_tickers_is_told_once(guarded: NatsServer) -> None:
    nc = await connect(settings(guarded), name="test", inbox_prefix="_INBOX_w")
    with capture_logs() as said:
        for ticker in range(20):
            await nc.publish(f"forbidden.json.trade.T{ticker}", b"x")
        await nc.publish("forbidden.json.ticker.T0", b"x")
        await nc.flush()
    await close(nc)
    told = [line["error"] for line in said if line["event"] == "nats_permission_violation"]
    assert ["trade.T0" in told[0], "ticker.T0" in told[1], len(told)] == [True, True, 2]


async def test_an_absent_server_is_waited_for(tmp_path: Path) -> None:
    server = NatsServer(tmp_path)
    waiting = asyncio.create_task(connect(NatsSettings(url=server.url), name="test"))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    server.start()
    try:
        async with asyncio.timeout(120):
            nc = await waiting
        assert nc.is_connected
        await close(nc)
    finally:
        server.stop()


async def test_waiting_for_a_server_ends_when_stopped() -> None:
    stop = asyncio.Event()
    stop.set()
    with pytest.raises(TransportError, match="stopped while waiting"):
        await connect(NatsSettings(url=f"nats://127.0.0.1:{free_port()}"), name="test", stop=stop)


@pytest.mark.parametrize("url", ["", ",", "nats://", "nats://a..b", "nats://[::1", "nats://h:99999", "http://h:1"])
async def test_a_url_that_is_none_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigError, match="is no address of a NATS server"):
        await connect(NatsSettings(url=url), name="test")


@pytest.mark.parametrize("greeting", [b"INFO []\r\n", b"INFO " + b"x" * 1_000_000])
async def test_a_server_that_is_none_of_nats_is_a_configuration_error(greeting: bytes) -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with asyncio.timeout(120), server:
        with pytest.raises(ConfigError, match="no NATS server"):
            await connect(NatsSettings(url=f"nats://127.0.0.1:{port}"), name="test")


async def test_a_seed_that_is_none_is_refused_without_showing_it() -> None:
    given = NatsSettings(nkey_seed=SecretStr("SUNOTASEED"))
    with pytest.raises(CredentialError, match="not an nkey seed") as caught:
        await connect(given, name="test")
    assert "SUNOTASEED" not in str(caught.value)


async def test_missing_certificate_files_are_named(tmp_path: Path) -> None:
    given = NatsSettings(url="tls://127.0.0.1:1", tls=NatsTlsSettings(ca=tmp_path / "no.pem"))
    with pytest.raises(CredentialError, match=r"no\.pem"):
        await connect(given, name="test")


def test_two_ways_to_authenticate_exclude_one_another() -> None:
    with pytest.raises(ValidationError, match="exclude one another"):
        NatsSettings(token=SecretStr("a"), nkey_seed=SecretStr("b"))


@pytest.mark.parametrize(
    "greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"INFO []\r\n", b"INFO {\r\n", b"\xff\xff\r\n"]
)
async def test_another_program_on_the_port_for_a_while_does_not_end_the_reconnecting(
    tmp_path: Path, greeting: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "RECONNECT_WAIT_S", 0.05)
    greeted = 0

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal greeted
        greeted += 1
        writer.write(greeting)
        writer.close()

    server = NatsServer(tmp_path)
    server.start()
    nc = await connect(NatsSettings(url=server.url), name="test")
    try:
        await asyncio.to_thread(server.kill)
        async with await asyncio.start_server(greet, "127.0.0.1", server.port), asyncio.timeout(120):
            while greeted < 3:  # noqa: ASYNC110 - the other side of a socket sets no event
                await asyncio.sleep(0.02)
        await asyncio.to_thread(server.start)
        async with asyncio.timeout(120):
            while not nc.is_connected:  # noqa: ASYNC110 - nats-py sets no event
                await asyncio.sleep(0.02)
        await nc.flush()
    finally:
        await close(nc)
        server.stop()
