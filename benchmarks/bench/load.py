"""A load generator for HTTP/1.1: one request under way on each connection, answers counted by their length.

Plain sockets and epoll, so that it costs far less than what it measures. Every answer of a run must be the same
length; the first one is read whole and checked.
"""

from __future__ import annotations

import select
import socket
import time
from dataclasses import dataclass, replace

__all__ = ["Load", "request_bytes", "run_load", "time_request"]

_PART_BYTES = 1 << 18
_TIMEOUT_S = 60.0
_WARM_UP_S = 0.5


@dataclass(frozen=True, slots=True)
class Load:
    """What came of a run.

    Attributes:
        requests: Answered while it was measured.
        all_requests: Those of the warm-up too.
        latencies_s: From a request's last byte out to its answer's last byte in; one of sixteen requests.
    """

    requests: int
    all_requests: int
    seconds: float
    answer_bytes: int
    latencies_s: list[float]

    @property
    def per_second(self) -> float:
        """Requests answered a second."""
        return self.requests / self.seconds


def request_bytes(path: str, headers: dict[str, str]) -> bytes:
    """Return a GET request as it goes over the wire."""
    lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def run_load(
    address: tuple[str, int],
    request: bytes,
    *,
    status: int,
    connections: int,
    seconds: float,
) -> Load:
    """Send one request over and over for so many seconds.

    Raises:
        RuntimeError: The first answer has another status, or a connection ends.
    """
    answer_bytes = _first_answer(address, request, status)
    poll = select.epoll()
    sockets: dict[int, socket.socket] = {}
    try:
        for _ in range(connections):
            connection = socket.create_connection(address, _TIMEOUT_S)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setblocking(False)  # noqa: FBT003 - its only parameter
            sockets[connection.fileno()] = connection
            poll.register(connection.fileno(), select.EPOLLIN)
        warm_up = _drive(poll, sockets, request, answer_bytes, _WARM_UP_S)
        load = _drive(poll, sockets, request, answer_bytes, seconds)
        return replace(load, all_requests=load.requests + warm_up.requests + 1)
    finally:
        poll.close()
        for connection in sockets.values():
            connection.close()


def time_request(address: tuple[str, int], request: bytes, *, status: int) -> float:
    """Return the seconds one request takes on a connection of its own.

    Raises:
        RuntimeError: The answer has another status.
    """
    started = time.perf_counter()
    _first_answer(address, request, status)
    return time.perf_counter() - started


def _drive(
    poll: select.epoll, sockets: dict[int, socket.socket], request: bytes, answer_bytes: int, seconds: float
) -> Load:
    clock = time.perf_counter
    left = dict.fromkeys(sockets, answer_bytes)
    sent_at = dict.fromkeys(sockets, 0.0)
    latencies: list[float] = []
    done = under_way = 0
    started = clock()
    for fd, connection in sockets.items():
        connection.send(request)
        sent_at[fd] = clock()
        under_way += 1
    end = started + seconds
    while under_way:
        ready = poll.poll(_TIMEOUT_S)
        if not ready:
            raise RuntimeError(f"no answer within {_TIMEOUT_S} s")
        for fd, _ in ready:
            connection = sockets[fd]
            part = connection.recv(_PART_BYTES)
            if not part:
                raise RuntimeError("the server closed a connection")
            rest = left[fd] - len(part)
            if rest > 0:
                left[fd] = rest
                continue
            if rest < 0:
                raise RuntimeError("an answer is longer than the first one")
            done += 1
            now = clock()
            if not done & 15:
                latencies.append(now - sent_at[fd])
            left[fd] = answer_bytes
            if now < end:
                connection.send(request)
                sent_at[fd] = now
            else:
                under_way -= 1
    return Load(done, done, clock() - started, answer_bytes, latencies)


def _first_answer(address: tuple[str, int], request: bytes, status: int) -> int:
    """Return the length of the answer, head and body."""
    with socket.create_connection(address, _TIMEOUT_S) as connection:
        connection.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += _more(connection)
        head, _, body = answer.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        if int(lines[0].split(" ")[1]) != status:
            raise RuntimeError(f"answered {lines[0]}, not {status}")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        length = 0 if status == 304 else int(fields["content-length"])  # noqa: PLR2004 - Not Modified has no body
        while len(body) < length:
            body += _more(connection)
        return len(head) + 4 + length


def _more(connection: socket.socket) -> bytes:
    part = connection.recv(_PART_BYTES)
    if not part:
        raise RuntimeError("the server closed the connection")
    return part
