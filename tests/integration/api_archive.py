"""An archive of many days for the manifest API: manifests and indexes as an archiver writes them, without the data.

    PYTHONPATH=tests .venv/bin/python -m integration.api_archive DIR --feeds 3 --days 400 --segments 96

Days follow each other without a break. Every tenth has a gap of the stream, and one connection lives through all of
a feed's days, so the others are whole.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import sys
import zlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path

import msgspec

from ssmd_common import events
from ssmd_common.archive.derivation import derive_manifest, gaps_of_day, summarise
from ssmd_common.archive.gaps import Gap, GapLayer, GapStatus
from ssmd_common.archive.index import (
    INDEX_VERSION,
    Block,
    ConnectionFrames,
    Event,
    GapRecord,
    Header,
    Seal,
    block_chain,
    encode_line,
    read_index,
    seal_crc32,
)
from ssmd_common.archive.layout import Window, day_paths, segment_name
from ssmd_common.archive.manifest import encode_manifest
from ssmd_common.archive.times import DAY_NS, SECOND_NS, day_start_ns

__all__ = ["FEEDS", "GAP_EVERY_DAYS", "make_archive", "make_day"]

FEEDS = ("kalshi", "kraken", "coinbase")
GAP_EVERY_DAYS = 10

_SESSION = "main-01JD0000000000000000000000"
_CONNECTION = f"{_SESSION}.1"
_RECORDS = 20_000
_MESSAGES = _RECORDS + 1
_TYPES = {"orderbook_delta": 15_000, "ticker": 4_000, "trade": 1_000}
_TICKERS = 200
_TICKERS_OF_A_SEGMENT = 20
_RAW_BYTES = 300 * _RECORDS
_STORED_BYTES = 50 * _RECORDS
_META_BYTES = 10 * _RECORDS


def make_archive(base: Path, *, feeds: int, days: int, segments: int, last: dt.date) -> None:
    """Write an archive; every processor takes part.

    Args:
        base: Its base folder.
        feeds: How many of :data:`FEEDS`.
        days: Days of each.
        segments: Segments of each day.
        last: The last day.
    """
    jobs = [(feed, number) for feed in FEEDS[:feeds] for number in range(days)]
    names, numbers = zip(*jobs, strict=True)
    with ProcessPoolExecutor() as pool:
        first = last - dt.timedelta(days=days - 1)
        for _ in pool.map(make_day, repeat(base), names, repeat(first), numbers, repeat(segments), chunksize=8):
            pass


def make_day(base: Path, feed: str, first: dt.date, number: int, segments: int) -> None:
    """Write the day that comes ``number`` days after the ``first``: its indexes and its manifest."""
    date = first + dt.timedelta(days=number)
    day = day_paths(base, feed, date)
    day.sealed("0000").index.parent.mkdir(parents=True, exist_ok=True)
    interval_ns = DAY_NS // segments
    summaries = []
    for part in range(segments):
        start_ns = day_start_ns(date) + part * interval_ns
        window = Window(start_ns, start_ns + interval_ns)
        stem = segment_name(window, interval_ns, 0)
        seq = 1 + (number * segments + part) * _MESSAGES
        with_gap = part == segments // 2 and number % GAP_EVERY_DAYS == GAP_EVERY_DAYS - 1
        data = _index(feed, stem, window, seq, with_gap=with_gap)
        path = day.sealed(stem).index
        path.write_bytes(data)
        index = read_index(data, where=str(path))
        assert index is not None
        summaries.append(summarise(index, data, where=str(path)))
    gaps = gaps_of_day([gap for summary in summaries for gap in summary.gaps], date)
    manifest = derive_manifest(header=summaries[0].header, date=date, segments=summaries, gaps=gaps)
    day.manifest.write_bytes(encode_manifest(manifest))


def _index(feed: str, stem: str, window: Window, seq: int, *, with_gap: bool) -> bytes:
    """Return a sealed index that says of itself what an archiver's does; its hashes are those of nothing."""
    first_ns, last_ns = window.start_ns + SECOND_NS, window.end_ns - SECOND_NS
    header = Header(
        version=INDEX_VERSION,
        env="bench",
        feed=feed,
        prefix=f"bench.{feed}",
        stream=f"BENCH_{feed.upper()}",
        created="2025-01-01T00:00:00Z",
        epoch=1,
        shared=False,
        name=stem,
        interval=f"{(window.end_ns - window.start_ns) // SECOND_NS}s",
        window_start_ns=window.start_ns,
        window_end_ns=window.end_ns,
        after_seq=seq - 1 or None,
        after_ns=window.start_ns if seq > 1 else None,
        connections=[ConnectionFrames(session=_SESSION, connection=1, frames=[(1, seq)])] if seq > 1 else [],
        open_gaps=[],
    )
    opened = events.Heartbeat(
        session=_SESSION,
        connection=0,
        at_ns=first_ns,
        connections=[events.ConnectionState(connection=1, frames=seq, acked_through=seq)],
    )
    body = encode_line(header) + encode_line(
        Event(
            seq=seq,
            stored_ns=first_ns,
            received_ns=first_ns,
            msg_id=f"{_SESSION}.0.e{seq}",
            payload=msgspec.Raw(events.encode_event(opened)),
        )
    )
    if with_gap:
        body += encode_line(GapRecord(gap=_gap(seq, first_ns)))
    body += encode_line(_block(seq, first_ns, last_ns, chain=zlib.crc32(body)))
    nothing = hashlib.sha256(f"{feed} {stem} {seq}".encode()).hexdigest()
    seal = Seal(
        data_sha256=nothing,
        raw_sha256=nothing,
        meta_sha256=nothing,
        body_sha256=hashlib.sha256(body).hexdigest(),
        data_bytes=_STORED_BYTES,
        meta_bytes=_META_BYTES,
        sealed_ns=window.end_ns,
        reason="window",
        complete_through_ns=window.end_ns,
        line_crc32=0,
    )
    return body + encode_line(msgspec.structs.replace(seal, line_crc32=seal_crc32(seal)))


