"""A feed's gaps: as the manifests list them, then as the segments no manifest lists yet know better."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field

from ssmd_common.archive.derivation import gap_entry
from ssmd_common.archive.gaps import Gap, overlaps
from ssmd_common.archive.index import GapRecord, Index
from ssmd_common.archive.layout import DayKeys
from ssmd_common.archive.manifest import GapEntry
from ssmd_common.archive.times import DAY_NS, day_start_ns, from_rfc3339
from ssmd_common.errors import ArchiveError
from ssmd_manifest_api.catalog import Catalog
from ssmd_manifest_api.filters import GapFilter
from ssmd_manifest_api.unlisted import Unlisted, newest_of, unlisted_of

__all__ = ["FoundGaps", "gaps_of_day", "gaps_of_feed", "latest_gaps", "learned_gaps"]


@dataclass(frozen=True, slots=True)
class FoundGaps:
    """Gaps, and what could not be asked for them.

    Attributes:
        gaps: Each once as it stands last, by start.
        unreadable: Days whose manifest or index is damaged, each with what is wrong: more gaps may be known there.
    """

    gaps: list[GapEntry]
    unreadable: dict[dt.date, str] = field(default_factory=dict)


def latest_gaps(listed: Iterable[GapEntry], learned: Iterable[Gap]) -> list[GapEntry]:
    """Return each gap once, by start; pure.

    Args:
        listed: The gaps of the manifests, in the order of their days: the latest state of a gap counts.
        learned: The gaps of segments no manifest lists yet, in the order written; they know better.
    """
    latest = {gap.gap_id: gap for gap in listed}
    latest.update((gap.gap_id, gap_entry(gap)) for gap in learned)
    return sorted(latest.values(), key=lambda gap: (from_rfc3339(gap.start), gap.layer, gap.gap_id))


def learned_gaps(unlisted: Iterable[Unlisted]) -> list[Gap]:
    """Return the gaps of segments no manifest lists yet, in the order written; pure."""
    ordered = sorted(unlisted, key=lambda segment: segment.found.extent.first)
    return [gap for segment in ordered for gap in _recorded(segment.index)]


def _recorded(index: Index) -> Iterable[Gap]:
    return (line.gap for line in index.lines() if isinstance(line, GapRecord))


def gaps_of_feed(catalog: Catalog, feed: str, wanted: GapFilter) -> FoundGaps:
    """List the gaps of a feed.

    Args:
        catalog: The archive.
        feed: A feed of it.
        wanted: Which gaps; a day after the range is not asked, one before it may have a gap that is not over.
    """
    unreadable: dict[dt.date, str] = {}
    listed: list[GapEntry] = []
    for date in catalog.dates(feed):
        if wanted.to_ns is not None and day_start_ns(date) >= wanted.to_ns:
            break
        try:
            listed += catalog.overview(feed, date)[1]
        except ArchiveError as error:
            unreadable[date] = error.problem
    learned = _learned(catalog, feed, unreadable)
    return _found(latest_gaps(listed, learned), wanted, unreadable)


def gaps_of_day(catalog: Catalog, feed: str, date: dt.date, wanted: GapFilter) -> FoundGaps:
    """List the gaps that touch a day, as :func:`gaps_of_feed`; a segment of another day may have learned of one."""
    unreadable: dict[dt.date, str] = {}
    listed: tuple[GapEntry, ...] = ()
    try:
        listed = catalog.overview(feed, date)[1]
    except ArchiveError as error:
        unreadable[date] = error.problem
    start_ns = day_start_ns(date)
    learned = _learned(catalog, feed, unreadable)
    touching = [gap for gap in learned if overlaps(gap, start_ns, start_ns + DAY_NS)]
    return _found(latest_gaps(listed, touching), wanted, unreadable)


def _learned(catalog: Catalog, feed: str, unreadable: dict[dt.date, str]) -> list[Gap]:
    """Return the gaps no manifest lists yet; adds the days to ``unreadable`` that may have more."""
    dates = catalog.dates(feed)
    newest = newest_of(dates)
    unlisted: list[Unlisted] = []
    for date in dates:
        try:
            unlisted += unlisted_of(catalog, DayKeys(feed, date), newest=date in newest)
        except ArchiveError as error:
            unreadable.setdefault(date, error.problem)
    return learned_gaps(unlisted)


def _found(gaps: list[GapEntry], wanted: GapFilter, unreadable: dict[dt.date, str]) -> FoundGaps:
    return FoundGaps([gap for gap in gaps if wanted.wants(gap)], dict(sorted(unreadable.items())))
