"""Gaps over HTTP: what manifests list, what journals know before the seal, and days that cannot be read."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from ssmd_common.archive.gaps import Gap, GapStatus
from ssmd_common.archive.selection import EVERYTHING
from ssmd_common.archive.store import LocalStore, Stat
from ssmd_common.archive.times import DAY_NS, SECOND_NS
from ssmd_manifest_api.catalog import Catalog
from ssmd_manifest_api.conftest import DAY, NOON_NS, Connect, at, stream_gap
from ssmd_manifest_api.filters import GapFilter
from ssmd_manifest_api.gaps import gaps_of_feed
from ssmd_manifest_api.records_plan import FeedRecords
from ssmd_manifest_api.testing import Message, SampleDay, SampleSegment

NEXT_DAY = DAY + dt.timedelta(days=1)


def reopen(archive: Path, feed: str, *gaps: Gap, date: dt.date = DAY) -> None:
    """Write a feed's open segment with gaps its journal knows of."""
    SampleDay(archive, feed, date).open(SampleSegment("0617", at(6, 17), [Message(10, at(6, 17))], gaps))


async def answer_of(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def gap_ids(client: httpx.AsyncClient, path: str) -> list[str]:
    return [gap["gap_id"] for gap in (await answer_of(client, path))["gaps"]]


@pytest.mark.parametrize("path", ["/gaps/kalshi", "/gaps/kalshi/2026-11-23"])
async def test_a_gap_the_journal_knows_of_is_listed_before_the_seal(
    client: httpx.AsyncClient, archive: Path, path: str
) -> None:
    reopen(archive, "kalshi", stream_gap("stream:200", at(6, 17)))
    assert await gap_ids(client, path) == ["stream:100", "stream:200"]
    records = await client.get("/records/kalshi")
    assert records.headers["ssmd-gaps"] == "2"
    assert await gap_ids(client, records.links["related"]["url"]) == ["stream:100", "stream:200"]
    assert await gap_ids(client, f"{path}?from=2026-11-23T06:16:30Z") == ["stream:200"]


@pytest.mark.parametrize("path", ["/gaps/kalshi", "/gaps/kalshi/2026-11-23"])
async def test_the_latest_state_of_a_gap_counts_and_it_is_listed_once(
    client: httpx.AsyncClient, archive: Path, path: str
) -> None:
    reopen(
        archive,
        "kalshi",
        stream_gap("stream:100", at(6, 16), status=GapStatus.RESYNCED),
        stream_gap("stream:100", at(6, 16), status=GapStatus.HEALED),
    )
    gaps = (await answer_of(client, path))["gaps"]
    assert [(gap["gap_id"], gap["status"]) for gap in gaps] == [("stream:100", "healed")]
    assert await gap_ids(client, f"{path}?status=permanent") == []


async def test_a_day_with_an_open_segment_alone_has_its_gaps_and_its_page_explains_them(
    client: httpx.AsyncClient, archive: Path
) -> None:
    reopen(archive, "kraken", stream_gap("stream:7", at(6, 17)))
    assert await gap_ids(client, "/gaps/kraken") == ["stream:7"]
    assert await gap_ids(client, "/gaps/kraken/2026-11-23") == ["stream:7"]
    page = (await client.get("/feeds/kraken/2026-11-23")).text
    assert 'id="gap-1"' in page
    assert "None is recorded" not in page


async def test_a_segment_learns_of_a_gap_of_the_day_before_and_not_of_its_own(
    archive: Path, connect: Connect
) -> None:
    reopen(archive, "kalshi", stream_gap("stream:9", at(6, 18)), date=NEXT_DAY)
    async with connect(archive, now_ns=NOON_NS + DAY_NS) as client:
        assert await gap_ids(client, "/gaps/kalshi/2026-11-23") == ["stream:100", "stream:9"]
        assert await gap_ids(client, "/gaps/kalshi/2026-11-24") == []


async def test_a_gap_over_midnight_is_listed_in_both_days(archive: Path, connect: Connect) -> None:
    gap = stream_gap("stream:9", at(23, 59))
    reopen(archive, "kalshi", msgspec.structs.replace(gap, end_ns=gap.start_ns + 120 * SECOND_NS), date=NEXT_DAY)
    async with connect(archive, now_ns=NOON_NS + DAY_NS) as client:
        for date in ("2026-11-23", "2026-11-24"):
            assert "stream:9" in await gap_ids(client, f"/gaps/kalshi/{date}")


class SealingStore(LocalStore):
    """A store in which something happens once, after a manifest was looked at."""

    then: Callable[[], object] | None = None

    def stat(self, key: str) -> Stat | None:
        found = super().stat(key)
        if self.then is not None and key.endswith("manifest.json"):
            then, self.then = self.then, None
            then()
        return found


def _segments(catalog: Catalog) -> list[str]:
    return [segment.name for segment in FeedRecords(catalog, "kalshi").segments(EVERYTHING)]


def _gap_ids(catalog: Catalog) -> list[str]:
    return [gap.gap_id for gap in gaps_of_feed(catalog, "kalshi", GapFilter()).gaps]


@pytest.mark.parametrize(
    ("ask", "whole"), [(_segments, ["0615", "0616", "0617"]), (_gap_ids, ["stream:100", "stream:200"])]
)
def test_a_segment_that_is_sealed_while_a_day_is_looked_at_is_told_of_once(
    archive: Path, ask: Callable[[Catalog], list[str]], whole: list[str]
) -> None:
    gap = stream_gap("stream:200", at(6, 17))
    reopen(archive, "kalshi", gap)
    store = SealingStore(archive)
    catalog = Catalog(store, clock_ns=lambda: NOON_NS)

    def seal() -> None:
        for path in (archive / "kalshi/2026-11-23/_open").iterdir():
            path.unlink()
        day = SampleDay(archive, "kalshi", DAY)
        day.seal(SampleSegment("0617", at(6, 17), [Message(10, at(6, 17))], [gap]))
        day.write_manifest()

    assert ask(catalog) == whole
    store.then = seal
    assert ask(catalog) == whole
    assert store.then is None


async def test_a_segment_that_is_sealed_and_not_listed_yet_tells_its_gaps(
    client: httpx.AsyncClient, archive: Path
) -> None:
    gap = stream_gap("stream:300", at(6, 18))
    SampleDay(archive, "kalshi", DAY).seal(SampleSegment("0618", at(6, 18), [Message(11, at(6, 18))], [gap]))
    assert await gap_ids(client, "/gaps/kalshi") == ["stream:100", "stream:300"]


def damage(archive: Path, date: str) -> None:
    folder = archive / "kalshi" / date
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_bytes(b"{]")


async def test_a_day_with_a_damaged_manifest_is_named_and_the_others_are_listed(
    client: httpx.AsyncClient, archive: Path
) -> None:
    assert (await answer_of(client, "/gaps/kalshi"))["unreadable"] == []
    damage(archive, "2026-11-20")
    for query in ("", "?from=2026-11-23", "?limit=1"):
        answer = await answer_of(client, f"/gaps/kalshi{query}")
        assert [gap["gap_id"] for gap in answer["gaps"]] == ["stream:100"]
        assert [day["date"] for day in answer["unreadable"]] == ["2026-11-20"]
        assert answer["unreadable"][0]["problem"]
        assert str(archive) not in answer["unreadable"][0]["problem"]
    day = await answer_of(client, "/gaps/kalshi/2026-11-23")
    assert [gap["gap_id"] for gap in day["gaps"]] == ["stream:100"]


async def test_a_day_with_a_damaged_manifest_tells_the_gaps_its_indexes_know(
    client: httpx.AsyncClient, archive: Path
) -> None:
    damage(archive, "2026-11-23")
    answer = await answer_of(client, "/gaps/kalshi")
    assert [gap["gap_id"] for gap in answer["gaps"]] == ["stream:100"]
    assert [day["date"] for day in answer["unreadable"]] == ["2026-11-23"]


async def test_a_damaged_journal_is_named_on_the_page_and_hides_no_other_gap(
    client: httpx.AsyncClient, archive: Path
) -> None:
    journal = archive / "kalshi/2026-11-23/_open/0617.index.jsonl"
    header, *rest = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(header + b"{]\n" + b"".join(rest))
    for path in ("/gaps/kalshi", "/gaps/kalshi/2026-11-23"):
        answer = await answer_of(client, path)
        assert [gap["gap_id"] for gap in answer["gaps"]] == ["stream:100"]
        assert [day["date"] for day in answer["unreadable"]] == ["2026-11-23"]
    page = (await client.get("/feeds/kalshi/2026-11-23")).text
    assert "2026-11-23 may know of more and cannot be read" in page
