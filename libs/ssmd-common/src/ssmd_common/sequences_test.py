from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_common.sequences import SequenceGap, SequenceRepeat, SequenceTracker


def test_a_gap_is_reported_once_and_with_its_bounds() -> None:
    tracker = SequenceTracker(starts_at=1)
    assert tracker.observe("sid:1", 1, at_ns=10) is None
    assert tracker.observe("sid:1", 2, at_ns=20) is None
    assert tracker.observe("sid:1", 5, at_ns=50) == SequenceGap("sid:1", 2, 5, 2, 20)
    assert tracker.observe("sid:1", 6, at_ns=60) is None


def test_a_first_frame_above_the_promised_start_is_a_gap() -> None:
    assert SequenceTracker(starts_at=1).observe("sid:1", 4) == SequenceGap("sid:1", 0, 4, 3, None)
    assert SequenceTracker().observe("sid:1", 4) is None


def test_keys_do_not_disturb_one_another() -> None:
    tracker = SequenceTracker()
    assert [tracker.observe(key, n) for n in range(1, 4) for key in ("a", "b")] == [None] * 6


def test_a_range_continues_where_the_last_one_ended() -> None:
    tracker = SequenceTracker()
    assert tracker.observe("btcusdt", 100, 110) is None
    assert tracker.observe("btcusdt", 111, 111) is None
    assert tracker.observe("btcusdt", 120, 125) == SequenceGap("btcusdt", 111, 120, 8, 0)
    assert tracker.observe("btcusdt", 124, 130) is None
    assert tracker.highest("btcusdt") == 130


def test_a_range_that_goes_on_and_covers_what_was_missing_fills_it() -> None:
    tracker = SequenceTracker()
    tracker.observe("k", 1, 10)
    assert tracker.observe("k", 15, 20) == SequenceGap("k", 10, 15, 4, 0)
    assert tracker.observe("k", 11, 25) == SequenceRepeat("k", 20, 11, was_missing=True, healed=(10,))
    assert (tracker.highest("k"), tracker.missing("k")) == (25, [])


def test_holes_of_the_exchange_are_nothing_yet_a_number_that_repeats_or_goes_back_is_found() -> None:
    tracker = SequenceTracker(leaves_holes=True)
    assert tracker.observe("BTC-USD", 10) is None
    assert tracker.observe("BTC-USD", 20) is None
    assert tracker.observe("BTC-USD", 20) == SequenceRepeat("BTC-USD", 20, 20, was_missing=False)
    assert tracker.observe("BTC-USD", 19) == SequenceRepeat("BTC-USD", 20, 19, was_missing=False)


def test_an_overtaken_frame_fills_the_gap_it_left() -> None:
    tracker = SequenceTracker()
    tracker.observe("k", 1)
    assert tracker.observe("k", 3) == SequenceGap("k", 1, 3, 1, 0)
    assert tracker.observe("k", 2) == SequenceRepeat("k", 3, 2, was_missing=True, healed=(1,))
    assert tracker.observe("k", 2) == SequenceRepeat("k", 3, 2, was_missing=False)


def test_a_frame_that_only_says_where_the_sequence_stands_adds_nothing_and_shows_a_gap() -> None:
    tracker = SequenceTracker()
    tracker.observe("k", 5)
    assert tracker.observe("k", 6, 5) is None
    assert tracker.observe("k", 9, 8) == SequenceGap("k", 5, 9, 3, 0)
    assert tracker.highest("k") == 8
    assert tracker.observe("k", 7, 6) == SequenceRepeat("k", 8, 7, was_missing=False)
    assert tracker.missing("k") == [(6, 9)]
    assert tracker.observe("k", 9) is None


@settings(deadline=None)
@given(st.lists(st.integers(1, 200), unique=True, min_size=1))
def test_every_number_dropped_before_the_last_is_counted_missing_exactly_once(received: list[int]) -> None:
    received.sort()
    tracker = SequenceTracker(starts_at=1)
    found = [tracker.observe("k", number) for number in received]
    missing = {n for gap in found if isinstance(gap, SequenceGap) for n in range(gap.after_seq + 1, gap.next_seq)}
    counted = sum(gap.missing_count or 0 for gap in found if isinstance(gap, SequenceGap))
    expected = set(range(1, received[-1])) - set(received)
    assert missing == expected
    assert counted == len(expected)


@settings(deadline=None)
@given(st.permutations(range(1, 12)))
def test_a_reordering_is_found_and_ends_with_nothing_missing(order: list[int]) -> None:
    tracker = SequenceTracker(starts_at=1)
    found = [tracker.observe("k", number) for number in order]
    gaps = sum(gap.missing_count or 0 for gap in found if isinstance(gap, SequenceGap))
    late = sum(1 for repeat in found if isinstance(repeat, SequenceRepeat) and repeat.was_missing)
    assert gaps == late + (0 if order[0] == 1 or min(order) == 1 else 1)
    assert tracker.missing("k") == []


@settings(deadline=None)
@given(st.permutations(range(1, 12)), st.sets(st.integers(2, 11)))
def test_a_gap_is_healed_once_and_only_when_every_number_of_it_came(order: list[int], dropped: set[int]) -> None:
    tracker = SequenceTracker(starts_at=1)
    found = [tracker.observe("k", number) for number in order if number not in dropped]
    gaps = {
        gap.after_seq: set(range(gap.after_seq + 1, gap.next_seq)) for gap in found if isinstance(gap, SequenceGap)
    }
    healed = [after for repeat in found if isinstance(repeat, SequenceRepeat) for after in repeat.healed]
    assert sorted(healed) == sorted(after for after, numbers in gaps.items() if not numbers & dropped)
