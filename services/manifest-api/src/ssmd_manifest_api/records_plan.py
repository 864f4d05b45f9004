"""Where the records of a query lie: segments and gaps, chosen by manifests and indexes before any record is read.

A manifest may be seconds behind the folder, so the newest days are listed too: what a manifest does not name yet is
taken by its index, and the open segment as far as its journal is committed. Segments come in the stream's order.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from ssmd_common.archive import layout
from ssmd_common.archive.derivation import gap_entry
from ssmd_common.archive.index import GapRecord, Index
from ssmd_common.archive.layout import DayKeys
from ssmd_common.archive.manifest import GapEntry
from ssmd_common.archive.reader import Segment
from ssmd_common.archive.selection import Extent, Position, Selection, extent_of_block, extent_of_entry, joined
from ssmd_common.archive.times import day_start_ns, from_rfc3339
from ssmd_common.errors import ArchiveError
from ssmd_manifest_api.catalog import Catalog

__all__ = ["FeedRecords", "GapRange", "stream_position"]

_FOREVER_NS = 2**63
_LISTED_DAYS = 2
"""The archiver writes the newest day, and the one before it around midnight; older manifests are final."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A segment that is there, not read yet."""

    day: DayKeys
    name: str
    sealed: bool
    extent: Extent


@dataclass(frozen=True, slots=True)
class _Day:
    """A day that may hold wanted records; ``segments`` lists them when it is asked."""

    extent: Extent
    segments: Callable[[], list[_Found]]


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
        self._unlisted: list[tuple[_Found, Index]] = []
        self._days: list[_Day] = []
        newest = self._dates[-_LISTED_DAYS:]
        for date in self._dates:
            self._days.extend(self._day(date, final=date not in newest))
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
        latest: dict[str, GapEntry] = {}
        for date in self._dates:
            if within.to_ns is not None and day_start_ns(date) > within.to_ns:
                continue  # earlier days count: a gap that is not over is listed where it was seen last
            try:
                latest.update((gap.gap_id, gap) for gap in self._catalog.overview(self._feed, date)[1])
            except ArchiveError:
                continue  # its segments are read by their indexes, and their gaps below
        for _, index in sorted(self._unlisted, key=lambda pair: pair[0].extent.first):
            records = (line.gap for line in index.lines() if isinstance(line, GapRecord))
            latest.update((gap.gap_id, gap_entry(gap)) for gap in records)
        found = (gap for gap in latest.values() if _in_range(gap, selection, within, before))
        return sorted(found, key=lambda gap: (from_rfc3339(gap.start), gap.layer, gap.gap_id))

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

    def _day(self, date: dt.date, *, final: bool) -> Iterator[_Day]:
        day = DayKeys(self._feed, date)
        # A clock that stepped back by days opens a segment in an old day again.
        final = final and not self._catalog.store.list(f"{day.folder}/{layout.OPEN}").files
        try:
            extent = self._catalog.overview(self._feed, date)[0]
        except ArchiveError:
            extent = None
            entries: list[_Found] = []
        else:
            if extent is not None and final:
                yield _Day(extent, lambda: self._listed(day))
                return
            entries = self._listed(day) if extent is not None else []
        fresh = self._fresh(day, {found.name for found in entries})
        self._unlisted.extend(fresh)
        segments = [*entries, *(found for found, _ in fresh)]
        extent = joined(found.extent for found in segments)
        if extent is not None:
            yield _Day(extent, lambda: segments)

    def _listed(self, day: DayKeys) -> list[_Found]:
        manifest = self._catalog.manifest(day.feed, day.date)
        return [
            _Found(day, entry.name.removesuffix(layout.DATA_SUFFIX), sealed=True, extent=extent_of_entry(entry))
            for entry in (manifest.files if manifest else ())
        ]

    def _fresh(self, day: DayKeys, known: set[str]) -> list[tuple[_Found, Index]]:
        """Return what the manifest does not list: segments just sealed, and the open one."""
        found: dict[str, tuple[_Found, Index]] = {}
        # The open ones first: one that is sealed between the two listings is in both, never in none.
        for folder, keys, sealed in ((layout.OPEN, day.open, False), (layout.EVIDENCE, day.sealed, True)):
            names = self._catalog.store.list(f"{day.folder}/{folder}").files
            for stem in layout.segment_stems(names, layout.INDEX_SUFFIX):
                index = self._catalog.index(keys(stem).index) if stem not in known else None
                if index is None:
                    continue
                epoch = index.header.epoch
                extent = joined(
                    extent for block in index.blocks if (extent := extent_of_block(epoch, block)) is not None
                )
                if extent is None:
                    seq = index.header.after_seq or 0
                    extent = Extent((epoch, seq), (epoch, seq), (0, 0), (0, 0))
                found[stem] = _Found(day, stem, sealed, extent), index
        return list(found.values())

    def _open(self, found: _Found) -> Segment:
        places = (found.day.sealed(found.name), found.day.open(found.name))
        for keys in places if found.sealed else (*reversed(places), places[0]):
            index = self._catalog.index(keys.index)
            if index is not None:
                return Segment(self._catalog.store, found.day, found.name, index, found.sealed)
        raise ArchiveError("is missing", where=places[0].index, remedy="restore it from a backup")


def _in_order(days: list[_Day], selection: Selection) -> list[_Found]:
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
