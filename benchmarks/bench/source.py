"""An exchange that costs next to nothing: it answers like the simulator, then sends frames that were made before.

A process of its own. Whoever connects says in the URL how many frames it wants and how fast:
``ws://…/?frames=100000&rate=0`` (0: as fast as they are taken). What it subscribes with is answered by the
simulator's own session, so the frames carry its sids and an unbroken sequence.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import multiprocessing
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import Synchronized
from urllib.parse import parse_qs, urlsplit

from bench.frames import START_NS, STEP_NS
from ssmd_simulator.directory import Directory
from ssmd_simulator.market import Exchange
from ssmd_simulator.protocol import Session

__all__ = ["MARKETS", "Marks", "Source", "running_source"]

MARKETS = 600
_SEED = 1
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_QUIET_S = 0.5
_SETTLE_S = 0.5
_TICK_S = 0.001
_AT_ONCE = 20_000
_TEXT, _CLOSE, _PING, _PONG = 0x1, 0x8, 0x9, 0xA
_START_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Marks:
    """What the source tells of the connection it serves; 0 while it is not so far.

    Attributes:
        sending: Set once the first of the frames is about to be sent, by the monotonic clock.
        total: Frames sent on the connection, those that answered commands among them.
    """

    sending: Synchronized[float]
    total: Synchronized[int]

    def clear(self) -> None:
        """Forget the last connection."""
        self.sending.value, self.total.value = 0.0, 0


@dataclass(frozen=True, slots=True)
class Source:
    """Where it listens, its process and what it tells."""

    port: int
    process: BaseProcess
    marks: Marks

    @property
    def pid(self) -> int:
        """The process's number."""
        return self.process.pid or 0

    def url(self, frames: int, rate: int = 0) -> str:
        """Return the address that sends so many frames, at ``rate`` a second; 0 as fast as they are taken."""
        return f"ws://127.0.0.1:{self.port}/?frames={frames}&rate={rate}"


@contextmanager
def running_source(markets: int = MARKETS) -> Iterator[Source]:
    """Run one with so many markets, and end it."""
    context = multiprocessing.get_context("spawn")
    marks = Marks(context.Value("d", 0.0), context.Value("q", 0))
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(marks.sending, marks.total, theirs, markets), daemon=True)
    process.start()
    try:
        if not ours.poll(_START_TIMEOUT_S):
            raise RuntimeError("the source did not start")
        yield Source(ours.recv(), process, marks)
    finally:
        process.kill()
        process.join()


def _serve(sending: Synchronized[float], total: Synchronized[int], pipe: Connection, markets: int) -> None:
    blocks = _Blocks(markets)
    with socket.create_server(("127.0.0.1", 0)) as server:
        pipe.send(server.getsockname()[1])
        while True:
            client, _ = server.accept()
            with client:
                try:
                    _converse(client, blocks, Marks(sending, total))
                except OSError:
                    continue


class _Blocks:
    """The frames of a session subscribed in a certain way, as they go over the socket, made once."""

    def __init__(self, markets: int) -> None:
        self.markets = markets
        self._made: dict[tuple[bytes, ...], _Made] = {}

    def get(self, commands: tuple[bytes, ...], count: int, pause: Callable[[], None]) -> _Made:
        """Return at least ``count`` frames; making them takes its time, and ``pause`` is called now and then."""
        made = self._made.setdefault(commands, _Made(bytearray(), [0], _data_frames(commands, self.markets)))
        while len(made.ends) <= count:
            fresh = [_framed(frame) for frame in itertools.islice(made.more, _AT_ONCE)]
            made.joined.extend(b"".join(fresh))
            made.ends.extend(list(itertools.accumulate(map(len, fresh), initial=made.ends[-1]))[1:])
            pause()
        return made


@dataclass(frozen=True, slots=True)
class _Made:
    """Frames joined, where each ends, and those that would follow."""

    joined: bytearray
    ends: list[int]
    more: Iterator[bytes]


