from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_common.archive.times import SECOND_NS, from_rfc3339, to_rfc3339
from ssmd_common.errors import WireError

OFFSETS = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)))
MOMENTS = st.datetimes(dt.datetime(1000, 1, 3), dt.datetime(9999, 12, 29), timezones=OFFSETS)  # noqa: DTZ001 - given one each


@settings(deadline=None)
@given(MOMENTS, st.integers(0, SECOND_NS - 1))
def test_a_moment_comes_back_to_the_nanosecond(moment: dt.datetime, nanosecond: int) -> None:
    ns = int(moment.replace(microsecond=0).timestamp()) * SECOND_NS + nanosecond
    assert from_rfc3339(to_rfc3339(ns)) == ns


@settings(deadline=None)
@given(MOMENTS)
def test_any_offset_names_the_same_moment(moment: dt.datetime) -> None:
    since = moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    assert from_rfc3339(moment.isoformat()) == since // dt.timedelta(microseconds=1) * 1_000


def test_a_leap_second_is_the_first_of_the_next_minute() -> None:
    assert from_rfc3339("2016-12-31T23:59:60Z") == from_rfc3339("2017-01-01T00:00:00Z")


@pytest.mark.parametrize(
    "text",
    [
        "2026-02-30T00:00:00Z",
        "2026-11-23T24:00:00Z",
        "2026-11-23T12:60:00Z",
        "2026-11-23T12:00:61Z",
        "2026-11-23T12:00:00",
        "2026-11-23T12:00:00+24:00",
        "2026-11-23T12:00:00+01:60",
        "2026-11-23T12:00:00.Z",
        "2026-11-23 12:00:00Z",
        "٢٠٢٦-11-23T12:00:00Z",
        "0000-01-01T00:00:00Z",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(WireError, match="RFC 3339"):
        from_rfc3339(text)
