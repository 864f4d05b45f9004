"""``ssmd-connector``: captures one feed in one environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import structlog
import typer

from ssmd_common.config.loading import load_environment, load_feed
from ssmd_common.errors import ConfigError
from ssmd_common.service import lifecycle, logs
from ssmd_common.service.address import HEALTH_VARIABLE, parse_addr
from ssmd_connector import check as checking
from ssmd_connector import create_stream as streams
from ssmd_connector import replay as replaying
from ssmd_connector.plan import Plan
from ssmd_connector.replay import Destination, ReplayRequest
from ssmd_connector.replay_pace import Pace, parse_speed, parse_wait
from ssmd_connector.run import SERVICE, run

__all__ = ["app", "main"]

app = typer.Typer(add_completion=False, help="Capture one feed: every frame to NATS JetStream, bytes unchanged.")
log = structlog.get_logger()

FeedFile = Annotated[Path | None, typer.Option("--feed", help="The feed's file.", show_default=False)]
EnvFile = Annotated[Path | None, typer.Option("--env", help="The environment's file.", show_default=False)]


@app.callback(invoke_without_command=True)
def capture(
    context: typer.Context,
    feed: FeedFile = None,
    env: EnvFile = None,
    health_addr: Annotated[
        str | None,
        typer.Option(
            envvar=HEALTH_VARIABLE, help="Serve /health, /ready and /metrics here: HOST:PORT.", show_default=False
        ),
    ] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> int:
    """Capture until SIGTERM or SIGINT."""
    logs.configure(SERVICE, level=log_level)
    if context.invoked_subcommand is not None:
        return 0
    address = parse_addr(health_addr) if health_addr is not None else None
    plan = _plan(feed, env)
    for line in checking.warnings(plan.feed, plan.env, os.environ):
        log.warning("configuration", note=line)
    plan.check_keys()
    return lifecycle.run(lambda stop: run(plan, stop, health_addr=address))


@app.command()
def check(
    feed: FeedFile = None,
    env: EnvFile = None,
    frames: Annotated[
        Path | None,
        typer.Option(help="Route these recorded frames, one a line, plain or gzip.", show_default=False),
    ] = None,
    *,
    live: Annotated[
        bool, typer.Option("--live", help="Also open the exchange's socket, with the environment's keys.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Tell of the frames in JSON.")] = False,
) -> int:
    """Validate the feed, with --env environment and keys too; route recorded frames. Offline but for --live."""
    if feed is None:
        raise ConfigError("missing", field="--feed", remedy="see --help")
    environment = load_environment(env) if env else None
    return checking.check(load_feed(feed), environment, frames, as_json=as_json, live=live)


@app.command("create-stream")
def create_stream(
    env: EnvFile = None,
    nats: Annotated[
        Path | None,
        typer.Option(
            help="File with url and credentials of who may create streams, in place of the environment's.",
            show_default=False,
        ),
    ] = None,
    *,
    show: Annotated[bool, typer.Option("--print", help="Print the definition, as `nats` takes it.")] = False,
) -> int:
    """Create the environment's stream if it is missing; an existing one is compared and never altered."""
    if env is None:
        raise ConfigError("missing", field="--env", remedy="see --help")
    if show:
        return streams.show_stream(env)
    return lifecycle.run(lambda stop: streams.create_stream(env, nats, stop))


@app.command()
def replay(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE", help="Segments (0615.jsonl.gz), days' folders or feeds' folders of an archive."
        ),
    ],
    to: Annotated[Destination, typer.Option(help="Where it goes.")],
    speed: Annotated[str, typer.Option(help="1 is the original pace, 10 ten times it, max no pause.")] = "1",
    max_wait: Annotated[
        str | None, typer.Option(help="Longest pause, such as 30s; the original's where none is given.")
    ] = None,
    feed: FeedFile = None,
    env: EnvFile = None,
    url: Annotated[str | None, typer.Option(help="NATS, where no --env names it.", show_default=False)] = None,
    stream: Annotated[str | None, typer.Option(help="Stream to fill; REPLAY_{FEED}.", show_default=False)] = None,
    prefix: Annotated[
        str | None, typer.Option(help="What subjects begin with; replay.{feed}.", show_default=False)
    ] = None,
    *,
    envelope: Annotated[
        bool, typer.Option("--envelope", help="Write records, events and gaps as JSON with what is known of them.")
    ] = False,
) -> int:
    """Tell archived segments again in their order and pace, under another name; never into their own stream."""
    pace = Pace(parse_speed(speed), None if max_wait is None else parse_wait(max_wait))
    request = ReplayRequest(files, to, pace, feed, env, url, stream, prefix, envelope=envelope)
    return replaying.replay(request)


def _plan(feed: Path | None, env: Path | None) -> Plan:
    if feed is None or env is None:
        raise ConfigError("missing", field="--feed" if feed is None else "--env", remedy="see --help")
    return Plan.of(load_feed(feed), load_environment(env))


def main() -> None:
    """Run the command line."""
    lifecycle.run_app(app)
