from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_common.archive.times import DAY_NS, day_start_ns, from_rfc3339
from ssmd_common.calendar import CalendarState, Silence, expected_times, quiet_times, state_at
from ssmd_common.config.calendar import WEEKDAYS, Calendar
from ssmd_common.config.feed import Feed
from ssmd_common.config.loading import parse_model
from ssmd_common.errors import ConfigError

KALSHI = Calendar.model_validate(
    {
        "timezone": "America/New_York",
        "maintenance": [{"day": "thursday", "start": "03:00", "end": "05:00"}],
    }
)
HOUR_NS = DAY_NS // 24


def ns(text: str) -> int:
    return from_rfc3339(text)


@pytest.mark.parametrize(
    ("thursday", "begins", "ends"),
    [
        ("2026-01-15", "2026-01-15T08:00:00Z", "2026-01-15T10:00:00Z"),
        ("2026-07-16", "2026-07-16T07:00:00Z", "2026-07-16T09:00:00Z"),
        # The Thursdays around the nights on which New York's clocks change.
        ("2026-03-05", "2026-03-05T08:00:00Z", "2026-03-05T10:00:00Z"),
        ("2026-03-12", "2026-03-12T07:00:00Z", "2026-03-12T09:00:00Z"),
        ("2026-10-29", "2026-10-29T07:00:00Z", "2026-10-29T09:00:00Z"),
        ("2026-11-05", "2026-11-05T08:00:00Z", "2026-11-05T10:00:00Z"),
    ],
)
def test_a_weekly_window_follows_the_clocks_of_its_zone(thursday: str, begins: str, ends: str) -> None:
    start = day_start_ns(dt.date.fromisoformat(thursday))
    assert quiet_times(KALSHI, start, start + DAY_NS) == [(ns(begins), ns(ends), Silence.MAINTENANCE)]


def test_a_state_holds_until_the_next_change() -> None:
    before, begins, ends = ns("2026-07-15T12:00:00Z"), ns("2026-07-16T07:00:00Z"), ns("2026-07-16T09:00:00Z")
    assert state_at(KALSHI, before) == CalendarState(None, begins)
    assert state_at(KALSHI, begins - 1) == CalendarState(None, begins)
    assert state_at(KALSHI, begins) == CalendarState(Silence.MAINTENANCE, ends)
    assert state_at(KALSHI, ends - 1) == CalendarState(Silence.MAINTENANCE, ends)
    assert state_at(KALSHI, ends) == CalendarState(None, begins + 7 * DAY_NS)


def test_a_calendar_without_times_expects_data_always() -> None:
    assert quiet_times(Calendar(), 0, 30 * DAY_NS) == []
    assert state_at(Calendar(), 5).silence is None


def test_a_window_over_midnight_ends_on_the_next_day() -> None:
    late = Calendar.model_validate({"maintenance": [{"day": "saturday", "start": "22:30", "end": "01:00"}]})
    start = day_start_ns(dt.date(2026, 11, 21))
    found = quiet_times(late, start, start + 2 * DAY_NS)
    assert found == [(ns("2026-11-21T22:30:00Z"), ns("2026-11-22T01:00:00Z"), Silence.MAINTENANCE)]
    sunday = expected_times(late, dt.date(2026, 11, 22))
    assert sunday == [(ns("2026-11-22T01:00:00Z"), ns("2026-11-23T00:00:00Z"))]


def test_windows_that_touch_are_one() -> None:
    touching = [
        {"day": "friday", "start": "10:00", "end": "11:00"},
        {"day": "friday", "start": "11:00", "end": "12:00"},
    ]
    calendar = Calendar.model_validate({"maintenance": touching})
    assert state_at(calendar, ns("2026-11-20T10:30:00Z")).until_ns == ns("2026-11-20T12:00:00Z")


def test_trading_hours_and_holidays_tell_when_data_is_expected() -> None:
    calendar = Calendar.model_validate(
        {
            "timezone": "America/New_York",
            "open_time": "09:30",
            "close_time": "16:00",
            "holidays": ["2026-11-26"],
        }
    )
    assert expected_times(calendar, dt.date(2026, 11, 25)) == [
        (ns("2026-11-25T14:30:00Z"), ns("2026-11-25T21:00:00Z"))
    ]
    assert expected_times(calendar, dt.date(2026, 11, 26)) == []
    closed = state_at(calendar, ns("2026-11-25T22:00:00Z"))
    assert closed == CalendarState(Silence.CLOSED, ns("2026-11-27T14:30:00Z"))


def test_a_session_that_ends_at_midnight_or_behind_it_is_whole() -> None:
    for close, end in (("00:00", "2026-11-25T00:00:00Z"), ("02:00", "2026-11-25T02:00:00Z")):
        calendar = Calendar.model_validate({"open_time": "04:00", "close_time": close})
        assert state_at(calendar, ns("2026-11-24T23:59:59Z")) == CalendarState(None, ns(end))


def test_a_holiday_without_trading_hours_is_a_whole_day_of_the_zone() -> None:
    calendar = Calendar.model_validate({"timezone": "Asia/Tokyo", "holidays": ["2026-01-01"]})
    start = day_start_ns(dt.date(2025, 12, 31))
    found = quiet_times(calendar, start, start + 2 * DAY_NS)
    assert found == [(ns("2025-12-31T15:00:00Z"), ns("2026-01-01T15:00:00Z"), Silence.HOLIDAY)]


