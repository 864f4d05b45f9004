from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_connector.markets import Change, Listing, Markets, Selection, read_listing
from ssmd_connector.venues.kalshi import MarketNews


def listing(ticker: str, status: str = "active", **fields: Any) -> Listing:
    found = read_listing(json.dumps({"ticker": ticker, "status": status, **fields}).encode())
    assert found is not None
    return found


def all_markets(lanes: int = 1) -> Markets:
    return Markets(Selection(), lanes)


def test_an_explicit_list_is_wanted_from_the_start_and_shared_evenly() -> None:
    markets = Markets(Selection(frozenset({"A", "B", "C"})), 2)
    assert [markets.tickers(1), markets.tickers(2)] == [("A", "C"), ("B",)]


def test_listed_markets_are_added_once_and_those_that_ended_not_at_all() -> None:
    markets = all_markets()
    assert markets.listed([listing("A"), listing("B", "finalized"), listing("A")]) == [Change(1, ("A",))]
    assert markets.listed([listing("A"), listing("P", "inactive")]) == [Change(1, ("P",))]


def test_a_created_market_is_added_and_a_settled_one_removed_at_once() -> None:
    markets = all_markets()
    markets.listed([listing("S-E-A")])
    assert markets.heard(MarketNews("created", "S-E-B")) == (True, [Change(1, ("S-E-B",))])
    assert markets.heard(MarketNews("settled", "S-E-A")) == (True, [Change(1, (), ("S-E-A",))])
    assert markets.tickers(1) == ("S-E-B",)


def test_a_market_that_is_wanted_already_is_asked_for_once_more_when_it_opens() -> None:
    markets = all_markets()
    markets.heard(MarketNews("created", "S-E-A"))
    assert markets.heard(MarketNews("activated", "S-E-A")) == (True, [Change(1, opened=("S-E-A",))])
    assert markets.heard(MarketNews("deactivated", "S-E-A")) == (True, [])
    assert markets.tickers(1) == ("S-E-A",)


@pytest.mark.parametrize("what", ["deactivated", "close_date_updated", "metadata_updated", "brand_new"])
def test_a_pause_or_a_new_detail_takes_nothing_away(what: str) -> None:
    markets = all_markets()
    markets.listed([listing("A")])
    assert markets.heard(MarketNews(what, "A")) == (True, [])
    assert markets.tickers(1) == ("A",)


@pytest.mark.parametrize(
    ("selection", "news", "taken"),
    [
        (Selection(series=frozenset({"KXBTC"})), MarketNews("created", "KXBTC-26APR-B1"), True),
        (Selection(series=frozenset({"KXBTC"})), MarketNews("created", "KXBTCD-26APR-B1"), False),
        (Selection(series=frozenset({"S"})), MarketNews("created", "ODD", "S-E"), False),
        (Selection(series=frozenset({"S"})), MarketNews("created", "ODD", "E", "S"), True),
        (Selection(events=frozenset({"S-E"})), MarketNews("created", "S-E-A"), True),
        (Selection(events=frozenset({"S-E"})), MarketNews("created", "ODD", "S-E"), True),
        (Selection(events=frozenset({"S-E"})), MarketNews("created", "S-F-A"), False),
        (Selection(frozenset({"A"})), MarketNews("activated", "A"), True),
        (Selection(frozenset({"A"})), MarketNews("created", "B"), False),
        (Selection(multivariate="exclude"), MarketNews("created", "A", multivariate=True), False),
        (Selection(multivariate="only"), MarketNews("created", "A"), False),
        (Selection(multivariate="only"), MarketNews("created", "A", multivariate=True), True),
    ],
)
def test_news_counts_for_what_was_selected_alone(selection: Selection, news: MarketNews, taken: bool) -> None:  # noqa: FBT001 - a column of the table
    markets = Markets(selection)
    ours, _ = markets.heard(news)
    assert (ours, news.ticker in markets.tickers(1)) == (taken, taken)


def test_an_event_tells_the_series_its_ticker_hides() -> None:
    markets = Markets(Selection(series=frozenset({"SERIES"})))
    assert markets.heard(MarketNews("", "", "ODD-1", "SERIES")) == (False, [])
    assert markets.heard(MarketNews("created", "ODD-1-A"))[0]


