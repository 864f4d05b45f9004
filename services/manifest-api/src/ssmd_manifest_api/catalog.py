"""The archive as the API sees it: feeds, days, files and gaps, read when asked and never written.

Every path is made by :mod:`ssmd_common.archive.layout` from a feed's name, a date and a segment's stem, and only
for what a listing of the archive shows; text of a request never becomes a path.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ssmd_common.archive import layout
from ssmd_common.archive.index import read_index
from ssmd_common.archive.manifest import FileEntry, GapEntry, Manifest, parse_manifest
from ssmd_common.archive.reader import open_segment
from ssmd_common.archive.times import DAY_NS, day_start_ns, from_rfc3339
from ssmd_common.errors import ArchiveError, WireError
from ssmd_manifest_api.cache import FileCache, Stamp
from ssmd_manifest_api.condition import DayFacts, Verdict, facts_of, judge
from ssmd_manifest_api.filters import GapFilter, SegmentFilter

__all__ = ["Catalog", "Day", "ManifestFile", "OpenSegment", "SealedFile"]

_SUMMARIES = 20_000
_WHOLE_MANIFESTS = 64
_INDEXES = 4_096


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """A manifest as it lies in the archive."""

    data: bytes
    etag: str
    modified_ns: int


@dataclass(frozen=True, slots=True)
class OpenSegment:
    """The durable part of a segment still being written, as its journal tells."""

    name: str
    records: int
    bytes: int
    nats_start_seq: int | None
    nats_end_seq: int | None
    last_ns: int | None


@dataclass(frozen=True, slots=True)
class Day:
    """What a listing says of a day.

    Attributes:
        exists: False for a day between two of the archive's that it has no folder for.
        modified_ns: When its manifest was written; None where it has none.
    """

    date: dt.date
    verdict: Verdict
    exists: bool
    records: int
    bytes: int
    compressed_bytes: int
    files: int
    gaps: int
    complete_through: str | None
    modified_ns: int | None


@dataclass(frozen=True, slots=True)
class SealedFile:
    """A file of a sealed segment, ready to be sent."""

    path: Path
    sha256: str
    status: os.stat_result


@dataclass(frozen=True, slots=True)
class _Summary:
    facts: DayFacts
    records: int
    bytes: int
    compressed_bytes: int
    gaps: int
    complete_through: str | None
    modified_ns: int


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What an index says of its segment, itself included."""

    tickers: frozenset[str]
    data_sha256: str
    meta_sha256: str
    index_sha256: str


