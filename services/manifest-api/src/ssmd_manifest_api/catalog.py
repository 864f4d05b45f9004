"""The archive as the API sees it: feeds, days, files and gaps, read when asked and never written.

Every key is made by :mod:`ssmd_common.archive.layout` from a feed's name, a date and a segment's stem; text of a
request never becomes one.
"""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache

from ssmd_common.archive import layout
from ssmd_common.archive.index import Index
from ssmd_common.archive.layout import DayKeys
from ssmd_common.archive.manifest import FileEntry, GapEntry, Manifest
from ssmd_common.archive.selection import Extent
from ssmd_common.archive.store import Store
from ssmd_common.archive.times import DAY_NS, date_of, day_start_ns
from ssmd_common.calendar import quiet_times
from ssmd_common.config.calendar import Calendar
from ssmd_common.errors import ArchiveError, WireError
from ssmd_manifest_api.cache import FileCache
from ssmd_manifest_api.condition import DayFacts, Expectation, Span, judge
from ssmd_manifest_api.entries import (
    Day,
    ManifestFile,
    OpenSegment,
    SealedFile,
    Summary,
    day_of,
    evidence_of,
    journal_of,
    manifest_file_of,
    manifest_of,
    slices_of,
    summary_of,
)
from ssmd_manifest_api.filters import SegmentFilter
from ssmd_manifest_api.view_rate import Slice, file_slices

__all__ = ["Catalog", "Day", "ManifestFile", "OpenSegment", "SealedFile"]

_SUMMARIES = 20_000
_WHOLE_MANIFESTS = 64
_INDEXES = 4_096
_JOURNALS = 16
_INDEXES_OF_A_RATE = 288


@lru_cache(_SUMMARIES)
def _manifest_key(feed: str, date: dt.date) -> str:
    return DayKeys(feed, date).manifest


@dataclass(frozen=True, slots=True)
class _Judged:
    """A day that is over, and what it was judged by: the same facts judged again would give the same."""

    facts: DayFacts
    expected: Expectation
    day: Day


