"""What is passed over unread holds nothing that is wanted, and what is taken unread is wanted whole."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_common.archive.columns import Columns
from ssmd_common.archive.selection import EVERYTHING, Clock, Extent, Selection, joined

TYPES = ("trade", "ticker")
TICKERS = ("A", "B")
small = st.integers(0, 12)


@st.composite
def parts(draw: st.DrawFn) -> tuple[int, Columns, Extent]:
    """Draw a block's columns and what its index line tells of them."""
    epoch = draw(st.integers(1, 3))
    seqs = sorted(draw(st.sets(small, min_size=1, max_size=5)))
    rows = [
        (
            draw(small),
            draw(st.none() | small),
            draw(st.sampled_from(TYPES)),
            draw(st.sampled_from((*TICKERS, TICKERS, None))),
        )
        for _ in seqs
    ]
    stored, received, types, tickers = (list(column) for column in zip(*rows, strict=True))
    columns = Columns(seq=seqs, stored_ns=stored, received_ns=received, type=types, ticker=tickers)
    known = [ns for ns in received if ns is not None]
    named = {name for ticker in tickers for name in (ticker if isinstance(ticker, tuple) else (ticker,)) if name}
    extent = Extent(
        first=(epoch, seqs[0]),
        last=(epoch, seqs[-1]),
        stored=(min(stored), max(stored) + 1),
        received=(min(known), max(known) + 1) if known else (0, 0),
        types=draw(st.sampled_from((frozenset(types), None))),
        tickers=draw(st.sampled_from((frozenset(named), None))),
    )
    return epoch, columns, extent


selections = st.builds(
    Selection,
    since=st.none() | st.tuples(st.integers(1, 3), small),
    epoch=st.none() | st.integers(1, 3),
    from_seq=st.none() | small,
    to_seq=st.none() | small,
    from_ns=st.none() | small,
    to_ns=st.none() | small,
    clock=st.sampled_from(Clock),
    types=st.none() | st.frozensets(st.sampled_from(TYPES)),
    tickers=st.none() | st.frozensets(st.sampled_from((*TICKERS, "C"))),
)


@settings(deadline=None)
@given(parts(), selections)
def test_an_extent_never_hides_a_wanted_row(part: tuple[int, Columns, Extent], selection: Selection) -> None:
    epoch, columns, extent = part
    rows = selection.rows(epoch, columns)
    if rows:
        assert selection.may_hold(extent)
    if selection.holds_all(extent):
        assert len(rows) == len(columns)


@settings(deadline=None)
@given(st.lists(parts(), min_size=1, max_size=4), selections)
def test_what_several_parts_span_hides_none_of_them(
    several: list[tuple[int, Columns, Extent]], selection: Selection
) -> None:
    whole = joined(extent for _, _, extent in several)
    assert whole is not None
    if any(selection.may_hold(extent) for _, _, extent in several):
        assert selection.may_hold(whole)


def test_a_selection_without_conditions_takes_everything_unread() -> None:
    extent = Extent((1, 1), (1, 5))
    assert EVERYTHING.may_hold(extent)
    assert EVERYTHING.holds_all(extent)
    assert joined([]) is None


def test_a_record_without_a_received_time_lies_in_no_range_of_it() -> None:
    columns = Columns(seq=[1], stored_ns=[5], received_ns=[None], type=["t"], ticker=[None])
    assert Selection(from_ns=0, clock=Clock.RECEIVED).rows(1, columns) == []
    assert Selection(clock=Clock.RECEIVED).rows(1, columns) == [0]
