"""What the integration tests share: the NATS server, and which one it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from integration.nats_server import NatsServer, nats_in_use, running_nats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def pytest_report_header() -> str:
    return f"nats: {nats_in_use()}"


@pytest.fixture(scope="session")
def nats_kind(record_testsuite_property: Callable[[str, object], None]) -> str:
    """Which NATS this run uses; the JUnit report tells it in the property ``nats``."""
    record_testsuite_property("nats", nats_in_use())
    return nats_in_use()


@pytest.fixture
def nats_server(tmp_path: Path, nats_kind: str) -> Iterator[NatsServer]:  # noqa: ARG001 - recorded once it is used
    """A server of the test's own."""
    with running_nats(tmp_path / "nats") as server:
        yield server
