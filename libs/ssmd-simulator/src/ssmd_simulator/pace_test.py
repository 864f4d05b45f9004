from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_simulator.pace import Pace


def drive(pace: Pace, *, seconds: float, most: int = 64) -> list[tuple[float, int]]:
    """Follow a pace with a clock that never oversleeps; return when how many frames were sent."""
    now_s, sent = 100.0, []
    while now_s < 100.0 + seconds:
        count = pace.take(now_s, most)
        if count:
            sent.append((now_s - 100.0, count))
        now_s += max(pace.wait_s(now_s), 1e-6)
    return sent


def test_one_frame_a_second_comes_every_second() -> None:
    sent = drive(Pace(1.0), seconds=4.5)
    assert [count for _, count in sent] == [1] * 5
    assert [at for at, _ in sent] == pytest.approx([0, 1, 2, 3, 4], abs=1e-3)


@settings(deadline=None)
@given(rate=st.floats(0.5, 20_000))
def test_over_time_the_rate_is_met(rate: float) -> None:
    sent = sum(count for _, count in drive(Pace(rate), seconds=2.0))
    assert sent == pytest.approx(2 * rate, rel=0.02, abs=1.5)


def test_high_rates_go_in_small_groups() -> None:
    assert max(count for _, count in drive(Pace(20_000), seconds=0.5)) <= 22


def test_a_slow_reader_gets_no_burst_afterwards() -> None:
    pace = Pace(1000.0)
    assert pace.take(0.0, 64) == 1
    assert pace.take(60.0, 64) == 1


def test_a_short_delay_is_made_up_for() -> None:
    pace = Pace(1000.0)
    pace.take(0.0, 64)
    assert pace.take(0.05, 64) == pytest.approx(50, abs=1)


def test_as_fast_as_possible_never_waits() -> None:
    pace = Pace(None)
    assert (pace.wait_s(1.0), pace.take(1.0, 64)) == (0.0, 64)
