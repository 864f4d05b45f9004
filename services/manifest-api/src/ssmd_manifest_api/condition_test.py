from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_common.archive.times import DAY_NS, day_start_ns
from ssmd_manifest_api.condition import Condition, DayFacts, Expectation, Reason, judge

DATE = dt.date(2026, 11, 23)
START = day_start_ns(DATE)
END = START + DAY_NS
HOUR = 3600 * 10**9
LOSS = Reason("gap", "3 messages missing", gap_id="g", start_ns=START + HOUR, end_ns=START + 2 * HOUR)
BETWEEN = Expectation(earlier=True, later=True)
INSTANTS = st.integers(START, END)
WHOLE = DayFacts(DATE, files=96, first_ns=START + 1, complete_through_ns=END)


@pytest.mark.parametrize(
    ("day", "now_ns", "expected"),
    [
        (WHOLE, END + HOUR, Condition.AVAILABLE),
        (replace(WHOLE, losses=(LOSS,)), END + HOUR, Condition.DEGRADED),
        (replace(WHOLE, complete_through_ns=START + HOUR), START + HOUR, Condition.PENDING),
        (replace(WHOLE, complete_through_ns=END - HOUR, open_segments=1), END + HOUR, Condition.PENDING),
        (replace(WHOLE, complete_through_ns=START + HOUR, losses=(LOSS,)), START + HOUR, Condition.DEGRADED),
        (DayFacts(DATE), END + HOUR, Condition.MISSING),
        (DayFacts(DATE), START + HOUR, Condition.PENDING),
        (DayFacts(DATE, open_segments=1), END + HOUR, Condition.PENDING),
        (replace(WHOLE, doubts=(Reason("no_sessions", "x"),)), END, Condition.UNVERIFIABLE),
        (replace(WHOLE, complete_through_ns=END - HOUR, unclosed=("s.1",)), END, Condition.UNVERIFIABLE),
        (replace(WHOLE, unclosed=("s.1",)), END, Condition.AVAILABLE),
        (DayFacts(DATE, damage="manifest damaged"), END, Condition.UNVERIFIABLE),
    ],
)
def test_a_day_is_judged(day: DayFacts, now_ns: int, expected: Condition) -> None:
    assert judge(day, now_ns=now_ns, expected=BETWEEN).condition == expected


def test_a_day_that_begins_late_after_a_day_with_data_is_degraded() -> None:
    late = replace(WHOLE, first_ns=START + HOUR)
    assert judge(late, now_ns=END, expected=Expectation()).condition == Condition.AVAILABLE
    verdict = judge(late, now_ns=END, expected=Expectation(before=True))
    assert verdict.condition == Condition.DEGRADED
    assert [(reason.start_ns, reason.end_ns) for reason in verdict.reasons] == [(START, START + HOUR)]


def test_a_day_that_ends_early_before_a_day_with_data_is_degraded() -> None:
    short = replace(WHOLE, complete_through_ns=END - HOUR)
    assert judge(short, now_ns=END, expected=Expectation()).condition == Condition.AVAILABLE
    verdict = judge(short, now_ns=END, expected=Expectation(after=True))
    assert [(reason.code, reason.start_ns, reason.end_ns) for reason in verdict.reasons] == [
        ("absent", END - HOUR, END)
    ]


def test_an_absence_that_a_gap_covers_is_told_once() -> None:
    gap = replace(LOSS, start_ns=START - HOUR, end_ns=START + HOUR)
    day = replace(WHOLE, first_ns=START + HOUR, losses=(gap,))
    assert judge(day, now_ns=END, expected=Expectation(before=True)).reasons == (gap,)


