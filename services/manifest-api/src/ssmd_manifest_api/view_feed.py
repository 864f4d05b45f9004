"""A feed at a glance: how fresh it is, its totals, its latest days; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from ssmd_common.archive.times import SECOND_NS, date_of
from ssmd_manifest_api.view_calendar import CalendarDay, latest, strip
from ssmd_manifest_api.view_parts import Fact
from ssmd_manifest_api.view_text import compact, count, number, size, span

if TYPE_CHECKING:
    from ssmd_manifest_api.catalog import Day

__all__ = ["FeedView", "Freshness", "feed_view", "freshness"]

_LIVE_NS = 5 * 60 * SECOND_NS
_NOW_NS = 10 * SECOND_NS


@dataclass(frozen=True, slots=True)
class Freshness:
    """How new the newest durable message is.

    Attributes:
        live: It came within the last five minutes; the slowest heartbeat leaves a stream silent for one.
        text: The same in words.
        newest_ns: Its server time; None where there is none.
    """

    live: bool
    text: str
    newest_ns: int | None


@dataclass(frozen=True, slots=True)
class FeedView:
    """A feed on the first page and at the head of its own; ``strip`` is the sixty days up to today."""

    name: str
    url: str
    freshness: Freshness
    last: CalendarDay
    strip: list[CalendarDay | None]
    facts: list[Fact]


def freshness(newest_ns: int | None, now_ns: int) -> Freshness:
    """Tell how new a feed is.

    Args:
        newest_ns: Server time of its newest durable message; None where it has none.
        now_ns: The time now.
    """
    if newest_ns is None:
        return Freshness(live=False, text="no data yet", newest_ns=None)
    age_ns = max(0, now_ns - newest_ns)
    # A page is no stopwatch: blocks last five seconds, and it was rendered a while ago.
    words = "just now" if age_ns < _NOW_NS else f"{span(age_ns // SECOND_NS * SECOND_NS)} ago"
    return Freshness(live=age_ns <= _LIVE_NS, text=f"last heard {words}", newest_ns=newest_ns)


def feed_view(feed: str, days: Sequence[Day], *, newest_ns: int | None, now_ns: int) -> FeedView:
    """Return a feed at a glance.

    Args:
        feed: Its name.
        days: Its days from the first to the last, those without a folder among them; at least one.
        newest_ns: Server time of its newest durable message; None where it has none.
        now_ns: The time now.
    """
    raw = sum(day.bytes for day in days)
    packed = sum(day.compressed_bytes for day in days)
    records = sum(day.records for day in days)
    gaps = sum(day.gaps for day in days)
    gap_days = sum(day.gaps > 0 for day in days)
    return FeedView(
        name=feed,
        url=f"/feeds/{quote(feed)}",
        freshness=freshness(newest_ns, now_ns),
        last=latest(feed, days),
        strip=strip(feed, days, date_of(now_ns)),
        facts=[
            Fact("Days", number(sum(day.exists for day in days)), f"since {days[0].date.isoformat()}"),
            Fact("Records", compact(records), "sealed"),
            Fact("On disk", size(packed), f"of {size(raw)} JSON lines" if raw else ""),
            Fact("Gaps", number(gaps), f"in {count(gap_days, 'day')}" if gaps else "none known"),
        ],
    )
