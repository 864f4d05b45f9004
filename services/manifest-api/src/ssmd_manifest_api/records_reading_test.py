"""Records over HTTP: what is read for them, how much is held, and what happens when something goes wrong."""

from __future__ import annotations

import asyncio
import socket
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import httpx
import pytest
import uvicorn

from ssmd_common.archive.layout import DayKeys
from ssmd_common.archive.reader import Segment, segments_of
from ssmd_common.archive.selection import EVERYTHING
from ssmd_common.archive.store import Content, Listing, LocalStore, Source, Stat
from ssmd_common.errors import ArchiveError
from ssmd_common.service.telemetry import Metrics
from ssmd_manifest_api.app import SERVICE, create_app
from ssmd_manifest_api.catalog import Catalog
from ssmd_manifest_api.conftest import DAY, NOON_NS, at
from ssmd_manifest_api.records import picks, raw_lines
from ssmd_manifest_api.records_test import shown
from ssmd_manifest_api.testing import Message, SampleDay, SampleSegment


class WatchedStore:
    """A store that counts the bytes of ranges and the files held open, and may act before a file is opened."""

    def __init__(self, base: Path, *, before_open: Callable[[str], None] = lambda _: None) -> None:
        self._store = LocalStore(base)
        self.before_open = before_open
        self.read_bytes = 0
        self.held = 0

    def why_not_ready(self) -> str | None:
        return self._store.why_not_ready()

    def list(self, folder: str = "") -> Listing:
        return self._store.list(folder)

    def stat(self, key: str) -> Stat | None:
        return self._store.stat(key)

    def read(self, key: str) -> Content | None:
        return self._store.read(key)

    def open(self, key: str) -> Source | None:
        self.before_open(key)
        source = self._store.open(key)
        return None if source is None else _WatchedSource(self, source)


class _WatchedSource:
    def __init__(self, store: WatchedStore, source: Source) -> None:
        self._store, self._source = store, source
        self.stat = source.stat
        store.held += 1

    def read(self, offset: int, length: int) -> bytes:
        self._store.read_bytes += length
        return self._source.read(offset, length)

    def close(self) -> None:
        self._store.held -= 1
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


async def test_head_tells_the_same_and_reads_no_record(archive: Path) -> None:
    store = WatchedStore(archive)
    async with _connected(store) as client:
        got = await client.get("/records/kalshi")
        store.read_bytes = 0
        head = await client.head("/records/kalshi")
    assert (head.status_code, head.content, store.read_bytes) == (200, b"", 0)
    for name in ("content-type", "ssmd-gaps", "link", "cache-control"):
        assert head.headers.get(name) == got.headers.get(name)


async def test_a_damaged_first_block_is_a_problem_and_a_later_one_breaks_the_answer_off(archive: Path) -> None:
    folder = archive / "kalshi/2026-11-23"
    async with _connected(WatchedStore(archive)) as client:
        later = folder / "0616.jsonl.gz"
        later.write_bytes(later.read_bytes()[:-1] + b"?")
        with pytest.raises(RuntimeError) as broken:
            await client.get("/records/kalshi")
        assert isinstance(broken.value.__cause__, ArchiveError), "the server breaks the connection off at this"
        first = folder / "0615.jsonl.gz"
        first.write_bytes(first.read_bytes()[:-1] + b"?")
        answer = await client.get("/records/kalshi")
        assert answer.status_code == 500
        assert answer.json()["type"] == "urn:ssmd:problem:archive-damaged"
        first.unlink()
        gone = await client.get("/records/kalshi")
        assert (gone.status_code, "kalshi/2026-11-23/0615.jsonl.gz" in gone.text) == (500, True)


async def test_a_segment_the_manifest_does_not_list_yet_is_read(archive: Path, client: httpx.AsyncClient) -> None:
    day = SampleDay(archive, "kalshi", DAY)
    for path in (archive / "kalshi/2026-11-23/_open").iterdir():
        path.unlink()
    day.seal(SampleSegment("0617", at(6, 17), [Message(10, at(6, 17)), Message(11, at(6, 17) + 1)]))
    assert len((await client.get("/records/kalshi")).content.splitlines()) == 6


