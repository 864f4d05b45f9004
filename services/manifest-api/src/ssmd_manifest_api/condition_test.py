from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmd_common.archive.times import DAY_NS, day_start_ns
from ssmd_manifest_api.condition import Condition, DayFacts, Reason, judge

DATE = dt.date(2026, 11, 23)
START = day_start_ns(DATE)
END = START + DAY_NS
HOUR = 3600 * 10**9
LOSS = Reason("gap", "3 messages missing", gap_id="g", start_ns=START + HOUR, end_ns=START + 2 * HOUR)
WHOLE = DayFacts(DATE, files=96, first_ns=START + 1, complete_through_ns=END)


@pytest.mark.parametrize(
    ("day", "now_ns", "expected"),
    [
        (WHOLE, END + HOUR, Condition.AVAILABLE),
        (replace(WHOLE, losses=(LOSS,)), END + HOUR, Condition.DEGRADED),
        (replace(WHOLE, complete_through_ns=START + HOUR), START + HOUR, Condition.PENDING),
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
    assert judge(day, now_ns=now_ns).condition == expected


def test_a_day_that_begins_late_after_a_day_with_data_is_degraded() -> None:
    late = replace(WHOLE, first_ns=START + HOUR)
    assert judge(late, now_ns=END).condition == Condition.AVAILABLE
    verdict = judge(late, now_ns=END, data_before=True)
    assert verdict.condition == Condition.DEGRADED
    assert [(reason.start_ns, reason.end_ns) for reason in verdict.reasons] == [(START, START + HOUR)]


def test_a_day_that_ends_early_before_a_day_with_data_is_degraded() -> None:
    short = replace(WHOLE, complete_through_ns=END - HOUR)
    assert judge(short, now_ns=END).condition == Condition.AVAILABLE
    verdict = judge(short, now_ns=END, data_after=True)
    assert [(reason.code, reason.start_ns, reason.end_ns) for reason in verdict.reasons] == [
        ("absent", END - HOUR, END)
    ]


def test_an_absence_that_a_gap_covers_is_told_once() -> None:
    gap = replace(LOSS, start_ns=START - HOUR, end_ns=START + HOUR)
    day = replace(WHOLE, first_ns=START + HOUR, losses=(gap,))
    assert judge(day, now_ns=END, data_before=True).reasons == (gap,)


@given(
    files=st.integers(0, 3),
    first=st.integers(START, END - 1),
    through=st.integers(START, END),
    losses=st.integers(0, 2),
    unclosed=st.integers(0, 2),
    opened=st.integers(0, 1),
    now=st.integers(START, END + DAY_NS),
    before=st.booleans(),
    after=st.booleans(),
)
def test_available_never_has_a_reason_and_everything_else_always_has_one(
    files: int,
    first: int,
    through: int,
    losses: int,
    unclosed: int,
    opened: int,
    now: int,
    *,
    before: bool,
    after: bool,
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
    verdict = judge(day, now_ns=now, data_before=before, data_after=after)
    assert (verdict.condition == Condition.AVAILABLE) == (verdict.reasons == ())
    if files and losses:
        assert verdict.condition == Condition.DEGRADED
