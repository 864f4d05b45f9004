"""One day of a feed for a person: its numbers, its drawing, its tables; pure."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ssmd_common.archive.manifest import AnomalyEntry, GapEntry, Manifest, SessionEntry
from ssmd_common.archive.times import DAY_NS, SECOND_NS, day_start_ns
from ssmd_common.config.model import parse_interval
from ssmd_manifest_api.condition import Condition, Verdict
from ssmd_manifest_api.explanations import LAYERS
from ssmd_manifest_api.view_gaps import GapView, gap_view
from ssmd_manifest_api.view_parts import Download, Fact, Page, download, page_of
from ssmd_manifest_api.view_rate import Slice, bars, bucket_ns, outline
from ssmd_manifest_api.view_text import count, number, share, size, span
from ssmd_manifest_api.view_timeline import Timeline, timeline

if TYPE_CHECKING:
    from ssmd_manifest_api.catalog import OpenSegment

__all__ = ["DayView", "GapGroup", "TypeRow", "day_view"]

_GAPS_A_PAGE = 50
_FILES_A_PAGE = 96
_MOST_TICKERS = 1_000
_MOST_SESSIONS = 100


@dataclass(frozen=True, slots=True)
class TypeRow:
    """A payload type: how many records, and an SVG path of their rate over the drawing's span."""

    name: str
    records: int
    share: str
    path: str


@dataclass(frozen=True, slots=True)
class GapGroup:
    """The gaps of one layer and cause; ``url`` leads to the first."""

    layer: str
    title: str
    url: str
    gaps: str
    missing: str


@dataclass(frozen=True, slots=True)
class DayView:
    """What the page of a day shows."""

    feed: str
    date: dt.date
    verdict: Verdict
    facts: list[Fact]
    timeline: Timeline | None
    gaps: Page[GapView]
    gap_groups: list[GapGroup]
    types: list[TypeRow]
    tickers: Sequence[str]
    more_tickers: int
    files: Page[Download]
    opened: Sequence[OpenSegment]
    sessions: Sequence[SessionEntry]
    more_sessions: int
    anomalies: Sequence[AnomalyEntry]
    env: str
    stream: str
    interval: str

    @property
    def live(self) -> bool:
        """Whether it may still change."""
        return self.verdict.condition is Condition.PENDING or bool(self.opened)