@settings(deadline=None)
@given(
    files=st.integers(0, 3),
    first=st.integers(START, END - 1),
    through=st.integers(START, END),
    losses=st.integers(0, 2),
    unclosed=st.integers(0, 2),
    opened=st.integers(0, 1),
    now=st.integers(START, END + DAY_NS),
    expected=st.builds(
        Expectation,
        earlier=st.booleans(),
        later=st.booleans(),
        before=st.booleans(),
        after=st.booleans(),
        quiet=st.none()
        | st.lists(st.tuples(st.integers(START, END), st.integers(START, END)), max_size=2).map(tuple),
    ),
)
def test_available_never_has_a_reason_and_everything_else_always_has_one(
    files: int,
    first: int,
    through: int,
    losses: int,
    unclosed: int,
    opened: int,
    now: int,
    expected: Expectation,
) -> None:
    day = DayFacts(
        DATE,
        files=files,
        first_ns=first if files else None,
        complete_through_ns=through if files else None,
        losses=(LOSS,) * losses,
        unclosed=tuple(f"s.{n}" for n in range(unclosed)),
        open_segments=opened,
    )
    verdict = judge(day, now_ns=now, expected=expected)
    assert (verdict.condition == Condition.AVAILABLE) == (verdict.reasons == ())
    if files and losses:
        assert verdict.condition == Condition.DEGRADED


QUIET = ((START + 3 * HOUR, START + 5 * HOUR),)


@pytest.mark.parametrize(
    ("expected", "condition", "codes"),
    [
        (Expectation(), Condition.UNVERIFIABLE, ["no_expectation"]),
        (Expectation(earlier=True), Condition.UNVERIFIABLE, ["no_expectation"]),
        (Expectation(later=True), Condition.UNVERIFIABLE, ["no_expectation"]),
        (Expectation(earlier=True, later=True), Condition.MISSING, ["absent"]),
        (Expectation(later=True, quiet=QUIET), Condition.UNVERIFIABLE, ["no_expectation"]),
        (Expectation(earlier=True, quiet=QUIET), Condition.MISSING, ["absent", "absent"]),
        (Expectation(earlier=True, later=True, quiet=((START, END),)), Condition.AVAILABLE, []),
    ],
)
def test_an_empty_day_is_missing_only_where_something_expects_data(
    expected: Expectation, condition: Condition, codes: list[str]
) -> None:
    verdict = judge(DayFacts(DATE), now_ns=END, expected=expected)
    assert (verdict.condition, [reason.code for reason in verdict.reasons]) == (condition, codes)


def test_an_empty_day_inside_a_known_gap_is_missing() -> None:
    verdict = judge(DayFacts(DATE, losses=(LOSS,)), now_ns=END, expected=Expectation())
    assert (verdict.condition, verdict.reasons[-1]) == (Condition.MISSING, LOSS)


def test_absent_windows_leave_out_the_times_the_calendar_keeps_silent() -> None:
    day = replace(
        WHOLE,
        first_ns=START + 4 * HOUR,
        complete_through_ns=END - HOUR,
        holes=((START + 6 * HOUR, START + 7 * HOUR),),
    )
    verdict = judge(day, now_ns=END, expected=Expectation(earlier=True, quiet=QUIET))
    assert [(reason.start_ns, reason.end_ns) for reason in verdict.reasons] == [
        (START, START + 3 * HOUR),
        (START + 6 * HOUR, START + 7 * HOUR),
        (END - HOUR, END),
    ]


def test_the_first_day_of_a_capture_may_begin_late_whatever_the_calendar_says() -> None:
    late = replace(WHOLE, first_ns=START + HOUR)
    assert judge(late, now_ns=END, expected=Expectation(quiet=())).condition == Condition.AVAILABLE


def test_a_connection_the_exchange_let_go_of_is_a_loss_only_outside_of_its_calendars_silence() -> None:
    gap = replace(LOSS, start_ns=START + 3 * HOUR - 10**9, end_ns=START + 5 * HOUR + 2 * 10**9)
    day = replace(WHOLE, let_go=(gap,))
    assert judge(day, now_ns=END, expected=Expectation(quiet=QUIET)).condition == Condition.AVAILABLE
    assert judge(day, now_ns=END, expected=Expectation(quiet=())).reasons == (gap,)
    assert judge(day, now_ns=END, expected=Expectation()).reasons == (gap,)
    longer = replace(day, let_go=(replace(gap, end_ns=START + 6 * HOUR),))
    assert judge(longer, now_ns=END, expected=Expectation(quiet=QUIET)).condition == Condition.DEGRADED
