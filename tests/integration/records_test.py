"""Archives written by the archiver, read back through the API: as a plain filter of what went in gives it."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from ssmd_archiver.testing import SESSION, SUBJECTS, T0, Stream, archive
from ssmd_common.archive.index import Block
from ssmd_common.archive.layout import list_days
from ssmd_common.archive.reader import day_segments
from ssmd_common.archive.store import Content, Listing, LocalStore, Source, Stat
from ssmd_common.archive.times import SECOND_NS, to_rfc3339
from ssmd_common.service.telemetry import Metrics
from ssmd_manifest_api.app import create_app
from ssmd_manifest_api.catalog import Catalog

HOUR_S = 3600


@dataclass(frozen=True)
class Frame:
    """One message that goes in; the archive must give it back."""

    seq: int
    stored_ns: int
    received_ns: int | None
    type: str
    tickers: tuple[str, ...]
    payload: bytes

    @property
    def ticker(self) -> Any:
        return None if not self.tickers else self.tickers[0] if len(self.tickers) == 1 else list(self.tickers)


def put(stream: Stream, frame: Frame, number: int | None) -> None:
    """Append a frame to a stream as a connector publishes it; a foreign publisher's has no number."""
    subject = SUBJECTS.json(frame.type, frame.tickers[0] if len(frame.tickers) == 1 else None)
    lines = []
    if number is not None:
        lines.append(f"Nats-Msg-Id: {SESSION}.1.{number}")
        lines.append(f"Ssmd-Type: {frame.type}")
    if frame.received_ns is not None:
        lines.append(f"Ssmd-Received-Ns: {frame.received_ns}")
    if len(frame.tickers) > 1:
        lines.append(f"Ssmd-Tickers: {','.join(frame.tickers)}")
    headers = ("NATS/1.0\r\n" + "".join(f"{line}\r\n" for line in lines) + "\r\n").encode() if lines else None
    stream.messages.append((frame.seq, subject.encode(), headers, frame.payload, frame.stored_ns))


class CountingStore:
    """A store that counts the bytes read of ranges, by the kind of file."""

    def __init__(self, base: Path) -> None:
        self._store = LocalStore(base)
        self.ranges: dict[str, int] = {"data": 0, "meta": 0}
        self.open_sources = 0

    def why_not_ready(self) -> str | None:
        return self._store.why_not_ready()

    def list(self, folder: str = "") -> Listing:
        return self._store.list(folder)

    def stat(self, key: str) -> Stat | None:
        return self._store.stat(key)

    def read(self, key: str) -> Content | None:
        assert not key.endswith(".jsonl.gz"), "segments are never read whole"
        return self._store.read(key)

    def open(self, key: str) -> Source | None:
        source = self._store.open(key)
        return None if source is None else _CountingSource(self, "meta" if ".meta." in key else "data", source)


class _CountingSource:
    def __init__(self, store: CountingStore, kind: str, source: Source) -> None:
        self._store, self._kind, self._source = store, kind, source
        self.stat = source.stat
        store.open_sources += 1

    def read(self, offset: int, length: int) -> bytes:
        self._store.ranges[self._kind] += length
        return self._source.read(offset, length)

    def close(self) -> None:
        self._store.open_sources -= 1
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@asynccontextmanager
async def api(base: Path) -> AsyncIterator[tuple[httpx.AsyncClient, CountingStore]]:
    store = CountingStore(base)
    app = create_app(base, metrics=Metrics("test"))
    app.state.catalogs = dict.fromkeys(app.state.catalogs, Catalog(store, clock_ns=lambda: T0))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client, store


