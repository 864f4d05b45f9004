from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_manifest_api.paging import Paging

NUMBERS: Paging[tuple[int, str]] = Paging("n", 1, lambda item: ((item[0],), item[1].encode()))
OTHERS: Paging[tuple[int, str]] = Paging("o", 1, lambda item: ((item[0],), item[1].encode()))


def _key(item: tuple[int, str]) -> tuple[int, bytes]:
    return item[0], item[1].encode()


ITEMS = st.lists(st.tuples(st.integers(0, 2**60), st.text(max_size=4)), unique=True, max_size=30).map(
    lambda items: sorted(items, key=_key)
)


@settings(deadline=None)
@given(items=ITEMS, limit=st.integers(1, 10))
def test_the_pages_together_are_the_list(items: list[tuple[int, str]], limit: int) -> None:
    seen: list[tuple[int, str]] = []
    cursor = None
    while True:
        shown, cursor = NUMBERS.page(items, cursor=cursor, limit=limit)
        seen += shown
        if cursor is None:
            break
        assert len(shown) == limit
    assert seen == items


@settings(deadline=None)
@given(items=ITEMS.filter(len), later=ITEMS, limit=st.integers(1, 10))
def test_what_comes_behind_a_cursor_moves_nothing_before_it(
    items: list[tuple[int, str]], later: list[tuple[int, str]], limit: int
) -> None:
    shown, cursor = NUMBERS.page(items, cursor=None, limit=limit)
    if cursor is not None:
        grown = sorted({*items, *(item for item in later if _key(item) > _key(shown[-1]))}, key=_key)
        rest, _ = NUMBERS.page(grown, cursor=cursor, limit=1_000)
        assert [*shown, *rest] == grown


@settings(deadline=None)
@given(st.text() | st.from_regex(OTHERS.pattern))
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a cursor"):
        NUMBERS.check(text)


@settings(deadline=None)
@given(st.from_regex(NUMBERS.pattern, fullmatch=True).filter(lambda text: not text.endswith("\n")), ITEMS)
def test_whatever_the_schema_allows_is_a_cursor(cursor: str, items: list[tuple[int, str]]) -> None:
    shown, _ = NUMBERS.page(items, cursor=NUMBERS.check(cursor), limit=100)
    assert set(shown) <= set(items)


def test_a_cursor_of_another_list_is_refused() -> None:
    _, cursor = OTHERS.page([(1, "a"), (2, "b")], cursor=None, limit=1)
    assert OTHERS.check(cursor or "") == cursor
    with pytest.raises(ValueError, match="not a cursor"):
        NUMBERS.check(cursor or "")
