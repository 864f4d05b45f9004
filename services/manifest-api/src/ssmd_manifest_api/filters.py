"""Which segments and gaps are wanted; pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass

from ssmd_common.archive.manifest import FileEntry, GapEntry
from ssmd_common.archive.times import DAY_NS, day_start_ns, from_rfc3339

__all__ = ["DayFilter", "GapFilter", "SegmentFilter"]


@dataclass(frozen=True, slots=True)
class SegmentFilter:
    """Which segments are wanted; an empty collection or None wants all. Times are half-open, of the server."""

    types: Collection[str] = ()
    tickers: Collection[str] = ()
    from_ns: int | None = None
    to_ns: int | None = None

    def covers(self, entry: FileEntry) -> bool:
        """Tell whether a segment's types and span are wanted."""
        if self.types and not any(name in entry.records_by_type for name in self.types):
            return False
        if self.from_ns is not None and from_rfc3339(entry.end) < self.from_ns:
            return False
        return self.to_ns is None or from_rfc3339(entry.start) < self.to_ns


@dataclass(frozen=True, slots=True)
class GapFilter:
    """Which gaps are wanted, as :class:`SegmentFilter`."""

    layers: Collection[str] = ()
    statuses: Collection[str] = ()
    from_ns: int | None = None
    to_ns: int | None = None

    def wants(self, gap: GapEntry) -> bool:
        """Tell whether a gap is wanted; one without an end reaches to the end of time."""
        if (self.layers and gap.layer not in self.layers) or (self.statuses and gap.status not in self.statuses):
            return False
        if self.to_ns is not None and from_rfc3339(gap.start) >= self.to_ns:
            return False
        if self.from_ns is None or gap.end is None:
            return True
        return max(from_rfc3339(gap.end), from_rfc3339(gap.start) + 1) > self.from_ns


@dataclass(frozen=True, slots=True)
class DayFilter:
    """Which days are wanted, as :class:`SegmentFilter`: those that have a moment in the range."""

    conditions: Collection[str] = ()
    from_ns: int | None = None
    to_ns: int | None = None

    def wants(self, date: dt.date, condition: str) -> bool:
        """Tell whether a day is wanted."""
        start_ns = day_start_ns(date)
        if self.conditions and condition not in self.conditions:
            return False
        if self.from_ns is not None and start_ns + DAY_NS <= self.from_ns:
            return False
        return self.to_ns is None or start_ns < self.to_ns
