"""A sample archive and the app over it."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from ssmd_common.archive.gaps import Gap, GapLayer, GapStatus
from ssmd_common.archive.times import SECOND_NS, day_start_ns
from ssmd_common.service.telemetry import Metrics
from ssmd_manifest_api.app import SERVICE, create_app
from ssmd_manifest_api.testing import Message, SampleDay, SampleSegment

DAY = dt.date(2026, 11, 23)
NOON_NS = day_start_ns(DAY) + 12 * 3600 * SECOND_NS

Connect = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


def stream_gap(gap_id: str, at_s: int, *, status: GapStatus = GapStatus.PERMANENT) -> Gap:
    start_ns = day_start_ns(DAY) + at_s * SECOND_NS
    return Gap(
        gap_id=gap_id,
        layer=GapLayer.STREAM,
        cause="retention",
        status=status,
        epoch=1,
        start_seq=100,
        end_seq=103,
        start_ns=start_ns,
        end_ns=start_ns + SECOND_NS,
        missing_count=3,
        detected_ns=start_ns + SECOND_NS,
    )


def at(hour: int, minute: int = 0) -> int:
    return hour * 3600 + minute * 60


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Give the sample archive."""
    return write_sample(tmp_path / "archive")


def write_sample(base: Path) -> Path:
    """Write two feeds: kalshi with two sealed segments, a gap and an open one; kraken, whose first is open."""
    kalshi = SampleDay(base, "kalshi", DAY)
    kalshi.seal(
        SampleSegment("0615", at(6, 15), [Message(2, at(6, 15)), Message(3, at(6, 15) + 30, "ticker", "KX.B")])
    )
    late = [Message(6, at(6, 16) + 5, "trade", "KXC"), Message(7, at(6, 16) + 50)]
    kalshi.seal(SampleSegment("0616", at(6, 16), late, [stream_gap("stream:100", at(6, 16))]))
    kalshi.write_manifest()
    kalshi.open(SampleSegment("0617", at(6, 17), [Message(10, at(6, 17))]))
    SampleDay(base, "kraken", DAY).open(
        SampleSegment("0617", at(6, 17), [Message(2, at(6, 17)), Message(3, at(6, 18))])
    )
    return base


@pytest.fixture
def connect() -> Connect:
    """Give a client of the app over an archive, in this process."""

    @asynccontextmanager
    async def connected(base: Path, *, now_ns: int = NOON_NS, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
        app = create_app(base, metrics=Metrics(SERVICE), clock_ns=lambda: now_ns, **options)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            yield client

    return connected


@pytest.fixture
async def client(archive: Path, connect: Connect) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of the app over the sample archive at noon of its day."""
    async with connect(archive) as connected:
        yield connected
