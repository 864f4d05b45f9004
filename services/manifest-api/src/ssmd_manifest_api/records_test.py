"""Records over HTTP: lines, envelopes, gaps where they lie, pages, and what happens when something goes wrong."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import httpx
import pytest
import uvicorn

from ssmd_common.archive.gaps import Gap, GapLayer, GapStatus
from ssmd_common.archive.layout import DayKeys
from ssmd_common.archive.reader import Segment, segments_of
from ssmd_common.archive.selection import EVERYTHING
from ssmd_common.archive.store import Content, Listing, LocalStore, Source, Stat
from ssmd_common.archive.times import SECOND_NS, day_start_ns
from ssmd_common.errors import ArchiveError
from ssmd_common.service.telemetry import Metrics
from ssmd_manifest_api.app import SERVICE, create_app
from ssmd_manifest_api.catalog import Catalog
from ssmd_manifest_api.conftest import DAY, NOON_NS, Connect, at
from ssmd_manifest_api.records import picks, raw_lines
from ssmd_manifest_api.testing import SESSION, Message, SampleDay, SampleSegment

START_NS = day_start_ns(DAY)


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


def gap(start_seq: int | None, end_seq: int | None, start_s: int, end_s: int | None, *, key: str = "") -> Gap:
    missing = None if start_seq is None or end_seq is None else end_seq - start_seq
    return Gap(
        gap_id=f"{key}:{start_seq}:{start_s}",
        layer=GapLayer.CONNECTION if key else GapLayer.STREAM,
        cause="peer_closed" if key else "retention",
        status=GapStatus.PERMANENT if end_s is not None else GapStatus.OPEN,
        epoch=1,
        key=key,
        start_seq=start_seq,
        end_seq=end_seq,
        start_ns=START_NS + start_s * SECOND_NS,
        end_ns=None if end_s is None else START_NS + end_s * SECOND_NS,
        missing_count=missing,
        detected_ns=START_NS + (end_s if end_s is not None else start_s) * SECOND_NS,
    )


def shown(answer: httpx.Response) -> list[int | str]:
    """Return the sequences of an enveloped answer, and the gap's id where a gap stands."""
    assert answer.status_code == 200, answer.text
    lines = [json.loads(line) for line in answer.content.splitlines()]
    return [line["seq"] if "seq" in line else line["gap"]["gap_id"] for line in lines]


async def test_raw_lines_are_the_archives_own_the_open_segments_too(
    client: httpx.AsyncClient, archive: Path
) -> None:
    answer = await client.get("/records/kalshi")
    folder = archive / "kalshi/2026-11-23"
    files = [folder / "0615.jsonl.gz", folder / "0616.jsonl.gz", folder / "_open/0617.jsonl.gz"]
    assert answer.content == b"".join(gzip.decompress(file.read_bytes()) for file in files)
    assert answer.headers["content-type"] == "application/x-ndjson"


async def test_an_envelope_splices_the_payload_in_as_it_is(client: httpx.AsyncClient) -> None:
    answer = await client.get("/records/kalshi?to_seq=3&envelope=true")
    ns = START_NS + at(6, 15) * SECOND_NS
    payload = b'{"type": "trade", "msg": {"market_ticker": "KXA", "n": 2}}'
    head = f'{{"seq":2,"stored_ns":{ns},"received_ns":{ns - 1_000_000},"type":"trade","ticker":"KXA","data":'
    assert answer.content == head.encode() + payload + b"}\n"


