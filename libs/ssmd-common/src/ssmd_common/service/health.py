"""Whether a service does its work, and why not: conditions, and a small HTTP server that tells them.

``/health`` answers 200, or 503 when restarting the process is the remedy; ``/ready`` answers 200 when the service
does its work now; ``/metrics`` is for Prometheus. Both JSON answers name every reason. A connector that is cut off
is not ready, yet healthy: a restart would not help it.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import structlog

from ssmd_common.errors import ConfigError
from ssmd_common.service.address import Address, parse_addr
from ssmd_common.service.telemetry import CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from ssmd_common.service.telemetry import Metrics

__all__ = ["Address", "Conditions", "Health", "parse_addr", "serve_health"]

log = structlog.get_logger()

_MAX_HEAD_BYTES = 8 << 10
_HEAD_TIMEOUT_S = 5.0
_MAX_CONNECTIONS = 64
_NOT_YET = "starting"


class Conditions:
    """Named conditions, each of which holds or has a reason why not.

    Args:
        names: The conditions to be met; each fails with ``starting`` until the service says otherwise.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._checks: dict[str, Callable[[], str | None]] = {}
        self._notes: dict[str, Callable[[], str | None]] = {}
        for name in names:
            self.fail(name, _NOT_YET)

    def ok(self, name: str) -> None:
        """Say that this condition holds."""
        self._checks[name] = lambda: None

    def fail(self, name: str, reason: str) -> None:
        """Say why this condition does not hold."""
        self._checks[name] = lambda: reason

    def check(self, name: str, why_not: Callable[[], str | None]) -> None:
        """Ask ``why_not`` at each request: a reason, or ``None`` while the condition holds."""
        self._checks[name] = why_not

    def note(self, name: str, what: Callable[[], str | None]) -> None:
        """Ask ``what`` at each request for what a person should know although the condition holds."""
        self._notes[name] = what

    def notes(self) -> dict[str, str]:
        """Return what there is to know, by condition."""
        return {name: told for name, what in self._notes.items() if (told := what())}

    def reasons(self) -> dict[str, str | None]:
        """Return every condition with its reason, ``None`` where it holds."""
        return {name: why_not() for name, why_not in self._checks.items()}


class Health:
    """What a service tells about itself.

    Attributes:
        live: Conditions of ``/health``: when one fails, the process should be restarted. None: it is healthy.
        ready: Conditions of ``/ready``: when one fails, the service does not do its work at the moment.
    """

    def __init__(self, service: str, *, ready: Iterable[str] = ()) -> None:
        self.service = service
        self.live = Conditions()
        self.ready = Conditions(ready)

    def health_answer(self) -> tuple[int, dict[str, object]]:
        """Return the status code and the JSON document of ``/health``."""
        return self._answer(self.live, "healthy", "unhealthy")

    def ready_answer(self) -> tuple[int, dict[str, object]]:
        """Return the status code and the JSON document of ``/ready``."""
        return self._answer(self.ready, "ready", "not ready")

    def _answer(self, conditions: Conditions, good: str, bad: str) -> tuple[int, dict[str, object]]:
        reasons = conditions.reasons()
        fine = not any(reasons.values())
        checks: dict[str, dict[str, object]] = {
            name: {"ok": False, "reason": reason} if reason else {"ok": True} for name, reason in reasons.items()
        }
        for name, note in conditions.notes().items():
            checks[name] = {**checks.get(name, {}), "note": note}
        document: dict[str, object] = {"service": self.service, "status": good if fine else bad, "checks": checks}
        return (200 if fine else 503), document


@asynccontextmanager
async def serve_health(
    address: Address,
    health: Health,
    metrics: Metrics,
    *,
    option: str = "--health-addr",
) -> AsyncIterator[Address]:
    """Serve ``/health``, ``/ready`` and ``/metrics`` for the time of the block.

    Args:
        address: Where to listen.
        health: The conditions to tell.
        metrics: The instruments to show.
        option: The option or field that holds the address, for the error.

    Yields:
        The address it listens on, with the port the system gave where 0 was asked for.

    Raises:
        ConfigError: The address cannot be listened on, as when another process holds the port.
    """
    handler = _Handler(health, metrics)
    try:
        server = await asyncio.start_server(handler.serve, address.host, address.port, limit=_MAX_HEAD_BYTES)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {address}: {error.strerror or error}",
            field=option,
            remedy="free the address or choose another",
        ) from error
    bound = Address(address.host, server.sockets[0].getsockname()[1])
    log.info("health_listening", address=str(bound))
    try:
        yield bound
    finally:
        server.close()
        handler.cancel()
        await server.wait_closed()


class _Handler:
    """Just enough HTTP/1.1 for a probe: GET and HEAD, one request a connection, all of it bounded."""

    def __init__(self, health: Health, metrics: Metrics) -> None:
        self._health = health
        self._metrics = metrics
        self._tasks: set[asyncio.Task[None]] = set()

    def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection, in a task of its own."""
        if len(self._tasks) >= _MAX_CONNECTIONS:
            writer.close()
            return
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cancel(self) -> None:
        """Drop the connections that are still open."""
        for task in self._tasks:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_HEAD_TIMEOUT_S):
                try:
                    head = await reader.readuntil(b"\r\n\r\n")
                    answer = self._respond(head)
                except asyncio.LimitOverrunError:
                    answer = _plain(431, "Request Header Fields Too Large")
                writer.write(answer)
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            # The peer was slow or went away: there is nobody left to answer.
            pass
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _respond(self, head: bytes) -> bytes:
        request_line = head.split(b"\r\n", 1)[0]
        match request_line.split(b" "):
            case [method, target, (b"HTTP/1.1" | b"HTTP/1.0")]:
                pass
            case _:
                return _plain(400, "Bad Request")
        if method not in (b"GET", b"HEAD"):
            return _plain(405, "Method Not Allowed", extra="Allow: GET, HEAD\r\n")
        status, reason, media_type, body = self._document(target.split(b"?", 1)[0])
        answer = _head(status, reason, media_type, len(body))
        return answer if method == b"HEAD" else answer + body

    def _document(self, path: bytes) -> tuple[int, str, str, bytes]:
        match path:
            case b"/metrics":
                return 200, "OK", CONTENT_TYPE, self._metrics.exposition()
            case b"/health":
                status, document = self._health.health_answer()
            case b"/ready":
                status, document = self._health.ready_answer()
            case _:
                status, document = 404, {"paths": ["/health", "/ready", "/metrics"]}
        reason = {200: "OK", 404: "Not Found", 503: "Service Unavailable"}[status]
        return status, reason, "application/json", json.dumps(document).encode() + b"\n"


def _plain(status: int, reason: str, *, extra: str = "") -> bytes:
    body = reason.encode() + b"\n"
    return _head(status, reason, "text/plain; charset=utf-8", len(body), extra=extra) + body


def _head(status: int, reason: str, media_type: str, length: int, *, extra: str = "") -> bytes:
    return (
        f"HTTP/1.1 {status} {reason}\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n"
        f"Cache-Control: no-store\r\n{extra}Connection: close\r\n\r\n"
    ).encode()
