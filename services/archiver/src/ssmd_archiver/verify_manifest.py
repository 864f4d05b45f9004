"""Whether a manifest is what its day's indexes say, while an archiver may be seconds ahead of it."""

from __future__ import annotations

import time
from collections.abc import Callable

from ssmd_archiver.catalog import SKEW, load_day, recorded_gaps
from ssmd_archiver.findings import FeedReport, Finding
from ssmd_common.archive.derivation import SegmentSummary, derive_manifest, gaps_of_day
from ssmd_common.archive.gaps import Gap
from ssmd_common.archive.index import Header, read_index
from ssmd_common.archive.layout import DATA_SUFFIX, DayPaths, list_days
from ssmd_common.archive.manifest import encode_manifest
from ssmd_common.archive.times import SECOND_NS
from ssmd_common.errors import ArchiveError

__all__ = ["verify_manifest"]

_BEHIND_S = 12.0
"""The archiver writes manifests at most every 10 s, so by then one that is behind has come."""
_LOOK_AGAIN_S = 0.25


def verify_manifest(
    day: DayPaths,
    summaries: list[SegmentSummary],
    gaps: list[Gap],
    newest: Header,
    report: FeedReport,
    clock_ns: Callable[[], int],
) -> None:
    """Note what is wrong with a day's manifest; one that is behind a running archiver gets the time it needs.

    Args:
        day: The day.
        summaries: Its sealed segments, as they were verified.
        gaps: The gaps of the feed, in the order recorded.
        newest: The newest header of the feed.
        report: Where it is noted.
        clock_ns: The time now.
    """
    problem = _manifest_problem(day, summaries, gaps, newest)
    waited_s = 0.0
    while problem is not None and waited_s < _BEHIND_S:
        try:
            if not _sealed_lately(day, clock_ns()):
                break
            time.sleep(_LOOK_AGAIN_S)
            waited_s += _LOOK_AGAIN_S
            days = list_days(day.folder.parents[1], report.feed)
            gaps, header = recorded_gaps([other for other in days if other.date >= day.date - SKEW])
            problem = _manifest_problem(day, load_day(day), gaps, header or newest)
        except ArchiveError:
            break  # an index is damaged, and said to be
    if problem is not None:
        report.findings.append(Finding(str(day.manifest), problem))


def _sealed_lately(day: DayPaths, now_ns: int) -> bool:
    """Tell whether a segment of the feed was sealed so lately that manifests may not tell of it yet."""
    newest_ns = 0
    for other in list_days(day.folder.parents[1], day.folder.parent.name)[-2:]:
        for stem in other.sealed_stems():
            index = read_index(other.sealed(stem).index.read_bytes(), where=stem)
            if index is not None and index.seal is not None:
                newest_ns = max(newest_ns, index.seal.sealed_ns)
    return now_ns - newest_ns < _BEHIND_S * SECOND_NS


def _manifest_problem(
    day: DayPaths, summaries: list[SegmentSummary], gaps: list[Gap], newest: Header
) -> str | None:
    """Return what is wrong with a day's manifest; None where it is what its files say."""
    try:
        actual = day.manifest.read_bytes()
    except FileNotFoundError:
        actual = None
    of_day = gaps_of_day(gaps, day.date)
    if actual is None:
        told = summaries or of_day
        return "is missing; `ssmd-archiver rebuild` derives it" if told else None
    expected = derive_manifest(header=newest, date=day.date, segments=summaries, gaps=of_day)
    if actual == encode_manifest(expected):
        return None
    names = {name + DATA_SUFFIX for name in day.sealed_stems()}
    return f"differs from what its {len(names)} files say; run `ssmd-archiver rebuild`"
