"""The probe of a container's health check, against real servers."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from ssmd_common.nats.testing import free_port
from ssmd_common.service.address import Address
from ssmd_common.service.health import Health, serve_health
from ssmd_common.service.probe import is_well
from ssmd_common.service.telemetry import Metrics


async def test_a_service_is_well_where_it_answers_200_and_not_where_it_answers_503() -> None:
    health = Health("test", ready=["nats"])
    address = Address("127.0.0.1", free_port())
    async with serve_health(address, health, Metrics("test")):
        url = f"http://{address.host}:{address.port}"
        assert await asyncio.to_thread(is_well, f"{url}/health")
        assert not await asyncio.to_thread(is_well, f"{url}/ready")


def test_nobody_there_is_not_well() -> None:
    assert not is_well(f"http://127.0.0.1:{free_port()}/health")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/health", "http:///health"])
def test_as_a_program_it_exits_1(url: str) -> None:
    done = subprocess.run([sys.executable, "-m", "ssmd_common.service.probe", url], timeout=30, check=False)  # noqa: S603 - our own module
    assert done.returncode == 1
