"""What a connector does with a feed and an environment: which of what they say it can do, does, or leaves alone.

Pure: the day and the environment variables are given. The refusals stand here, apart from the models, because a
file that asks for something unsupported is well-formed all the same.
"""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ssmd_common.config.credentials import fetch_fields, parse_source
from ssmd_common.errors import ConfigError, CredentialError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import date

    from pydantic import SecretStr

    from ssmd_common.config.environment import Environment, KeySpec
    from ssmd_common.config.feed import Feed, FeedVersion
    from ssmd_common.config.websocket import WebsocketSettings

__all__ = [
    "KalshiCredentials",
    "endpoint",
    "kalshi_credentials",
    "require_feed_supported",
    "require_supported",
    "rest_endpoint",
    "unknown_variables",
    "unused_fields",
    "version_in_force",
    "websocket_settings",
]

_API_KEY, _PRIVATE_KEY = "api_key", "private_key"
_DEFAULT_KEY_SOURCE = "env:KALSHI_API_KEY,KALSHI_PRIVATE_KEY"
_USE_DEMO = "KALSHI_USE_DEMO"
_NATS_MAX_PAYLOAD, _HEADERS_RESERVE = 8 << 20, 64 << 10
_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off", "")

_KNOWN_VARIABLES = (
    *("KALSHI_API_KEY", "KALSHI_PRIVATE_KEY", _USE_DEMO),
    *(
        "SSMD_CAPTURES",
        "SSMD_DATA",
        "SSMD_HEALTH_ADDR",
        "SSMD_HOST",
        "SSMD_PANTS_PYTHON",
        "SSMD_PYTHON",
        "SSMD_SCREENSHOTS",
        "SSMD_TEST_IMAGES",
        "SSMD_TEST_NATS",
    ),
)
_SERVICE_LINK = re.compile(r".+_(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_[0-9]+_(TCP|UDP)(_.+)?)?)")
"""Variables Kubernetes sets for a service named ``ssmd-…``."""


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
        _require_websocket_address(env.endpoint, file=env.file, field="endpoint")
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
    _require_websocket_address(version.endpoint, file=feed.file, field=f"{place}.endpoint")
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


def _require_websocket_address(url: str, *, file: str, field: str) -> None:
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
    if settings.venue == "generic" and not settings.symbols and "{symbol" in json.dumps(settings.subscribe):
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
    _require_websocket_address(url, file=file, field=field)
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


@dataclass(frozen=True, slots=True)
class KalshiCredentials:
    """What signs Kalshi's handshake.

    Attributes:
        api_key: The key's id.
        private_key: PEM text of the RSA key.
        where: Where they came from, for errors.
    """

    api_key: SecretStr
    private_key: SecretStr
    where: str


def kalshi_credentials(feed: Feed, env: Environment, environ: Mapping[str, str]) -> KalshiCredentials | None:
    """Fetch Kalshi's key, afresh at every call.

    The environment's only key is taken, or the one named as the feed; without a ``keys`` section the two variables
    ``KALSHI_API_KEY`` and ``KALSHI_PRIVATE_KEY``.

    Returns:
        The key, or ``None`` where the environment says ``required: false`` and it is not there.

    Raises:
        CredentialError: A part is missing.
        ConfigError: Several keys and none named as the feed, or a key without the two parts.
    """
    if env.keys is None:
        try:
            return _credentials((_API_KEY, _PRIVATE_KEY), _DEFAULT_KEY_SOURCE, environ)
        except CredentialError as error:
            raise error.within(env.file, "keys") from None
    name, spec = _kalshi_key(feed, env)
    if not {_API_KEY, _PRIVATE_KEY} <= set(spec.fields):
        raise ConfigError(
            f"needs the fields {_API_KEY} and {_PRIVATE_KEY}, has {', '.join(spec.fields)}",
            file=env.file,
            field=f"keys.{name}.fields",
            remedy=f"name them so, in the order of {spec.source}",
        )
    try:
        return _credentials(spec.fields, spec.source, environ)
    except CredentialError as error:
        if spec.required:
            raise error.within(env.file, f"keys.{name}.source") from None
        return None


def _kalshi_key(feed: Feed, env: Environment) -> tuple[str, KeySpec]:
    keys = env.keys or {}
    if feed.name in keys:
        return feed.name, keys[feed.name]
    if len(keys) == 1:
        return next(iter(keys.items()))
    raise ConfigError(
        f"holds {', '.join(keys) or 'no key'}; none is named {feed.name}",
        file=env.file,
        field="keys",
        remedy=f"name Kalshi's key {feed.name}",
    )


def _credentials(fields: Iterable[str], source: str, environ: Mapping[str, str]) -> KalshiCredentials:
    parts = fetch_fields(tuple(fields), source, environ)
    return KalshiCredentials(parts[_API_KEY], parts[_PRIVATE_KEY], where=source)


def unused_fields(feed: Feed, env: Environment) -> list[str]:
    """Return what the two files say and no connector looks at, a line each, for a warning."""
    unused: list[str] = [name for name in ("defaults", "message_types") if name in feed.model_fields_set]
    if feed.calendar is not None and feed.calendar.holiday_calendar is not None:
        unused.append("calendar.holiday_calendar")
    if feed.websocket_settings().venue != "kalshi" and any(
        version.rate_limit_per_second is not None for version in feed.versions
    ):
        unused.append("versions.rate_limit_per_second")
    unused += [
        name.removesuffix("_name")
        for name in ("schema_name", "schedule", "storage")
        if name in env.model_fields_set
    ]
    lines = [f"{name}: accepted but unused by the connector" for name in unused]
    if feed.status == "deprecated":
        lines.append("status: the feed is deprecated")
    others = [name for name in env.keys or {} if name != feed.name and len(env.keys or {}) > 1]
    return lines + [f"keys.{name}: accepted but unused by the connector" for name in others]


def unknown_variables(
    environ: Iterable[str], env: Environment | None = None, *, known: Iterable[str] = ()
) -> list[str]:
    """Return a line for each ``SSMD_*`` or ``KALSHI_*`` variable that nothing reads: likely misspelt.

    Args:
        environ: Names of the environment variables.
        env: The environment file, whose key sources name variables of their own.
        known: Further variables the caller reads.
    """
    read = {*_KNOWN_VARIABLES, *known}
    for spec in ((env.keys or {}) if env else {}).values():
        source = parse_source(spec.source)
        read.update(source.places if source.kind == "env" else ())
    lines = []
    for name in sorted(environ):
        if not name.startswith(("SSMD_", "KALSHI_")) or name in read or _SERVICE_LINK.fullmatch(name):
            continue
        near = difflib.get_close_matches(name, sorted(read), n=1)
        lines.append(f"{name}: no such variable" + (f", did you mean {near[0]}?" if near else ""))
    return lines
