"""The server: a socket of our own, uvicorn on it, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import structlog
import uvicorn

from ssmd_common.config.calendar import Calendar
from ssmd_common.errors import ConfigError
from ssmd_common.service.address import Address
from ssmd_common.service.lifecycle import Stop
from ssmd_common.service.otlp import otlp_readers
from ssmd_common.service.telemetry import Metrics
from ssmd_manifest_api.app import SERVICE, create_app
from ssmd_manifest_api.config import ApiConfig
from ssmd_manifest_api.protocol import ExpressProtocol
from ssmd_manifest_api.readable import UnreadableError

__all__ = ["listen", "serve"]

log = structlog.get_logger()

_BACKLOG = 2048
_FINISH_S = 5


class _Server(uvicorn.Server):
    """Uvicorn without its signal handlers: the process has one way to stop.

    Attributes:
        answering: Set once it answers requests.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.answering = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.answering.set()


def _is_news(record: logging.LogRecord) -> bool:
    """Tell whether a line of uvicorn says more than that a stop cut an answer: how many is a line of its own."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


def listen(address: Address) -> socket.socket:
    """Return a listening socket.

    Raises:
        ConfigError: The address cannot be listened on, as when another process holds the port.
    """
    try:
        infos = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, where = infos[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(where)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {address}: {error.strerror or error}",
            field="--host, --port",
            remedy="free the port or choose another",
        ) from None
    return listener


async def serve(
    data: Path, address: Address, stop: Stop, *, config: ApiConfig, calendars: Mapping[str, Calendar]
) -> None:
    """Serve an archive until ``stop`` is set; requests under way are finished.

    Args:
        data: The archive's base folder.
        address: Where to listen.
        stop: Ends it.
        config: Who may read what.
        calendars: When silence is expected, by feed.

    Raises:
        ConfigError: The address cannot be listened on.
    """
    listener = listen(address)
    metrics = Metrics(SERVICE, readers=otlp_readers())
    app = create_app(data, metrics=metrics, config=config, calendars=calendars)
    settings = uvicorn.Config(
        app,
        http=ExpressProtocol,
        loop="none",
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=_FINISH_S,
    )
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    server = _Server(settings)
    bound = Address(address.host, listener.getsockname()[1])
    log.info("listening", url=f"http://{bound}", data=str(data), readers=[token.name for token in config.tokens])

    async def end_when_asked() -> None:
        await stop.wait()
        server.should_exit = True

    async def warm() -> None:
        await server.answering.wait()
        # What cannot be read is told to who asks for it.
        with contextlib.suppress(UnreadableError):
            await asyncio.to_thread(app.state.catalog.warm, lambda: server.should_exit)
        # What was read stays: a collection that looked at all of it again would hold up whoever asks meanwhile.
        gc.freeze()

    waiter = asyncio.create_task(end_when_asked())
    warming = asyncio.create_task(warm())
    try:
        await server.serve(sockets=[listener])
    finally:
        waiter.cancel()
        server.should_exit = True
        server.answering.set()
        await warming
        metrics.close()
    log.info("stopped", reason=stop.reason)
