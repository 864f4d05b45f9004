"""The connector's side of NATS: a connection that tells the publisher of its changes, and the stream it fills."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from ssmd_common.errors import ConfigError, TransportError
from ssmd_common.nats import connection as nats_connection
from ssmd_common.nats.streams import ensure_stream
from ssmd_connector.plan import stream_limits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ssmd_common.config.environment import Environment
    from ssmd_common.nats.connection import NatsClient
    from ssmd_common.nats.streams import StreamInfo
    from ssmd_common.service.lifecycle import Stop
    from ssmd_connector.publisher import Publisher

__all__ = ["INBOX_PREFIX", "Connected", "connect", "wait_for_stream"]

log = structlog.get_logger()

INBOX_PREFIX = "_INBOX_conn"
_STREAM_RETRY_S = 3.0


@dataclass(slots=True)
class Connected:
    """The connection, and who hears of its changes.

    Attributes:
        nc: The client.
        closed: Set when the connection ended for good.
        publisher: Told of every loss and return; None until there is one.
    """

    nc: NatsClient
    closed: asyncio.Event
    publisher: Publisher | None = None

    def reason(self) -> str | None:
        """Return why NATS is not there, or None."""
        return None if self.nc.is_connected else "not connected"

    async def end(self) -> None:
        """Wait for the connection to end for good, which the process does not survive.

        Raises:
            TransportError: It has.
        """
        await self.closed.wait()
        raise TransportError(
            "the connection to NATS was closed for good",
            where=self.nc.violation,
            remedy="see the server's log; the credentials may have been revoked",
        )


async def connect(
    env: Environment,
    environ: Mapping[str, str],
    stop: Stop,
    *,
    name: str,
    on_waiting: Callable[[str], None] | None = None,
) -> Connected | None:
    """Connect to an environment's NATS, waiting for it; None when a stop came first.

    Args:
        env: The environment.
        environ: The environment variables.
        stop: Ends the waiting.
        name: Shown in the server's monitoring.
        on_waiting: Told why it is waited.

    Raises:
        ConfigError: Address or credentials are unusable or refused.
    """
    connected: Connected | None = None
    closed = asyncio.Event()

    async def on_closed() -> None:
        closed.set()

    async def on_disconnected() -> None:
        if connected is not None and connected.publisher is not None:
            connected.publisher.on_disconnected()

    async def on_reconnected() -> None:
        if connected is not None and connected.publisher is not None:
            connected.publisher.on_reconnected()

    try:
        nc = await nats_connection.connect(
            env.transport,
            name=name,
            environ=environ,
            inbox_prefix=INBOX_PREFIX,
            on_closed=on_closed,
            on_disconnected=on_disconnected,
            on_reconnected=on_reconnected,
            on_unreachable=on_waiting,
            stop=stop,
        )
    except ConfigError as error:
        raise error.within(env.file, "transport") from None
    except TransportError:
        if stop.is_set():
            return None
        raise
    connected = Connected(nc, closed)
    return connected


async def wait_for_stream(
    env: Environment, nc: NatsClient, stop: Stop, *, on_waiting: Callable[[str], None] | None = None
) -> StreamInfo | None:
    """Return the environment's stream, created where it says so; None when a stop came first.

    A server that is still electing a leader, or whose JetStream is not up yet, is waited for, and ``on_waiting``
    told why.

    Raises:
        SsmdError: There is no such stream and none is to be made, or it does not take what is published.
    """
    subjects = env.subjects()
    wanted = (subjects.data_filter, subjects.capture_filter)
    limits, said = stream_limits(env), ""
    while not stop.is_set():
        try:
            return await ensure_stream(nc, env.transport.stream, wanted, create=limits is not None, limits=limits)
        except TransportError as error:
            if getattr(error, "code", 503) != 503 or nc.is_closed:  # noqa: PLR2004 - unavailable
                raise
            if str(error) != said:
                said = str(error)
                log.warning("stream_awaited", reason=said, retrying=True)
                if on_waiting is not None:
                    on_waiting(f"the stream is awaited: {said}")
        await stop.wait_for(_STREAM_RETRY_S)
    return None
