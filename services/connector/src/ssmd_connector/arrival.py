"""NATS and its stream, which may come later than the capture: who reaches for them, and what is known meanwhile."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from ssmd_common.nats import connection
from ssmd_connector.jetstream import connect, wait_for_stream

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ssmd_common.config.environment import Environment
    from ssmd_common.nats.streams import StreamInfo
    from ssmd_common.service.lifecycle import Stop
    from ssmd_connector.jetstream import Connected

__all__ = ["Arrival"]

_AT_ONCE_S = 1.0
"""As long as publishing waits, too, before what is held goes to the disk."""


class Arrival:
    """Reaches for NATS and the stream for the time of the block, as long as it takes; closes the connection then.

    Args:
        env: The environment.
        environ: The environment variables.
        stop: Ends the reaching.
        name: Shown in the server's monitoring.
    """

    def __init__(self, env: Environment, environ: Mapping[str, str], stop: Stop, *, name: str) -> None:
        self._env = env
        self._environ = environ
        self._stop = stop
        self._name = name
        self._connected: Connected | None = None
        self._why_not: str | None = "not connected yet"
        self._awaited = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Begin to reach for them."""
        self._reaching = asyncio.create_task(self._reach())
        return self

    async def __aexit__(self, *_: object) -> None:
        """End it, and close the connection where there is one."""
        self._reaching.cancel()
        await asyncio.gather(self._reaching, return_exceptions=True)
        if self._connected is not None:
            await connection.close(self._connected.nc)

    def reason(self) -> str | None:
        """Return why nothing can be published now, or None."""
        if self._why_not is not None or self._connected is None:
            return self._why_not
        return self._connected.reason()

    async def at_once(self) -> bool:
        """Wait until both are there, or seen not to be there yet, for a moment; return whether they are.

        Raises:
            SsmdError: As :meth:`found`.
        """
        awaited = asyncio.create_task(self._awaited.wait())
        await asyncio.wait({self._reaching, awaited}, timeout=_AT_ONCE_S, return_when=asyncio.FIRST_COMPLETED)
        awaited.cancel()
        return self._reaching.done() and self._reaching.result() is not None

    async def found(self) -> tuple[Connected, StreamInfo] | None:
        """Return the connection and the stream once both are there; None when a stop came first.

        Raises:
            ConfigError: Address or credentials are unusable or refused.
            SsmdError: There is no such stream and none is to be made, or it does not take what is published.
        """
        return await asyncio.shield(self._reaching)

    async def _reach(self) -> tuple[Connected, StreamInfo] | None:
        self._connected = await connect(
            self._env, self._environ, self._stop, name=self._name, on_waiting=self._wait_because
        )
        if self._connected is None:
            return None
        nc = self._connected.nc
        info = await wait_for_stream(self._env, nc, self._stop, on_waiting=self._wait_because)
        if info is None:
            return None
        self._why_not = None
        return self._connected, info

    def _wait_because(self, reason: str) -> None:
        self._why_not = reason
        self._awaited.set()
