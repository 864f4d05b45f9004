"""Loopback ports that are free, and stay so until the processes they are for listen there."""

from __future__ import annotations

import socket
import sys

from ssmd_common.errors import ConfigError
from ssmd_local.plan import Ports

__all__ = ["choose_ports"]

_LOOPBACK = "127.0.0.1"
_held: list[socket.socket] = []


def choose_ports(api_port: int) -> Ports:
    """Return the ports of one run.

    Args:
        api_port: The manifest API's; 0 takes a free one.

    Raises:
        ConfigError: Somebody listens on the API's port.
    """
    probes = [_bound(port) for port in (api_port, 0, 0, 0, 0, 0)]
    api, nats, nats_monitor, simulator, connector, archiver = (int(probe.getsockname()[1]) for probe in probes)
    if sys.platform == "linux":
        # Bound and never listening they hold the ports for as long as this process lives: the system chooses them
        # for nobody else, and a server that says SO_REUSEADDR, as each of ours does, may listen there.
        _held.extend(probes)
    else:
        for probe in probes:
            probe.close()
    return Ports(
        nats=nats, nats_monitor=nats_monitor, simulator=simulator, connector=connector, archiver=archiver, api=api
    )


def _bound(port: int) -> socket.socket:
    probe = socket.socket()
    # As servers do: a connection of an earlier run that is still closing does not hold the port.
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((_LOOPBACK, port))
    except OSError as error:
        probe.close()
        raise ConfigError(
            f"port {port} is taken: {error.strerror}",
            field="--api-port",
            remedy="choose another, or 0 for any free one",
        ) from None
    return probe
