"""The probe of a container's health check, against real servers."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest

from ssmd_common.nats.testing import free_port
from ssmd_common.service.address import Address
from ssmd_common.service.health import Health, serve_health
from ssmd_common.service.probe import health_url, is_well, listening
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


@pytest.mark.parametrize(
    ("listening", "url"),
    [
        ("0.0.0.0:9100", "http://127.0.0.1:9100/health"),
        ("[::]:9100", "http://[::1]:9100/health"),
        ("10.0.0.5:9100", "http://10.0.0.5:9100/health"),
    ],
)
def test_it_asks_where_the_service_listens(listening: str, url: str) -> None:
    assert health_url(listening) == url


async def test_as_a_program_it_asks_where_the_variable_says() -> None:
    address = Address("127.0.0.1", free_port())
    async with serve_health(Address("0.0.0.0", address.port), Health("test"), Metrics("test")):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "ssmd_common.service.probe",
            env=os.environ | {"SSMD_HEALTH_ADDR": f"0.0.0.0:{address.port}"},
        )
        assert await process.wait() == 0


@pytest.mark.parametrize(
    ("environ", "where"),
    [
        ({"SSMD_HOST": "0.0.0.0", "SSMD_LISTEN_PORT": "9100"}, "0.0.0.0:9100"),
        ({"SSMD_HOST": "::", "SSMD_LISTEN_PORT": "9100"}, "[::]:9100"),
        ({"SSMD_HEALTH_ADDR": "127.0.0.1:9090", "SSMD_HOST": "0.0.0.0", "SSMD_LISTEN_PORT": "1"}, "127.0.0.1:9090"),
    ],
)
def test_the_variables_say_where_a_service_listens(environ: dict[str, str], where: str) -> None:
    assert listening(environ) == where
