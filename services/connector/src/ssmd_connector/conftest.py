"""A real nats-server for the tests of this package."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ssmd_common.nats.testing import NatsServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A real nats-server with JetStream, its store kept when a test kills it."""
    server = NatsServer(tmp_path / "nats")
    server.start()
    yield server
    server.kill()
