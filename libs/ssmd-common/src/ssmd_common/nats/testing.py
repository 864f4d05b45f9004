"""A real nats-server for tests: one process on a free loopback port, with a store that survives its death."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

from ssmd_common.errors import ConfigError
from ssmd_common.nats.program import nats_server_binary

__all__ = ["NatsServer", "free_port"]

_START_TIMEOUT_S = 15.0


def free_port() -> int:
    """Return a loopback port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class NatsServer:
    """One nats-server with JetStream, started and killed at will on the same port and store.

    Args:
        folder: Where its store, configuration and log lie.
        config: Lines added to its configuration, such as an ``authorization`` block.
        jetstream: Whether JetStream is enabled.
    """

    def __init__(self, folder: Path, *, config: str = "", jetstream: bool = True) -> None:
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self.folder = folder
        self.log = folder / "nats.log"
        self._config = folder / "nats.conf"
        store = f'jetstream {{ store_dir: "{folder / "store"}" }}\n' if jetstream else ""
        text = f'listen: "127.0.0.1:{self.port}"\nmax_payload: 8MB\n{store}{config}\n'
        folder.mkdir(parents=True, exist_ok=True)
        self._config.write_text(text, "utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it takes connections.

        Raises:
            ConfigError: It ended or did not listen in time; the log's end is in the text.
        """
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own program and file
                [str(nats_server_binary()), "-c", str(self._config)], stdout=log, stderr=log
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            if b"Server is ready" in self.log.read_bytes():
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                        return
            time.sleep(0.02)
        self.kill()
        raise ConfigError(f"nats-server did not start: {self.log.read_text('utf-8', 'replace')[-500:]}")

    def kill(self) -> None:
        """Kill it as a crash would; the store stays. Harmless when it is not running."""
        self._end(hard=True)

    def stop(self) -> None:
        """Stop it in order; the store stays. Harmless when it is not running."""
        self._end(hard=False)

    def _end(self, *, hard: bool) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            if hard:
                process.kill()
            else:
                process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        self.log.write_bytes(b"")
