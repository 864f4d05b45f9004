"""Reading an archive: the one way verification, the manifest API, replay and programs take.

Blocks are read through the index, so a reader touches only what it needs, and the durable part of the open segment
reads like a sealed one. A segment that is sealed while it is read stays the same bytes in another place.
"""

from __future__ import annotations

import datetime as dt
import os
import zlib
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from isal import igzip

from ssmd_common.archive.columns import Columns, Ticker, decode_columns
from ssmd_common.archive.index import Block, Index, read_index
from ssmd_common.archive.layout import (
    EVIDENCE,
    INDEX_SUFFIX,
    OPEN,
    DayKeys,
    DayPaths,
    SegmentKeys,
    SegmentPaths,
    segment_stems,
)
from ssmd_common.archive.selection import EVERYTHING, Selection, extent_of_block
from ssmd_common.archive.store import LocalStore, Source, Store
from ssmd_common.errors import ArchiveError, ConfigError

__all__ = [
    "DATA_VARIABLE",
    "BlockSource",
    "Record",
    "Segment",
    "day_segments",
    "load",
    "open_segment",
    "read_block",
    "restore_newlines",
    "segments_of",
]

DATA_VARIABLE = "SSMD_DATA"
"""Environment variable that names the archive's base folder."""

_PART_BYTES = 1 << 20


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
    """One segment and its index.

    Attributes:
        store: Where its files lie.
        day: The day it belongs to.
        name: Its stem.
        index: Its index as it was when it was read.
        sealed: Whether it was sealed then.
    """

    store: Store
    day: DayKeys
    name: str
    index: Index
    sealed: bool

    @property
    def order(self) -> tuple[int, int]:
        """Sort key: epoch, then sequence."""
        firsts = (block.first_seq for block in self.index.blocks if block.first_seq is not None)
        return self.index.header.epoch, next(firsts, 0)

    def wanted_blocks(self, selection: Selection = EVERYTHING) -> Iterator[Block]:
        """Iterate over its blocks that may hold a wanted record, by what the index says alone."""
        epoch = self.index.header.epoch
        for block in self.index.blocks:
            extent = extent_of_block(epoch, block)
            if extent is not None and selection.may_hold(extent):
                yield block

    def source(self) -> BlockSource:
        """Return what reads its blocks; close it, or use it in a ``with``."""
        return BlockSource(self.store, self.day.sealed(self.name), self.day.open(self.name))

    def blocks(self) -> Iterator[tuple[Block, Columns, list[bytes]]]:
        """Iterate over its blocks that hold records: the block, its columns, its lines without newline."""
        with self.source() as source:
            for block in self.wanted_blocks():
                yield block, source.columns(block), source.lines(block)

    def records(self, selection: Selection = EVERYTHING) -> Iterator[Record]:
        """Iterate over its wanted records in the order stored; only the blocks needed are read."""
        with self.source() as source:
            for block in self.wanted_blocks(selection):
                columns = source.columns(block)
                rows = selection.rows(self.index.header.epoch, columns)
                if not rows:
                    continue
                lines = source.lines(block)
                for row in rows:
                    yield _record(columns, row, lines[row])


class BlockSource:
    """Reads the blocks of one segment; files are opened when they are first needed, and stay what they were.

    Args:
        store: Where they lie.
        sealed: Its files once it is sealed.
        opened: Its files before.
    """

    def __init__(self, store: Store, sealed: SegmentKeys, opened: SegmentKeys) -> None:
        self._store = store
        self._sealed = sealed
        self._opened = opened
        self._sources: dict[str, tuple[Source, str]] = {}
        self._closing = ExitStack()

    def columns(self, block: Block) -> Columns:
        """Return a block's columns.

        Raises:
            ArchiveError: They are missing, damaged, or not what the index says.
        """
        source, where = self._source("meta")
        return _columns(block, source.read(block.meta_offset, block.meta_bytes), where)

    def raw(self, block: Block) -> bytes:
        """Return a block's lines as they are stored, each with its newline.

        Raises:
            ArchiveError: They are missing, damaged, or not what the index says.
        """
        source, where = self._source("data")
        return _raw(block, source.read(block.data_offset, block.data_bytes), where)

    def lines(self, block: Block) -> list[bytes]:
        """Return a block's lines without newline; errors as of :meth:`raw`."""
        return _lines(self.raw(block))

    def records(self, block: Block) -> list[Record]:
        """Return a block's records; errors as of :meth:`columns` and :meth:`raw`."""
        columns = self.columns(block)
        return [_record(columns, row, line) for row, line in enumerate(self.lines(block))]

    def parts(self, kind: str) -> Iterator[bytes]:
        """Iterate over a whole file, ``data`` or ``meta``, as it is stored.

        Raises:
            ArchiveError: It is missing.
        """
        source, _ = self._source(kind)
        offset = 0
        while part := source.read(offset, _PART_BYTES):
            yield part
            offset += len(part)

    def where(self, kind: str) -> str:
        """Return the key of a file, where it was found."""
        return self._source(kind)[1]

    def _source(self, kind: str) -> tuple[Source, str]:
        known = self._sources.get(kind)
        if known is not None:
            return known
        sealed, opened = getattr(self._sealed, kind), getattr(self._opened, kind)
        # The files of a segment that is being sealed move one by one: what was not there yet may be by now.
        for key in (sealed, opened, sealed):
            source = self._store.open(key)
            if source is not None:
                self._closing.enter_context(source)
                self._sources[kind] = source, key
                return source, key
        raise ArchiveError("is missing", where=sealed, remedy="restore it from a backup")

    def close(self) -> None:
        """Let the files go."""
        self._sources.clear()
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _record(columns: Columns, row: int, line: bytes) -> Record:
    newlines = columns.newlines.get(row)
    return Record(
        seq=columns.seq[row],
        stored_ns=columns.stored_ns[row],
        received_ns=columns.received_ns[row],
        type=columns.type[row],
        tickers=_tickers(columns.ticker[row]),
        connection=columns.connection[row],
        frame_no=columns.frame_no[row],
        data=restore_newlines(line, newlines) if newlines else line,
    )


