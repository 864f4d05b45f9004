"""Which segments and gaps are wanted; pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass

from ssmd_common.archive.manifest import FileEntry, GapEntry
from ssmd_common.archive.times import DAY_NS, day_start_ns, from_rfc3339

__all__ = ["DayFilter", "GapFilter", "SegmentFilter"]

_FOREVER_NS = 2**68
"""After the last time that RFC 3339 can write."""


def _meet(start_ns: int, end_ns: int, from_ns: int | None, to_ns: int | None) -> bool:
    """Tell whether ``[start_ns, end_ns)`` has a moment in ``[from_ns, to_ns)``; an empty range has none."""
    first_ns = start_ns if from_ns is None else max(start_ns, from_ns)
    return first_ns < (end_ns if to_ns is None else min(end_ns, to_ns))


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
        if self.from_ns is None and self.to_ns is None:
            return True
        return _meet(from_rfc3339(entry.start), from_rfc3339(entry.end) + 1, self.from_ns, self.to_ns)

    def may_cover(self, first_ns: int | None) -> bool:
        """Tell whether a segment that goes on from its first message, at ``first_ns``, may hold wanted ones."""
        return _meet(0 if first_ns is None else first_ns, _FOREVER_NS, self.from_ns, self.to_ns)


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
        if self.from_ns is None and self.to_ns is None:
            return True
        start_ns = from_rfc3339(gap.start)
        end_ns = _FOREVER_NS if gap.end is None else max(from_rfc3339(gap.end), start_ns + 1)
        return _meet(start_ns, end_ns, self.from_ns, self.to_ns)


@dataclass(frozen=True, slots=True)
class DayFilter:
    """Which days are wanted, as :class:`SegmentFilter`: those that have a moment in the range."""

    conditions: Collection[str] = ()
    from_ns: int | None = None
    to_ns: int | None = None

    def wants(self, date: dt.date, condition: str) -> bool:
        """Tell whether a day is wanted."""
        if self.conditions and condition not in self.conditions:
            return False
        start_ns = day_start_ns(date)
        return _meet(start_ns, start_ns + DAY_NS, self.from_ns, self.to_ns)