def day_view(
    feed: str,
    date: dt.date,
    verdict: Verdict,
    *,
    manifest: Manifest | None,
    gaps: Sequence[GapEntry],
    opened: Sequence[OpenSegment],
    slices: Sequence[Slice],
    now_ns: int,
    whole: bool = False,
    gaps_page: int = 1,
    files_page: int = 1,
) -> DayView:
    """Gather what the page of a day shows.

    Args:
        feed: Name of the feed.
        date: The day.
        verdict: Its condition.
        manifest: Its manifest; None where it has none, or none that can be read.
        gaps: The gaps that touch it, by start.
        opened: Its open segments.
        slices: Records by time, of the open segments too.
        now_ns: The time now.
        whole: Draw all of the day, however little of it is filled.
        gaps_page: Which page of its gaps.
        files_page: Which page of its files.
    """
    files = manifest.files if manifest else []
    downloads = [download(feed, date, file) for file in files]
    every_gap = [
        gap_view(gap, at, downloads, page=(at - 1) // _GAPS_A_PAGE + 1) for at, gap in enumerate(gaps, start=1)
    ]
    sessions = manifest.sessions if manifest else []
    tickers = manifest.tickers if manifest else []
    open_spans = [(part.first_ns, part.last_ns) for part in opened if part.first_ns is not None and part.last_ns]
    drawn = None
    if files or every_gap or open_spans:
        drawn = timeline(
            day_start_ns(date),
            files=files,
            open_spans=open_spans,
            sessions=sessions,
            gaps=every_gap,
            slices=slices,
            interval_ns=_interval_ns(manifest),
            now_ns=now_ns,
            whole=whole,
        )
    return DayView(
        feed=feed,
        date=date,
        verdict=verdict,
        facts=_facts(manifest, gaps, opened),
        timeline=drawn,
        gaps=page_of(every_gap, gaps_page, _GAPS_A_PAGE),
        gap_groups=_groups(every_gap),
        types=_types(slices, drawn),
        tickers=tickers[:_MOST_TICKERS],
        more_tickers=max(0, len(tickers) - _MOST_TICKERS),
        files=page_of(downloads, files_page, _FILES_A_PAGE),
        opened=opened,
        sessions=sessions[:_MOST_SESSIONS],
        more_sessions=max(0, len(sessions) - _MOST_SESSIONS),
        anomalies=manifest.anomalies if manifest else [],
        env=manifest.env if manifest else "",
        stream=manifest.stream if manifest else "",
        interval=_interval(manifest) if manifest else "",
    )


def _interval_ns(manifest: Manifest | None) -> int:
    return DAY_NS if manifest is None else parse_interval(manifest.rotation_interval).seconds * SECOND_NS


def _interval(manifest: Manifest) -> str:
    return span(_interval_ns(manifest))


def _facts(manifest: Manifest | None, gaps: Sequence[GapEntry], opened: Sequence[OpenSegment]) -> list[Fact]:
    files = manifest.files if manifest else []
    in_open = sum(part.records for part in opened)
    raw = sum(file.bytes for file in files)
    packed = sum(file.compressed_bytes for file in files)
    ratio = f"{size(packed)} compressed" if packed else ""
    facts = [
        Fact(
            "Records",
            number(sum(file.records for file in files)),
            f"and {number(in_open)} in the open segment" if opened else "",
        ),
        Fact("Bytes", size(raw), ratio),
        Fact(
            "Segments",
            number(len(files)),
            f"a new one every {_interval(manifest)}" if manifest else "",
        ),
    ]
    if manifest is not None or gaps:
        missing = [gap.missing_count for gap in gaps]
        known = sum(part or 0 for part in missing)
        hint = f"{number(known)} known to be missing" + (", and more" if None in missing else "")
        if not known and None in missing:
            hint = "of unknown size"
        facts.append(Fact("Gaps", number(len(missing)), hint if missing else "nothing is known to be missing"))
    if manifest is not None:
        types = count(len(manifest.message_types), "type")
        facts.append(Fact("Tickers", number(len(manifest.tickers)), f"of {types}"))
    return facts


def _groups(gaps: Sequence[GapView]) -> list[GapGroup]:
    """Sum the gaps up by layer and cause, in the order data passes the layers."""
    groups: dict[tuple[str, str], list[GapView]] = {}
    for gap in gaps:
        groups.setdefault((gap.entry.layer, gap.explanation.title), []).append(gap)
    order = list(LAYERS)
    return [
        GapGroup(layer, title, members[0].url, count(len(members), "gap"), _missing(members))
        for (layer, title), members in sorted(groups.items(), key=lambda item: order.index(item[0][0]))
    ]


def _missing(gaps: Sequence[GapView]) -> str:
    known = sum(gap.entry.missing_count or 0 for gap in gaps)
    if all(gap.entry.missing_count is not None for gap in gaps):
        return f"{number(known)} missing"
    return f"more than {number(known)} missing" if known else "an unknown number missing"


def _types(slices: Sequence[Slice], drawn: Timeline | None) -> list[TypeRow]:
    if drawn is None:
        return []
    totals: Counter[str] = Counter()
    for part in slices:
        totals.update(part.records_by_type)
    start_ns, end_ns = drawn.scale.start_ns, drawn.scale.end_ns
    width_ns = bucket_ns(end_ns - start_ns)
    return [
        TypeRow(
            name,
            records,
            share(records, totals.total()),
            outline(bars(slices, start_ns, end_ns, width_ns, kind=name)),
        )
        for name, records in totals.most_common()
    ]
