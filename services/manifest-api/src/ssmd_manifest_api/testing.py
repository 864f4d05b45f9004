"""Small archives for the tests: real segments, indexes and manifests, written with the archive's own encoders."""

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ssmd_common import events
from ssmd_common.archive.columns import Columns, encode_columns
from ssmd_common.archive.derivation import derive_manifest, gaps_of_day, summarise
from ssmd_common.archive.gaps import Gap
from ssmd_common.archive.index import (
    INDEX_VERSION,
    Block,
    Event,
    GapRecord,
    Header,
    Seal,
    block_chain,
    encode_line,
    read_index,
    seal_crc32,
)
from ssmd_common.archive.layout import DayPaths, SegmentPaths, day_paths
from ssmd_common.archive.manifest import Manifest, encode_manifest
from ssmd_common.archive.times import SECOND_NS, day_start_ns

__all__ = ["Message", "SampleDay", "SampleSegment"]

SESSION = "sample-01JD0000000000000000000000"


@dataclass(frozen=True, slots=True)
class Message:
    """One archived frame."""

    seq: int
    at_s: int
    type: str = "trade"
    ticker: str = "KXA"


@dataclass(frozen=True, slots=True)
class SampleSegment:
    """One segment of a sample day; its window is ``minutes`` from ``start_s`` of the day on.

    Where it ``opens``, the connection's opening comes just before its first message.
    """

    stem: str
    start_s: int
    messages: Sequence[Message]
    gaps: Sequence[Gap] = ()
    minutes: int = 1
    opens: bool = True
    epoch: int = 1

    @property
    def end_s(self) -> int:
        return self.start_s + 60 * self.minutes


