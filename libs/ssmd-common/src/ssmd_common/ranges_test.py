from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_common.ranges import Ranges, range_total

numbers = st.integers(0, 60)


@settings(deadline=None)
@given(st.lists(numbers))
def test_it_is_the_set_of_what_was_added(added: list[int]) -> None:
    ranges = Ranges()
    expected: set[int] = set()
    for number in added:
        assert ranges.add(number) == (number not in expected)
        expected.add(number)
    assert {n for first, end in ranges.pairs() for n in range(first, end)} == expected
    assert len(ranges) == len(expected) == range_total(ranges.pairs())
    assert ranges.end == max(expected, default=-1) + 1
    assert all(number in ranges for number in expected)


@settings(deadline=None)
@given(st.lists(st.tuples(numbers, numbers)), numbers, numbers)
def test_ranges_merge_and_their_holes_are_what_is_missing(
    added: list[tuple[int, int]], low: int, high: int
) -> None:
    ranges = Ranges()
    expected: set[int] = set()
    for first, end in added:
        ranges.add_range(first, end)
        expected.update(range(first, end))
    assert all(before[1] < after[0] for before, after in pairwise(ranges.pairs()))
    assert {n for first, end in ranges.pairs() for n in range(first, end)} == expected
    holes = {n for first, end in ranges.missing(low, high) for n in range(first, end)}
    assert holes == set(range(low, high)) - expected
    assert Ranges(ranges.pairs()).pairs() == ranges.pairs()
