"""For this package's tests: an exchange on a loopback port that does what a test scripts, and a plan to meet it."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from ssmd_common.config.environment import Environment
from ssmd_common.config.feed import Feed
from ssmd_common.config.nats import NatsSettings
from ssmd_common.nats.connection import close, connect
from ssmd_common.nats.streams import direct_get, stream_info
from ssmd_connector.plan import Plan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

    from ssmd_common.nats.client import NatsClient
    from ssmd_common.nats.streams import StoredMessage
    from ssmd_common.nats.testing import NatsServer

    Script = Callable[[ServerConnection, int], Awaitable[None]]
    Door = Callable[[ServerConnection, Request], Response | None]

__all__ = ["answer_subscribe", "exchange", "held", "kalshi_plan", "private_key_pem", "stored", "trade"]

_STREAM = "DEV"


@asynccontextmanager
async def exchange(script: Script, *, door: Door | None = None) -> AsyncIterator[str]:
    """Serve every connection with ``script(connection, its number)``; yields the URL."""
    count = 0

    async def handle(connection: ServerConnection) -> None:
        nonlocal count
        count += 1
        with suppress(ConnectionClosed):
            await script(connection, count)

    async with serve(handle, "127.0.0.1", 0, process_request=door, ping_interval=None, max_size=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}/trade-api/ws/v2"


async def answer_subscribe(connection: ServerConnection, *, sid: int = 1) -> dict[str, Any]:
    """Take the next command and confirm it; return it."""
    command: dict[str, Any] = json.loads(await connection.recv())
    channel = command["params"]["channels"][0]
    await connection.send(
        json.dumps({"id": command["id"], "type": "subscribed", "msg": {"channel": channel, "sid": sid}})
    )
    return command


def trade(seq: int, *, ticker: str = "A.5", sid: int = 1) -> str:
    """Return a trade's frame."""
    return json.dumps({"type": "trade", "sid": sid, "seq": seq, "msg": {"market_ticker": ticker}})


@asynccontextmanager
async def _reader(server: NatsServer) -> AsyncIterator[NatsClient]:
    nc = await connect(NatsSettings(url=server.url), name="reader")
    try:
        yield nc
    finally:
        await close(nc)


async def stored(server: NatsServer) -> list[StoredMessage]:
    """Return every message of a plan's stream, in its order."""
    async with _reader(server) as nc:
        info = await stream_info(nc, _STREAM)
        found = [await direct_get(nc, _STREAM, seq=seq) for seq in range(1, info.last_seq + 1)]
    return [message for message in found if message is not None]


async def held(server: NatsServer) -> int:
    """Return how many messages a plan's stream holds."""
    async with _reader(server) as nc:
        return (await stream_info(nc, _STREAM)).messages


def private_key_pem() -> str:
    """Return a fresh RSA key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def kalshi_plan(
    exchange_url: str,
    nats_url: str,
    *,
    auth: str = "none",
    channels: tuple[str, ...] = ("trade",),
    markets: tuple[str, ...] = ("A.5",),
    spool_dir: Path | None = None,
    environ: dict[str, str] | None = None,
    transport: dict[str, Any] | None = None,
    **websocket: Any,
) -> Plan:
    """Return a plan that captures trades of one market from a scripted exchange."""
    feed = Feed.model_validate(
        {
            "name": "kalshi",
            "type": "websocket",
            "versions": [
                {
                    "version": "v2",
                    "effective_from": "2025-01-01",
                    "protocol": {"transport": "wss", "message": "json"},
                    "endpoint": "wss://unused.example/trade-api/ws/v2",
                    "auth_method": auth,
                }
            ],
            "websocket": {
                "venue": "kalshi",
                "kalshi": {"channels": list(channels), "markets": list(markets)},
                **websocket,
            },
        }
    )
    env = Environment.model_validate(
        {
            "name": "test",
            "feed": "kalshi",
            "instance": "host",
            "endpoint": exchange_url,
            "transport": {"type": "nats", "url": nats_url, "stream": _STREAM, **(transport or {})},
            "limits": {"spool_dir": str(spool_dir) if spool_dir else None, "ack_timeout_s": 1},
        }
    )
    return Plan.of(feed, env, environ or {})