@dataclass(frozen=True)
class Query:
    """What is asked, and the same as a plain filter."""

    seqs: tuple[int | None, int | None] = (None, None)
    times: tuple[int | None, int | None] = (None, None)
    clock: str = "stored"
    types: tuple[str, ...] = ()
    tickers: tuple[str, ...] = ()
    limit: int | None = None

    def parameters(self) -> list[tuple[str, str]]:
        found = [("clock", self.clock)]
        names = (("from_seq", "to_seq"), ("from", "to"))
        for pair, values, text in ((names[0], self.seqs, str), (names[1], self.times, to_rfc3339)):
            found += [(name, text(value)) for name, value in zip(pair, values, strict=True) if value is not None]
        found += [("type", name) for name in self.types] + [("ticker", name) for name in self.tickers]
        return found + ([("limit", str(self.limit))] if self.limit else [])

    def wants(self, frame: Frame) -> bool:
        return (
            _within(frame.seq, self.seqs)
            and (
                self.times == (None, None)
                or _within(frame.stored_ns if self.clock == "stored" else frame.received_ns, self.times)
            )
            and (not self.types or frame.type in self.types)
            and (not self.tickers or not set(self.tickers).isdisjoint(frame.tickers))
        )

    def may_hold(self, block: Block) -> bool:
        """Tell whether the block line alone leaves room for a wanted record."""
        span = block.stored if self.clock == "stored" else block.received
        return (
            _overlap((block.first_seq or 0, (block.last_seq or 0) + 1), self.seqs)
            and (self.times == (None, None) or (span is not None and _overlap(span, self.times)))
            and (not self.types or not set(self.types).isdisjoint(block.records_by_type))
            and (not self.tickers or not set(self.tickers).isdisjoint(block.tickers))
        )


def _within(value: int | None, span: tuple[int | None, int | None]) -> bool:
    return value is not None and (span[0] is None or value >= span[0]) and (span[1] is None or value < span[1])


def _overlap(there: tuple[int, int], wanted: tuple[int | None, int | None]) -> bool:
    return (wanted[0] is None or there[1] > wanted[0]) and (wanted[1] is None or there[0] < wanted[1])


TYPES = ("trade", "ticker", "orderbook_delta")
TICKERS = ("KXA", "KX-B5.5", "Ü")
# Mostly small steps, some across a window, some across days, and clocks that step back by a little and by much.
STEPS_S = st.sampled_from((0.0, 0.001, 0.5, 3.0, 11.0, 13 * HOUR_S, -0.5, -4.0, -25.0, -13 * HOUR_S))


@st.composite
def streams(draw: st.DrawFn) -> list[tuple[Frame, bool]]:
    """Draw frames in the stream's order, each with whether it is one of ours."""
    frames: list[tuple[Frame, bool]] = []
    seq, stored_ns = draw(st.integers(1, 50)), T0
    for number in range(draw(st.integers(1, 40))):
        seq += draw(st.sampled_from((1, 1, 1, 1, 4)))
        stored_ns += int(draw(STEPS_S) * SECOND_NS)
        ours = draw(st.integers(0, 5)) > 0
        lag_ns = int(draw(st.sampled_from((0.001, 0.2, -0.05, 7.0, 30 * HOUR_S))) * SECOND_NS)
        tickers = draw(st.sampled_from(((TICKERS[0],), (TICKERS[1],), (TICKERS[2],), ())))
        if ours and draw(st.integers(0, 9)) == 0:
            tickers = TICKERS[:2]
        payload = (
            draw(st.sampled_from((b'{"n":%d}', b'{ "n" :\t%d, "s": "\xc3\xbc\\u00fc" }', b"[%d,1.0,1e400]")))
            % number
        )
        kind = draw(st.sampled_from(TYPES))
        frame = Frame(seq, stored_ns, stored_ns - lag_ns if ours else None, kind, tickers, payload)
        frames.append((frame, ours))
    return frames


