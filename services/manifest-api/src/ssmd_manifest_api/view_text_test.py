from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_manifest_api.view_text import compact, count, share, size, span

SECOND_NS = 1_000_000_000


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (999, "999 B"), (1_000, "1 kB"), (886_400, "886 kB"), (999_950, "1 MB"), (12_345_678, "12.3 MB")],
)
def test_a_size_has_three_digits_and_a_unit(value: int, text: str) -> None:
    assert size(value).replace("\N{NO-BREAK SPACE}", " ") == text


@settings(deadline=None)
@given(st.integers(min_value=0, max_value=10**14))
def test_a_count_is_short_whatever_it_is(value: int) -> None:
    assert len(compact(value)) <= 7
    assert "e+" not in compact(value)


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0 ms"),
        (40_000_000, "40 ms"),
        (1_250_000_000, "1.25 s"),
        (60 * SECOND_NS, "1 min"),
        (200 * SECOND_NS, "3 min 20 s"),
        (3_600 * SECOND_NS, "1 h"),
        (86_400 * 3 * SECOND_NS + 5 * SECOND_NS, "3 d"),
        (93_600 * SECOND_NS, "1 d 2 h"),
    ],
)
def test_a_length_of_time_is_told_in_its_two_largest_units(ns: int, text: str) -> None:
    assert span(ns) == text


def test_a_noun_follows_its_number() -> None:
    assert [count(1, "gap"), count(2, "gap"), count(1_000, "day")] == ["1 gap", "2 gaps", "1,000 days"]


def test_a_part_too_small_to_show_is_not_nothing() -> None:
    assert [share(0, 10), share(1, 100_000), share(1, 3), share(0, 0)] == ["0%", "<0.1%", "33.3%", "0%"]
