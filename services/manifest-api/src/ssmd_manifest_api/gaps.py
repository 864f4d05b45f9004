"""A feed's gaps: as the manifests list them, then as the segments no manifest lists yet know better."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
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
from ssmd_manifest_api.unlisted import Listed, Unlisted, listed_of, newest_of, unlisted_of

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

    def asked(date: dt.date) -> bool:
        return wanted.to_ns is None or day_start_ns(date) < wanted.to_ns

    known = _ask(catalog, feed, asked)
    return _found(latest_gaps(known.listed, known.learned), wanted, known.unreadable)


def gaps_of_day(catalog: Catalog, feed: str, date: dt.date, wanted: GapFilter) -> FoundGaps:
    """List the gaps that touch a day, as :func:`gaps_of_feed`; a segment of another day may have learned of one."""
    known = _ask(catalog, feed, date.__eq__)
    start_ns = day_start_ns(date)
    touching = [gap for gap in known.learned if overlaps(gap, start_ns, start_ns + DAY_NS)]
    return _found(latest_gaps(known.listed, touching), wanted, known.unreadable)


@dataclass(slots=True)
class _Known:
    listed: list[GapEntry] = field(default_factory=list)
    learned: list[Gap] = field(default_factory=list)
    unreadable: dict[dt.date, str] = field(default_factory=dict)


def _ask(catalog: Catalog, feed: str, asked: Callable[[dt.date], bool]) -> _Known:
    """Return what the manifests of the days asked list, and what any day's segments know that none lists yet."""
    known = _Known()
    dates = catalog.dates(feed)
    newest = newest_of(dates)
    unlisted: list[Unlisted] = []
    for date in dates:
        day = DayKeys(feed, date)
        listed: Listed | None = None
        try:
            listed = listed_of(catalog, day, newest=date in newest)
        except ArchiveError as error:
            if asked(date):
                known.unreadable[date] = error.problem
        if listed is not None and asked(date):
            known.listed += listed.gaps
        if listed is None or not listed.final:
            try:
                unlisted += unlisted_of(catalog, day, listed.segments if listed else ())
            except ArchiveError as error:
                known.unreadable.setdefault(date, error.problem)
    known.learned += learned_gaps(unlisted)
    return known


def _found(gaps: list[GapEntry], wanted: GapFilter, unreadable: dict[dt.date, str]) -> FoundGaps:
    return FoundGaps([gap for gap in gaps if wanted.wants(gap)], dict(sorted(unreadable.items())))
