"""The connector's socket on other libraries, to compare what receiving costs: each frame through ``recv``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import picows.websockets
import websockets.asyncio.client
from websockets.exceptions import ConnectionClosed

from ssmd_connector.causes import Cause
from ssmd_connector.websocket import Ended

__all__ = ["open_picows", "open_websockets"]

_CLOSED = (ConnectionClosed, picows.websockets.ConnectionClosed)


class _Recv:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def receive(self) -> tuple[int, list[bytes]] | Ended:
        try:
            frame = await self._connection.recv(decode=False)
        except _CLOSED:
            return Ended(Cause.CLOSED)
        return time.time_ns(), [frame]

    async def send(self, text: str) -> None:
        await self._connection.send(text)

    async def close(self) -> None:
        await self._connection.close()


async def open_picows(url: str, *, headers: Mapping[str, str], max_frame_bytes: int) -> _Recv:
    """Open a socket of ``picows.websockets``."""
    connect = picows.websockets.connect
    return _Recv(await connect(url, additional_headers=dict(headers), max_size=max_frame_bytes, max_queue=256))


async def open_websockets(url: str, *, headers: Mapping[str, str], max_frame_bytes: int) -> _Recv:
    """Open a socket of ``websockets``, as it comes."""
    connect = websockets.asyncio.client.connect
    return _Recv(await connect(url, additional_headers=dict(headers), max_size=max_frame_bytes, max_queue=256))
