"""Reading an archive: the one way verification, the manifest API, replay and programs take.

Blocks are read through the index, so a reader touches only what it needs, and the durable part of the open segment
reads like a sealed one.
"""

from __future__ import annotations

import datetime as dt
import gzip
import os
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from ssmd_common.archive.columns import Columns, decode_columns
from ssmd_common.archive.index import Block, Index, read_index
from ssmd_common.archive.layout import DayPaths, SegmentPaths, day_paths
from ssmd_common.errors import ArchiveError, ConfigError

__all__ = [
    "DATA_VARIABLE",
    "Record",
    "Segment",
    "day_segments",
    "load",
    "open_segment",
    "read_block",
    "restore_newlines",
]

DATA_VARIABLE = "SSMD_DATA"
"""Environment variable that names the archive's base folder."""


@dataclass(frozen=True, slots=True)
class Record:
    """One archived message.

    Attributes:
        seq: Its sequence in the stream (of the segment's epoch).
        stored_ns: When the server stored it.
        received_ns: When the connector received it; None for a foreign publisher's.
        type: The payload's own type.
        tickers: The tickers it names, none or several.
        connection: ``{session}.{connection}``; None for a foreign publisher's.
        frame_no: Number of the frame on that connection; None likewise.
        data: The exchange's bytes.
    """

    seq: int
    stored_ns: int
    received_ns: int | None
    type: str
    tickers: tuple[str, ...]
    connection: str | None
    frame_no: int | None
    data: bytes

    @property
    def ticker(self) -> str | None:
        """The ticker where there is exactly one."""
        return self.tickers[0] if len(self.tickers) == 1 else None


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment and its index, sealed or open."""

    paths: SegmentPaths
    index: Index
    sealed: bool

    @property
    def order(self) -> tuple[int, int]:
        """Sort key: epoch, then sequence."""
        firsts = (block.first_seq for block in self.index.blocks if block.first_seq is not None)
        return self.index.header.epoch, next(firsts, 0)

    def blocks(self) -> Iterator[tuple[Block, Columns, list[bytes]]]:
        """Iterate over its blocks that hold records: the block, its columns, its lines without newline."""
        with self.paths.data.open("rb") as data, self.paths.meta.open("rb") as meta:
            for block in self.index.blocks:
                if block.records:
                    yield block, *read_block(data.fileno(), meta.fileno(), block, where=self.paths)

    def records(self) -> Iterator[Record]:
        """Iterate over its records in the order stored."""
        for _, columns, lines in self.blocks():
            for row, line in enumerate(lines):
                newlines = columns.newlines.get(row)
                ticker = columns.ticker[row]
                yield Record(
                    seq=columns.seq[row],
                    stored_ns=columns.stored_ns[row],
                    received_ns=columns.received_ns[row],
                    type=columns.type[row],
                    tickers=() if ticker is None else (ticker,) if isinstance(ticker, str) else ticker,
                    connection=columns.connection[row],
                    frame_no=columns.frame_no[row],
                    data=restore_newlines(line, newlines) if newlines else line,
                )


def restore_newlines(line: bytes, offsets: Collection[int]) -> bytes:
    """Return the payload a line was made from: newlines back at ``offsets``."""
    payload = bytearray(line)
    for offset in offsets:
        payload[offset] = 0x0A
    return bytes(payload)


def read_block(data_fd: int, meta_fd: int, block: Block, *, where: SegmentPaths) -> tuple[Columns, list[bytes]]:
    """Read one block's columns and lines, checking both members.

    Raises:
        ArchiveError: A member is short, damaged, or does not hold what the index says.
    """
    raw = _member(data_fd, block.data_offset, block.data_bytes, block.data_crc32, where=where.data)
    meta = _member(meta_fd, block.meta_offset, block.meta_bytes, block.meta_crc32, where=where.meta)
    columns = decode_columns(meta, where=str(where.meta))
    lines = raw.split(b"\n")
    if len(raw) != block.raw_bytes or lines.pop() or not len(lines) == len(columns) == block.records:
        raise ArchiveError(f"block at byte {block.data_offset} differs from its index", where=str(where.data))
    return columns, lines


def _member(fd: int, offset: int, length: int, crc32: int, *, where: Path) -> bytes:
    member = os.pread(fd, length, offset)
    if len(member) != length or zlib.crc32(member) != crc32:
        raise ArchiveError(
            f"gzip member at byte {offset} is damaged", where=str(where), remedy="restore the file from a backup"
        )
    return gzip.decompress(member)


def open_segment(paths: SegmentPaths, *, sealed: bool) -> Segment | None:
    """Read a segment's index; None where an open one has no whole header yet.

    Raises:
        ArchiveError: The index is damaged.
        FileNotFoundError: There is no such index.
    """
    index = read_index(paths.index.read_bytes(), where=str(paths.index))
    return None if index is None else Segment(paths, index, sealed)


def day_segments(day: DayPaths, *, include_open: bool = True) -> list[Segment]:
    """List a day's segments in order; an open one that is sealed meanwhile is read sealed."""
    found: dict[str, Segment] = {}
    if include_open:
        for stem in day.open_stems():
            try:
                segment = open_segment(day.open(stem), sealed=False)
            except FileNotFoundError:
                continue
            if segment is not None:
                found[stem] = segment
    for stem in day.sealed_stems():
        paths = day.sealed(stem)
        if paths.data.exists() and (segment := open_segment(paths, sealed=True)) is not None:
            found[stem] = segment
    return sorted(found.values(), key=lambda segment: segment.order)


def load(
    feed: str,
    date: dt.date | str,
    *,
    data: Path | str | None = None,
    types: Collection[str] | None = None,
    tickers: Collection[str] | None = None,
) -> Iterator[Record]:
    """Iterate over the records of a feed's day, in the order stored, the open segment's durable part included.

    Args:
        feed: Name of the feed, such as ``kalshi``.
        date: UTC day, a date or ``2026-11-23``.
        data: The archive's base folder; else the variable ``SSMD_DATA``, else ``./data``.
        types: Only records of these payload types.
        tickers: Only records that name one of these tickers.

    Raises:
        ConfigError: ``date`` is no date, or the archive has no such day.
        ArchiveError: A file is damaged.
    """
    base = Path(data or os.environ.get(DATA_VARIABLE) or "data")
    try:
        day = day_paths(base, feed, date if isinstance(date, dt.date) else dt.date.fromisoformat(date))
    except ValueError:
        raise ConfigError(f"{date!r} is not a date", field="date", remedy="write it as 2026-11-23") from None
    if not day.folder.is_dir():
        raise ConfigError(
            "the archive has no such day", file=str(day.folder), remedy=f"set data= or {DATA_VARIABLE} to its base"
        )
    wanted_types = None if types is None else frozenset(types)
    wanted_tickers = None if tickers is None else frozenset(tickers)
    return (
        record
        for segment in day_segments(day)
        for record in segment.records()
        if (wanted_types is None or record.type in wanted_types)
        and (wanted_tickers is None or not wanted_tickers.isdisjoint(record.tickers))
    )
