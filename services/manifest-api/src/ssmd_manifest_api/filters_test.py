"""Filters compose and ranges are half-open, over HTTP."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import httpx
import msgspec
import pytest

from ssmd_common.archive.gaps import Gap, GapStatus
from ssmd_manifest_api.conftest import DAY, NOON_NS, Connect, at, stream_gap
from ssmd_manifest_api.testing import Message, SampleDay, SampleSegment


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["0615", "0616"]),
        ("type=ticker", ["0615"]),
        ("type=ticker&type=trade", ["0615", "0616"]),
        ("ticker=KX.B", ["0615"]),
        ("ticker=KXC", ["0616"]),
        ("ticker=KXC&type=ticker", []),
        ("ticker=NONE", []),
        ("from=2026-11-23T06:16:00Z", ["0616"]),
        ("to=2026-11-23T06:16:05Z", ["0615"]),
        ("to=2026-11-23T06:16:05.000000001Z", ["0615", "0616"]),
        ("from=2026-11-23T07:16:00%2B01:00", ["0616"]),
        ("from=2026-11-23T07:16:00+01:00", ["0616"]),
        ("from=2026-11-24", []),
        ("from=2026-11-23T06:15:10Z&to=2026-11-23T06:15:10Z", []),
        ("from=2026-11-23T06:15:20Z&to=2026-11-23T06:15:10Z", []),
        ("from=2026-11-23T06:15:10Z&to=2026-11-23T06:15:20Z", ["0615"]),
    ],
)
async def test_file_filters_compose(client: httpx.AsyncClient, query: str, names: list[str]) -> None:
    listing = (await client.get(f"/files/kalshi/2026-11-23?{query}")).json()
    assert [file["name"].removesuffix(".jsonl.gz") for file in listing["files"]] == names


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("", 1),
        ("to=2026-11-23T06:17:00Z", 0),
        ("to=2026-11-23T06:17:00.000000001Z", 1),
        ("from=2026-11-23T09:00:00Z", 1),
        ("from=2026-11-23T09:00:00Z&to=2026-11-23T09:00:00Z", 0),
        ("type=none&ticker=none", 1),
    ],
)
async def test_the_open_segment_is_listed_where_it_may_still_hold_what_is_wanted(
    client: httpx.AsyncClient, query: str, count: int
) -> None:
    listing = (await client.get(f"/files/kalshi/2026-11-23?{query}")).json()
    assert len(listing["open"]) == count


async def test_gaps_are_filtered_by_layer_status_and_time(client: httpx.AsyncClient) -> None:
    gaps = (await client.get("/gaps/kalshi")).json()["gaps"]
    assert [(gap["gap_id"], gap["missing_count"]) for gap in gaps] == [("stream:100", 3)]
    for query, count in [
        ("layer=stream&status=permanent", 1),
        ("layer=archive", 0),
        ("layer=archive&layer=stream", 1),
        ("status=open", 0),
        ("to=2026-11-23T06:16:00Z", 0),
        ("from=2026-11-23T06:16:01Z", 0),
        ("from=2026-11-23T06:16:00Z&to=2026-11-23T06:17:00Z", 1),
        ("from=2026-11-24", 0),
        ("from=2026-11-23T06:16:00.5Z&to=2026-11-23T06:16:00.5Z", 0),
        ("from=2026-11-23T06:16:00.6Z&to=2026-11-23T06:16:00.5Z", 0),
        ("from=2026-11-23T06:16:00.5Z&to=2026-11-23T06:16:00.6Z", 1),
    ]:
        for path in ("/gaps/kalshi", "/gaps/kalshi/2026-11-23"):
            found = (await client.get(f"{path}?{query}")).json()["gaps"]
            assert len(found) == count, (path, query)


async def test_a_gap_of_two_days_is_listed_once_as_the_later_day_has_it(archive: Path, connect: Connect) -> None:
    later = SampleDay(archive, "kalshi", DAY + dt.timedelta(days=1))
    changed = stream_gap("stream:100", at(6, 16))
    segment = SampleSegment("0000", 0, [Message(20, 5)], [_until_next_day(changed)])
    later.seal(segment)
    later.write_manifest()
    async with connect(archive) as client:
        gaps = (await client.get("/gaps/kalshi")).json()["gaps"]
    assert [(gap["gap_id"], gap["end"]) for gap in gaps] == [("stream:100", "2026-11-24T00:00:01Z")]


async def test_a_gap_that_is_not_over_reaches_into_every_later_range(archive: Path, connect: Connect) -> None:
    later = SampleDay(archive, "kalshi", DAY + dt.timedelta(days=1))
    begun = stream_gap("stream:200", at(6, 17), status=GapStatus.OPEN)
    SampleDay(archive, "kalshi", DAY).seal(
        SampleSegment("0618", at(6, 18), [Message(20, at(6, 18))], [msgspec.structs.replace(begun, end_ns=None)])
    )
    SampleDay(archive, "kalshi", DAY).write_manifest()
    later.seal(SampleSegment("0000", 0, [Message(30, 5)]))
    later.write_manifest()
    async with connect(archive) as client:
        listed = (await client.get("/gaps/kalshi?from=2026-11-24T00:00:00Z")).json()["gaps"]
        records = await client.get("/records/kalshi?from=2026-11-24T00:00:00Z&to=2026-11-25")
    assert [gap["gap_id"] for gap in listed] == ["stream:200"]
    assert records.headers["ssmd-gaps"] == "1"


@pytest.mark.parametrize("path", ["/manifests/kalshi", "/conditions/kalshi"])
async def test_days_are_those_with_a_moment_in_the_range(client: httpx.AsyncClient, path: str) -> None:
    for query, count in [
        ("from=2026-11-23T12:00:00Z&to=2026-11-23T12:00:00.000000001Z", 1),
        ("from=2026-11-23T12:00:00Z&to=2026-11-23T12:00:00Z", 0),
        ("from=2026-11-23T12:00:00Z&to=2026-11-23T11:00:00Z", 0),
        ("from=2026-11-23T23:59:59.999999999Z", 1),
        ("from=2026-11-24", 0),
        ("to=2026-11-23T01:00:00%2B01:00", 0),
        ("to=2026-11-23T01:00:00.5%2B01:00", 1),
    ]:
        listing = (await client.get(f"{path}?{query}")).json()
        assert len(listing.get("days", listing.get("conditions"))) == count, query


def _until_next_day(gap: Gap) -> Gap:
    return msgspec.structs.replace(gap, end_ns=NOON_NS + 12 * 3600 * 10**9 + 10**9)
