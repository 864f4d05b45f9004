from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_connector.ledger import Ledger


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), max_size=80))
def test_through_is_the_end_of_the_unbroken_run_from_the_first_frame(order: list[int]) -> None:
    ledger = Ledger()
    ledger.opened(1)
    for count, frame_no in enumerate(order, start=1):
        ledger.acked(1, frame_no)
        seen = set(order[:count])
        expected = next(number for number in range(42) if number + 1 not in seen)
        assert ledger.through(1) == expected


def test_connections_count_apart_and_unknown_ones_are_ignored() -> None:
    ledger = Ledger()
    ledger.opened(1)
    ledger.opened(2)
    ledger.acked(2, 1)
    ledger.acked(9, 1)
    assert (ledger.through(1), ledger.through(2), ledger.through(9)) == (0, 1, 0)
    ledger.forget(2)
    ledger.acked(2, 2)
    assert ledger.through(2) == 0
