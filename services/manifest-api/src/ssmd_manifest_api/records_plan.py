"""Where the records of a query lie: segments and gaps, chosen by manifests and indexes before any record is read.

What a manifest does not list yet is taken by its index. Segments come in the stream's order.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from ssmd_common.archive.layout import DayKeys
from ssmd_common.archive.manifest import GapEntry
from ssmd_common.archive.reader import Segment
from ssmd_common.archive.selection import Extent, Position, Selection, joined
from ssmd_common.archive.times import day_start_ns, from_rfc3339
from ssmd_common.errors import ArchiveError
from ssmd_manifest_api.catalog import Catalog
from ssmd_manifest_api.gaps import latest_gaps, learned_gaps
from ssmd_manifest_api.unlisted import Found, Unlisted, listed_of, newest_of, segments_in, unlisted_of

__all__ = ["FeedRecords", "GapRange", "stream_position"]

_FOREVER_NS = 2**63


@dataclass(frozen=True, slots=True)
class _Day:
    """A day that may hold wanted records; ``segments`` lists them when it is asked."""

    extent: Extent
    segments: Callable[[], list[Found]]


@dataclass(frozen=True, slots=True)
class GapRange:
    """Where gaps are looked for; None reaches to the end.

    Attributes:
        from_ns: From this time on.
        to_ns: Up to this time, inclusive.
    """

    from_ns: int | None
    to_ns: int | None


class FeedRecords:
    """One feed as a request found it.

    Args:
        catalog: The archive.
        feed: A feed of it.
    """

    def __init__(self, catalog: Catalog, feed: str) -> None:
        self._catalog = catalog
        self._feed = feed
        self._dates = catalog.dates(feed)
        self._gaps: dict[dt.date, Sequence[GapEntry]] = {}
        self._unlisted: list[Unlisted] = []
        self._days: list[_Day] = []
        newest = newest_of(self._dates)
        for date in self._dates:
            self._days.extend(self._day(date, newest=date in newest))
        self._days.sort(key=lambda day: day.extent.first)

    def epochs(self) -> list[int]:
        """Return the epochs of the feed's records."""
        ends = {epoch for day in self._days for epoch in (day.extent.first[0], day.extent.last[0])}
        return list(range(min(ends), max(ends) + 1)) if ends else []

    def segments(self, selection: Selection) -> Iterator[Segment]:
        """Iterate over the segments that may hold a wanted record, in the order of the stream.

        Raises:
            ArchiveError: A manifest or an index is damaged, or a segment is gone.
        """
        for group in self._groups(selection):
            for found in _in_order(group, selection):
                yield self._open(found)

    def bounds(self, selection: Selection) -> tuple[int | None, int | None]:
        """Return the server times that enclose a range of sequences: of the first and last block it touches.

        Types and tickers do not count: what is missing between two wanted records is missing all the same.
        """
        whole = replace(selection, types=None, tickers=None)
        groups = self._groups(whole)
        first = next((found for group in groups for found in _in_order(group, whole)), None)
        last = next((found for group in reversed(groups) for found in reversed(_in_order(group, whole))), None)
        if first is None or last is None:
            return None, None
        starts = [block.first_ns for block in self._open(first).wanted_blocks(whole)]
        ends = [block.last_ns for block in self._open(last).wanted_blocks(whole)]
        return (starts[0] if starts else None), (ends[-1] if ends else None)

    def gaps(self, selection: Selection, within: GapRange, *, before: Position | None = None) -> list[GapEntry]:
        """List the gaps of a range, by start: the stream's own by their sequences, any other by its time.

        Args:
            selection: The range; types and tickers do not count.
            within: The times of it.
            before: Only such gaps of the stream as begin before this place.
        """
        if selection.empty:
            return []
        # Earlier days count: a gap that is not over is listed where it was seen last.
        listed = (
            gap
            for date, gaps in self._gaps.items()
            if within.to_ns is None or day_start_ns(date) <= within.to_ns
            for gap in gaps
        )
        gaps = latest_gaps(listed, learned_gaps(self._unlisted))
        return [gap for gap in gaps if _in_range(gap, selection, within, before)]

    def _groups(self, selection: Selection) -> list[list[_Day]]:
        """Put days together whose sequences overlap, as they do where the server's clock stepped over midnight."""
        groups: list[list[_Day]] = []
        last = (0, 0)
        for day in self._days:
            if not selection.may_hold(day.extent):
                continue
            if groups and day.extent.first <= last:
                groups[-1].append(day)
            else:
                groups.append([day])
            last = max(last, day.extent.last)
        return groups

    def _day(self, date: dt.date, *, newest: bool) -> Iterator[_Day]:
        day = DayKeys(self._feed, date)
        segments: list[Found] = []
        with suppress(ArchiveError):  # its segments are read by their indexes, and so are their gaps
            listed = listed_of(self._catalog, day, newest=newest)
            self._gaps[date] = listed.gaps
            if listed.final and listed.extent is not None:
                yield _Day(listed.extent, lambda: segments_in(day, self._catalog.manifest(day.feed, day.date)))
                return
            segments += listed.segments
        fresh = unlisted_of(self._catalog, day, segments)
        self._unlisted += fresh
        segments += [segment.found for segment in fresh]
        extent = joined(found.extent for found in segments)
        if extent is not None:
            yield _Day(extent, lambda: segments)

    def _open(self, found: Found) -> Segment:
        places = (found.day.sealed(found.name), found.day.open(found.name))
        for keys in places if found.sealed else (*reversed(places), places[0]):
            index = self._catalog.index(keys.index)
            if index is not None:
                return Segment(self._catalog.store, found.day, found.name, index, found.sealed)
        raise ArchiveError("is missing", where=places[0].index, remedy="restore it from a backup")


def _in_order(days: list[_Day], selection: Selection) -> list[Found]:
    found = [found for day in days for found in day.segments() if selection.may_hold(found.extent)]
    return sorted(found, key=lambda found: found.extent.first)


def _apart(start_ns: int, end_ns: int, within: GapRange) -> bool:
    """Tell whether ``[start_ns, end_ns)`` lies outside of a range."""
    if within.from_ns is not None and end_ns <= within.from_ns:
        return True
    return within.to_ns is not None and start_ns > within.to_ns


def stream_position(gap: GapEntry) -> Position | None:
    """Return where a gap begins in the stream's order; None for one that is not of the stream's own sequences."""
    of_stream = gap.layer == "stream" and not gap.key and gap.start_seq is not None
    return (gap.epoch, gap.start_seq or 0) if of_stream else None


def _in_range(gap: GapEntry, selection: Selection, within: GapRange, before: Position | None) -> bool:
    first = stream_position(gap)
    if first is not None and (before is not None or selection.since is not None or selection.epoch is not None):
        if before is not None and first >= before:
            return False
        last = first if gap.end_seq is None else (gap.epoch, gap.end_seq - 1)
        if not replace(selection, types=None, tickers=None, from_ns=None, to_ns=None).may_hold(Extent(first, last)):
            return False
        if not selection.timed:
            return True
    start_ns = from_rfc3339(gap.start)
    end_ns = _FOREVER_NS if gap.end is None else max(from_rfc3339(gap.end), start_ns + 1)
    return not _apart(start_ns, end_ns, within)
