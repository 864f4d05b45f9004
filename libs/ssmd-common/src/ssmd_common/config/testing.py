"""For this package's tests: a feed and an environment in a line."""

from __future__ import annotations

from typing import Any

from ssmd_common.config.environment import Environment
from ssmd_common.config.feed import Feed

__all__ = ["environment", "feed", "generic"]


def feed(*, version: dict[str, Any] | None = None, **fields: Any) -> Feed:
    v2 = {
        "version": "v2",
        "effective_from": "2026-01-01",
        "protocol": {"transport": "wss", "message": "json"},
        "endpoint": "wss://exchange",
    }
    document = {"name": "kalshi", "type": "websocket", "versions": [v2 | (version or {})]}
    return Feed.model_validate(document | fields)


def generic(**websocket: Any) -> Feed:
    return feed(name="kraken", websocket={"route": {"type": ["channel"]}} | websocket)


def environment(**fields: Any) -> Environment:
    return Environment.model_validate({"name": "e", "feed": "kalshi", "transport": {"type": "nats"}} | fields)
