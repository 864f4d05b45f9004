from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_archiver.rotation import Place, Reason, Rotation, idle_seal_due
from ssmd_common.archive.layout import Window, segment_name, window_of
from ssmd_common.archive.times import DAY_NS, SECOND_NS, from_rfc3339

MINUTE_NS = 60 * SECOND_NS
QUARTER = Rotation(15 * MINUTE_NS)
NOON = from_rfc3339("2026-11-23T12:00:00Z")


@settings(deadline=None)
@given(st.integers(0, 4 * 10**18), st.integers(1, 86_400))
def test_a_window_holds_its_time_and_stays_in_its_day(ns: int, interval_s: int) -> None:
    window = window_of(ns, interval_s * SECOND_NS)
    assert window.start_ns <= ns < window.end_ns
    assert window.start_ns // DAY_NS == (window.end_ns - 1) // DAY_NS
    assert (window.start_ns % DAY_NS) % (interval_s * SECOND_NS) == 0
    assert window.end_ns - window.start_ns <= interval_s * SECOND_NS


@pytest.mark.parametrize(
    ("interval_s", "at", "part", "name"),
    [
        (900, "2026-11-23T06:16:18Z", 0, "0615"),
        (30, "2026-11-23T06:16:18Z", 0, "061600"),
        (90, "2026-11-23T00:01:31Z", 2, "000130-2"),
        (7 * 3600, "2026-11-23T23:59:59Z", 0, "2100"),
        (86_400, "2026-11-23T23:59:59Z", 1, "0000-1"),
    ],
)
def test_a_segment_is_named_by_its_windows_start(interval_s: int, at: str, part: int, name: str) -> None:
    assert segment_name(window_of(from_rfc3339(at), interval_s * SECOND_NS), interval_s * SECOND_NS, part) == name


def test_a_message_of_the_window_stays() -> None:
    window = window_of(NOON, QUARTER.interval_ns)
    assert QUARTER.place(window, 0, NOON + 1, 10) == Place(window)


def test_a_later_message_closes_the_window() -> None:
    window = window_of(NOON, QUARTER.interval_ns)
    place = QUARTER.place(window, 0, window.end_ns, 10)
    assert place == Place(window_of(window.end_ns, QUARTER.interval_ns), Reason.WINDOW)


def test_a_time_going_back_a_little_stays_and_is_late() -> None:
    window = window_of(NOON, QUARTER.interval_ns)
    assert QUARTER.place(window, 0, window.start_ns - QUARTER.interval_ns, 10) == Place(window, late=True)


def test_a_time_going_back_a_lot_opens_its_true_window() -> None:
    window = window_of(NOON, QUARTER.interval_ns)
    back = window.start_ns - QUARTER.interval_ns - 1
    assert QUARTER.place(window, 0, back, 10) == Place(window_of(back, QUARTER.interval_ns), Reason.CLOCK)


def test_a_full_segment_is_closed_before_the_line_that_would_pass_its_bound() -> None:
    rotation = Rotation(QUARTER.interval_ns, max_bytes=100)
    window = window_of(NOON, rotation.interval_ns)
    assert rotation.place(window, 90, NOON, 10).seal is None
    assert rotation.place(window, 90, NOON, 11).seal is Reason.SIZE
    assert rotation.place(window, 0, NOON, 1000).seal is None, (
        "a line larger than the bound gets a segment of its own"
    )


def test_a_quiet_window_closes_by_the_servers_clock_once_all_is_archived() -> None:
    window = Window(0, 100)
    assert not idle_seal_due(window, 104, 5, drained=True)
    assert idle_seal_due(window, 105, 5, drained=True)
    assert not idle_seal_due(window, 10**6, 5, drained=False)
