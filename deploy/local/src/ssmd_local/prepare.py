"""From what was asked for to a plan: looks at files, ports and variables, and refuses early what cannot work."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from pathlib import Path

from ssmd_common.config.addresses import endpoint
from ssmd_common.config.environment import Capture, Environment
from ssmd_common.config.loading import load_environment, load_feed
from ssmd_common.errors import ConfigError
from ssmd_local.places import feed_file, feeds_folder, local_environment_file
from ssmd_local.plan import DEFAULT_FEED, Plan, Request, Source, make_plan, source_of
from ssmd_local.ports import choose_ports
from ssmd_local.recordings import recorded_markets

__all__ = ["prepare"]


def prepare(request: Request, environ: Mapping[str, str]) -> Plan:
    """Return the plan of a request.

    Raises:
        ConfigError: The feed, the recording, the rate or the API's port cannot be used.
    """
    source = source_of(request, environ)
    _check_rate(request.rate, source)
    feeds = feeds_folder()
    feed_path = feed_file(feeds, request.feed_name)
    local = local_environment_file(feeds, request.feed_name)
    return make_plan(
        request,
        source=source,
        live_env=_live_env(request.feed_name, feed_path, environ),
        feed_path=feed_path,
        capture=_capture(request, source, local),
        ports=choose_ports(request.api_port),
    )


def _check_rate(rate: str | None, source: Source) -> None:
    if rate is None or rate == "max":
        return
    if source is Source.LIVE:
        raise ConfigError("a live exchange sends as it likes", field="--rate", remedy="leave it out")
    try:
        number = float(rate)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise ConfigError(f"{rate!r} is no rate", field="--rate", remedy="frames a second, such as 100, or `max`")


def _live_env(feed: str, feed_path: Path, environ: Mapping[str, str]) -> str:
    """Return the environment's token for the live exchange: play money never mixes with real markets."""
    if not feed.startswith(DEFAULT_FEED):
        return "live"
    model = load_feed(feed_path)
    bare = Environment.model_validate({"name": feed, "feed": feed, "transport": {"type": "nats"}})
    address = endpoint(model, bare, dt.datetime.now(dt.UTC).date(), environ)
    return "demo" if address == model.websocket_settings().kalshi_settings.demo_endpoint else "prod"


def _capture(request: Request, source: Source, local: Path | None) -> Capture:
    """Return what to capture: what the repository's local environment says, of a recording its own markets."""
    if local is None or (source is Source.LIVE and request.feed_name == DEFAULT_FEED):
        capture = Capture()
    else:
        capture = load_environment(local).capture
    if request.capture is None:
        return capture
    try:
        with request.capture.open("rb") as lines:
            markets = recorded_markets(lines)
    except OSError as error:
        raise ConfigError(
            f"cannot be read: {error.strerror}",
            file=str(request.capture),
            field="--capture",
            remedy="check the path",
        ) from None
    known = request.feed_name == DEFAULT_FEED and markets
    return capture.model_copy(update={"symbols": markets}) if known else capture
