"""The days of a feed and their manifests, derived from the sealed indexes and rewritten when these change.

A day is loaded from its indexes when it is first needed; the gaps of a day may be recorded in later days' indexes,
so those are loaded with it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import structlog

from ssmd_archiver.disk import Disk
from ssmd_common.archive.derivation import SegmentSummary, derive_manifest, gaps_of_day, summarise
from ssmd_common.archive.gaps import Gap
from ssmd_common.archive.index import read_index
from ssmd_common.archive.layout import DATA_SUFFIX, DayPaths, day_paths, list_days
from ssmd_common.archive.manifest import Manifest, encode_manifest, parse_manifest
from ssmd_common.archive.times import DAY_NS, date_of
from ssmd_common.errors import ArchiveError

__all__ = ["SKEW", "Catalog", "load_day"]

log = structlog.get_logger()

SKEW = dt.timedelta(days=1)
"""A gap is recorded on its last day or later; a connector's clock ahead of the server's may say a day before."""


def load_day(day: DayPaths) -> list[SegmentSummary]:
    """Return the summaries of a day's sealed segments, in order.

    Raises:
        ArchiveError: An index is damaged.
    """
    summaries = []
    for stem in day.sealed_stems():
        path = day.sealed(stem).index
        data = path.read_bytes()
        index = read_index(data, where=str(path))
        if index is None:
            raise ArchiveError("index has no header", where=str(path), remedy="restore it from a backup")
        summaries.append(summarise(index, data, where=str(path)))
    return sorted(summaries, key=lambda summary: summary.order)


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

    def mark_all(self) -> None:
        """Mark every day, and every day a gap touches, to be derived again."""
        for day in list_days(self._base, self._feed):
            self._dirty.add(day.date)
            for summary in self._summaries(day.date):
                for gap in summary.gaps:
                    self._dirty.update(self._touched(gap))

    def _listed(self, day: DayPaths) -> Manifest | None:
        try:
            return parse_manifest(day.manifest.read_bytes(), where=str(day.manifest))
        except FileNotFoundError:
            return None
        except ArchiveError as error:
            log.warning("manifest_derived_again", day=day.date.isoformat(), problem=error.problem)
            return None

    def sealed(self, day: DayPaths, stem: str) -> SegmentSummary:
        """Take in a segment that was just sealed; return its summary."""
        path = day.sealed(stem).index
        data = path.read_bytes()
        index = read_index(data, where=str(path))
        if index is None:
            raise ArchiveError("index has no header", where=str(path))
        summary = summarise(index, data, where=str(path))
        known = self._summaries(day.date)
        known[:] = sorted([s for s in known if s.header.name != stem] + [summary], key=lambda s: s.order)
        self._dirty.add(day.date)
        for gap in summary.gaps:
            self._dirty.update(self._touched(gap))
        return summary

    def _touched(self, gap: Gap) -> Iterator[dt.date]:
        """Iterate over the days a gap overlaps, from its start to where it is known to reach."""
        end_ns = max(gap.end_ns if gap.end_ns is not None else gap.detected_ns, gap.start_ns + 1)
        for day in range(gap.start_ns // DAY_NS, (end_ns - 1) // DAY_NS + 1):
            yield date_of(day * DAY_NS)

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
            day = day_paths(self._base, self._feed, date)
            gaps = gaps_of_day(records, date)
            summaries = self._summaries(date)
            if newest is not None and (summaries or gaps):
                manifest = derive_manifest(header=newest.header, date=date, segments=summaries, gaps=gaps)
                self._disk.make_folder(day.folder)
                self._disk.replace(day.manifest, encode_manifest(manifest))
        self._dirty.clear()
        for date in [date for date in self._days if date < max(self._days)]:
            del self._days[date]
        return written
