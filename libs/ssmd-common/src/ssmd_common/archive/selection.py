"""Which records are wanted, and what can be passed over without being read; pure.

One rule at every level: a day, a segment and a block each tell an :class:`Extent`, and a :class:`Selection` says
whether records it wants may lie there. Only the columns of what is left say which rows they are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

from ssmd_common.archive.columns import Columns, Ticker
from ssmd_common.archive.index import Block
from ssmd_common.archive.manifest import FileEntry
from ssmd_common.archive.times import from_rfc3339
from ssmd_common.ranges import Range

__all__ = ["EVERYTHING", "Clock", "Extent", "Position", "Selection", "extent_of_block", "extent_of_entry", "joined"]

Position = tuple[int, int]
"""A place in the stream's order: epoch and sequence."""

_NOTHING: Range = (0, 0)


class Clock(StrEnum):
    """Whose time a range of time means."""

    STORED = "stored"
    RECEIVED = "received"


@dataclass(frozen=True, slots=True)
class Extent:
    """What a part of the archive spans.

    Attributes:
        first: Its first message, of whatever kind.
        last: Its last message.
        stored: Range of its records' server times; None where that is not known.
        received: Range of its records' ``received_ns``, empty where none has one; None where that is not known.
        types: Payload types of its records; None where they are not known.
        tickers: Tickers of its records; None likewise.
    """

    first: Position
    last: Position
    stored: Range | None = None
    received: Range | None = None
    types: Collection[str] | None = None
    tickers: Collection[str] | None = None


def extent_of_block(epoch: int, block: Block) -> Extent | None:
    """Return what a block spans; None where it holds no record."""
    if not block.records or block.first_seq is None or block.last_seq is None:
        return None
    none_received = None if block.stored is None else _NOTHING  # an index that tells neither is an older one
    return Extent(
        first=(epoch, block.first_seq),
        last=(epoch, block.last_seq),
        stored=block.stored,
        received=block.received or none_received,
        types=block.records_by_type,
        tickers=block.tickers,
    )


def extent_of_entry(entry: FileEntry) -> Extent:
    """Return what a segment spans, as the manifest lists it."""
    received = None
    if entry.received_start is not None and entry.received_end is not None:
        received = from_rfc3339(entry.received_start), from_rfc3339(entry.received_end) + 1
    return Extent(
        first=(entry.epoch, entry.nats_start_seq),
        last=(entry.epoch, entry.nats_end_seq),
        stored=(from_rfc3339(entry.start), from_rfc3339(entry.end) + 1),
        received=received,
        types=entry.records_by_type,
    )


def joined(extents: Iterable[Extent]) -> Extent | None:
    """Return the extent that holds all of these, without types and tickers; None where there are none."""
    parts = list(extents)
    if not parts:
        return None
    return Extent(
        first=min(part.first for part in parts),
        last=max(part.last for part in parts),
        stored=_hull([part.stored for part in parts]),
        received=_hull([part.received for part in parts]),
    )


def _hull(ranges: list[Range | None]) -> Range | None:
    known = [span for span in ranges if span is not None and span != _NOTHING]
    if None in ranges:
        return None
    return (min(first for first, _ in known), max(end for _, end in known)) if known else _NOTHING