async def test_a_day_with_a_damaged_manifest_is_read_by_its_indexes(
    archive: Path, client: httpx.AsyncClient
) -> None:
    whole = (await client.get("/records/kalshi")).content
    (archive / "kalshi/2026-11-23/manifest.json").write_bytes(b"{")
    assert (await client.get("/records/kalshi")).content == whole


@pytest.mark.parametrize("moved_before_meta", [0, 1, 2, 3])
async def test_a_segment_that_is_sealed_while_it_is_read_reads_on(tmp_path: Path, moved_before_meta: int) -> None:
    """Index, meta and data move one by one: some before the first file is opened, the rest before the second."""
    day = SampleDay(tmp_path, "kalshi", DAY)
    day.open(SampleSegment("0617", at(6, 17), [Message(10, at(6, 17)), Message(11, at(6, 18))]))
    opened, sealed = day.paths.open("0617"), day.paths.sealed("0617")
    moves = [(opened.index, sealed.index), (opened.meta, sealed.meta), (opened.data, sealed.data)]
    sealed.index.parent.mkdir(parents=True)

    def move(count: int) -> None:
        while moves and count:
            source, target = moves.pop(0)
            source.rename(target)
            count -= 1

    def before_open(key: str) -> None:
        if ".meta." in key and len(moves) == 3:
            move(moved_before_meta)
        elif ".meta." not in key:
            move(3)

    async with _connected(WatchedStore(tmp_path, before_open=before_open)) as client:
        assert shown(await client.get("/records/kalshi?envelope=true")) == [10, 11]
        assert moves == []


def _large(base: Path, segments: int) -> int:
    """Write an archive of blocks of 200 kB; return its raw size."""
    day = SampleDay(base, "kalshi", DAY)
    for number in range(segments):
        ticker = f"{number:04d}" * 12_500
        day.seal(SampleSegment(f"{number // 60:02d}{number % 60:02d}", number * 60, _long(number, ticker)))
    return sum(entry.bytes for entry in day.write_manifest().files)


def _long(number: int, ticker: str) -> list[Message]:
    return [Message(2 + number * 10 + row, number * 60 + row, ticker=ticker) for row in range(4)]


def test_one_block_is_held_at_a_time(tmp_path: Path) -> None:
    total = _large(tmp_path, 60)
    store = WatchedStore(tmp_path)
    day = DayKeys("kalshi", DAY)
    found: list[Segment] = segments_of(store, day)
    tracemalloc.start()
    read = sum(len(piece) for piece in raw_lines(picks(found, EVERYTHING, columns=False)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert read == total > 10_000_000
    assert peak < 2_000_000
    assert store.held == 0


async def test_a_caller_that_goes_away_ends_the_work(tmp_path: Path) -> None:
    _large(tmp_path, 600)
    store = WatchedStore(tmp_path)
    packed = sum(file.stat().st_size for file in (tmp_path / "kalshi" / DAY.isoformat()).glob("*.jsonl.gz"))
    app = _app(store)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            reader, writer = await asyncio.open_connection(*listener.getsockname(), limit=1 << 14)
            writer.write(b"GET /records/kalshi HTTP/1.1\r\nHost: test\r\n\r\n")
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
            assert store.held > 0
            writer.close()
            async with asyncio.timeout(120):
                while store.held:  # noqa: ASYNC110 - the store knows of no loop
                    await asyncio.sleep(0.01)
            assert store.read_bytes < packed / 2
        finally:
            server.should_exit = True
            await serving


def _app(store: WatchedStore) -> Callable[..., object]:
    app = create_app(Path("unused"), metrics=Metrics(SERVICE))
    catalog = Catalog(store, clock_ns=lambda: NOON_NS)
    app.state.catalogs = dict.fromkeys(app.state.catalogs, catalog)
    return app


@asynccontextmanager
async def _connected(store: WatchedStore) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(_app(store))  # type: ignore[arg-type]  # the app is typed by its interface
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client
