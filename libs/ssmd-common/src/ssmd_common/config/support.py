"""What a connector does with a feed and an environment, and what it refuses of what they say.

Pure: the day is given. The refusals stand here, apart from the models, because a file that asks for something
unsupported is well-formed all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssmd_common.config.addresses import require_websocket_address, version_in_force
from ssmd_common.errors import ConfigError

if TYPE_CHECKING:
    from datetime import date

    from ssmd_common.config.environment import Environment
    from ssmd_common.config.feed import Feed
    from ssmd_common.config.websocket import WebsocketSettings

__all__ = ["require_feed_supported", "require_supported", "websocket_settings"]

_NATS_MAX_PAYLOAD, _HEADERS_RESERVE = 8 << 20, 64 << 10


def require_supported(feed: Feed, env: Environment, today: date) -> None:
    """Refuse what no connector does yet, and what cannot be meant.

    Args:
        feed: The feed.
        env: The environment to capture it in.
        today: The day, in UTC.

    Raises:
        ConfigError: Naming what is refused, and what to do where there is something.
    """
    if env.transport.type == "memory":
        raise ConfigError(
            "Memory transport not supported - connector requires NATS",
            file=env.file,
            field="transport.type",
            remedy="set it to nats",
        )
    if env.transport.type == "mqtt":
        raise ConfigError(
            "MQTT transport not yet supported", file=env.file, field="transport.type", remedy="set it to nats"
        )
    if env.feed != feed.name:
        raise ConfigError(
            f"environment {env.name} is for feed {env.feed}, not {feed.name}",
            file=env.file,
            field="feed",
            remedy="give the feed and environment that belong together",
        )
    require_feed_supported(feed, today)
    if env.endpoint is not None:
        require_websocket_address(env.endpoint, file=env.file, field="endpoint")
    _require_symbols(feed, env)


def require_feed_supported(feed: Feed, today: date) -> None:
    """Refuse a feed that no connector captures yet, wherever it is.

    Raises:
        ConfigError: As :func:`require_supported`.
    """
    if feed.type != "websocket":
        raise ConfigError(
            f"{feed.type.capitalize()} feeds not yet supported",
            file=feed.file,
            field="type",
            remedy="only feeds of type websocket are captured",
        )
    if feed.status == "disabled":
        raise ConfigError(
            f"feed {feed.name} is disabled",
            file=feed.file,
            field="status",
            remedy="set status: active to capture it",
        )
    version = version_in_force(feed, today)
    place = f"versions.{feed.versions.index(version)}"
    if version.protocol.transport not in ("ws", "wss") or version.protocol.message != "json":
        raise ConfigError(
            f"{version.protocol.message} over {version.protocol.transport} not yet supported",
            file=feed.file,
            field=f"{place}.protocol",
            remedy="only json over wss or ws is captured",
        )
    require_websocket_address(version.endpoint, file=feed.file, field=f"{place}.endpoint")
    settings = feed.websocket_settings()
    if settings.max_frame_bytes > _NATS_MAX_PAYLOAD - _HEADERS_RESERVE:
        raise ConfigError(
            f"frames of {settings.max_frame_bytes} bytes do not fit NATS's max_payload of {_NATS_MAX_PAYLOAD}",
            file=feed.file,
            field="websocket.max_frame_bytes",
            remedy="7MiB leaves room for our headers",
        )
    venue = settings.venue
    if version.auth_method not in ("none", "api_key") or (version.auth_method == "api_key" and venue != "kalshi"):
        raise ConfigError(
            f"auth_method {version.auth_method} not yet supported with venue {venue}",
            file=feed.file,
            field=f"{place}.auth_method",
            remedy="api_key needs venue: kalshi; public feeds say none",
        )


def _require_symbols(feed: Feed, env: Environment) -> None:
    settings = websocket_settings(feed, env)
    kalshi = settings.kalshi_settings
    if settings.venue == "kalshi" and kalshi.sockets > 1 and not kalshi.markets and kalshi.discovery is None:
        raise ConfigError(
            f"{kalshi.sockets} sockets have no markets to share: all channels are subscribed to as a whole",
            file=feed.file if env.capture.sockets is None else env.file,
            field="websocket.kalshi.sockets" if env.capture.sockets is None else "capture.sockets",
            remedy="leave it at 1, or list or discover markets",
        )
    if settings.venue == "generic" and not settings.symbols and settings.names_symbols:
        raise ConfigError(
            "subscribe asks for symbols and there are none",
            file=feed.file,
            field="websocket.symbols",
            remedy="list them there or under the environment's capture.symbols",
        )


def websocket_settings(feed: Feed, env: Environment) -> WebsocketSettings:
    """Return how to speak with the exchange here: the feed's section with what the environment captures of it.

    Raises:
        ConfigError: The feed has no such section, or the environment asks for what the venue does not have.
    """
    settings, capture = feed.websocket_settings(), env.capture
    if settings.venue == "kalshi":
        kalshi = settings.kalshi_settings
        wanted = {"channels": capture.channels, "sockets": capture.sockets}
        update: dict[str, object] = {name: value for name, value in wanted.items() if value is not None}
        if capture.symbols is not None or capture.discover is not None:
            update |= {"markets": capture.symbols or (), "discover": capture.discover}
        return settings.model_copy(update={"kalshi": kalshi.model_copy(update=update)})
    for name in ("channels", "discover", "sockets"):
        if getattr(capture, name) is not None:
            raise ConfigError(
                f"{feed.name} has no {name} to choose",
                file=env.file,
                field=f"capture.{name}",
                remedy="its subscribe frames say what is captured; remove the field",
            )
    if capture.symbols is None:
        return settings
    if not capture.symbols:
        raise ConfigError(
            f"{feed.name} needs its symbols by name", file=env.file, field="capture.symbols", remedy="list them"
        )
    return settings.model_copy(update={"symbols": capture.symbols})