class SampleDay:
    """Writes a feed's day.

    Args:
        base: The archive's base folder.
        feed: Name of the feed.
        date: The day.
        numbered: Whether frames carry our identity, as a connector's do.
    """

    def __init__(self, base: Path, feed: str, date: dt.date, *, numbered: bool = True) -> None:
        self.paths: DayPaths = day_paths(base, feed, date)
        self._feed = feed
        self._start_ns = day_start_ns(date)
        self._numbered = numbered

    def seal(self, segment: SampleSegment) -> None:
        """Write a sealed segment; the manifest stays as it is."""
        self._write(self.paths.sealed(segment.stem), segment, sealed=True)

    def open(self, segment: SampleSegment) -> None:
        """Write a segment that is still open."""
        self._write(self.paths.open(segment.stem), segment, sealed=False)

    def write_manifest(self) -> Manifest:
        """Write the manifest of what is sealed, by rename, as the archiver does."""
        summaries = []
        gaps: list[Gap] = []
        for stem in self.paths.sealed_stems():
            path = self.paths.sealed(stem).index
            data = path.read_bytes()
            index = read_index(data, where=str(path))
            assert index is not None
            summaries.append(summarise(index, data, where=str(path)))
            gaps.extend(summaries[-1].gaps)
        manifest = derive_manifest(
            header=summaries[0].header,
            date=self.paths.date,
            segments=summaries,
            gaps=gaps_of_day(gaps, self.paths.date),
        )
        fresh = self.paths.manifest.with_suffix(".tmp")
        fresh.write_bytes(encode_manifest(manifest))
        fresh.rename(self.paths.manifest)
        return manifest

    def _write(self, paths: SegmentPaths, segment: SampleSegment, *, sealed: bool) -> None:
        for path in (paths.data, paths.index):
            path.parent.mkdir(parents=True, exist_ok=True)
        raw = b"".join(_payload(message) + b"\n" for message in segment.messages)
        columns = self._columns(segment)
        data, meta = gzip.compress(raw, mtime=0), gzip.compress(encode_columns(columns), mtime=0)
        body = encode_line(self._header(segment))
        last_ns = self._start_ns + segment.messages[-1].at_s * SECOND_NS
        if self._numbered and segment.opens:
            body += encode_line(self._opened(segment))
        body += b"".join(encode_line(GapRecord(gap=gap)) for gap in segment.gaps)
        body += encode_line(self._block(segment, columns, data, meta, raw, chain=zlib.crc32(body)))
        if sealed:
            seal = Seal(
                data_sha256=hashlib.sha256(data).hexdigest(),
                raw_sha256=hashlib.sha256(raw).hexdigest(),
                meta_sha256=hashlib.sha256(meta).hexdigest(),
                body_sha256=hashlib.sha256(body).hexdigest(),
                data_bytes=len(data),
                meta_bytes=len(meta),
                sealed_ns=last_ns + SECOND_NS,
                reason="window",
                complete_through_ns=self._start_ns + segment.end_s * SECOND_NS,
                line_crc32=0,
            )
            body += encode_line(msgspec.structs.replace(seal, line_crc32=seal_crc32(seal)))
        for path, content in ((paths.data, data), (paths.meta, meta), (paths.index, body)):
            path.write_bytes(content)

    def _columns(self, segment: SampleSegment) -> Columns:
        stored = [self._start_ns + message.at_s * SECOND_NS for message in segment.messages]
        count = len(stored)
        return Columns(
            seq=[message.seq for message in segment.messages],
            stored_ns=stored,
            received_ns=[ns - 1_000_000 for ns in stored] if self._numbered else [None] * count,
            type=[message.type for message in segment.messages],
            ticker=[message.ticker for message in segment.messages],
            connection=[f"{SESSION}.1" if self._numbered else None] * count,
            frame_no=[message.seq if self._numbered else None for message in segment.messages],
        )

    def _header(self, segment: SampleSegment) -> Header:
        return Header(
            version=INDEX_VERSION,
            env="test",
            feed=self._feed,
            prefix=f"test.{self._feed}",
            stream="SAMPLE",
            created="2026-01-01T00:00:00Z",
            epoch=segment.epoch,
            shared=False,
            name=segment.stem,
            interval=f"{segment.minutes}m",
            window_start_ns=self._start_ns + segment.start_s * SECOND_NS,
            window_end_ns=self._start_ns + segment.end_s * SECOND_NS,
            after_seq=None,
            after_ns=None,
            connections=[],
            open_gaps=[],
        )

    def _opened(self, segment: SampleSegment) -> Event:
        first = segment.messages[0]
        at_ns = self._start_ns + first.at_s * SECOND_NS
        event = events.ConnectionOpened(session=SESSION, connection=1, at_ns=at_ns, url="wss://sample.test")
        payload = msgspec.Raw(events.encode_event(event))
        msg_id = f"{SESSION}.1.e{first.seq}"
        return Event(seq=first.seq - 1, stored_ns=at_ns, received_ns=at_ns, msg_id=msg_id, payload=payload)

    def _block(
        self, segment: SampleSegment, columns: Columns, data: bytes, meta: bytes, raw: bytes, *, chain: int
    ) -> Block:
        messages = segment.messages
        types = [message.type for message in messages]
        frames = {f"{SESSION}.1": [(messages[0].seq, messages[-1].seq + 1)]} if self._numbered else {}
        block = Block(
            data_offset=0,
            data_bytes=len(data),
            data_crc32=zlib.crc32(data),
            meta_offset=0,
            meta_bytes=len(meta),
            meta_crc32=zlib.crc32(meta),
            records=len(messages),
            raw_bytes=len(raw),
            first_seq=messages[0].seq - 1 if self._numbered and segment.opens else messages[0].seq,
            last_seq=messages[-1].seq,
            first_ns=self._start_ns + messages[0].at_s * SECOND_NS,
            last_ns=self._start_ns + messages[-1].at_s * SECOND_NS,
            records_by_type={name: types.count(name) for name in sorted(set(types))},
            tickers=sorted({message.ticker for message in messages}),
            frames=frames,
            seen_ns=dict.fromkeys(frames, self._start_ns + messages[-1].at_s * SECOND_NS),
            duplicates=[],
            filtered=[],
            last_msg_id=None,
            stored=_range(columns.stored_ns),
            received=_range([ns for ns in columns.received_ns if ns is not None]),
            chain=0,
        )
        return msgspec.structs.replace(block, chain=block_chain(block, chain))


def _payload(message: Message) -> bytes:
    return json.dumps({"type": message.type, "msg": {"market_ticker": message.ticker, "n": message.seq}}).encode()


def _range(times_ns: Sequence[int]) -> tuple[int, int] | None:
    return (min(times_ns), max(times_ns) + 1) if times_ns else None
