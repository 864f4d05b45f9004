from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import os
import zlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.server import ServerConnection, serve
from websockets.frames import Close, Frame, Opcode

from ssmd_connector import websocket
from ssmd_connector.causes import Cause
from ssmd_connector.websocket import Ended, open_socket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

LIMIT = 70_000
CLOSE_BYTE = b"\x88"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n"


@asynccontextmanager
async def speaking(
    pieces: Sequence[bytes], *, extension: bytes = b"", stays_open: bool = False
) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Open the socket, then say these pieces one write after another; yields the URL and what came back."""
    heard: list[bytes] = []

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        (key,) = (line[19:] for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:"))
        accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
        opening = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        pieces_ = [opening + b"Sec-WebSocket-Accept: " + accept + b"\r\n" + extension + b"\r\n" + pieces[0]]
        for piece in (*pieces_, *pieces[1:]):
            writer.write(piece)
            await writer.drain()
            # So that the client reads them one by one.
            await asyncio.sleep(0)
        while data := await reader.read(1 << 16):
            heard.append(data)
            if not stays_open and closes(b"".join(heard)):
                break
        writer.close()

    async with await asyncio.start_server(converse, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/", heard


def closes(said: bytes) -> bool:
    """Tell whether a close frame is among the frames a client said: each short, its mask of any bytes."""
    at = 0
    while at + 2 <= len(said):
        if said[at : at + 1] == CLOSE_BYTE:
            return True
        at += 6 + (said[at + 1] & 0x7F)
    return False


async def received(url: str, *, count: int | None = None) -> tuple[list[bytes], Ended | None]:
    """Return the messages up to the end, or ``count`` of them."""
    socket = await open_socket(url, headers={}, max_frame_bytes=LIMIT)
    found: list[bytes] = []
    async with asyncio.timeout(120):
        while count is None or len(found) < count:
            read = await socket.receive()
            if isinstance(read, Ended):
                return found, read
            assert read[0] > 0
            found += read[1]
    await socket.close()
    return found, None


def text(payload: bytes, *, fin: bool = True, opcode: Opcode = Opcode.TEXT) -> bytes:
    return Frame(opcode, payload, fin=fin).serialize(mask=False)


CLOSING = Frame(Opcode.CLOSE, Close(1001, "bye").serialize()).serialize(mask=False)

messages = st.lists(
    st.one_of(
        st.tuples(st.just("plain"), st.sampled_from([b"x" * size for size in (0, 2, 125, 126, 65_535, 65_536)])),
        st.tuples(st.just("fragmented"), st.binary(min_size=2, max_size=300)),
        st.tuples(st.just("ping"), st.binary(max_size=20)),
    ),
    max_size=12,
)


def encoded(kind: str, payload: bytes) -> bytes:
    if kind == "plain":
        return text(payload)
    if kind == "ping":
        return text(payload, opcode=Opcode.PING)
    middle = len(payload) // 2
    # A ping may come between two fragments.
    return (
        text(payload[:middle], fin=False)
        + text(b"p", opcode=Opcode.PING)
        + text(payload[middle:], opcode=Opcode.CONT)
    )


@settings(max_examples=60, deadline=None)
@given(messages=messages, cuts=st.lists(st.integers(0, 200_000), max_size=12))
def test_every_message_comes_once_in_order_wherever_the_reads_are_cut(
    messages: list[tuple[str, bytes]], cuts: list[int]
) -> None:
    said = b"".join(encoded(kind, payload) for kind, payload in messages) + CLOSING
    bounds = [0, *sorted({cut % len(said) for cut in cuts}), len(said)]
    pieces = [said[start:end] for start, end in itertools.pairwise(bounds)]

    async def meet() -> tuple[list[bytes], Ended | None]:
        async with speaking(pieces) as (url, _):
            return await received(url)

    found, ended = asyncio.run(meet())
    assert found == [payload for kind, payload in messages if kind != "ping"]
    assert ended == Ended(Cause.PEER_CLOSED, 1001, "bye")


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (text(b"x" * (LIMIT + 1))[:20], Cause.FRAME_TOO_LARGE),
        (text(b"x" * LIMIT, fin=False) + text(b"xx", opcode=Opcode.CONT), Cause.FRAME_TOO_LARGE),
        (b"\x91\x02ab", Cause.PROTOCOL_ERROR),
        (b"\xc1\x02ab", Cause.PROTOCOL_ERROR),
        (b"\x83\x02ab", Cause.PROTOCOL_ERROR),
        (b"\x81\x82abcdxy", Cause.PROTOCOL_ERROR),
        (text(b"a", fin=False) + text(b"b"), Cause.PROTOCOL_ERROR),
        (text(b"b", opcode=Opcode.CONT), Cause.PROTOCOL_ERROR),
    ],
)
async def test_the_messages_before_a_fault_come_and_nothing_after_it(fault: bytes, cause: Cause) -> None:
    said = text(b"first") + text(b"second") + fault + text(b"after")
    async with speaking([said]) as (url, heard):
        found, ended = await received(url)
        assert found == [b"first", b"second"]
        assert ended is not None
        assert ended.cause == cause
        async with asyncio.timeout(120):
            while not heard:  # noqa: ASYNC110 - the other side of a socket sets no event
                await asyncio.sleep(0.01)
    assert heard[0].startswith(CLOSE_BYTE)


async def test_nothing_counts_after_the_peer_has_closed() -> None:
    async with speaking([text(b"first") + CLOSING + text(b"after")]) as (url, _):
        assert await received(url) == ([b"first"], Ended(Cause.PEER_CLOSED, 1001, "bye"))


async def test_a_peer_that_closes_and_keeps_the_socket_is_left_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "CLOSE_TIMEOUT_S", 0.1)
    async with speaking([text(b"first") + CLOSING], stays_open=True) as (url, _):
        assert await received(url) == ([b"first"], Ended(Cause.PEER_CLOSED, 1001, "bye"))


async def test_pings_are_answered_in_the_middle_of_messages() -> None:
    async with speaking([text(b"a") + text(b"hello", opcode=Opcode.PING) + text(b"b") + CLOSING]) as (url, heard):
        assert (await received(url))[0] == [b"a", b"b"]
    assert heard[0][0] == 0x8A


async def test_compressed_and_plain_messages_may_be_mixed() -> None:
    packed = zlib.compressobj(wbits=-15)
    data = (packed.compress(b"squeezed" * 9) + packed.flush(zlib.Z_SYNC_FLUSH))[:-4]
    said = text(b"plain") + b"\xc1" + bytes([len(data)]) + data + text(b"plain too") + CLOSING
    async with speaking([said], extension=_DEFLATE) as (url, _):
        assert (await received(url))[0] == [b"plain", b"squeezed" * 9, b"plain too"]


async def test_a_server_that_compresses_is_understood() -> None:
    sent = [os.urandom(n).hex() for n in (1, 100, 5000)]

    async def script(connection: ServerConnection) -> None:
        for message in sent:
            await connection.send(message)

    async with serve(script, "127.0.0.1", 0, compression="deflate") as server:
        url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/"
        found, ended = await received(url)
    assert found == [message.encode() for message in sent]
    assert ended is not None
    assert (ended.cause, ended.code) == (Cause.PEER_CLOSED, 1000)


async def test_the_exchange_has_to_wait_while_nobody_takes() -> None:
    message = b"m" * 60_000
    written = 0

    async def flood(connection: ServerConnection) -> None:
        nonlocal written
        for _ in range(1000):
            await connection.send(message)
            written += 1

    async with serve(flood, "127.0.0.1", 0, compression=None) as server:
        url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/"
        socket = await open_socket(url, headers={}, max_frame_bytes=LIMIT)
        await asyncio.sleep(0.5)
        held = written
        assert held < 500
        taken = 0
        async with asyncio.timeout(120):
            while not isinstance(read := await socket.receive(), Ended):
                assert read[1] == [message] * len(read[1])
                taken += len(read[1])
    assert taken == 1000
