"""Records as lines: the wanted rows of one block after another, with the gaps between them.

Raw lines are the archive's own, byte for byte. In an envelope the payload's bytes are spliced in, never encoded
anew, and each gap has a line of its own where it lies. One block is held at a time; a limit is counted by the
columns, before the first line, so that the answer can say where it goes on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from ssmd_common.archive.columns import Columns, Ticker
from ssmd_common.archive.index import Block
from ssmd_common.archive.manifest import GapEntry
from ssmd_common.archive.reader import BlockSource, Segment
from ssmd_common.archive.selection import Position, Selection, extent_of_block
from ssmd_common.archive.times import from_rfc3339
from ssmd_manifest_api.records_plan import stream_position

__all__ = ["MOST_RECORDS", "Page", "envelope_lines", "first_page", "picks", "raw_lines"]

MOST_RECORDS = 100_000
"""The highest limit: what is known of so many records is held in memory."""


@dataclass(frozen=True, slots=True)
class Rows:
    """What the columns say of the wanted rows of a block.

    Attributes:
        place: Their lines' numbers in the block.
    """

    place: list[int]
    seq: list[int]
    stored_ns: list[int]
    received_ns: list[int | None]
    type: list[str]
    ticker: list[Ticker]

    def cut(self, count: int) -> Rows:
        """Return the first ``count`` of them."""
        return Rows(
            self.place[:count],
            self.seq[:count],
            self.stored_ns[:count],
            self.received_ns[:count],
            self.type[:count],
            self.ticker[:count],
        )


@dataclass(frozen=True, slots=True)
class Pick:
    """The wanted rows of one block; ``rows`` is None where all are wanted and nobody asked what they are."""

    segment: Segment
    block: Block
    rows: Rows | None


@dataclass(frozen=True, slots=True)
class Page:
    """As many records as a limit lets through.

    Attributes:
        next: Where the first record lies that is wanted and was left out; None where there is none.
        next_ns: Server time of that record.
    """

    picks: list[Pick]
    next: Position | None
    next_ns: int | None


def picks(segments: Iterable[Segment], selection: Selection, *, columns: bool) -> Iterator[Pick]:
    """Iterate over the wanted rows, block by block.

    Args:
        segments: Those that may hold some, in order.
        selection: What is wanted.
        columns: Read the columns even where every row is wanted.

    Raises:
        ArchiveError: A file is missing or damaged.
    """
    for segment in segments:
        epoch = segment.index.header.epoch
        with segment.source() as source:
            for block in segment.wanted_blocks(selection):
                extent = extent_of_block(epoch, block)
                if not columns and extent is not None and selection.holds_all(extent):
                    yield Pick(segment, block, None)
                    continue
                found = source.columns(block)
                place = selection.rows(epoch, found)
                if place:
                    yield Pick(segment, block, _rows(found, place))


def _rows(columns: Columns, place: list[int]) -> Rows:
    return Rows(
        place=place,
        seq=[columns.seq[row] for row in place],
        stored_ns=[columns.stored_ns[row] for row in place],
        received_ns=[columns.received_ns[row] for row in place],
        type=[columns.type[row] for row in place],
        ticker=[columns.ticker[row] for row in place],
    )


def first_page(found: Iterable[Pick], limit: int) -> Page:
    """Take the first ``limit`` rows of picks made with their columns, and look where the next one lies."""
    kept: list[Pick] = []
    left = limit
    for pick in found:
        if pick.rows is None:
            raise ValueError("a page is counted by the columns")
        epoch = pick.segment.index.header.epoch
        count = len(pick.rows.place)
        if count > left:
            if left:
                kept.append(Pick(pick.segment, pick.block, pick.rows.cut(left)))
            return Page(kept, (epoch, pick.rows.seq[left]), pick.rows.stored_ns[left])
        kept.append(pick)
        left -= count
    return Page(kept, None, None)


def raw_lines(found: Iterable[Pick]) -> Iterator[bytes]:
    """Iterate over the archive's lines, one piece a block.

    Raises:
        ArchiveError: A file is missing or damaged.
    """
    for pick, source in _with_source(found):
        raw = source.raw(pick.block)
        if pick.rows is None or len(pick.rows.place) == pick.block.records:
            yield raw
        else:
            lines = raw.split(b"\n")
            yield b"".join([lines[row] + b"\n" for row in pick.rows.place])


def envelope_lines(found: Iterable[Pick], gaps: Sequence[GapEntry]) -> Iterator[bytes]:
    """Iterate over the records in their envelopes and the gaps where they lie, one piece a block.

    Args:
        found: Picks that were made with their columns.
        gaps: The gaps of the range; each is told before the first record after its start.

    Raises:
        ArchiveError: A file is missing or damaged.
    """
    pending = _PendingGaps.of(gaps)
    for pick, source in _with_source(found):
        if pick.rows is None:
            raise ValueError("an envelope is made of the columns")
        lines = source.lines(pick.block)
        yield b"".join(_enveloped(pick.rows, lines, pick.segment.index.header.epoch, pending))
    rest = b"".join(pending.rest())
    if rest:
        yield rest


def _with_source(found: Iterable[Pick]) -> Iterator[tuple[Pick, BlockSource]]:
    """Iterate over picks with the open files of their segment."""
    source: BlockSource | None = None
    segment: Segment | None = None
    try:
        for pick in found:
            if source is None or pick.segment is not segment:
                if source is not None:
                    source.close()
                segment, source = pick.segment, pick.segment.source()
            yield pick, source
    finally:
        if source is not None:
            source.close()


def _enveloped(rows: Rows, lines: list[bytes], epoch: int, pending: _PendingGaps) -> Iterator[bytes]:
    heads: dict[tuple[str, Ticker], bytes] = {}
    parts = zip(rows.place, rows.seq, rows.stored_ns, rows.received_ns, rows.type, rows.ticker, strict=True)
    for place, seq, stored_ns, received_ns, kind, ticker in parts:
        if pending:
            yield from pending.before(epoch, seq, stored_ns)
        head = heads.get((kind, ticker))
        if head is None:
            head = heads[kind, ticker] = b',"type":%b,"ticker":%b,"data":' % (_json(kind), _json(ticker))
        received = b"null" if received_ns is None else b"%d" % received_ns
        yield b'{"seq":%d,"stored_ns":%d,"received_ns":%b%b%b}\n' % (seq, stored_ns, received, head, lines[place])


_json = msgspec.json.Encoder().encode


@dataclass(slots=True)
class _PendingGaps:
    """Gaps not told yet: the stream's own by sequence, any other by the time it began."""

    by_seq: deque[tuple[Position, GapEntry]] = field(default_factory=deque)
    by_ns: deque[tuple[int, GapEntry]] = field(default_factory=deque)

    @classmethod
    def of(cls, gaps: Sequence[GapEntry]) -> _PendingGaps:
        by_seq: list[tuple[Position, GapEntry]] = []
        by_ns: list[tuple[int, GapEntry]] = []
        for gap in gaps:
            position = stream_position(gap)
            if position is not None:
                by_seq.append((position, gap))
            else:
                by_ns.append((from_rfc3339(gap.start), gap))
        by_seq.sort(key=lambda pair: pair[0])
        by_ns.sort(key=lambda pair: pair[0])
        return cls(deque(by_seq), deque(by_ns))

    def __bool__(self) -> bool:
        return bool(self.by_seq or self.by_ns)

    def before(self, epoch: int, seq: int, stored_ns: int) -> Iterator[bytes]:
        while self.by_seq and self.by_seq[0][0] <= (epoch, seq):
            yield _gap_line(self.by_seq.popleft()[1])
        while self.by_ns and self.by_ns[0][0] < stored_ns:
            yield _gap_line(self.by_ns.popleft()[1])

    def rest(self) -> Iterator[bytes]:
        left = [gap for _, gap in (*self.by_seq, *self.by_ns)]
        yield from map(_gap_line, sorted(left, key=lambda gap: from_rfc3339(gap.start)))


def _gap_line(gap: GapEntry) -> bytes:
    return b'{"gap":%b}\n' % gap.model_dump_json().encode()
