"""``ssmd-connector create-stream``: makes an environment's stream for connectors that may not do it themselves.

What the stream is made with is said by the environment's file alone; who makes it, by another file, since a
connector with the least privilege has no permission to.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import structlog

from ssmd_common.config.loading import load_environment, load_model
from ssmd_common.config.nats import NatsSettings
from ssmd_common.errors import ConfigError, TransportError
from ssmd_common.nats import connection
from ssmd_common.nats.streams import ensure_stream, stream_definition
from ssmd_connector.plan import stream_limits

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ssmd_common.config.environment import Environment
    from ssmd_common.nats.streams import StreamLimits
    from ssmd_common.service.lifecycle import Stop

__all__ = ["create_stream", "show_stream"]

log = structlog.get_logger()

INBOX_PREFIX = "_INBOX_admin"


def show_stream(env_file: Path) -> int:
    """Print the stream's definition as JetStream takes it, and contact nobody.

    Raises:
        ConfigError: The file is wrong, or leaves the stream to others.
    """
    env, limits = _read(env_file)
    sys.stdout.write(json.dumps(stream_definition(env.transport.stream, _subjects(env), limits), indent=2) + "\n")
    return 0


async def create_stream(
    env_file: Path, nats_file: Path | None, stop: Stop, *, environ: Mapping[str, str] = os.environ
) -> int:
    """Create the stream if it is missing; one that exists is compared and never altered.

    Args:
        env_file: The environment.
        nats_file: Address and credentials of who may create streams; None for the environment's own.
        stop: Ends the waiting for the server.
        environ: The environment variables.

    Returns:
        0 where the stream now is what the environment says, 1 where an existing one differs; differences are told.

    Raises:
        ConfigError: A file is wrong, or the environment leaves the stream to others.
        TransportError: The server did not answer or refused, or a stop came before it was there.
    """
    env, limits = _read(env_file)
    settings = env.transport if nats_file is None else load_model(nats_file, NatsSettings)
    stream, said = env.transport.stream, False

    def on_unreachable(reason: str) -> None:
        nonlocal said
        if not said:
            said = True
            remedy = "start NATS or correct its address; Ctrl-C or SIGTERM ends the waiting"
            log.warning("stream_not_created_yet", stream=stream, reason=reason, remedy=remedy)

    try:
        client = await connection.connect(
            settings,
            name="ssmd create-stream",
            environ=environ,
            inbox_prefix=INBOX_PREFIX,
            on_unreachable=on_unreachable,
            stop=stop,
        )
    except TransportError as error:
        problem, remedy = f"stream {stream} is not created: {error.problem}", "run it again once NATS answers"
        raise TransportError(problem, where=error.where, remedy=remedy) from None
    except ConfigError as error:
        file, section = (str(nats_file), "") if nats_file is not None else (env.file, "transport")
        raise error.within(file, section) from None
    try:
        info = await ensure_stream(client, stream, _subjects(env), create=True, limits=limits)
    finally:
        await connection.close(client)
    wanted = stream_definition(stream, _subjects(env), limits)
    differences = [
        f"{name}: {info.config.get(name)} there, {value} in {env_file.name}"
        for name, value in wanted.items()
        if info.config.get(name) != value
    ]
    for line in differences:
        sys.stdout.write(f"differs: {line}\n")
    state = "differs" if differences else "is as it should be"
    sys.stdout.write(f"stream {info.name} {state}: {', '.join(info.subjects)}, {info.messages} messages\n")
    return 1 if differences else 0


def _read(env_file: Path) -> tuple[Environment, StreamLimits]:
    env = load_environment(env_file)
    limits = stream_limits(env)
    if limits is None:
        raise ConfigError(
            "says `false`: it leaves the stream to others",
            file=str(env_file),
            field="transport.create_stream",
            remedy="write what it is created with, such as {max_age: 3d}",
        )
    return env, limits


def _subjects(env: Environment) -> tuple[str, str]:
    subjects = env.subjects()
    return subjects.data_filter, subjects.capture_filter