def _gap(seq: int, at_ns: int) -> Gap:
    return Gap(
        gap_id=f"1:{seq}",
        layer=GapLayer.STREAM,
        cause="retention",
        status=GapStatus.PERMANENT,
        epoch=1,
        start_seq=seq - 3,
        end_seq=seq,
        start_ns=at_ns - SECOND_NS,
        end_ns=at_ns,
        missing_count=3,
        detected_ns=at_ns,
    )


def _block(seq: int, first_ns: int, last_ns: int, *, chain: int) -> Block:
    from_ticker = seq // _MESSAGES % (_TICKERS - _TICKERS_OF_A_SEGMENT)
    block = Block(
        data_offset=0,
        data_bytes=_STORED_BYTES,
        data_crc32=0,
        meta_offset=0,
        meta_bytes=_META_BYTES,
        meta_crc32=0,
        records=_RECORDS,
        raw_bytes=_RAW_BYTES,
        first_seq=seq,
        last_seq=seq + _RECORDS,
        first_ns=first_ns,
        last_ns=last_ns,
        records_by_type=_TYPES,
        tickers=[f"KXBENCH-T{number:03d}" for number in range(from_ticker, from_ticker + _TICKERS_OF_A_SEGMENT)],
        frames={_CONNECTION: [(seq, seq + _RECORDS)]},
        seen_ns={_CONNECTION: last_ns},
        duplicates=[],
        filtered=[],
        last_msg_id=f"{_CONNECTION}.{seq + _RECORDS - 1}",
        stored=(first_ns, last_ns + 1),
        received=(first_ns, last_ns + 1),
        chain=0,
    )
    return msgspec.structs.replace(block, chain=block_chain(block, chain))


def main(arguments: Sequence[str]) -> None:
    """Write an archive as the command line says."""
    parser = argparse.ArgumentParser(description="Write an archive of manifests and indexes.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--feeds", type=int, default=len(FEEDS), choices=range(1, len(FEEDS) + 1))
    parser.add_argument("--days", type=int, default=400)
    parser.add_argument("--segments", type=int, default=96)
    parser.add_argument(
        "--last", type=dt.date.fromisoformat, default=dt.datetime.now(dt.UTC).date() - dt.timedelta(1)
    )
    options = parser.parse_args(arguments)
    make_archive(
        options.folder, feeds=options.feeds, days=options.days, segments=options.segments, last=options.last
    )


if __name__ == "__main__":
    main(sys.argv[1:])
