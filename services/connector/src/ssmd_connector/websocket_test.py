from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from websockets.asyncio.server import ServerConnection, serve

from ssmd_common.errors import ConfigError
from ssmd_common.nats.testing import issued
from ssmd_connector import websocket
from ssmd_connector.testing import exchange
from ssmd_connector.websocket import Ended, OpenError, RefusedError, open_socket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[int]:
    """Answer whatever asks with these bytes, and close; yields the port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def opened(url: str) -> None:
    async with asyncio.timeout(120):
        await open_socket(url, headers={}, max_frame_bytes=1000)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "did not receive a valid HTTP response"),
        (b"\x00\xff garbage\r\n\r\n", "did not receive a valid HTTP response"),
        (b"HTTP/1.1 101 Switching", "did not receive a valid HTTP response"),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 3\r\n\r\nabc", "answered 500 abc"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "answered 200"),
        (b"HTTP/1.1 302 Found\r\nLocation: ws://[::1\r\n\r\n", "answered 302"),
        (b"HTTP/1.1 500 " + b"x" * 200_000, "expected no more than"),
        (b"HTTP/1.1 403 No\r\nContent-Length: abc\r\n\r\n", "did not receive a valid HTTP response"),
        (b"HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "Sec-WebSocket-Accept"),
    ],
)
async def test_an_answer_that_opens_no_socket_is_worth_another_attempt(answer: bytes, reason: str) -> None:
    async with answering(answer) as port:
        with pytest.raises(OpenError) as caught:
            await opened(f"ws://127.0.0.1:{port}/x")
    assert reason in caught.value.reason


async def test_an_exchange_that_is_not_there_or_speaks_no_tls_is_worth_another_attempt() -> None:
    with pytest.raises(OpenError, match="Connect call failed"):
        await opened("ws://127.0.0.1:1/")
    async with answering(b"hello") as port:
        with pytest.raises(OpenError, match="SSL"):
            await opened(f"wss://127.0.0.1:{port}/")


async def test_an_exchange_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "OPEN_TIMEOUT_S", 0.2)
    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _reader, writer: held.append(writer), "127.0.0.1", 0)
    async with server:
        with pytest.raises(OpenError, match=r"no answer within 0\.2 s"):
            await opened(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        held[0].close()


async def test_what_the_exchange_asks_to_wait_is_kept_within_an_hour() -> None:
    for given, kept in (("7", 7.0), ("1e9", 3600.0), ("soon", 0.0)):
        async with answering(f"HTTP/1.1 429 Slow\r\nRetry-After: {given}\r\n\r\n".encode()) as port:
            with pytest.raises(OpenError) as caught:
                await opened(f"ws://127.0.0.1:{port}/x")
        assert caught.value.retry_after_s == kept


async def test_the_signed_headers_are_not_carried_to_another_host() -> None:
    asked: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(1000))
        writer.close()

    elsewhere = await asyncio.start_server(note, "127.0.0.1", 0)
    async with elsewhere:
        target = f"ws://127.0.0.1:{elsewhere.sockets[0].getsockname()[1]}/".encode()
        async with answering(b"HTTP/1.1 307 Go\r\nLocation: " + target + b"\r\n\r\n") as port:
            with pytest.raises(OpenError, match="answered 307"):
                await opened(f"ws://127.0.0.1:{port}/x")
    assert asked == []


async def test_a_refusal_keeps_its_words() -> None:
    async with answering(b"HTTP/1.1 401 No\r\nContent-Length: 4\r\n\r\nwhy?") as port:
        with pytest.raises(RefusedError) as caught:
            await opened(f"ws://127.0.0.1:{port}/x")
    assert (caught.value.status, caught.value.body) == (401, "why?")


async def test_a_refusal_is_kept_without_what_we_showed() -> None:
    async with answering(b"HTTP/1.1 401 No\r\nContent-Length: 20\r\n\r\nno such key: our-key") as port:
        with pytest.raises(RefusedError) as caught:
            await open_socket(f"ws://127.0.0.1:{port}/x", headers={"X-Key": "our-key"}, max_frame_bytes=1000)
    assert caught.value.body == "no such key: [redacted]"


async def test_what_an_exchange_repeats_of_an_address_is_cut_out_of_its_words() -> None:
    async with answering(b"HTTP/1.1 403 No\r\nContent-Length: 14\r\n\r\nbad token: s3c") as port:
        with pytest.raises(RefusedError) as caught:
            await opened(f"ws://127.0.0.1:{port}/x?token=s3c")
    assert caught.value.body == "bad token: [redacted]"

    async def script(connection: ServerConnection, _number: int) -> None:
        await connection.close(4001, "our-key, bob:pw and s3c expired")

    async with exchange(script) as url:
        address = f"{url.replace('://', '://bob:pw@')}?token=s3c"
        socket = await open_socket(address, headers={"X-Key": "our-key"}, max_frame_bytes=1000)
        ended = await socket.receive()
    assert isinstance(ended, Ended)
    assert (ended.code, ended.reason) == (4001, "[redacted], bob:[redacted] and [redacted] expired")


async def test_a_certificate_is_verified_and_the_systems_authorities_can_be_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = issued(tmp_path, "authority")
    own = issued(tmp_path, "server", authority)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.cert_file, own.key_file)

    async def wait(connection: ServerConnection) -> None:
        await connection.wait_closed()

    async with serve(wait, "127.0.0.1", 0, ssl=context) as server:
        url = f"wss://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/"
        with pytest.raises(OpenError, match="certificate verify failed"):
            await opened(url)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.cert_file))
        socket = await open_socket(url, headers={}, max_frame_bytes=1000)
        await socket.close()


@pytest.mark.parametrize("url", ["http://x/", "ws://a..b/", "ws://h:99999/", "ws://h:x/", "ws://[::1/", "ws://"])
async def test_what_is_no_address_is_not_tried_again(url: str) -> None:
    with pytest.raises(ConfigError, match="is no WebSocket address"):
        await opened(url)
