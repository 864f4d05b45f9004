"""The exchange's WebSocket server: opens connections whose handshake is good and serves each with the road.

The last step of the data path here, and the first of a connector's. The shell around `auth` (who may in),
`roads` (what they are sent) and `peer` (how).
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING

import structlog
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import enable_server_permessage_deflate

from ssmd_common.errors import ConfigError
from ssmd_simulator import auth, rest
from ssmd_simulator.connection import FaultyConnection
from ssmd_simulator.peer import Peer
from ssmd_simulator.performance import Performance

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from websockets.asyncio.server import Server, ServerConnection
    from websockets.datastructures import Headers
    from websockets.http11 import Request, Response

    from ssmd_simulator.records import SentLog
    from ssmd_simulator.roads import Road

__all__ = ["Simulator"]

log = structlog.get_logger()

_PING_BODY = b"heartbeat"
#: A client that does not answer the closing handshake is cut off after this.
_CLOSE_TIMEOUT_S = 2.0
#: Bytes that may wait for a slow client inside this process before the road has to wait.
_WRITE_BUFFER_BYTES = 256 * 1024
_GOING_AWAY = 1001


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; port 0 takes a free one."""

    host: str
    port: int


class Simulator:
    """A running exchange, used as an async context manager.

    Args:
        road: What every client is served with.
        keys: The public keys that may connect, by key id; None opens the door, and any path, to everybody.
        host: The address to listen on.
        port: The port to listen on; 0 takes a free one.
        sent_log: Where every frame sent is noted, if anywhere; the caller closes it.
        ping_interval_s: Seconds between pings.
        faults: What goes wrong, and when; nothing unless it is injected.

    Raises:
        ConfigError: The address cannot be listened on.

    Attributes:
        url: Where clients connect; known once it runs.
        rest_url: The REST interface's first part, as clients name it; known once it runs.
        frames: How many frames were sent on all connections so far.
        connections: How many connections were opened so far.
        faults: As given.
    """

    def __init__(
        self,
        road: Road,
        *,
        keys: Mapping[str, RSAPublicKey] | None,
        host: str = "127.0.0.1",
        port: int = 0,
        sent_log: SentLog | None = None,
        ping_interval_s: float = 10.0,
        faults: Performance | None = None,
    ) -> None:
        self.url = ""
        self.rest_url = ""
        self.connections = 0
        self.faults = faults or Performance()
        self._road = road
        self._keys = keys
        self._address = Address(host, port)
        self._sent_log = sent_log
        self._ping_interval_s = ping_interval_s
        self._server: Server | None = None
        self._closed_frames = 0
        self._failed: asyncio.Future[None] | None = None
        self._background: list[asyncio.Task[None]] = []

    @property
    def frames(self) -> int:
        """How many frames were sent on all connections so far."""
        return self._closed_frames + sum(peer.frames for peer in self.faults.peers)

    async def __aenter__(self) -> Self:
        self._failed = asyncio.get_running_loop().create_future()
        # Its own lines tell of every connection; ours do already.
        library_log = logging.getLogger("ssmd_simulator.websockets")
        library_log.setLevel(logging.CRITICAL)
        try:
            self._server = await serve(
                self._serve,
                self._address.host,
                self._address.port,
                process_request=self._admit,
                process_response=self._date,
                create_connection=FaultyConnection,
                compression=None,
                ping_interval=None,
                close_timeout=_CLOSE_TIMEOUT_S,
                write_limit=_WRITE_BUFFER_BYTES,
                logger=library_log,
            )
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {self._address.host}:{self._address.port}: {error.strerror or error}",
                field="--port",
                remedy="stop what listens there, or use --port 0 for a free one",
            ) from error
        host, port = self._server.sockets[0].getsockname()[:2]
        authority = f"{f'[{host}]' if ':' in host else host}:{port}"
        self.url = f"ws://{authority}{auth.PATH}"
        self.rest_url = f"http://{authority}{rest.PREFIX.rstrip('/')}"
        for work in (self._road.live(self.faults.clock), self.faults.run()):
            task = asyncio.create_task(work)
            task.add_done_callback(self._note_failure)
            self._background.append(task)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in self._background:
            task.cancel()
        if self._server is not None:
            self._server.close(code=_GOING_AWAY)
            await self._server.wait_closed()

    async def failure(self) -> None:
        """Wait until serving a client breaks in a way nobody foresaw, and raise what broke it."""
        if self._failed is not None:
            await asyncio.shield(self._failed)

    def _note_failure(self, ended: asyncio.Task[None]) -> None:
        if ended.cancelled():
            return
        error = ended.exception()
        if error is not None and self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer a request; None lets it in as a WebSocket."""
        if request.path.startswith(rest.PREFIX):
            return self._respond(
                connection, self.faults.request() or rest.answer(request.path, self._road.directory)
            )
        reply, is_compressed = self.faults.handshake()
        if is_compressed:
            connection.protocol.available_extensions = enable_server_permessage_deflate(None)
        if reply is None and self._keys is not None:
            reply = self._refusal(request, self._keys)
        return None if reply is None else self._respond(connection, reply)

    def _refusal(self, request: Request, keys: Mapping[str, RSAPublicKey]) -> rest.Reply | None:
        """Return why a handshake is refused, None where it is good."""
        if request.path.partition("?")[0] != auth.PATH:
            return rest.problem(HTTPStatus.NOT_FOUND, "not_found", f"the path is {auth.PATH}")
        handshake = auth.Handshake(
            target=request.path,
            key_id=_only(request.headers, auth.KEY_HEADER),
            signature=_only(request.headers, auth.SIGNATURE_HEADER),
            timestamp=_only(request.headers, auth.TIMESTAMP_HEADER),
        )
        refusal = auth.check(handshake, keys, self.faults.clock.now_ns() // 1_000_000)
        if refusal is None:
            return None
        log.warning("handshake_refused", reason=refusal.value)
        return rest.problem(HTTPStatus.UNAUTHORIZED, refusal.value, refusal.text)

    def _respond(self, connection: ServerConnection, reply: rest.Reply) -> Response:
        response = connection.respond(reply.status, reply.body.decode())
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = "application/json"
        if reply.retry_after_s:
            response.headers["Retry-After"] = str(reply.retry_after_s)
        return response

    def _date(self, _connection: ServerConnection, _request: Request, response: Response) -> None:
        """Put the exchange's own time on an answer."""
        del response.headers["Date"]
        response.headers["Date"] = formatdate(self.faults.clock.now_ns() / 1e9, usegmt=True)

    async def _serve(self, socket: ServerConnection) -> None:
        # What `create_connection` above makes.
        assert isinstance(socket, FaultyConnection)  # noqa: S101 - tells the type checker, and cannot fail
        self.connections += 1
        peer = Peer(socket, self.connections, self.faults, self._sent_log)
        self.faults.peers.add(peer)
        log.info("connection_opened", connection=peer.number)
        try:
            await self._attend(socket, peer)
        except Exception as error:
            if self._failed is not None and not self._failed.done():
                self._failed.set_exception(error)
            raise
        finally:
            self.faults.peers.discard(peer)
            peer.end()
            self._closed_frames += peer.frames
            log.info("connection_closed", connection=peer.number, frames=peer.frames, total_frames=self.frames)

    async def _attend(self, socket: ServerConnection, peer: Peer) -> None:
        """Serve one client until it is gone."""
        try:
            async with asyncio.TaskGroup() as tasks:
                working = (
                    tasks.create_task(self._road.serve(peer)),
                    tasks.create_task(peer.ping(self._ping_interval_s, _PING_BODY)),
                    tasks.create_task(peer.listen()),
                )
                await socket.wait_closed()
                for task in working:
                    task.cancel()
        except* ConnectionClosed:
            pass


def _only(headers: Headers, name: str) -> str | None:
    values = headers.get_all(name)
    return values[0] if len(values) == 1 else None
