from __future__ import annotations

import datetime as dt
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_manifest_api.catalog import Day
from ssmd_manifest_api.condition import Condition, Reason, Verdict
from ssmd_manifest_api.view_calendar import MEANINGS, CalendarDay, calendar_of, strip, trouble
from ssmd_manifest_api.view_feed import feed_view, freshness

FIRST = dt.date(2025, 11, 20)


def day(date: dt.date, condition: Condition = Condition.AVAILABLE, records: int = 10, gaps: int = 0) -> Day:
    return Day(
        date=date,
        verdict=Verdict(condition, (Reason("absent", "nothing is archived"),) if condition != "available" else ()),
        exists=True,
        records=records,
        bytes=records,
        compressed_bytes=records,
        files=1,
        gaps=gaps,
        complete_through=None,
        modified_ns=None,
    )


def days(count: int, first: dt.date = FIRST) -> list[Day]:
    return [day(first + dt.timedelta(days=at)) for at in range(count)]


@settings(deadline=None)
@given(st.dates(dt.date(2000, 1, 1), dt.date(2100, 1, 1)), st.integers(1, 330))
def test_every_day_of_a_year_is_in_the_calendar_once_under_its_weekday(first: dt.date, count: int) -> None:
    shown = calendar_of("kalshi", days(count, first))
    found = [
        (cell.date, weekday)
        for month in shown.months
        for week in month.weeks
        for weekday, cell in enumerate(week)
        if isinstance(cell, CalendarDay)
    ]
    assert sorted(date for date, _ in found) == [first + dt.timedelta(days=at) for at in range(count)]
    assert all(date.weekday() == weekday for date, weekday in found)
    assert sum(shown.counts.values()) == count


def test_a_long_archive_shows_its_latest_year_and_any_other_when_asked() -> None:
    archive = days(800)
    latest, first_year = calendar_of("kalshi", archive), calendar_of("kalshi", archive, 2025)
    assert len(latest.months) == 12
    assert latest.months[0].name == "January 2028"
    assert latest.years == [2028, 2027, 2026, 2025]
    assert [month.name for month in first_year.months] == ["December 2025", "November 2025"]


def test_the_strip_ends_today_whatever_the_feed_holds() -> None:
    cells = strip("kalshi", days(3), FIRST + dt.timedelta(days=4))
    assert len(cells) == 60
    assert [cell is not None for cell in cells][-6:] == [False, True, True, True, False, False]


def test_a_day_is_told_in_words() -> None:
    cells = strip("kalshi", [day(FIRST, Condition.DEGRADED, 1_200, gaps=2)], FIRST)
    assert cells[-1] is not None
    assert cells[-1].label == "Thursday 20 November 2025: degraded, 1,200 records, 2 gaps"
    assert cells[-1].url == "/feeds/kalshi/2025-11-20"


def test_days_to_look_at_are_those_that_are_over_and_not_whole() -> None:
    shown = trouble("kalshi", [day(FIRST, condition) for condition in Condition])
    assert [one.condition for one in shown] == [Condition.UNVERIFIABLE, Condition.MISSING, Condition.DEGRADED]
    assert {one.why for one in shown} == {"nothing is archived"}


def test_every_condition_has_a_meaning() -> None:
    assert set(MEANINGS) == set(Condition)


def test_a_feed_is_live_while_its_last_message_is_minutes_old() -> None:
    second = 1_000_000_000
    assert [freshness(0, age * second).live for age in (0, 299, 301)] == [True, True, False]
    assert freshness(0, 3 * second).text == "last heard just now"
    assert freshness(0, 3_700 * second).text == "last heard 1 h 1 min ago"
    assert freshness(None, 0).text == "no data yet"


def test_a_day_that_is_missing_is_none_of_those_a_feed_has() -> None:
    absent = replace(day(FIRST + dt.timedelta(days=1), Condition.MISSING, records=0), exists=False)
    view = feed_view("kalshi", [day(FIRST), absent, day(FIRST + dt.timedelta(days=2))], newest_ns=None, now_ns=0)
    assert (view.facts[0].name, view.facts[0].value) == ("Days", "2")
