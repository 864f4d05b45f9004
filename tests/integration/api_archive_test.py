"""Listings over an archive of many days: right, and after the first request without reading a file."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from integration.api_archive import FEEDS, GAP_EVERY_DAYS, make_archive
from ssmd_common.archive.store import Content, Listing, LocalStore, Source, Stat
from ssmd_common.archive.times import DAY_NS, day_start_ns
from ssmd_common.service.telemetry import Metrics
from ssmd_manifest_api.app import SERVICE, create_app
from ssmd_manifest_api.catalog import Catalog

DAYS, SEGMENTS = 20, 96
LAST = dt.date(2026, 11, 22)
FIRST = LAST - dt.timedelta(days=DAYS - 1)


class CountingStore:
    """A store that counts what is asked of it."""

    def __init__(self, base: Path) -> None:
        self._store = LocalStore(base)
        self.asked: Counter[str] = Counter()

    def why_not_ready(self) -> str | None:
        """Return why nothing can be read."""
        return self._store.why_not_ready()

    def list(self, folder: str = "") -> Listing:
        """List a folder."""
        self.asked["list"] += 1
        return self._store.list(folder)

    def stat(self, key: str) -> Stat | None:
        """Look at a file."""
        self.asked["stat"] += 1
        return self._store.stat(key)

    def read(self, key: str) -> Content | None:
        """Read a file whole."""
        self.asked["read"] += 1
        return self._store.read(key)

    def open(self, key: str) -> Source | None:
        """Open a file."""
        self.asked["open"] += 1
        return self._store.open(key)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write three feeds of twenty days."""
    base = tmp_path_factory.mktemp("days") / "archive"
    make_archive(base, feeds=len(FEEDS), days=DAYS, segments=SEGMENTS, last=LAST)
    return base


@pytest.fixture
def store(archive: Path) -> CountingStore:
    """Give the archive, counted."""
    return CountingStore(archive)


@pytest.fixture
async def client(archive: Path, store: CountingStore) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of the app over it, the day after its last."""
    app = create_app(archive, metrics=Metrics(SERVICE))
    catalog = Catalog(store, clock_ns=lambda: day_start_ns(LAST) + DAY_NS + DAY_NS // 2)
    app.state.catalogs = dict.fromkeys(app.state.catalogs, catalog)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as connected:
        yield connected


@pytest.mark.parametrize(
    ("path", "stats", "lists"),
    [
        ("/manifests", DAYS * len(FEEDS), 8),
        ("/manifests/kalshi", DAYS, 3),
        ("/manifests/kalshi?condition=degraded&limit=1", DAYS, 3),
        ("/conditions/kalshi", DAYS, 3),
        # An open segment may lie in any day and know of gaps of another: each day's open folder is listed, and of
        # the two newest days the sealed ones.
        ("/gaps/kalshi", DAYS + 2, DAYS + 5),
        ("/gaps/kalshi?layer=stream&from=2026-11-13&to=2026-11-23", DAYS + 2, DAYS + 5),
        ("/gaps/kalshi/2026-11-22", DAYS + 3, DAYS + 6),
        ("/manifests/kalshi/2026-11-22", 1, 0),
        ("/files/kalshi/2026-11-22", 1, 4),
        ("/files/kalshi/2026-11-22?type=trade&from=2026-11-22T06:00:00Z", 1, 4),
        ("/files/kalshi/2026-11-22?ticker=KXBENCH-T042", 1 + SEGMENTS, 4),
    ],
)
async def test_nothing_is_read_again_after_the_first_request(
    client: httpx.AsyncClient, store: CountingStore, path: str, stats: int, lists: int
) -> None:
    first = await client.get(path)
    assert first.status_code == 200
    store.asked.clear()
    assert (await client.get(path)).content == first.content
    assert (store.asked["read"], store.asked["open"]) == (0, 0)
    assert store.asked["stat"] <= stats
    assert store.asked["list"] <= lists


async def test_the_listings_are_right(client: httpx.AsyncClient) -> None:
    feeds = (await client.get("/manifests")).json()["feeds"]
    assert [(feed["feed"], feed["days"], feed["gaps"]) for feed in feeds] == [
        (feed, DAYS, DAYS // GAP_EVERY_DAYS) for feed in sorted(FEEDS)
    ]
    days = (await client.get("/manifests/kalshi")).json()["days"]
    assert [day["date"] for day in days] == [(FIRST + dt.timedelta(days=n)).isoformat() for n in range(DAYS)]
    assert {day["files"] for day in days} == {SEGMENTS}
    conditions = (await client.get("/conditions/kalshi")).json()["conditions"]
    assert Counter(entry["condition"] for entry in conditions) == {
        "available": DAYS - DAYS // GAP_EVERY_DAYS,
        "degraded": DAYS // GAP_EVERY_DAYS,
    }
    gaps = (await client.get("/gaps/kalshi")).json()["gaps"]
    degraded = [entry for entry in conditions if entry["condition"] == "degraded"]
    assert [entry["reasons"][0]["gap_id"] for entry in degraded] == [gap["gap_id"] for gap in gaps]


async def test_a_day_of_many_segments_is_filtered_by_time_type_and_ticker(client: httpx.AsyncClient) -> None:
    async def names(query: str) -> list[str]:
        files = (await client.get(f"/files/kraken/2026-11-10?{query}")).json()["files"]
        return [file["name"] for file in files]

    assert len(await names("")) == SEGMENTS
    assert await names("from=2026-11-10T06:00:00Z&to=2026-11-10T06:30:00Z") == ["0600.jsonl.gz", "0615.jsonl.gz"]
    assert await names("type=nothing") == []
    some = await names("ticker=KXBENCH-T042")
    assert 0 < len(some) < SEGMENTS
    assert set(some) < set(await names("ticker=KXBENCH-T042&ticker=KXBENCH-T150"))


async def test_pages_together_are_the_whole_list(client: httpx.AsyncClient) -> None:
    for path, name in (
        ("/manifests/kalshi", "days"),
        ("/conditions/kalshi", "conditions"),
        ("/gaps/kalshi", "gaps"),
        ("/files/kalshi/2026-11-22", "files"),
    ):
        whole = (await client.get(path)).json()[name]
        assert len(whole) > 1
        for limit in (1, 7):
            seen, cursor = [], ""
            while True:
                page = (await client.get(f"{path}?limit={limit}{cursor}")).json()
                assert len(page[name]) <= limit
                seen += page[name]
                if page["next"] is None:
                    break
                cursor = f"&cursor={page['next']}"
            assert seen == whole
