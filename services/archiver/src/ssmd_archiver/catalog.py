"""The days of a feed and their manifests, derived from the sealed indexes and rewritten when these change.

A day is loaded from its indexes when it is first needed; the gaps of a day may be recorded in later days' indexes,
so those are loaded with it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import structlog

from ssmd_archiver.disk import Disk
from ssmd_common.archive.derivation import SegmentSummary, derive_manifest, gaps_of_day, summarise
from ssmd_common.archive.gaps import Gap
from ssmd_common.archive.index import GapRecord, Header, read_index
from ssmd_common.archive.layout import DATA_SUFFIX, DayPaths, day_paths, list_days
from ssmd_common.archive.manifest import Manifest, encode_manifest, parse_manifest
from ssmd_common.archive.times import DAY_NS, date_of
from ssmd_common.errors import ArchiveError

__all__ = ["SKEW", "Catalog", "days_touched", "load_day", "recorded_gaps", "write_manifest"]

log = structlog.get_logger()

SKEW = dt.timedelta(days=1)
"""A gap is recorded on its last day or later; a connector's clock ahead of the server's may say a day before."""


def load_day(day: DayPaths, *, without: str | None = None) -> list[SegmentSummary]:
    """Return the summaries of a day's sealed segments, in order.

    Args:
        day: The day.
        without: Stem of a segment to leave out.

    Raises:
        ArchiveError: An index is damaged.
    """
    summaries = []
    for stem in day.sealed_stems():
        if stem == without:
            continue
        path = day.sealed(stem).index
        data = path.read_bytes()
        index = read_index(data, where=str(path))
        if index is None:
            raise ArchiveError("index has no header", where=str(path), remedy="restore it from a backup")
        summaries.append(summarise(index, data, where=str(path)))
    return sorted(summaries, key=lambda summary: summary.order)


def recorded_gaps(days: list[DayPaths]) -> tuple[list[Gap], Header | None]:
    """Return the gaps that sealed indexes record, in the order written, and the newest header.

    A gap may be recorded in a later day's index than the day it touches, so this comes before any day is looked at.
    Damaged indexes are passed over. Memory grows with the gaps, not with the archive.
    """
    gaps: list[Gap] = []
    newest: Header | None = None
    for day in days:
        indexes = []
        for stem in day.sealed_stems():
            data = day.sealed(stem).index.read_bytes()
            with contextlib.suppress(ArchiveError):
                index = read_index(data, where=stem)
                if index is not None:
                    indexes.append(index)
        for index in sorted(indexes, key=lambda index: (index.header.epoch, index.last_seq or 0)):
            gaps.extend(line.gap for line in index.lines() if isinstance(line, GapRecord))
            newest = index.header
    return gaps, newest


def days_touched(gap: Gap) -> Iterator[dt.date]:
    """Iterate over the days a gap overlaps, from its start to where it is known to reach."""
    end_ns = max(gap.end_ns if gap.end_ns is not None else gap.detected_ns, gap.start_ns + 1)
    for day in range(gap.start_ns // DAY_NS, (end_ns - 1) // DAY_NS + 1):
        yield date_of(day * DAY_NS)


def write_manifest(
    disk: Disk, day: DayPaths, header: Header, summaries: list[SegmentSummary], gaps: list[Gap]
) -> bool:
    """Derive and write a day's manifest; False where the day has nothing to tell."""
    of_day = gaps_of_day(gaps, day.date)
    if not summaries and not of_day:
        return False
    manifest = derive_manifest(header=header, date=day.date, segments=summaries, gaps=of_day)
    disk.make_folder(day.folder)
    disk.replace(day.manifest, encode_manifest(manifest))
    return True


class Catalog:
    """The manifests of one feed.

    Args:
        base: The archive's base folder.
        feed: The feed.
    """

    def __init__(self, base: Path, feed: str, disk: Disk) -> None:
        self._base = base
        self._feed = feed
        self._disk = disk
        self._days: dict[dt.date, list[SegmentSummary]] = {}
        self._dirty: set[dt.date] = set()

    @property
    def dirty(self) -> bool:
        """Whether a manifest waits to be written."""
        return bool(self._dirty)

    def check_all(self) -> None:
        """Mark every day whose manifest is missing, damaged, or names other files than its folder holds."""
        for day in list_days(self._base, self._feed):
            held = [stem + DATA_SUFFIX for stem in day.sealed_stems()]
            if not held and not day.manifest.exists():
                continue
            listed = self._listed(day)
            if listed is None or sorted(entry.name for entry in listed.files) != held:
                gone = sorted({entry.name for entry in listed.files} - set(held)) if listed else []
                if gone:
                    log.error("sealed_files_missing", day=day.date.isoformat(), files=gone, remedy="restore them")
                self._dirty.add(day.date)

    def _listed(self, day: DayPaths) -> Manifest | None:
        try:
            return parse_manifest(day.manifest.read_bytes(), where=str(day.manifest))
        except FileNotFoundError:
            return None
        except ArchiveError as error:
            log.warning("manifest_derived_again", day=day.date.isoformat(), problem=error.problem)
            return None

    def add(self, day: DayPaths, summary: SegmentSummary) -> None:
        """Take in a segment that was just sealed."""
        if day.date not in self._days:
            # Its own index is not read back: it is the largest thing there is, and what it holds is known.
            self._days[day.date] = load_day(day, without=summary.header.name)
        known = self._days[day.date]
        known.append(summary)
        known.sort(key=lambda segment: segment.order)
        self._dirty.add(day.date)
        for gap in summary.gaps:
            self._dirty.update(days_touched(gap))

    def _summaries(self, date: dt.date) -> list[SegmentSummary]:
        if date not in self._days:
            self._days[date] = load_day(day_paths(self._base, self._feed, date))
        return self._days[date]

    def write(self) -> list[dt.date]:
        """Write every manifest that changed; return their days."""
        written = sorted(self._dirty)
        if not written:
            return []
        since = written[0] - SKEW
        later = [day.date for day in list_days(self._base, self._feed) if day.date >= since]
        records = [gap for date in later for summary in self._summaries(date) for gap in summary.gaps]
        newest = next((self._days[date][-1] for date in reversed(later) if self._days[date]), None)
        for date in written:
            if newest is not None:
                day = day_paths(self._base, self._feed, date)
                write_manifest(self._disk, day, newest.header, self._summaries(date), records)
        self._dirty.clear()
        for date in [date for date in self._days if date < max(self._days)]:
            del self._days[date]
        return written
