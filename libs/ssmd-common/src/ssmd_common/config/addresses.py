"""Where a feed is reached in an environment on a day: the version in force, its addresses. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ssmd_common.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from ssmd_common.config.environment import Environment
    from ssmd_common.config.feed import Feed, FeedVersion

__all__ = ["endpoint", "require_websocket_address", "rest_endpoint", "version_in_force"]

_USE_DEMO = "KALSHI_USE_DEMO"
_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off", "")


def version_in_force(feed: Feed, today: date) -> FeedVersion:
    """Return the feed's interface of today.

    Raises:
        ConfigError: None is in force.
    """
    version = feed.version_on(today)
    if version is None:
        known = ", ".join(f"{known.version} from {known.effective_from}" for known in feed.versions)
        raise ConfigError(
            f"no version of {feed.name} is in force on {today} ({known})",
            file=feed.file,
            field="versions",
            remedy="add the exchange's current interface",
        )
    return version


def endpoint(feed: Feed, env: Environment, today: date, environ: Mapping[str, str]) -> str:
    """Return the address to connect to.

    The environment's own comes first; then Kalshi's demo, where ``KALSHI_USE_DEMO`` says so and the environment
    names no keys; then the version's.

    Raises:
        ConfigError: No version is in force, the address is none, or the variable is neither true nor false.
    """
    settings = feed.websocket_settings()
    if env.endpoint is not None:
        url, file, field = env.endpoint, env.file, "endpoint"
    elif settings.venue == "kalshi" and env.keys is None and _use_demo(environ):
        url, file, field = settings.kalshi_settings.demo_endpoint, feed.file, "websocket.kalshi.demo_endpoint"
    else:
        version = version_in_force(feed, today)
        url, file, field = version.endpoint, feed.file, f"versions.{feed.versions.index(version)}.endpoint"
    require_websocket_address(url, file=file, field=field)
    return url


def rest_endpoint(feed: Feed, env: Environment, environ: Mapping[str, str]) -> str:
    """Return where Kalshi's markets are looked for.

    The environment's own comes first; then what stands beside the environment's endpoint, so that a simulator is
    never mixed with the exchange; then Kalshi's demo, as for :func:`endpoint`; then the feed's.

    Raises:
        ConfigError: The address is none, or the variable is neither true nor false.
    """
    settings = feed.websocket_settings().kalshi_settings
    file, field = env.file, "rest_endpoint"
    if env.rest_endpoint is not None:
        url = env.rest_endpoint
    elif env.endpoint is not None:
        scheme, host, path, _, _ = urlsplit(env.endpoint)
        path = path.removesuffix("/ws/v2") + "/v2" if path.endswith("/ws/v2") else "/trade-api/v2"
        url = f"{'https' if scheme == 'wss' else 'http'}://{host}{path}"
    elif env.keys is None and _use_demo(environ):
        url, file, field = settings.demo_rest_endpoint, feed.file, "websocket.kalshi.demo_rest_endpoint"
    else:
        url, file, field = settings.rest_endpoint, feed.file, "websocket.kalshi.rest_endpoint"
    if not _is_address(url, ("http", "https")):
        raise ConfigError(
            "is no web address", file=file, field=field, remedy="write it as https://host/path (or http://)"
        )
    return url.rstrip("/")


def _use_demo(environ: Mapping[str, str]) -> bool:
    value = environ.get(_USE_DEMO, "").strip().lower()
    if value not in _TRUE + _FALSE:
        raise ConfigError("is neither true nor false", field=_USE_DEMO, remedy="set it to true or false")
    return value in _TRUE


def require_websocket_address(url: str, *, file: str, field: str) -> None:
    """Refuse what is no ``ws://`` or ``wss://`` address.

    Args:
        url: The address.
        file: The file it stands in, for the error.
        field: The field it stands in.

    Raises:
        ConfigError: It is none.
    """
    if not _is_address(url, ("ws", "wss")):
        raise ConfigError(
            "is no WebSocket address", file=file, field=field, remedy="write it as wss://host/path (or ws://)"
        )


def _is_address(url: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(url)
        host, _port = (parts.hostname or "").encode("idna"), parts.port
    except ValueError:
        return False
    return bool(host) and parts.scheme in schemes
