from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx
import pytest

from ssmd_common.errors import ConfigError
from ssmd_common.service import health as health_module
from ssmd_common.service.health import Address, Health, serve_health
from ssmd_common.service.telemetry import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LOOPBACK = Address("127.0.0.1", 0)


@pytest.fixture
def health() -> Health:
    return Health("ssmd-test", ready=["nats"])


@pytest.fixture
async def bound(health: Health) -> AsyncIterator[Address]:
    metrics = Metrics("ssmd-test")
    metrics.counter("ssmd_test_frames", "{frame}", "Frames")
    async with serve_health(LOOPBACK, health, metrics) as address:
        yield address


async def _get(bound: Address, path: str, method: str = "GET") -> httpx.Response:
    async with httpx.AsyncClient(base_url=f"http://{bound}", timeout=60, trust_env=False) as client:
        return await client.request(method, path)


async def _raw(bound: Address, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(bound.host, bound.port)
    writer.write(request)
    async with asyncio.timeout(60):
        answer = await reader.read()
    writer.close()
    return answer


async def test_ready_tells_why_not_and_then_that_it_is(health: Health, bound: Address) -> None:
    before = await _get(bound, "/ready")
    health.ready.fail("nats", "not connected to 127.0.0.1:4222")
    cut_off = await _get(bound, "/ready")
    health.ready.ok("nats")
    after = await _get(bound, "/ready")

    assert (before.status_code, before.json()["checks"]) == (503, {"nats": {"ok": False, "reason": "starting"}})
    assert cut_off.json()["checks"]["nats"]["reason"] == "not connected to 127.0.0.1:4222"
    assert cut_off.json()["status"] == "not ready"
    assert (after.status_code, after.json()) == (
        200,
        {"service": "ssmd-test", "status": "ready", "checks": {"nats": {"ok": True}}},
    )


async def test_a_note_stands_beside_a_condition_that_holds_and_changes_no_status(
    health: Health, bound: Address
) -> None:
    noted = ["captured without OLD"]
    health.ready.ok("nats")
    health.ready.note("nats", lambda: noted[0] if noted else None)
    told = await _get(bound, "/ready")
    noted.clear()
    nothing = await _get(bound, "/ready")

    assert (told.status_code, told.json()["checks"]) == (
        200,
        {"nats": {"ok": True, "note": "captured without OLD"}},
    )
    assert nothing.json()["checks"] == {"nats": {"ok": True}}


async def test_health_is_apart_from_ready_and_asked_at_each_request(health: Health, bound: Address) -> None:
    stale: list[str] = []
    health.live.check("data", lambda: stale[0] if stale else None)
    fine = await _get(bound, "/health")
    stale.append("no data for 120 s")
    sick = await _get(bound, "/health?verbose=1")

    assert (fine.status_code, fine.json()["status"]) == (200, "healthy")
    assert (sick.status_code, sick.json()["checks"]["data"]["reason"]) == (503, "no data for 120 s")


async def test_metrics_are_served_as_prometheus_text(bound: Address) -> None:
    answer = await _get(bound, "/metrics")

    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "ssmd_test_frames_total 0.0" in answer.text


async def test_head_has_the_length_and_no_body(bound: Address) -> None:
    got, head = await _get(bound, "/health"), await _get(bound, "/health", "HEAD")

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /nowhere HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /health HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", b"405"),
        (b"GET /health\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x00\xff\r\n\r\n", b"400"),
        (b"GET /health HTTP/1.1\r\nX: " + b"a" * 20000 + b"\r\n\r\n", b"431"),
    ],
)
async def test_bad_requests_are_answered(bound: Address, request_bytes: bytes, status: bytes) -> None:
    answer = await _raw(bound, request_bytes)

    assert answer.split(b" ", 2)[1] == status


async def test_a_peer_that_says_nothing_does_not_hold_up_the_stop(
    health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_module, "_HEAD_TIMEOUT_S", 600.0)  # how long it would be waited for, if it were
    async with asyncio.timeout(120):
        async with serve_health(LOOPBACK, health, Metrics("ssmd-test")) as bound:
            _reader, writer = await asyncio.open_connection(bound.host, bound.port)
            await _get(bound, "/ready")
        writer.close()


async def test_a_taken_port_is_a_config_error_that_names_it(health: Health, bound: Address) -> None:
    with pytest.raises(
        ConfigError, match=rf"--health-addr: cannot listen on {bound}: .*free the address"
    ) as caught:
        async with serve_health(bound, health, Metrics("ssmd-test")):
            pass

    assert caught.value.exit_code == 2