class Catalog:
    """A reader of one archive, safe to use from several threads.

    Args:
        store: The archive.
        clock_ns: The time now.
        calendars: When silence is expected, by feed.
    """

    def __init__(
        self, store: Store, *, clock_ns: Callable[[], int], calendars: Mapping[str, Calendar] | None = None
    ) -> None:
        self.store = store
        self._clock_ns = clock_ns
        self._calendars = calendars or {}
        self._quiet_times = lru_cache(_SUMMARIES)(self._read_calendar)
        self._files = FileCache(store, manifest_file_of, limit=_WHOLE_MANIFESTS)
        self._manifests = FileCache(store, manifest_of, limit=_WHOLE_MANIFESTS)
        self._summaries = FileCache(store, summary_of, limit=_SUMMARIES)
        self._evidence = FileCache(store, evidence_of, limit=_INDEXES)
        self._judged: dict[tuple[str, dt.date], _Judged] = {}
        self._journals = FileCache(store, journal_of, limit=_JOURNALS)

    def over(self, store: Store) -> Catalog:
        """Return a catalog of another view of the same archive; what both read is kept once."""
        other = copy.copy(self)
        caches = {name: value.over(store) for name, value in vars(self).items() if isinstance(value, FileCache)}
        vars(other).update(caches, store=store)
        return other

    def why_not_ready(self) -> str | None:
        """Return why the archive cannot be read; None where it can."""
        return self.store.why_not_ready()

    def feeds(self) -> list[str]:
        """List the feeds that have at least one day, sorted."""
        return [feed for feed in layout.feed_names(self.store.list().folders) if self.dates(feed)]

    def has_feed(self, feed: str) -> bool:
        """Tell whether the archive holds this feed."""
        return feed in layout.feed_names([feed]) and bool(self.dates(feed))

    def dates(self, feed: str) -> list[dt.date]:
        """List a feed's dates, oldest first."""
        return layout.day_dates(self.store.list(feed).folders)

    def days(self, feed: str, *, fill: bool = False) -> list[Day]:
        """List a feed's days, oldest first, each with its condition.

        Args:
            feed: A feed of the archive.
            fill: Also name the days between that the archive has no folder for.
        """
        found = {date: self._known(feed, date) for date in self.dates(feed)}
        now_ns = self._clock_ns()
        calendar = self._calendars.get(feed)
        dates = sorted(found)
        if fill and dates:
            # A calendar expects data even after the last day; without one, only what lies between is missing.
            last = dates[-1] if calendar is None else max(dates[-1], date_of(now_ns))
            dates = [dates[0] + dt.timedelta(days=n) for n in range((last - dates[0]).days + 1)]
        holding = {date for date, (facts, _) in found.items() if facts.files}
        first, last = min(holding, default=dt.date.max), max(holding, default=dt.date.min)
        one = dt.timedelta(days=1)

        def expectation(date: dt.date) -> Expectation:
            return Expectation(
                earlier=first < date,
                later=date < last,
                before=date - one in holding,
                after=date + one in holding,
                quiet=None if calendar is None else self._quiet_times(feed, date),
            )

        days: list[Day] = []
        for date in dates:
            facts, summary = found.get(date) or (DayFacts(date), None)
            expected = expectation(date)
            over = now_ns >= day_start_ns(date) + DAY_NS
            known = self._judged.get((feed, date))
            if known is not None and over and known.facts is facts and known.expected == expected:
                days.append(known.day)
                continue
            day = day_of(date, facts, summary, judge(facts, now_ns=now_ns, expected=expected), exists=date in found)
            if over and summary is not None:
                self._judged[feed, date] = _Judged(facts, expected, day)
            days.append(day)
        return days

    def warm(self, stopped: Callable[[], bool]) -> None:
        """Read every manifest once, so that no request has to; ends early once ``stopped`` says so."""
        for feed in self.feeds():
            for date in reversed(self.dates(feed)):
                if stopped():
                    return
                self._known(feed, date)

    def has_day(self, feed: str, date: dt.date) -> bool:
        """Tell whether the archive holds this day of a feed it holds."""
        return date in self.dates(feed)

    def manifest_file(self, feed: str, date: dt.date) -> ManifestFile | None:
        """Return a day's manifest as it lies there; None where there is none, of whatever feed."""
        try:
            key = DayKeys(feed, date).manifest
        except WireError:
            return None
        return self._files.get(key)

    def manifest(self, feed: str, date: dt.date) -> Manifest | None:
        """Return a day's manifest; None before the first segment is sealed.

        Raises:
            ArchiveError: It is damaged.
        """
        return self._manifests.get(DayKeys(feed, date).manifest)

    def overview(self, feed: str, date: dt.date) -> tuple[Extent | None, tuple[GapEntry, ...]]:
        """Return what the files of a day's manifest span, None where it lists none, and the gaps it lists.

        Raises:
            ArchiveError: The manifest is damaged.
        """
        summary = self._summaries.get(_manifest_key(feed, date))
        return (None, ()) if summary is None else (summary.extent, summary.gaps)

    def index(self, key: str) -> Index | None:
        """Return an index, sealed or open, as far as it is committed; None where there is none.

        Raises:
            ArchiveError: It is damaged.
        """
        return self._journals.get(key)

    def open_segments(self, feed: str, date: dt.date) -> list[OpenSegment]:
        """Return what is durable of the day's open segments."""
        day = DayKeys(feed, date)
        opened: list[OpenSegment] = []
        for stem in self._stems(f"{day.folder}/{layout.OPEN}", layout.INDEX_SUFFIX):
            index = self._journals.get(day.open(stem).index)
            if index is not None:
                spans = [block for block in index.blocks if block.first_seq is not None]
                opened.append(
                    OpenSegment(
                        name=stem + layout.DATA_SUFFIX,
                        records=sum(block.records for block in spans),
                        bytes=sum(block.raw_bytes for block in spans),
                        nats_start_seq=spans[0].first_seq if spans else None,
                        nats_end_seq=spans[-1].last_seq if spans else None,
                        first_ns=spans[0].first_ns if spans else None,
                        last_ns=spans[-1].last_ns if spans else None,
                    )
                )
        return opened

    def now_ns(self) -> int:
        """Return the time by which days are judged."""
        return self._clock_ns()

    def slices(self, feed: str, date: dt.date) -> list[Slice]:
        """Return a day's records by time and type, those of its open segments too.

        From the indexes; of a day with more segments than a chart has bars, and where an index is damaged, from the
        manifest alone.

        Raises:
            ArchiveError: The manifest is damaged.
        """
        manifest = self.manifest(feed, date)
        files = [] if manifest is None else manifest.files
        day = DayKeys(feed, date)
        slices: list[Slice] = []
        if len(files) > _INDEXES_OF_A_RATE:
            slices = file_slices(files)
        else:
            for entry in files:
                key = day.sealed(entry.name.removesuffix(layout.DATA_SUFFIX)).index
                try:
                    evidence = self._evidence.get(key)
                except ArchiveError:
                    evidence = None
                slices.extend(file_slices([entry]) if evidence is None else evidence.slices)
        for stem in self._stems(f"{day.folder}/{layout.OPEN}", layout.INDEX_SUFFIX):
            with suppress(ArchiveError):
                index = self._journals.get(day.open(stem).index)
                slices.extend(() if index is None else slices_of(index))
        return slices

    def segments(self, feed: str, date: dt.date, wanted: SegmentFilter) -> list[FileEntry]:
        """List the day's sealed segments that may hold what is wanted, in the order of the stream."""
        manifest = self.manifest(feed, date)
        entries = [] if manifest is None else [entry for entry in manifest.files if wanted.covers(entry)]
        if manifest is None or not wanted.tickers:
            return entries
        day = DayKeys(feed, date)
        tickers = frozenset(wanted.tickers)
        if tickers.isdisjoint(manifest.tickers):
            return []
        return [entry for entry in entries if not tickers.isdisjoint(self._tickers(day, entry.name))]

    def file_names(self, feed: str, date: dt.date) -> list[str]:
        """List what :meth:`sealed_file` takes for a day: data files, then their evidence."""
        day = DayKeys(feed, date)
        sealed = self._stems(f"{day.folder}/{layout.EVIDENCE}", layout.INDEX_SUFFIX)
        data = sorted(set(sealed) & set(self._stems(day.folder, layout.DATA_SUFFIX)))
        evidence = [stem + suffix for stem in sealed for suffix in (layout.META_SUFFIX, layout.INDEX_SUFFIX)]
        return [stem + layout.DATA_SUFFIX for stem in data] + evidence

    def sealed_file(self, feed: str, date: dt.date, name: str) -> SealedFile | None:
        """Find a sealed file by its name; None where the day has no such file.

        Raises:
            ArchiveError: Its index is damaged.
        """
        day = DayKeys(feed, date)
        for suffix in (layout.META_SUFFIX, layout.INDEX_SUFFIX, layout.DATA_SUFFIX):
            stem = name.removesuffix(suffix)
            if stem != name and layout.is_segment_stem(stem):
                break
        else:
            return None
        keys = day.sealed(stem)
        evidence = self._evidence.get(keys.index)
        if evidence is None:
            return None
        key, sha256 = {
            layout.DATA_SUFFIX: (keys.data, evidence.data_sha256),
            layout.META_SUFFIX: (keys.meta, evidence.meta_sha256),
            layout.INDEX_SUFFIX: (keys.index, evidence.index_sha256),
        }[suffix]
        stat = self.store.stat(key)
        return None if stat is None else SealedFile(key, sha256, stat)

    def _stems(self, folder: str, suffix: str) -> list[str]:
        return layout.segment_stems(self.store.list(folder).files, suffix)

    def _read_calendar(self, feed: str, date: dt.date) -> tuple[Span, ...]:
        """Return when silence is expected on a day of a feed that has a calendar."""
        start_ns = day_start_ns(date)
        return tuple(
            (start, end) for start, end, _ in quiet_times(self._calendars[feed], start_ns, start_ns + DAY_NS)
        )

    def _known(self, feed: str, date: dt.date) -> tuple[DayFacts, Summary | None]:
        try:
            summary = self._summaries.get(_manifest_key(feed, date))
        except ArchiveError as error:
            return DayFacts(date, damage=error.problem), None
        if summary is not None and (summary.facts.complete_through_ns or 0) >= day_start_ns(date) + DAY_NS:
            # Nothing will be added to a day that is whole, so nothing is open in it: one question less a day.
            return summary.facts, summary
        open_segments = len(self._stems(f"{DayKeys(feed, date).folder}/{layout.OPEN}", layout.INDEX_SUFFIX))
        facts = DayFacts(date) if summary is None else summary.facts
        return replace(facts, open_segments=open_segments), summary

    def _tickers(self, day: DayKeys, name: str) -> frozenset[str]:
        evidence = self._evidence.get(day.sealed(name.removesuffix(layout.DATA_SUFFIX)).index)
        return frozenset() if evidence is None else evidence.tickers
