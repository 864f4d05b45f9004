"""When an exchange is expected to be silent, from its feed's calendar. Pure: instants in, instants out.

Silence is expected in a weekly maintenance window, outside the trading hours, and on a holiday. Times of the
calendar are those a wall clock of its zone shows. A time the clocks skip counts as much later as they jump; of a
time they show twice, a beginning means the first and an end the last.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from ssmd_common.archive.times import DAY_NS, SECOND_NS, date_of, day_start_ns
from ssmd_common.config.calendar import WEEKDAYS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ssmd_common.config.calendar import Calendar

__all__ = ["CalendarState", "Silence", "expected_times", "quiet_times", "state_at"]

_HORIZON_NS = 8 * DAY_NS
_DAY_MINUTES = 24 * 60
_MARGIN = dt.timedelta(days=2)
"""More than any zone's distance from UTC and a window over midnight together."""


class Silence(StrEnum):
    """Why no data is expected."""

    MAINTENANCE = "maintenance"
    CLOSED = "closed"
    HOLIDAY = "holiday"


@dataclass(frozen=True, slots=True)
class CalendarState:
    """What is expected at a moment.

    Attributes:
        silence: Why no data is; None where it is.
        until_ns: The next moment at which that may change, at most eight days on.
    """

    silence: Silence | None
    until_ns: int


def state_at(calendar: Calendar, ns: int) -> CalendarState:
    """Return what is expected at ``ns``, nanoseconds since the epoch."""
    for start_ns, end_ns, reason in quiet_times(calendar, ns, ns + _HORIZON_NS):
        return CalendarState(reason, end_ns) if start_ns <= ns else CalendarState(None, start_ns)
    return CalendarState(None, ns + _HORIZON_NS)


def expected_times(calendar: Calendar, date: dt.date) -> list[tuple[int, int]]:
    """Return the half-open ranges of a UTC day in which data is expected, in nanoseconds; empty on a day off."""
    start_ns = day_start_ns(date)
    quiet = [(first, end) for first, end, _ in quiet_times(calendar, start_ns, start_ns + DAY_NS)]
    return list(_between(quiet, start_ns, start_ns + DAY_NS))


def quiet_times(calendar: Calendar, start_ns: int, end_ns: int) -> list[tuple[int, int, Silence]]:
    """Return the half-open ranges within ``[start_ns, end_ns)`` in which silence is expected, in order.

    Ranges that touch are one, named after what began first.
    """
    zone = ZoneInfo(calendar.timezone)
    days = list(_days(date_of(start_ns) - _MARGIN, date_of(end_ns) + _MARGIN))
    sessions = [
        _range_ns(zone, day, calendar.open_time or 0, calendar.close_time or _DAY_MINUTES)
        for day in days
        if day not in calendar.holidays
    ]
    off = Silence.HOLIDAY if calendar.open_time is None else Silence.CLOSED
    quiet = [(start, end, off) for start, end in _between(sessions, start_ns, end_ns)]
    quiet += [
        (*_range_ns(zone, day, window.start, window.end), Silence.MAINTENANCE)
        for day in days
        for window in calendar.maintenance
        if WEEKDAYS[day.weekday()] == window.day
    ]
    merged: list[tuple[int, int, Silence]] = []
    for start, end, reason in sorted(quiet):
        first, last = max(start, start_ns), min(end, end_ns)
        if first >= last:
            continue
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last), merged[-1][2])
        else:
            merged.append((first, last, reason))
    return merged


def _days(first: dt.date, last: dt.date) -> Iterator[dt.date]:
    for number in range((last - first).days + 1):
        yield first + dt.timedelta(days=number)


def _range_ns(zone: ZoneInfo, day: dt.date, start: int, end: int) -> tuple[int, int]:
    """Return the instants between two times of day, in minutes; an end at or before its start is the next day's."""
    if end <= start:
        end += _DAY_MINUTES
    return _instants_ns(zone, day, start)[0], max(_instants_ns(zone, day, end))


def _instants_ns(zone: ZoneInfo, day: dt.date, minutes: int) -> tuple[int, int]:
    """Return both instants at which the clock shows a time; they differ where it was put back, or skipped it."""
    wall = dt.datetime.combine(day, dt.time(), tzinfo=zone) + dt.timedelta(minutes=minutes)
    return int(wall.replace(fold=0).timestamp()) * SECOND_NS, int(wall.replace(fold=1).timestamp()) * SECOND_NS


def _between(ranges: Iterable[tuple[int, int]], start_ns: int, end_ns: int) -> Iterator[tuple[int, int]]:
    """Yield what of ``[start_ns, end_ns)`` the ranges, in any order, leave out."""
    at_ns = start_ns
    for first, end in sorted(ranges):
        if at_ns < min(first, end_ns):
            yield at_ns, min(first, end_ns)
        at_ns = max(at_ns, end)
    if at_ns < end_ns:
        yield at_ns, end_ns