@st.composite
def queries(draw: st.DrawFn, frames: list[Frame]) -> Query:
    """Draw a query whose bounds lie on, beside and beyond what is there."""
    near = st.sampled_from((-1, 0, 1))

    def pair(values: list[int]) -> tuple[int | None, int | None]:
        bound = st.none() | st.builds(lambda value, by: max(0, value + by), st.sampled_from(values), near)
        first, end = draw(bound), draw(bound)
        return (end, first) if first is not None and end is not None and end < first else (first, end)

    clock = draw(st.sampled_from(("stored", "received")))
    times = [frame.stored_ns if clock == "stored" else frame.received_ns for frame in frames]
    known = [ns for ns in times if ns is not None]
    by_seq, by_time = draw(st.booleans()), draw(st.booleans())
    return Query(
        seqs=pair([frame.seq for frame in frames]) if by_seq else (None, None),
        times=pair(known) if known and by_time else (None, None),
        clock=clock,
        types=tuple(draw(st.lists(st.sampled_from((*TYPES, "nothing")), max_size=2))),
        tickers=tuple(draw(st.lists(st.sampled_from((*TICKERS, "NONE")), max_size=2))),
        limit=draw(st.none() | st.integers(1, 7)),
    )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_every_query_gives_what_a_plain_filter_of_all_records_gives(data: st.DataObject) -> None:
    drawn = data.draw(streams())
    frames = [frame for frame, _ in drawn]
    stream = Stream()
    for number, (frame, ours) in enumerate(drawn, 1):
        put(stream, frame, number if ours else None)
    seal, commit_every = data.draw(st.booleans()), data.draw(st.integers(1, 6))
    asked = data.draw(st.lists(queries(frames), min_size=1, max_size=6))

    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            base = Path(folder)
            await archive(base, stream, batch=3, commit_every=commit_every, seal=seal)
            blocks = [
                block for day in list_days(base, "kalshi") for s in day_segments(day) for block in s.index.blocks
            ]
            event(f"blocks: {min(len(blocks), 10)}")
            async with api(base) as (client, store):
                for query in asked:
                    await _check(client, store, query, frames, blocks)
            assert store.open_sources == 0

    asyncio.run(run())


async def _check(
    client: httpx.AsyncClient, store: CountingStore, query: Query, frames: list[Frame], blocks: list[Block]
) -> None:
    expected = [frame for frame in frames if query.wants(frame)]
    event(f"found: {'none' if not expected else 'all' if len(expected) == len(frames) else 'some'}")
    for envelope in (False, True):
        store.ranges.update(data=0, meta=0)
        found: list[bytes] = []
        url: str | httpx.URL | None = "/records/kalshi"
        parameters: Any = [*query.parameters(), ("envelope", str(envelope).lower())]
        pages = 0
        while url is not None:
            answer = await client.get(url, params=parameters)
            assert answer.status_code == 200, answer.text
            lines = answer.content.splitlines(keepends=True)
            if envelope:
                lines = [line for line in lines if not line.startswith(b'{"gap":')]
            assert query.limit is None or len(lines) <= query.limit
            found += lines
            url, parameters, pages = answer.links.get("next", {}).get("url"), None, pages + 1
        if envelope:
            assert found == [_enveloped(frame) for frame in expected]
        else:
            assert found == [frame.payload + b"\n" for frame in expected]
        assert pages == max(1, -(-len(expected) // query.limit)) if query.limit else pages == 1
        needed = [block for block in blocks if any(_in_block(frame, block) for frame in expected)]
        looked_at = [block for block in blocks if block.records and query.may_hold(block)]
        if query.limit is None:
            assert store.ranges["data"] == sum(block.data_bytes for block in needed)
            assert store.ranges["meta"] <= sum(block.meta_bytes for block in looked_at)


def _in_block(frame: Frame, block: Block) -> bool:
    return block.records > 0 and (block.first_seq or 0) <= frame.seq <= (block.last_seq or 0)


def _enveloped(frame: Frame) -> bytes:
    head = {
        "seq": frame.seq,
        "stored_ns": frame.stored_ns,
        "received_ns": frame.received_ns,
        "type": frame.type,
        "ticker": frame.ticker,
    }
    text = json.dumps(head, separators=(",", ":"), ensure_ascii=False)
    return text[:-1].encode() + b',"data":' + frame.payload + b"}\n"
