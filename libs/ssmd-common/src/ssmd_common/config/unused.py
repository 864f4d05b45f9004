"""What is written and does nothing: fields no connector looks at, variables nobody reads. For warnings; pure."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from ssmd_common.config.credentials import parse_source

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ssmd_common.config.environment import Environment
    from ssmd_common.config.feed import Feed

__all__ = ["unknown_variables", "unused_fields"]

_KNOWN_VARIABLES = (
    *("KALSHI_API_KEY", "KALSHI_PRIVATE_KEY", "KALSHI_USE_DEMO"),
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
    settings = feed.websocket_settings()
    if settings.venue == "generic" and not settings.names_symbols and (settings.symbols or env.capture.symbols):
        name = "capture.symbols" if env.capture.symbols else "websocket.symbols"
        lines.append(
            f"{name}: accepted but unused, no frame of websocket.subscribe names {{symbols}} or {{symbol}}"
        )
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
