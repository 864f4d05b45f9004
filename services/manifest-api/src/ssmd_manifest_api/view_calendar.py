"""The days of a feed as a calendar and as a strip; pure."""

from __future__ import annotations

import calendar
import datetime as dt
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from ssmd_manifest_api.condition import Condition
from ssmd_manifest_api.view_text import count, day_name

if TYPE_CHECKING:
    from ssmd_manifest_api.catalog import Day

__all__ = [
    "ADVICE",
    "MEANINGS",
    "Calendar",
    "CalendarDay",
    "Month",
    "Trouble",
    "calendar_of",
    "latest",
    "strip",
    "trouble",
]

MEANINGS: Mapping[Condition, str] = {
    Condition.AVAILABLE: "whole, as far as anyone can tell",
    Condition.DEGRADED: "something is known to be missing",
    Condition.PENDING: "still being written",
    Condition.MISSING: "nothing is archived, though data was expected",
    Condition.UNVERIFIABLE: "nothing is known to be missing, and nothing proves it",
}
"""What a condition says of a day, in the order of the legend."""

ADVICE: Mapping[Condition, str] = {
    Condition.AVAILABLE: "",
    Condition.DEGRADED: "Every gap is explained below, with its bounds and what can be done about it.",
    Condition.PENDING: "What is sealed can be downloaded now; the rest comes as its segments are sealed.",
    Condition.MISSING: (
        "Find out whether connector and archiver ran: their logs tell. If the stream still holds the day, start "
        "the archiver and it comes by itself; if the folder was moved away, bring it back."
    ),
    Condition.UNVERIFIABLE: (
        "Use it as it is: no gap is known. Whoever needs proof captures this feed with a connector that numbers "
        "its frames, and lets it stop in order."
    ),
}
"""What to do with a day of each condition."""

_STRIP_DAYS = 60
_MONTHS = 12
_LEVELS = 4
_REASONS = 2


@dataclass(frozen=True, slots=True)
class CalendarDay:
    """One day of a feed in a calendar.

    Attributes:
        label: All of it in one line, for a screen reader and as a tooltip.
        level: How much it holds beside the feed's fullest day, 0 to 4.
    """

    date: dt.date
    url: str
    condition: Condition
    label: str
    level: int


@dataclass(frozen=True, slots=True)
class Trouble:
    """A day that is over and not available, and why."""

    date: dt.date
    url: str
    condition: Condition
    why: str


@dataclass(frozen=True, slots=True)
class Month:
    """A month's grid: weeks from Monday on, None where the month or the feed has no such day."""

    name: str
    first: dt.date
    weeks: list[list[CalendarDay | dt.date | None]]


@dataclass(frozen=True, slots=True)
class Calendar:
    """What a feed's page shows.

    Attributes:
        counts: Days by condition, of the months shown.
        years: The years the feed has, the latest first, where it has more than the months shown.
        year: The year shown; None for the latest twelve months.
    """

    months: list[Month]
    counts: dict[Condition, int]
    years: list[int]
    year: int | None


def calendar_of(feed: str, days: Sequence[Day], year: int | None = None) -> Calendar:
    """Lay a feed's days out by month.

    Args:
        feed: Name of the feed.
        days: Its days from the first to the last, those without a folder among them.
        year: Only this year; None for the latest twelve months.
    """
    found = {day.date: day for day in days}
    firsts = sorted({date.replace(day=1) for date in found})
    years = sorted({first.year for first in firsts}, reverse=True)
    shown = firsts[-_MONTHS:] if year is None else [first for first in firsts if first.year == year]
    wanted = {(first.year, first.month) for first in shown}
    most = max((day.records for day in days), default=0)
    cells = {date: _cell(feed, day, most) for date, day in found.items() if (date.year, date.month) in wanted}
    conditions = Counter(cell.condition for cell in cells.values())
    return Calendar(
        months=[_month(first, cells) for first in reversed(shown)],
        counts={condition: conditions[condition] for condition in MEANINGS},
        years=years if len(firsts) > _MONTHS else [],
        year=year,
    )


def strip(feed: str, days: Sequence[Day], today: dt.date) -> list[CalendarDay | None]:
    """Return the sixty days up to today, oldest first; None for one the feed has nothing of."""
    most = max((day.records for day in days), default=0)
    first = today - dt.timedelta(days=_STRIP_DAYS - 1)
    cells = {day.date: _cell(feed, day, most) for day in days if first <= day.date <= today}
    return [cells.get(first + dt.timedelta(days=number)) for number in range(_STRIP_DAYS)]


def latest(feed: str, days: Sequence[Day]) -> CalendarDay:
    """Return a feed's latest day; it has at least one."""
    return _cell(feed, days[-1], max(day.records for day in days))


def trouble(feed: str, days: Sequence[Day]) -> list[Trouble]:
    """Return the days that are over and not available, the latest first."""
    return [
        Trouble(day.date, _url(feed, day), day.verdict.condition, "; ".join(_why(day)))
        for day in reversed(days)
        if day.verdict.condition not in (Condition.AVAILABLE, Condition.PENDING)
    ]


def _why(day: Day) -> Iterator[str]:
    """Yield the first reasons of a day, and how many more there are."""
    reasons = day.verdict.reasons
    yield from (reason.text for reason in reasons[:_REASONS])
    if len(reasons) > _REASONS:
        yield f"{len(reasons) - _REASONS} more"


def _url(feed: str, day: Day) -> str:
    return f"/feeds/{quote(feed)}/{day.date.isoformat()}"


def _cell(feed: str, day: Day, most: int) -> CalendarDay:
    """Return a day's cell; ``most`` is how many records the feed's fullest day holds."""
    return CalendarDay(
        date=day.date,
        url=_url(feed, day),
        condition=day.verdict.condition,
        label=_label(day),
        level=-(-_LEVELS * day.records // most) if most else 0,
    )


def _label(day: Day) -> str:
    parts = [f"{day_name(day.date)}: {day.verdict.condition.value}"]
    if day.records:
        parts.append(count(day.records, "record"))
    if day.gaps:
        parts.append(count(day.gaps, "gap"))
    elif day.verdict.reasons:
        parts.append(day.verdict.reasons[0].text)
    return ", ".join(parts)


def _month(first: dt.date, cells: Mapping[dt.date, CalendarDay]) -> Month:
    weeks: list[list[CalendarDay | dt.date | None]] = [
        [cells.get(date, date) if date.month == first.month else None for date in week]
        for week in calendar.Calendar().monthdatescalendar(first.year, first.month)
    ]
    return Month(name=f"{first:%B %Y}", first=first, weeks=weeks)
