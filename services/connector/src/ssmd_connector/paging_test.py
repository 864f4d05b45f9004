from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_common.config.kalshi import Discover
from ssmd_connector.paging import Answer, Chain, chains, lookups, read_page, verdict


def page(cursor: Any, *tickers: str) -> bytes:
    return json.dumps({"markets": [{"ticker": ticker} for ticker in tickers], "cursor": cursor}).encode()


@pytest.mark.parametrize("cursor", ["", None, 0, False, [], {}])
def test_any_falsy_cursor_ends_the_listing(cursor: Any) -> None:
    chain = Chain({})
    chain.took(read_page(page(cursor, "A")))
    assert chain.is_over


def test_a_missing_cursor_ends_it_too() -> None:
    assert read_page(b'{"markets":[]}').cursor == ""


def test_a_cursor_is_sent_back_as_it_came() -> None:
    chain = Chain({"status": "open"})
    assert chain.query == {"status": "open"}
    chain.took(read_page(page("Cg+/=&", "A")))
    assert (chain.is_over, chain.query) == (False, {"status": "open", "cursor": "Cg+/=&"})


def test_cursors_that_lead_in_a_circle_end_the_listing() -> None:
    chain = Chain({})
    taken = 0
    for cursor in ["a", "b", "a", "b"]:
        if not chain.is_over:
            chain.took(read_page(page(cursor)))
            taken += 1
    assert (chain.is_over, taken) == (True, 3)


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b"<html>", b'{"markets":null}', b'{"markets":{}}', b"[" * 100_000, b'{"markets":['],
)
def test_what_is_no_list_of_markets_says_so(body: bytes) -> None:
    with pytest.raises(ValueError, match="the answer"):
        read_page(body)


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_no_bytes_raise_anything_else(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_page(body)


def test_an_entry_without_a_ticker_is_counted_and_costs_nothing_else() -> None:
    found = read_page(b'{"markets":[{"ticker":"A"},{},5],"cursor":"c"}')
    assert ([listing.ticker for listing in found.listings], found.unread, found.cursor) == (["A"], 2, "c")


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, Answer.TAKE),
        (429, Answer.AGAIN),
        (408, Answer.AGAIN),
        (500, Answer.AGAIN),
        (503, Answer.AGAIN),
        (400, Answer.REFUSED),
        (401, Answer.REFUSED),
        (403, Answer.REFUSED),
        (404, Answer.REFUSED),
        (301, Answer.REFUSED),
    ],
)
def test_what_may_heal_is_asked_again_and_what_cannot_is_told(status: int, answer: Answer) -> None:
    assert verdict(status) is answer


def test_every_series_event_and_status_is_a_listing_of_its_own() -> None:
    discover = Discover(series=("S",), events=("E",), status=("open", "unopened"), multivariate="exclude")
    assert [chain.query for chain in chains(discover)] == [
        {"limit": "1000", "mve_filter": "exclude", "status": status, scope: name}
        for scope, name in (("series_ticker", "S"), ("event_ticker", "E"))
        for status in ("open", "unopened")
    ]
    assert [chain.query for chain in chains(Discover(status=("open",)))] == [{"limit": "1000", "status": "open"}]


def test_markets_are_looked_up_by_name_in_batches() -> None:
    found = list(lookups([f"M{number}" for number in range(250)]))
    assert [len(asked) for asked, _ in found] == [100, 100, 50]
    assert found[2][1].query["tickers"] == ",".join(found[2][0])
