from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_connector.backoff import Backoff, retry_after_s

NOW_S = 1_790_000_000


def upper(_low: float, high: float) -> float:
    return high


def lower(low: float, _high: float) -> float:
    return low


def test_delays_double_up_to_the_cap() -> None:
    backoff = Backoff(base_s=1, cap_s=10, uniform=upper)
    assert [backoff.next_delay_s() for _ in range(6)] == [1, 2, 4, 8, 10, 10]


def test_the_jitter_is_full() -> None:
    drawn: list[tuple[float, float]] = []

    def draw(low: float, high: float) -> float:
        drawn.append((low, high))
        return high

    backoff = Backoff(base_s=1, cap_s=4, uniform=draw)
    for _ in range(4):
        backoff.next_delay_s()
    assert drawn == [(0, 1), (0, 2), (0, 4), (0, 4)]


def test_a_healthy_minute_begins_again_and_less_does_not() -> None:
    backoff = Backoff(base_s=1, cap_s=10, uniform=upper)
    for _ in range(3):
        backoff.next_delay_s()
    backoff.connection_ended(59)
    assert backoff.next_delay_s() == 8
    backoff.connection_ended(60)
    assert backoff.next_delay_s() == 1


def test_the_peers_wish_is_a_lower_bound() -> None:
    assert Backoff(uniform=lower).next_delay_s(at_least_s=7) == 7
    assert Backoff(uniform=lower).next_delay_s(at_least_s=7, calm_for_s=1) == 7


def test_where_no_answer_is_expected_attempts_are_calm_and_do_not_count() -> None:
    backoff = Backoff(base_s=1, cap_s=60, uniform=upper)
    assert [backoff.next_delay_s(calm_for_s=7200) for _ in range(3)] == [60, 60, 60]
    assert backoff.next_delay_s(calm_for_s=10) == 11
    assert backoff.next_delay_s() == 1


@settings(deadline=None)
@given(st.integers(0, 5000), st.floats(0, 7200), st.none() | st.floats(0, 1e6))
def test_the_cap_holds_however_long_it_goes_on(attempts: int, wish_s: float, calm_for_s: float | None) -> None:
    backoff = Backoff(base_s=0.5, cap_s=30)
    backoff.attempts = attempts
    delay_s = backoff.next_delay_s(at_least_s=wish_s, calm_for_s=calm_for_s)
    assert wish_s <= delay_s <= max(wish_s, 30)


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [
        ("7", 7),
        ("2.5", 2.5),
        ("0", 0),
        ("-3", 0),
        ("nan", 0),
        ("1e9", 3600),
        (formatdate(NOW_S + 90, usegmt=True), 90),
        (formatdate(NOW_S - 90, usegmt=True), 0),
        (formatdate(NOW_S + 999_999, usegmt=True), 3600),
        ("Mon, 99 Apr 2026 10:00:00 GMT", 0),
        ("soon", 0),
        ("", 0),
    ],
)
def test_what_a_peer_asks_to_wait_is_seconds_or_a_date(text: str, wait_s: float) -> None:
    assert retry_after_s(text, now_s=NOW_S) == wait_s


@settings(deadline=None)
@given(st.text(max_size=60))
def test_no_text_asks_for_more_than_an_hour(text: str) -> None:
    assert 0 <= retry_after_s(text, now_s=NOW_S) <= 3600