def test_an_hour_shown_twice_lies_within_and_an_hour_skipped_costs_nothing() -> None:
    windows = [{"day": "sunday", "start": "01:00", "end": "02:00"}]
    twice = Calendar.model_validate({"timezone": "America/New_York", "maintenance": windows})
    autumn = day_start_ns(dt.date(2026, 11, 1))
    ((first, last, _),) = quiet_times(twice, autumn, autumn + DAY_NS)
    assert (first, last) == (ns("2026-11-01T05:00:00Z"), ns("2026-11-01T07:00:00Z"))
    skipped = Calendar.model_validate(
        {"timezone": "America/New_York", "maintenance": [{"day": "sunday", "start": "02:00", "end": "03:00"}]}
    )
    spring = day_start_ns(dt.date(2026, 3, 8))
    assert quiet_times(skipped, spring, spring + DAY_NS) == []


ZONES = st.sampled_from(
    ["UTC", "America/New_York", "Europe/London", "Asia/Kolkata", "Pacific/Kiritimati", "Pacific/Apia"]
)
MINUTES = st.integers(0, 24 * 60 - 1)
DATES = st.dates(dt.date(2020, 1, 1), dt.date(2030, 12, 31))


def clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


@st.composite
def calendars(draw: st.DrawFn) -> Calendar:
    windows = st.builds(
        lambda day, start, end: {"day": day, "start": clock(start), "end": clock(end)},
        st.sampled_from(WEEKDAYS),
        MINUTES,
        MINUTES,
    )
    hours = draw(st.booleans())
    return Calendar.model_validate(
        {
            "timezone": draw(ZONES),
            "maintenance": draw(st.lists(windows, max_size=3)),
            "holidays": draw(st.lists(DATES, max_size=3)),
            **({"open_time": clock(draw(MINUTES)), "close_time": clock(draw(MINUTES))} if hours else {}),
        }
    )


@given(calendars(), DATES)
@settings(deadline=None)
def test_expected_and_quiet_times_are_the_whole_day_and_never_overlap(calendar: Calendar, date: dt.date) -> None:
    start = day_start_ns(date)
    pieces = expected_times(calendar, date)
    pieces += [(first, end) for first, end, _ in quiet_times(calendar, start, start + DAY_NS)]
    pieces.sort()
    edges = [start, *(end for _, end in pieces)]
    assert [first for first, _ in pieces] == edges[:-1]
    assert edges[-1] == start + DAY_NS


@given(calendars(), DATES, st.integers(0, DAY_NS - 1))
@settings(deadline=None)
def test_a_state_is_the_same_until_it_says_it_changes(calendar: Calendar, date: dt.date, offset: int) -> None:
    at = day_start_ns(date) + offset
    state = state_at(calendar, at)
    assert at < state.until_ns
    for later in (at + (state.until_ns - at) // 2, state.until_ns - 1):
        assert (state_at(calendar, later).silence is None) is (state.silence is None)


@given(ZONES, st.sampled_from(WEEKDAYS), st.integers(0, 22), DATES)
@settings(deadline=None)
def test_a_window_is_when_the_wall_clock_shows_it(zone: str, day: str, hour: int, date: dt.date) -> None:
    """Asked of the clock itself, hour by hour, on days without a change of the clocks."""
    windows = [{"day": day, "start": clock(hour * 60), "end": clock((hour + 1) * 60)}]
    calendar = Calendar.model_validate({"timezone": zone, "maintenance": windows})
    start = day_start_ns(date)
    for half_hour in range(48):
        at = start + half_hour * HOUR_NS // 2
        wall = dt.datetime.fromtimestamp(at // 10**9, ZoneInfo(zone))
        offsets = {(wall + dt.timedelta(days=shift)).utcoffset() for shift in (-1, 0, 1)}
        if len(offsets) == 1:
            shown = WEEKDAYS[wall.weekday()] == day and wall.hour == hour
            assert (state_at(calendar, at).silence is Silence.MAINTENANCE) is shown


FEED = """\
name: f
type: websocket
versions:
  - {version: v1, effective_from: 2025-01-01, protocol: {transport: wss, message: json}, endpoint: wss://x}
calendar:
"""


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("  timezone: America/Kalshi\n", r"calendar.timezone: 'America/Kalshi' is no time zone known here"),
        ("  timezone: ../x\n", r"is no time zone known here"),
        ("  open_time: 09:30\n", r"close_time is missing"),
        (
            "  open_time: 25:00\n  close_time: 26:00\n",
            r"calendar.open_time: '25:00' is no time of day \(write it as",
        ),
        ("  maintenance: [{day: Thursday, start: 03:00, end: 05:00}]\n", r"calendar.maintenance.0.day"),
        ("  holidays: [26 Nov]\n", r"calendar.holidays.0: '26 Nov' is no date"),
    ],
)
def test_what_is_no_calendar_is_told_by_its_field(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        parse_model(FEED + text, Feed, file="f.yaml")