@pytest.mark.parametrize(
    ("query", "seqs"),
    [
        ("", [2, 3, 6, 7, 10]),
        ("from_seq=3&to_seq=7", [3, 6]),
        ("from_seq=4&to_seq=4", []),
        ("from_seq=5&to_seq=4", []),
        ("from=2026-11-24&to=2026-11-23", []),
        ("epoch=1&from_seq=7", [7, 10]),
        ("epoch=2", []),
        ("from_seq=11", []),
        ("type=trade", [2, 6, 7, 10]),
        ("type=trade&type=ticker&ticker=KX.B", [3]),
        ("ticker=KXC&ticker=KX.B", [3, 6]),
        ("ticker=NONE", []),
        ("from=2026-11-23T06:15:30Z&to=2026-11-23T06:16:05Z", [3]),
        ("from=2026-11-23T06:15:30Z&to=2026-11-23T06:16:05Z&clock=received", [6]),
        ("from=2026-11-24", []),
        ("from_seq=3&to=2026-11-23T06:16:50Z&type=trade", [6]),
        ("cursor=1.7", [7, 10]),
        ("cursor=2.0", []),
    ],
)
async def test_conditions_are_half_open_and_compose(client: httpx.AsyncClient, query: str, seqs: list[int]) -> None:
    found = shown(await client.get(f"/records/kalshi?envelope=true&{query}"))
    assert [item for item in found if isinstance(item, int)] == seqs


@pytest.fixture
def gappy(tmp_path: Path) -> Path:
    """An archive with a gap of the stream, one of the connection, and one still open."""
    day = SampleDay(tmp_path, "kalshi", DAY)
    messages = [Message(2, 10), Message(3, 20), Message(6, 30), Message(7, 100), Message(8, 110)]
    lost = gap(4, 6, 20, 30)
    silent = gap(None, None, 40, 90, key=f"{SESSION}.1")
    day.seal(SampleSegment("0000", 0, messages[:3], [lost], opens=False))
    day.seal(SampleSegment("0001", 60, messages[3:], [silent], opens=False))
    day.write_manifest()
    day.open(SampleSegment("0002", 120, [Message(20, 130), Message(21, 140)], [gap(9, 20, 110, 130)], opens=False))
    return tmp_path


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [2, 3, ":4:20", 6, f"{SESSION}.1:None:40", 7, 8, ":9:110", 20, 21]),
        ("to_seq=4", [2, 3]),
        ("from_seq=3&to_seq=5", [3, ":4:20"]),
        ("from_seq=5&to_seq=7", [":4:20", 6]),
        ("from_seq=6&to_seq=7", [6]),
        ("from_seq=7&to_seq=9", [7, 8]),
        ("from_seq=9&to_seq=12", [":9:110"]),
        ("ticker=NONE", [":4:20", f"{SESSION}.1:None:40", ":9:110"]),
        ("from=2026-11-23T00:00:50Z&to=2026-11-23T00:01:00Z", [f"{SESSION}.1:None:40"]),
        ("from=2026-11-23T00:01:30Z&to=2026-11-23T00:01:50Z", [7]),
        ("from=2026-11-23T00:00:50Z&to=2026-11-23T00:00:50Z", []),
        ("from=2026-11-23T00:00:55Z&to=2026-11-23T00:00:50Z", []),
        ("from_seq=5&to_seq=5", []),
        ("to=2026-11-23T00:00:20Z", [2]),
        ("to=2026-11-23T00:00:21Z", [2, 3, ":4:20"]),
    ],
)
async def test_gaps_stand_where_they_lie_and_are_counted_in_the_header(
    gappy: Path, connect: Connect, query: str, found: list[int | str]
) -> None:
    async with connect(gappy) as client:
        enveloped = await client.get(f"/records/kalshi?envelope=true&{query}")
        raw = await client.get(f"/records/kalshi?{query}")
    assert shown(enveloped) == found
    gaps = [item for item in found if isinstance(item, str)]
    for answer in (enveloped, raw):
        assert answer.headers["ssmd-gaps"] == str(len(gaps))
        assert ("related" in answer.links) is bool(gaps)
    assert len(raw.content.splitlines()) == len(found) - len(gaps)


