from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_simulator import rest
from ssmd_simulator.directory import Directory

NOW_NS = 1_786_085_241_920_369_000


def get(directory: Directory, path: str = "markets", /, **query: object) -> tuple[HTTPStatus, dict[str, Any]]:
    reply = rest.answer(f"{rest.PREFIX}{path}?{urlencode(query)}", directory)
    return reply.status, json.loads(reply.body)


def tickers(directory: Directory, **query: object) -> list[str]:
    """Read a listing to its end."""
    found: list[str] = []
    cursor = ""
    while True:
        status, page = get(directory, **(query | {"cursor": cursor}))
        assert status is HTTPStatus.OK
        found += [market["ticker"] for market in page["markets"]]
        cursor = page["cursor"]
        if not cursor:
            return found


def settled_some() -> Directory:
    directory = Directory(10)
    for _ in range(3):
        directory.settle_oldest(NOW_NS)
    return directory


@settings(deadline=None)
@given(markets=st.integers(0, 40), limit=st.integers(1, 50))
def test_the_pages_of_any_size_are_the_whole_listing_in_order(markets: int, limit: int) -> None:
    directory = Directory(markets)
    assert tickers(directory, limit=limit) == [entry.listing.ticker for entry in directory.entries]


def test_a_page_is_as_long_as_asked_and_the_last_has_no_cursor() -> None:
    directory = Directory(150)
    _, first = get(directory)
    assert (len(first["markets"]), bool(first["cursor"])) == (100, True)
    _, second = get(directory, cursor=first["cursor"])
    assert (len(second["markets"]), second["cursor"]) == (50, "")
    _, exactly = get(directory, limit=150)
    assert exactly["cursor"] == ""


def test_a_market_listed_between_two_pages_disturbs_neither() -> None:
    directory = Directory(5)
    _, first = get(directory, limit=3, status="open")
    directory.settle_oldest(NOW_NS)
    directory.open_next(NOW_NS)
    _, second = get(directory, limit=10, status="open", cursor=first["cursor"])
    names = [market["ticker"] for market in first["markets"] + second["markets"]]
    assert names == [entry.listing.ticker for entry in directory.entries]


@pytest.mark.parametrize(
    ("query", "positions"),
    [
        ({"status": "open"}, [3, 4, 5, 6, 7, 8, 9]),
        ({"status": "settled"}, [0, 1, 2]),
        ({"status": "closed"}, []),
        ({"event_ticker": "KXHIGHCHI-26APR20"}, [0, 4, 8]),
        ({"series_ticker": "KXBTCD"}, [2, 6]),
        ({"series_ticker": "KXBTCD", "status": "open"}, [6]),
        ({"tickers": "KXHIGHCHI-26APR20-B55.5,KXBTCD-26APR2017-T67749.99,NONE"}, [0, 2]),
        ({"mve_filter": "exclude"}, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ({"mve_filter": "only"}, []),
        ({"min_close_ts": "0"}, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ],
)
def test_a_listing_is_narrowed_by_its_query(query: dict[str, str], positions: list[int]) -> None:
    directory = settled_some()
    assert tickers(directory, **query) == [directory.entries[at].listing.ticker for at in positions]


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "1001"},
        {"limit": "0"},
        {"limit": "-1"},
        {"limit": "ten"},
        {"limit": "9" * 5000},
        {"cursor": "abc"},
        {"cursor": "ä"},
        {"status": "active"},
        {"mve_filter": "some"},
    ],
)
def test_a_query_that_cannot_be_meant_is_a_bad_request_that_names_the_parameter(query: dict[str, str]) -> None:
    status, body = get(Directory(3), **query)
    assert (status, body["error"]["code"]) == (HTTPStatus.BAD_REQUEST, "bad_request")
    assert next(iter(query)) in body["error"]["message"]


def test_one_market_is_told_of_by_name_and_an_unknown_one_is_not_found() -> None:
    directory = settled_some()
    (status, body), name = get(directory, "markets/KXHIGHCHI-26APR20-B55.5"), "KXHIGHCHI-26APR20-B55.5"
    assert status is HTTPStatus.OK
    market = body["market"]
    assert (market["ticker"], market["event_ticker"], market["series_ticker"]) == (name, name[:-6], "KXHIGHCHI")
    assert (market["status"], market["settlement_ts"]) == ("finalized", "2026-08-07T06:47:21Z")
    assert market["result"] in {"yes", "no"}
    assert get(directory, f"markets/{quote(name, safe='').replace('.', '%2E')}") == (status, body)
    for path in ("markets/NONE", "events", "markets/A/B", "", "markets/%00"):
        status, body = get(directory, path)
        assert (status, body["error"]["code"]) == (HTTPStatus.NOT_FOUND, "not_found")


def test_a_market_that_trades_is_active_and_has_no_settlement() -> None:
    directory = Directory(1)
    directory.open_next(NOW_NS)
    market = get(directory)[1]["markets"][1]
    assert (market["status"], market["result"]) == ("active", "")
    assert (market["open_time"], market["close_time"]) == ("2026-08-07T06:47:21Z", "2026-08-08T06:47:21Z")
    assert "settlement_ts" not in market
