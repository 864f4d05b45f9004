"""``ssmd-connector replay``: tells an archive again, under another name and never into the stream it came from."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import structlog

from ssmd_common.config.environment import Environment
from ssmd_common.config.loading import check_document, load_environment, load_feed
from ssmd_common.config.websocket import BOOK_TYPES
from ssmd_common.errors import ConfigError
from ssmd_common.service import lifecycle
from ssmd_connector.replay_nats import Replay, replay_to_nats
from ssmd_connector.replay_pace import Pace
from ssmd_connector.replay_progress import ReplayProgress
from ssmd_connector.replay_source import find_source
from ssmd_connector.replay_stdout import replay_to_stdout

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ssmd_connector.replay_source import Source

__all__ = ["ENV", "Destination", "ReplayRequest", "plan_replay", "replay"]

log = structlog.get_logger()

ENV = "replay"
"""The environment of a replay that names none."""


class Destination(StrEnum):
    """Where a replay goes."""

    NATS = "nats"
    STDOUT = "stdout"


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """What the command line asks for.

    Attributes:
        files: Segments, days' folders or feeds' folders.
        to: Where it goes.
        pace: At which pace.
        feed: The feed's file, for its ``subject_types``.
        env: The environment's file; else ``url``, ``stream`` and ``prefix`` say where.
        url: Address of NATS.
        stream: Name of the stream.
        prefix: What the subjects begin with.
        envelope: Whether each line tells what is known of the record (stdout).
    """

    files: Sequence[Path]
    to: Destination
    pace: Pace
    feed: Path | None = None
    env: Path | None = None
    url: str | None = None
    stream: str | None = None
    prefix: str | None = None
    envelope: bool = False


def replay(request: ReplayRequest, environ: Mapping[str, str] = os.environ) -> int:
    """Replay as the command line asks.

    Returns:
        0, or 1 where not everything was replayed.

    Raises:
        SsmdError: As :func:`plan_replay`, or a file or NATS does not allow it.
    """
    if request.to is Destination.NATS:
        planned = plan_replay(request, environ)
        with planned.progress:
            return lifecycle.run(lambda stop: replay_to_nats(planned, stop))
    _check_options(request)
    source = _source(request)
    with ReplayProgress(source.records, shown=not (sys.stdout and sys.stdout.isatty())) as progress:
        return replay_to_stdout(source, request.pace, progress, envelope=request.envelope)


def plan_replay(request: ReplayRequest, environ: Mapping[str, str] = os.environ) -> Replay:
    """Return what is to be published, and where to; everything that can be refused is refused here.

    Raises:
        ConfigError: The options or files mean nothing, or the target is the stream the files came from.
        ArchiveError: A file is missing or damaged.
    """
    _check_options(request)
    feed = None if request.feed is None else load_feed(request.feed)
    subject_types = BOOK_TYPES if feed is None else feed.websocket_settings().subject_types
    source = _source(request)
    if feed is not None and feed.name != source.header.feed:
        raise _of_another_feed(str(request.feed), "name", feed.name, source, remedy="name the file of")
    target = _target(request, source)
    _refuse_own_stream(source, target)
    return Replay(source, target, subject_types, request.pace, ReplayProgress(source.records), environ)


def _source(request: ReplayRequest) -> Source:
    source = find_source(request.files)
    for folder in source.left_open:
        log.warning("open_segment_left_out", folder=folder, reason="it is still being written")
    return source


def _check_options(request: ReplayRequest) -> None:
    nats_only = {
        "--env": request.env,
        "--url": request.url,
        "--stream": request.stream,
        "--prefix": request.prefix,
        "--feed": request.feed,
    }
    given = [name for name, value in nats_only.items() if value is not None]
    if request.to is Destination.STDOUT and given:
        raise ConfigError("means nothing with --to stdout", field=given[0], remedy="leave it out, or say --to nats")
    if request.to is Destination.NATS and request.envelope:
        raise ConfigError(
            "means nothing with --to nats", field="--envelope", remedy="leave it out, or say --to stdout"
        )
    others = [name for name in given if name not in ("--env", "--feed")]
    if request.env is not None and others:
        raise ConfigError(
            f"and {others[0]} exclude one another", field="--env", remedy="the environment's file says it"
        )


def _target(request: ReplayRequest, source: Source) -> Environment:
    """Return the environment that is published under: that of the file, or one made of the options.

    Raises:
        ConfigError: The file is wrong or of another feed, or an option is.
    """
    feed = source.header.feed
    if request.env is not None:
        target = load_environment(request.env)
        if target.feed != feed:
            raise _of_another_feed(str(request.env), "feed", target.feed, source, remedy="name an environment of")
        return target
    transport = {
        "type": "nats",
        "url": request.url,
        "stream": f"{ENV}_{feed}".upper().replace("-", "_") if request.stream is None else request.stream,
        "subject_prefix": request.prefix,
    }
    document = {
        "name": ENV,
        "feed": feed,
        "env": ENV,
        "transport": {name: value for name, value in transport.items() if value is not None},
    }
    return check_document(document, Environment, file="--url, --stream, --prefix")


def _of_another_feed(file: str, field: str, name: str, source: Source, *, remedy: str) -> ConfigError:
    feed = source.header.feed
    return ConfigError(f"is {name}, the archive holds {feed}", file=file, field=field, remedy=f"{remedy} {feed}")


def _refuse_own_stream(source: Source, target: Environment) -> None:
    """Refuse a target whose messages could not be told from those that are replayed.

    Raises:
        ConfigError: Stream or subjects are those of the source, or the one's lie among the other's.
    """
    stream, prefix, own = target.transport.stream, target.subjects().prefix, source.header.prefix
    remedy = "name another --prefix and --stream, or another environment: a replay never goes where it came from"
    if stream in source.streams:
        raise ConfigError(f"stream {stream} is the one these files were archived from", remedy=remedy)
    for inner, outer in ((prefix, own), (own, prefix)):
        if inner == outer or f"{inner}.".startswith((f"{outer}.json.", f"{outer}.capture.")):
            raise ConfigError(f"subject prefix {prefix} meets that of these files, {own}", remedy=remedy)
