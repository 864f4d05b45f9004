from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ssmd_connector.backoff import Backoff


def upper(_low: float, high: float) -> float:
    return high


def test_delays_double_up_to_the_cap() -> None:
    backoff = Backoff(base_s=1, cap_s=10, uniform=upper)
    assert [backoff.next_delay_s() for _ in range(6)] == [1, 2, 4, 8, 10, 10]


def test_a_healthy_minute_begins_again_and_less_does_not() -> None:
    backoff = Backoff(base_s=1, cap_s=10, uniform=upper)
    for _ in range(3):
        backoff.next_delay_s()
    backoff.connection_ended(59)
    assert backoff.next_delay_s() == 8
    backoff.connection_ended(60)
    assert backoff.next_delay_s() == 1


def test_the_peers_wish_is_a_lower_bound() -> None:
    assert Backoff(uniform=lambda low, _high: low).next_delay_s(at_least_s=7) == 7


@given(st.integers(0, 5000))
def test_the_cap_holds_however_long_it_goes_on(attempts: int) -> None:
    backoff = Backoff(base_s=0.5, cap_s=30)
    backoff.attempts = attempts
    assert 0 <= backoff.next_delay_s() <= 30