class Catalog:
    """A reader of one archive, safe to use from several threads.

    Args:
        base: The archive's base folder; it may come to be later.
        clock_ns: The time now.
    """

    def __init__(self, base: Path, *, clock_ns: Callable[[], int]) -> None:
        self._base = base
        self._clock_ns = clock_ns
        self._files = FileCache(_manifest_file, allowed=self._inside, limit=_WHOLE_MANIFESTS)
        self._manifests = FileCache(self._parse, allowed=self._inside, limit=_WHOLE_MANIFESTS)
        self._summaries = FileCache(self._summarise, allowed=self._inside, limit=_SUMMARIES)
        self._evidence = FileCache(self._read_evidence, allowed=self._inside, limit=_INDEXES)

    def why_not_ready(self) -> str | None:
        """Return why the archive cannot be read; None where it can."""
        if not self._base.is_dir():
            return f"{self._base} is no folder (yet): the archiver creates it with the first segment"
        return None if os.access(self._base, os.R_OK | os.X_OK) else f"{self._base} may not be read"

    def feeds(self) -> list[str]:
        """List the feeds that have at least one day, sorted."""
        return layout.list_feeds(self._base)

    def has_feed(self, feed: str) -> bool:
        """Tell whether the archive holds this feed."""
        try:
            return bool(layout.list_days(self._base, feed)) and self._inside(layout.feed_folder(self._base, feed))
        except WireError:
            return False

    def dates(self, feed: str) -> list[dt.date]:
        """List a feed's dates, oldest first."""
        return [day.date for day in layout.list_days(self._base, feed)]

    def days(self, feed: str, *, fill: bool = False) -> list[Day]:
        """List a feed's days, oldest first, each with its condition.

        Args:
            feed: A feed of the archive.
            fill: Also name the days between that the archive has no folder for.
        """
        found = {day.date: self._known(day) for day in layout.list_days(self._base, feed)}
        now_ns = self._clock_ns()
        dates = sorted(found)
        if fill and dates:
            dates = [dates[0] + dt.timedelta(days=n) for n in range((dates[-1] - dates[0]).days + 1)]
        one = dt.timedelta(days=1)

        def holds_data(date: dt.date) -> bool:
            neighbour = found.get(date)
            return neighbour is not None and neighbour[0].files > 0

        days: list[Day] = []
        for date in dates:
            facts, summary = found.get(date, (DayFacts(date), None))
            verdict = judge(
                facts, now_ns=now_ns, data_before=holds_data(date - one), data_after=holds_data(date + one)
            )
            days.append(
                Day(
                    date=date,
                    verdict=verdict,
                    exists=date in found,
                    records=summary.records if summary else 0,
                    bytes=summary.bytes if summary else 0,
                    compressed_bytes=summary.compressed_bytes if summary else 0,
                    files=facts.files,
                    gaps=summary.gaps if summary else 0,
                    complete_through=summary.complete_through if summary else None,
                    modified_ns=summary.modified_ns if summary else None,
                )
            )
        return days

    def has_day(self, feed: str, date: dt.date) -> bool:
        """Tell whether the archive holds this day of a feed it holds."""
        folder = layout.day_paths(self._base, feed, date).folder
        return folder.is_dir() and self._inside(folder)

    def manifest_file(self, feed: str, date: dt.date) -> ManifestFile | None:
        """Return a day's manifest as it lies there; None where there is none, of whatever feed."""
        try:
            path = layout.day_paths(self._base, feed, date).manifest
        except WireError:
            return None
        return self._files.get(path)

    def manifest(self, feed: str, date: dt.date) -> Manifest | None:
        """Return a day's manifest; None before the first segment is sealed.

        Raises:
            ArchiveError: It is damaged.
        """
        return self._manifests.get(layout.day_paths(self._base, feed, date).manifest)

    def open_segments(self, feed: str, date: dt.date) -> list[OpenSegment]:
        """Return what is durable of the day's open segments."""
        day = layout.day_paths(self._base, feed, date)
        opened: list[OpenSegment] = []
        for stem in day.open_stems():
            try:
                segment = open_segment(day.open(stem), sealed=False)
            except FileNotFoundError:
                continue
            if segment is not None:
                spans = [block for block in segment.index.blocks if block.first_seq is not None]
                opened.append(
                    OpenSegment(
                        name=stem + layout.DATA_SUFFIX,
                        records=sum(block.records for block in spans),
                        bytes=sum(block.raw_bytes for block in spans),
                        nats_start_seq=spans[0].first_seq if spans else None,
                        nats_end_seq=spans[-1].last_seq if spans else None,
                        last_ns=spans[-1].last_ns if spans else None,
                    )
                )
        return opened

    def segments(self, feed: str, date: dt.date, wanted: SegmentFilter) -> list[FileEntry]:
        """List the day's sealed segments that may hold what is wanted, in the order of the stream."""
        manifest = self.manifest(feed, date)
        entries = [] if manifest is None else [entry for entry in manifest.files if wanted.covers(entry)]
        if not wanted.tickers:
            return entries
        day = layout.day_paths(self._base, feed, date)
        tickers = frozenset(wanted.tickers)
        return [entry for entry in entries if not tickers.isdisjoint(self._tickers(day, entry.name))]

    def gaps(self, feed: str, dates: Sequence[dt.date], wanted: GapFilter) -> list[GapEntry]:
        """List the gaps of these days, each once as its latest day has it, by start."""
        latest: dict[str, GapEntry] = {}
        for date in sorted(dates):
            manifest = self.manifest(feed, date) if self._touches(date, wanted) else None
            if manifest is not None:
                latest.update((gap.gap_id, gap) for gap in manifest.gaps)
        found = (gap for gap in latest.values() if wanted.wants(gap))
        return sorted(found, key=lambda gap: (from_rfc3339(gap.start), gap.layer, gap.gap_id))

    def file_names(self, feed: str, date: dt.date) -> list[str]:
        """List what :meth:`sealed_file` takes for a day: data files, then their evidence."""
        day = layout.day_paths(self._base, feed, date)
        sealed = day.sealed_stems()
        data = sorted(set(sealed) & set(day.data_stems()))
        evidence = [stem + suffix for stem in sealed for suffix in (layout.META_SUFFIX, layout.INDEX_SUFFIX)]
        return [stem + layout.DATA_SUFFIX for stem in data] + evidence

    def sealed_file(self, feed: str, date: dt.date, name: str) -> SealedFile | None:
        """Find a sealed file by its name; None where the day has no such file.

        Raises:
            ArchiveError: Its index is damaged.
        """
        day = layout.day_paths(self._base, feed, date)
        for suffix in (layout.META_SUFFIX, layout.INDEX_SUFFIX, layout.DATA_SUFFIX):
            stem = name.removesuffix(suffix)
            if stem != name and layout.is_segment_stem(stem):
                break
        else:
            return None
        paths = day.sealed(stem)
        evidence = self._evidence.get(paths.index)
        if evidence is None:
            return None
        path, sha256 = {
            layout.DATA_SUFFIX: (paths.data, evidence.data_sha256),
            layout.META_SUFFIX: (paths.meta, evidence.meta_sha256),
            layout.INDEX_SUFFIX: (paths.index, evidence.index_sha256),
        }[suffix]
        if not (path.is_file() and self._inside(path)):
            return None
        return SealedFile(path, sha256, path.stat())

    def _touches(self, date: dt.date, wanted: GapFilter) -> bool:
        start_ns = day_start_ns(date)
        if wanted.from_ns is not None and start_ns + DAY_NS <= wanted.from_ns:
            return False
        return wanted.to_ns is None or start_ns < wanted.to_ns

    def _known(self, day: layout.DayPaths) -> tuple[DayFacts, _Summary | None]:
        open_segments = len(day.open_stems())
        try:
            summary = self._summaries.get(day.manifest)
        except ArchiveError as error:
            return DayFacts(day.date, damage=error.problem), None
        if summary is None:
            return DayFacts(day.date, open_segments=open_segments), None
        return replace(summary.facts, date=day.date, open_segments=open_segments), summary

    def _tickers(self, day: layout.DayPaths, name: str) -> frozenset[str]:
        evidence = self._evidence.get(day.sealed(name.removesuffix(layout.DATA_SUFFIX)).index)
        return frozenset() if evidence is None else evidence.tickers

    def _inside(self, path: Path) -> bool:
        """Tell whether a path stays in the archive when its links are followed."""
        return path.resolve().is_relative_to(self._base.resolve())

    def _where(self, path: Path) -> str:
        return path.relative_to(self._base).as_posix()

    def _parse(self, path: Path, data: bytes, _stamp: Stamp) -> Manifest:
        return parse_manifest(data, where=self._where(path))

    def _summarise(self, path: Path, data: bytes, stamp: Stamp) -> _Summary:
        manifest = parse_manifest(data, where=self._where(path))
        return _Summary(
            facts=facts_of(manifest),
            records=sum(file.records for file in manifest.files),
            bytes=sum(file.bytes for file in manifest.files),
            compressed_bytes=sum(file.compressed_bytes for file in manifest.files),
            gaps=len(manifest.gaps),
            complete_through=manifest.complete_through,
            modified_ns=stamp[1],
        )

    def _read_evidence(self, path: Path, data: bytes, _stamp: Stamp) -> _Evidence:
        index = read_index(data, where=self._where(path))
        if index is None or index.seal is None:
            raise ArchiveError("index is not sealed", where=self._where(path), remedy="start the archiver")
        return _Evidence(
            tickers=frozenset(ticker for block in index.blocks for ticker in block.tickers),
            data_sha256=index.seal.data_sha256,
            meta_sha256=index.seal.meta_sha256,
            index_sha256=hashlib.sha256(data).hexdigest(),
        )


def _manifest_file(_path: Path, data: bytes, stamp: Stamp) -> ManifestFile:
    return ManifestFile(data, f'"{hashlib.sha256(data).hexdigest()}"', stamp[1])