def test_a_market_listed_no_longer_is_looked_up_and_ends_only_if_it_did() -> None:
    markets = all_markets()
    markets.listed([listing(ticker) for ticker in ("A", "B", "C", "D")])
    markets.begin_pass()
    markets.listed([listing("A")])
    markets.heard(MarketNews("created", "NEW"))
    missing = markets.end_pass()
    assert missing == ("B", "C", "D"), "what was created meanwhile may have come too late for the list"
    found = [listing("B", "inactive"), listing("C", "settled")]
    assert markets.looked_up(missing, found, strict=True) == [Change(1, (), ("C", "D"))]


def test_a_market_just_created_is_kept_though_rest_does_not_have_it_yet() -> None:
    markets = all_markets()
    markets.heard(MarketNews("created", "NEW"))
    assert markets.looked_up(("NEW",), [], strict=False) == []
    assert markets.tickers(1) == ("NEW",)


def test_a_page_older_than_the_settlement_does_not_bring_a_market_back() -> None:
    markets = all_markets()
    markets.begin_pass()
    markets.listed([listing("A")])
    markets.heard(MarketNews("determined", "A"))
    assert markets.listed([listing("A")]) == []
    assert markets.heard(MarketNews("activated", "A")) == (True, [Change(1, ("A",))])


def test_a_document_is_new_once_and_again_when_more_than_its_prices_changed() -> None:
    markets = all_markets()
    first = listing("A", title="t", yes_bid_dollars="0.1", volume=1, updated_time="1")
    assert markets.is_new(first)
    assert not markets.is_new(listing("A", title="t", yes_bid_dollars="0.9", volume=2, updated_time="2"))
    assert markets.is_new(listing("A", title="t", price_level_structure="deci_cent"))
    assert markets.is_new(listing("A", "closed", title="t"))


def test_documents_of_markets_that_are_over_are_forgotten() -> None:
    markets = all_markets()
    markets.listed([listing("A"), listing("B")])
    assert [markets.is_new(listing(ticker)) for ticker in ("A", "B")] == [True, True]
    markets.heard(MarketNews("settled", "B"))
    markets.begin_pass()
    markets.listed([listing("A")])
    markets.end_pass()
    markets.forget_documents()
    assert (markets.is_new(listing("A")), markets.is_new(listing("B"))) == (False, True)


def test_a_document_keeps_its_numbers_as_they_were_spelt_on_one_line() -> None:
    raw = b'{\n "ticker": "A\\u002e5",\n "floor_strike": 1.10, "cap": 123456789012345678901234567890, "x": "a b"}'
    found = read_listing(raw)
    assert found is not None
    assert found.ticker == "A.5"
    assert found.document == (
        b'{"ticker":"A\\u002e5","floor_strike":1.10,"cap":123456789012345678901234567890,"x":"a b"}'
    )


@pytest.mark.parametrize("raw", [b"{}", b"[]", b"3", b'{"ticker":""}', b'{"ticker":5}'])
def test_a_document_without_a_ticker_is_none(raw: bytes) -> None:
    assert read_listing(raw) is None


moves = st.lists(
    st.tuples(
        st.sampled_from(["list", "created", "activated", "determined", "settled", "gone", "deactivated"]),
        st.sampled_from("ABCDEFGH"),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(moves, st.integers(1, 4))
def test_changes_add_up_to_what_is_wanted_and_no_market_moves_or_is_taken_twice(
    steps: list[tuple[str, str]], lanes: int
) -> None:
    markets = all_markets(lanes)
    held: list[set[str]] = [set() for _ in range(lanes)]
    for step, ticker in steps:
        if step == "list":
            changes = markets.listed([listing(ticker)])
        elif step == "gone":
            changes = markets.looked_up([ticker], [], strict=True)
        else:
            _, changes = markets.heard(MarketNews(step, ticker))
        for change in changes:
            mine = held[change.lane - 1]
            assert mine.isdisjoint(change.added)
            assert set(change.removed) <= mine
            mine |= set(change.added)
            mine -= set(change.removed)
        assert [set(markets.tickers(lane)) for lane in range(1, lanes + 1)] == held
        assert sum(map(len, held)) == len(set().union(*held)) == len(markets)
        if step in ("created", "activated"):
            assert any(ticker in mine for mine in held)
        if step in ("determined", "settled", "gone"):
            assert not any(ticker in mine for mine in held)


@settings(deadline=None)
@given(st.integers(0, 50), st.integers(1, 8))
def test_sockets_share_the_markets_evenly(count: int, lanes: int) -> None:
    markets = all_markets(lanes)
    markets.listed([listing(f"M{number}") for number in range(count)])
    sizes = [len(markets.tickers(lane)) for lane in range(1, lanes + 1)]
    assert max(sizes) - min(sizes) <= 1
