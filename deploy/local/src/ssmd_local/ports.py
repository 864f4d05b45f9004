"""Loopback ports that are free now."""

from __future__ import annotations

import contextlib
import socket

from ssmd_common.errors import ConfigError
from ssmd_local.plan import Ports

__all__ = ["choose_ports"]

_LOOPBACK = "127.0.0.1"


def choose_ports(api_port: int) -> Ports:
    """Return the ports of one run.

    Args:
        api_port: The manifest API's; 0 takes a free one.

    Raises:
        ConfigError: Somebody listens on the API's port.
    """
    with contextlib.ExitStack() as held:
        # All are held at once, so that no two are the same.
        numbers = [_bind(held, port) for port in (api_port, 0, 0, 0, 0, 0)]
    api, nats, nats_monitor, simulator, connector, archiver = numbers
    return Ports(
        nats=nats, nats_monitor=nats_monitor, simulator=simulator, connector=connector, archiver=archiver, api=api
    )


def _bind(held: contextlib.ExitStack, port: int) -> int:
    probe = held.enter_context(socket.socket())
    # As servers do: a connection of an earlier run that is still closing does not hold the port.
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((_LOOPBACK, port))
    except OSError as error:
        raise ConfigError(
            f"port {port} is taken: {error.strerror}",
            field="--api-port",
            remedy="choose another, or 0 for any free one",
        ) from None
    return int(probe.getsockname()[1])