@dataclass(frozen=True, slots=True)
class Selection:
    """Which records are wanted: those that meet every condition; None sets none.

    Attributes:
        since: Only from this place of the stream's order on.
        epoch: Only of this epoch.
        from_seq: Only from this sequence on.
        to_seq: Only before this sequence.
        from_ns: Only from this time on.
        to_ns: Only before this time.
        clock: Whose time; a record without it lies in no range of time.
        types: Only of these payload types.
        tickers: Only those that name one of these tickers.
    """

    since: Position | None = None
    epoch: int | None = None
    from_seq: int | None = None
    to_seq: int | None = None
    from_ns: int | None = None
    to_ns: int | None = None
    clock: Clock = Clock.STORED
    types: frozenset[str] | None = None
    tickers: frozenset[str] | None = None

    @property
    def timed(self) -> bool:
        """Whether it asks for a range of time."""
        return self.from_ns is not None or self.to_ns is not None

    @property
    def empty(self) -> bool:
        """Whether a range of it has nothing between its ends, so that no record can be wanted."""
        return _is_empty(self.from_seq, self.to_seq) or _is_empty(self.from_ns, self.to_ns)

    def may_hold(self, extent: Extent) -> bool:
        """Tell whether a part of the archive may hold a wanted record."""
        if self.empty or not self._reaches(extent.first, extent.last):
            return False
        span = self._span(extent)
        if self.timed and span is not None and not self._meets(span):
            return False
        return _may_meet(self.types, extent.types) and _may_meet(self.tickers, extent.tickers)

    def holds_all(self, extent: Extent) -> bool:
        """Tell whether every record of a part of the archive is wanted, as far as its extent can tell."""
        if self.tickers is not None:
            return False
        if self.types is not None and (extent.types is None or not self.types.issuperset(extent.types)):
            return False
        if not (self._wants_position(extent.first) and self._wants_position(extent.last)):
            return False
        if not self.timed:
            return True
        # Records without a received time are not in the range that the others span.
        span = extent.stored if self.clock is Clock.STORED else None
        return span is not None and self._wants_time(span[0]) and self._wants_time(span[1] - 1)

    def rows(self, epoch: int, columns: Columns) -> list[int]:
        """Return which rows of a block are wanted."""
        rows = [row for row, seq in enumerate(columns.seq) if self._wants_position((epoch, seq))]
        if self.timed:
            times = columns.stored_ns if self.clock is Clock.STORED else columns.received_ns
            rows = [row for row in rows if self._wants_time(times[row])]
        if self.types is not None:
            rows = [row for row in rows if columns.type[row] in self.types]
        if self.tickers is not None:
            rows = [row for row in rows if _names(columns.ticker[row], self.tickers)]
        return rows

    def _span(self, extent: Extent) -> Range | None:
        return extent.stored if self.clock is Clock.STORED else extent.received

    def _reaches(self, first: Position, last: Position) -> bool:
        """Tell whether a wanted position may lie from ``first`` to ``last``."""
        if self.since is not None and last < self.since:
            return False
        if self.epoch is not None and not first[0] <= self.epoch <= last[0]:
            return False
        if first[0] != last[0]:
            return True
        if self.from_seq is not None and last[1] < self.from_seq:
            return False
        return self.to_seq is None or first[1] < self.to_seq

    def _wants_position(self, position: Position) -> bool:
        epoch, seq = position
        return (
            (self.since is None or position >= self.since)
            and (self.epoch is None or epoch == self.epoch)
            and (self.from_seq is None or seq >= self.from_seq)
            and (self.to_seq is None or seq < self.to_seq)
        )

    def _meets(self, span: Range) -> bool:
        return (
            span[0] < span[1]
            and (self.from_ns is None or span[1] > self.from_ns)
            and (self.to_ns is None or span[0] < self.to_ns)
        )

    def _wants_time(self, ns: int | None) -> bool:
        return (
            ns is not None
            and (self.from_ns is None or ns >= self.from_ns)
            and (self.to_ns is None or ns < self.to_ns)
        )


def _is_empty(first: int | None, end: int | None) -> bool:
    return first is not None and end is not None and first >= end


def _may_meet(wanted: frozenset[str] | None, there: Collection[str] | None) -> bool:
    return wanted is None or there is None or not wanted.isdisjoint(there)


def _names(ticker: Ticker, wanted: frozenset[str]) -> bool:
    return not wanted.isdisjoint(ticker) if isinstance(ticker, tuple) else ticker in wanted


EVERYTHING = Selection()
