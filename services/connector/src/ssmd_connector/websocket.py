"""The socket: opens it, hands over the exact bytes of each frame, and says in our terms how it ended."""

from __future__ import annotations

import contextlib
import ssl
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI, WebSocketException

from ssmd_common.errors import ConfigError
from ssmd_common.service.redact import redact_text, url_secrets, without
from ssmd_connector.backoff import retry_after_s
from ssmd_connector.causes import Cause
from ssmd_connector.frame_connection import FrameConnection
from ssmd_connector.proxies import proxy_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Ended", "OpenError", "RefusedError", "Socket", "open_socket"]

OPEN_TIMEOUT_S = 15.0
CLOSE_TIMEOUT_S = 2.0
_TOO_BIG = 1009
_MAX_BODY = 500


class OpenError(Exception):
    """No socket could be opened; another attempt may succeed.

    Attributes:
        reason: Why, in one line.
        retry_after_s: What the exchange asked to wait.
    """

    def __init__(self, reason: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s


class RefusedError(Exception):
    """The exchange answered the handshake with 401 or 403.

    Attributes:
        status: The HTTP status.
        body: Its words.
        headers: The answer's headers.
    """

    def __init__(self, status: int, body: str, headers: Mapping[str, str]) -> None:
        super().__init__(f"handshake refused with {status}")
        self.status = status
        self.body = body
        self.headers = headers


@dataclass(frozen=True, slots=True)
class Ended:
    """How a connection ended.

    Attributes:
        cause: Why, in one word of ours.
        code: WebSocket close code, where one came or was given.
        reason: The peer's words, or ours.
    """

    cause: Cause
    code: int | None = None
    reason: str = ""


class Socket:
    """An open WebSocket.

    Args:
        connection: The library's.
        secrets: What was shown to the peer, which is cut out of its words.
    """

    def __init__(self, connection: FrameConnection, secrets: Iterable[str] = ()) -> None:
        self._connection = connection
        self._secrets = tuple(secrets)

    async def receive(self) -> tuple[int, list[bytes]] | Ended:
        """Return ``(received_ns, frames)`` of the next read, their bytes as they came, or how it ended."""
        read = await self._connection.take()
        if read is not None:
            return read
        try:
            await self._connection.recv()
        except ConnectionClosed as closed:
            ended = _ended(closed)
            return replace(ended, reason=redact_text(without(ended.reason, self._secrets)))
        raise AssertionError("a closed connection had a message")

    async def send(self, text: str) -> None:
        """Send a text frame; one that cannot be sent is no matter, receiving tells why."""
        with contextlib.suppress(ConnectionClosed):
            await self._connection.send(text)

    async def close(self) -> None:
        """Close in order, bounded in time; frames that are still there can be received afterwards."""
        with contextlib.suppress(WebSocketException, OSError):
            await self._connection.close()


def _ended(closed: ConnectionClosed) -> Ended:
    received, sent = closed.rcvd, closed.sent
    if received is not None and (sent is None or closed.rcvd_then_sent):
        return Ended(Cause.PEER_CLOSED, received.code, received.reason)
    if sent is not None and sent.code == _TOO_BIG:
        return Ended(Cause.FRAME_TOO_LARGE, sent.code, sent.reason or "a frame above the feed's max_frame_bytes")
    if sent is not None and sent.code not in (1000, 1001, 1011):
        return Ended(Cause.PROTOCOL_ERROR, sent.code, sent.reason)
    if sent is not None and "keepalive" in sent.reason:
        return Ended(Cause.PING_UNANSWERED, sent.code, sent.reason)
    if received is not None or sent is not None:
        frame = received or sent
        return Ended(Cause.CLOSED, frame.code if frame else None, frame.reason if frame else "")
    return Ended(Cause.CONNECTION_LOST, None, str(closed.__cause__ or ""))


class _Connect(connect):
    """The library's way to connect, without following redirects: the signed headers are for one host alone."""

    def process_redirect(self, exc: Exception) -> Exception:
        """Take every answer for what it is."""
        return exc


async def open_socket(url: str, *, headers: Mapping[str, str], max_frame_bytes: int) -> Socket:
    """Open a WebSocket.

    Args:
        url: Where.
        headers: Sent with the handshake.
        max_frame_bytes: Largest frame to take; a larger one closes the socket with 1009.

    Raises:
        RefusedError: 401 or 403.
        OpenError: Anything that may be different next time.
        ConfigError: The URL is none, or the environment names a proxy that is none.
    """
    secrets = [*headers.values(), *url_secrets(url)]
    try:
        connection = await _Connect(
            url,
            additional_headers=dict(headers),
            max_size=max_frame_bytes,
            open_timeout=OPEN_TIMEOUT_S,
            close_timeout=CLOSE_TIMEOUT_S,
            create_connection=FrameConnection,
            proxy=proxy_of(url),
        )
    except InvalidStatus as error:
        response = error.response
        body = without((response.body or b"").decode("utf-8", "replace"), secrets)[:_MAX_BODY]
        if response.status_code in (401, 403):
            raise RefusedError(response.status_code, body, dict(response.headers.raw_items())) from None
        wait = retry_after_s(response.headers.get("Retry-After", ""), now_s=time.time())
        words = redact_text(f"the exchange answered {response.status_code} {body}".strip())
        raise OpenError(words, retry_after_s=wait) from None
    except ssl.SSLError as error:
        # Before ValueError, which a certificate that does not verify is too.
        raise OpenError(redact_text(str(error))) from None
    except (InvalidURI, ValueError):
        # ValueError is what the standard library says of a port or a host name that cannot be.
        raise ConfigError("is no WebSocket address", field="endpoint", file=redact_text(url)) from None
    except TimeoutError:
        raise OpenError(f"no answer within {OPEN_TIMEOUT_S:g} s") from None
    except (OSError, InvalidHandshake, WebSocketException) as error:
        raise OpenError(redact_text(without(str(error), secrets)) or type(error).__name__) from None
    return Socket(cast("FrameConnection", connection), secrets)
