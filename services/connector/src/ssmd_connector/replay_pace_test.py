from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_common.errors import ConfigError
from ssmd_connector.replay_pace import MAX, Pace, parse_speed, parse_wait

SECOND = 1_000_000_000


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=50), st.sampled_from([0.5, 1.0, 3.0, 100.0]))
def test_who_waits_as_told_keeps_the_distances_of_the_record(moments_ns: list[int], speed: float) -> None:
    pace, now_ns, begun_ns, latest_ns = Pace(speed), 5 * SECOND, 5 * SECOND, moments_ns[0]
    for at_ns in moments_ns:
        now_ns += pace.wait_ns(at_ns, now_ns)
        latest_ns = max(latest_ns, at_ns)
        assert abs((now_ns - begun_ns) - (latest_ns - moments_ns[0]) / speed) <= len(moments_ns)


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**18), max_size=20))
def test_the_greatest_speed_waits_for_nothing(moments_ns: list[int]) -> None:
    pace = Pace(MAX)
    assert [pace.wait_ns(at_ns, 0) for at_ns in moments_ns] == [0] * len(moments_ns)


def test_a_long_pause_is_cut_and_what_follows_keeps_its_distance() -> None:
    pace = Pace(1.0, max_wait_s=2)
    assert pace.wait_ns(0, 0) == 0
    assert pace.wait_ns(3600 * SECOND, 0) == 2 * SECOND
    assert pace.wait_ns(3601 * SECOND, 2 * SECOND) == SECOND


def test_who_is_late_catches_up() -> None:
    pace = Pace(1.0)
    pace.wait_ns(0, 0)
    assert pace.wait_ns(SECOND, 5 * SECOND) == 0
    assert pace.wait_ns(6 * SECOND, 5 * SECOND) == SECOND


def test_speeds_and_pauses_are_read() -> None:
    assert [parse_speed(text) for text in ("1", "0.5", "10", "max", "MAX", "0")] == [1.0, 0.5, 10.0, MAX, MAX, MAX]
    assert parse_wait("5m") == 300


@pytest.mark.parametrize("text", ["fast", "-1", "nan", "inf", "1e-320", "", "1x"])
def test_what_is_no_speed_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--speed"):
        parse_speed(text)


def test_what_is_no_pause_is_refused() -> None:
    with pytest.raises(ConfigError, match="--max-wait"):
        parse_wait("soon")