def _tickers(ticker: Ticker) -> tuple[str, ...]:
    if ticker is None:
        return ()
    return (ticker,) if isinstance(ticker, str) else ticker


def restore_newlines(line: bytes, offsets: Collection[int]) -> bytes:
    """Return the payload a line was made from: newlines back at ``offsets``."""
    payload = bytearray(line)
    for offset in offsets:
        payload[offset] = 0x0A
    return bytes(payload)


def read_block(data_fd: int, meta_fd: int, block: Block, *, where: SegmentPaths) -> tuple[Columns, list[bytes]]:
    """Read one block's columns and lines from open files, checking both members.

    Raises:
        ArchiveError: A member is short, damaged, or does not hold what the index says.
    """
    raw = _raw(block, os.pread(data_fd, block.data_bytes, block.data_offset), str(where.data))
    meta = os.pread(meta_fd, block.meta_bytes, block.meta_offset)
    return _columns(block, meta, str(where.meta)), _lines(raw)


def _columns(block: Block, member: bytes, where: str) -> Columns:
    line = _unpacked(member, block.meta_offset, block.meta_bytes, block.meta_crc32, where)
    columns = decode_columns(line, where=where)
    if len(columns) != block.records:
        raise ArchiveError(f"block at byte {block.meta_offset} differs from its index", where=where)
    return columns


def _raw(block: Block, member: bytes, where: str) -> bytes:
    raw = _unpacked(member, block.data_offset, block.data_bytes, block.data_crc32, where)
    if len(raw) != block.raw_bytes or not raw.endswith(b"\n") or raw.count(b"\n") != block.records:
        raise ArchiveError(f"block at byte {block.data_offset} differs from its index", where=where)
    return raw


def _lines(raw: bytes) -> list[bytes]:
    lines = raw.split(b"\n")
    lines.pop()
    return lines


def _unpacked(member: bytes, offset: int, length: int, crc32: int, where: str) -> bytes:
    if len(member) != length or zlib.crc32(member) != crc32:
        raise ArchiveError(
            f"gzip member at byte {offset} is damaged", where=where, remedy="restore the file from a backup"
        )
    data: bytes = igzip.decompress(member)  # type: ignore[no-untyped-call] # the package has types for a part
    return data


def open_segment(store: Store, day: DayKeys, stem: str, *, sealed: bool) -> Segment | None:
    """Read a segment's index; None where there is none, or an open one has no whole header yet.

    Raises:
        ArchiveError: The index is damaged.
    """
    key = (day.sealed if sealed else day.open)(stem).index
    content = store.read(key)
    index = None if content is None else read_index(content.data, where=key)
    return None if index is None else Segment(store, day, stem, index, sealed)


def segments_of(store: Store, day: DayKeys) -> list[Segment]:
    """List a day's segments in order; one that is sealed meanwhile is read sealed.

    Raises:
        ArchiveError: An index is damaged.
    """
    found: dict[str, Segment] = {}
    # The open ones first: one that is sealed between the two listings is in both, never in none.
    for folder, sealed in ((OPEN, False), (EVIDENCE, True)):
        for stem in segment_stems(store.list(f"{day.folder}/{folder}").files, INDEX_SUFFIX):
            segment = open_segment(store, day, stem, sealed=sealed)
            if segment is not None:
                found[stem] = segment
    return sorted(found.values(), key=lambda segment: segment.order)


def day_segments(day: DayPaths) -> list[Segment]:
    """List the segments of a day on this machine; as :func:`segments_of`."""
    feed = day.folder.parent
    return segments_of(LocalStore(feed.parent), DayKeys(feed.name, day.date))


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
        day = DayKeys(feed, date if isinstance(date, dt.date) else dt.date.fromisoformat(date))
    except ValueError:
        raise ConfigError(f"{date!r} is not a date", field="date", remedy="write it as 2026-11-23") from None
    if not (base / day.folder).is_dir():
        raise ConfigError(
            "the archive has no such day",
            file=str(base / day.folder),
            remedy=f"set data= or {DATA_VARIABLE} to its base",
        )
    selection = Selection(
        types=None if types is None else frozenset(types), tickers=None if tickers is None else frozenset(tickers)
    )
    return (record for segment in segments_of(LocalStore(base), day) for record in segment.records(selection))