def _answered(commands: tuple[bytes, ...], markets: int) -> tuple[Session, list[list[bytes]]]:
    session = Session(Exchange(_SEED, Directory(markets)))
    return session, [session.handle(command, START_NS) for command in commands]


def _data_frames(commands: tuple[bytes, ...], markets: int) -> Iterator[bytes]:
    session, _ = _answered(commands, markets)
    for now_ns in itertools.count(START_NS, STEP_NS):
        yield from session.next_frames(1, now_ns)


def _framed(payload: bytes, opcode: int = _TEXT) -> bytes:
    """Return a frame of a server: whole, not masked."""
    size = len(payload)
    head = bytes([0x80 | opcode])
    if size < 126:  # noqa: PLR2004 - RFC 6455, 5.2
        return head + bytes([size]) + payload
    return head + (struct.pack("!BH", 126, size) if size < 1 << 16 else struct.pack("!BQ", 127, size)) + payload


def _converse(client: socket.socket, blocks: _Blocks, marks: Marks) -> None:
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    reader = client.makefile("rb")
    path = reader.readline().split()[1].decode()
    key = b""
    while (line := reader.readline()) not in (b"\r\n", b""):
        name, _, value = line.partition(b":")
        if name.lower() == b"sec-websocket-key":
            key = value.strip()
    accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
    client.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    asked = {name: int(values[0]) for name, values in parse_qs(urlsplit(path).query).items()}
    commands: tuple[bytes, ...] = ()
    answers = 0
    client.settimeout(_QUIET_S)
    while True:
        try:
            command = _read_command(client)
        except TimeoutError:
            break
        commands += (command,)
        # The whole conversation again, which is short: its last answers are this command's.
        answer = _answered(commands, blocks.markets)[1][-1]
        answers += len(answer)
        client.sendall(b"".join(map(_framed, answer)))
    made = blocks.get(commands, asked["frames"], lambda: _answer_pings(client))
    client.settimeout(None)
    time.sleep(_SETTLE_S)
    marks.total.value = answers + asked["frames"]
    marks.sending.value = time.monotonic()
    with memoryview(made.joined) as joined:
        _send(client, joined, made.ends, asked["frames"], asked["rate"])
    while client.recv(1 << 12):
        pass


def _send(client: socket.socket, joined: memoryview, ends: list[int], count: int, rate: int) -> None:
    if not rate:
        client.sendall(joined[: ends[count]])
        return
    begun, sent = time.monotonic(), 0
    while sent < count:
        due = min(count, int((time.monotonic() - begun) * rate) + 1)
        if due > sent:
            client.sendall(joined[ends[sent] : ends[due]])
            sent = due
        _answer_pings(client)
        time.sleep(_TICK_S)


def _read_command(client: socket.socket) -> bytes:
    """Read one frame of the client, whole and masked; a timeout between two is the end of its commands."""
    opcode, payload = _read_frame(client)
    while opcode == _PING:  # a client asks for life while a conversation about many markets takes its time
        client.sendall(_framed(payload, _PONG))
        opcode, payload = _read_frame(client)
    if opcode == _CLOSE:
        raise ConnectionError
    return payload


def _answer_pings(client: socket.socket) -> None:
    """Answer what the client has asked meanwhile, without waiting for more."""
    while select.select([client], [], [], 0)[0]:
        opcode, payload = _read_frame(client)
        if opcode == _PING:
            client.sendall(_framed(payload, _PONG))


def _read_frame(client: socket.socket) -> tuple[int, bytes]:
    head = _exactly(client, 2)
    size = head[1] & 0x7F
    if size == 126:  # noqa: PLR2004 - RFC 6455, 5.2
        (size,) = struct.unpack("!H", _exactly(client, 2))
    elif size == 127:  # noqa: PLR2004 - RFC 6455, 5.2
        (size,) = struct.unpack("!Q", _exactly(client, 8))
    mask, payload = _exactly(client, 4), _exactly(client, size)
    return head[0] & 0xF, bytes(byte ^ mask[index & 3] for index, byte in enumerate(payload))


def _exactly(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = client.recv(count - len(data))
        if not more:
            raise ConnectionError
        data += more
    return data
