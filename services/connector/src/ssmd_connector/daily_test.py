from __future__ import annotations

from datetime import UTC, datetime, time

from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_connector.daily import next_time_ns

S = 1_000_000_000
DAY_NS = 86_400 * S


@settings(deadline=None)
@given(st.integers(0, 4_000_000_000 * S), st.times().map(lambda at: at.replace(microsecond=0)))
def test_the_next_time_is_within_a_day_and_is_that_time(now_ns: int, at: time) -> None:
    found = next_time_ns(at, now_ns)
    assert 0 < found - now_ns <= DAY_NS
    assert datetime.fromtimestamp(found // S, UTC).time() == at
    assert found % S == 0