async def test_the_link_to_the_gaps_of_a_range_lists_them(gappy: Path, connect: Connect) -> None:
    async with connect(gappy) as client:
        answer = await client.get("/records/kalshi?from=2026-11-23T00:00:20Z&to=2026-11-23T00:00:50Z")
        gaps = (await client.get(answer.links["related"]["url"])).json()["gaps"]
    assert [entry["gap_id"] for entry in gaps] == [":4:20", f"{SESSION}.1:None:40"]
    assert answer.headers["ssmd-gaps"] == "2"


async def test_pages_follow_each_other_and_leave_no_record_and_no_gap_out(gappy: Path, connect: Connect) -> None:
    async with connect(gappy) as client:
        url, found, nexts = "/records/kalshi?envelope=true&limit=2", [], []
        while url:
            answer = await client.get(url)
            found.append(shown(answer))
            nexts.append(answer.headers.get("ssmd-next-seq"))
            url = answer.links.get("next", {}).get("url", "")
    assert [[seq for seq in page if isinstance(seq, int)] for page in found] == [[2, 3], [6, 7], [8, 20], [21]]
    assert nexts == ["6", "8", "21", None]
    assert {item for page in found for item in page if isinstance(item, str)} == {
        ":4:20",
        f"{SESSION}.1:None:40",
        ":9:110",
    }


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("from_seq=-1", "from_seq"),
        ("from_seq=x", "from_seq"),
        ("to_seq=99999999999999999999", "to_seq"),
        ("limit=0", "limit"),
        ("limit=100001", "limit"),
        ("cursor=7", "cursor"),
        ("cursor=1.-2", "cursor"),
        ("cursor=\u0661.\u0662", "cursor"),
        ("clock=mars", "clock"),
        ("epoch=0", "epoch"),
        ("envelope=perhaps", "envelope"),
        ("from=noon", "from"),
        ("form_seq=5", "form_seq"),
    ],
)
async def test_a_malformed_condition_is_422_and_named(
    client: httpx.AsyncClient, query: str, parameter: str
) -> None:
    answer = await client.get(f"/records/kalshi?{query}")
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert [error["parameter"] for error in answer.json()["errors"]] == [parameter]


@pytest.mark.parametrize("cursor", ["7", "1.-2", "1.2%0A", "d00000000000b"])
async def test_a_malformed_cursor_says_where_to_take_one_from(client: httpx.AsyncClient, cursor: str) -> None:
    (error,) = (await client.get(f"/records/kalshi?cursor={cursor}")).json()["errors"]
    assert error["message"] == "not a cursor of records: take it from the `next` link of the page before"


async def test_an_unknown_feed_is_404_with_the_nearest(client: httpx.AsyncClient) -> None:
    answer = await client.get("/records/kalsi")
    assert (answer.status_code, answer.json()["nearest"]) == (404, ["kalshi"])


async def test_sequences_of_several_epochs_need_one_named(tmp_path: Path, connect: Connect) -> None:
    day = SampleDay(tmp_path, "kalshi", DAY)
    day.seal(SampleSegment("0000", 0, [Message(2, 10), Message(3, 20)]))
    day.seal(SampleSegment("0001", 60, [Message(2, 70), Message(3, 80)], epoch=2))
    day.write_manifest()
    async with connect(tmp_path) as client:
        unnamed = await client.get("/records/kalshi?from_seq=3")
        assert unnamed.status_code == 422
        assert unnamed.json()["errors"][0]["parameter"] == "epoch"
        assert "1, 2" in unnamed.json()["errors"][0]["message"]
        assert shown(await client.get("/records/kalshi?from_seq=3&epoch=2&envelope=true")) == [3]
        assert shown(await client.get("/records/kalshi?envelope=true")) == [2, 3, 2, 3]
        page = await client.get("/records/kalshi?limit=3&envelope=true")
        assert (shown(page), page.headers["ssmd-next-epoch"], page.headers["ssmd-next-seq"]) == (
            [2, 3, 2],
            "2",
            "3",
        )
        assert shown(await client.get(page.links["next"]["url"])) == [3]


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
            async with asyncio.timeout(20):
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
