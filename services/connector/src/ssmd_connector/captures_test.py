"""The captures at hand through the feeds that are shipped, as they are and with faults put into them."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_common.config.loading import load_feed
from ssmd_connector.plan import venue_of
from ssmd_connector.recordings import RecordedFrame, recorded_frames
from ssmd_connector.routing import Routing, route_all

if TYPE_CHECKING:
    from ssmd_connector.venues.venue import Venue

BOOKS = "kalshi_prod_orderbook_stream_20260807"
COINBASE = "coinbase_exchange_2021"
CAPTURES = os.environ.get("SSMD_CAPTURES")
pytestmark = pytest.mark.skipif(not CAPTURES, reason="SSMD_CAPTURES names no folder of recorded frames")


def _feeds() -> Path:
    """Return the shipped feeds, in the repository or where a build laid them out."""
    for folder in (Path.cwd(), *Path.cwd().parents, *Path(__file__).parents):
        if (folder / "exchanges" / "feeds").is_dir():
            return folder / "exchanges" / "feeds"
    raise AssertionError("exchanges/ is not beside the tests")


@cache
def recording(name: str) -> tuple[RecordedFrame, ...]:
    return tuple(recorded_frames(Path(CAPTURES or "") / f"{name}.jsonl"))


@cache
def venue(feed: str) -> Venue:
    return venue_of(load_feed(_feeds() / f"{feed}.yaml").websocket_settings())


def routed(feed: str, frames: tuple[RecordedFrame, ...] | list[RecordedFrame]) -> Routing:
    return route_all(venue(feed), frames)


@pytest.mark.parametrize(
    ("feed", "name", "kinds"),
    [
        ("kalshi", BOOKS, {"control": 12, "data": 257}),
        ("kalshi", f"{BOOKS}.recv", {"control": 12, "data": 257}),
        ("kalshi", "kalshi_prod_ticker_trade_20260212_cents_and_dollars", {"data": 20}),
        ("kalshi", "kalshi_prod_2025_cents", {"data": 13}),
        ("kalshi", "kalshi_docs_examples_2026-07_server", {"control": 9, "data": 26}),
        ("kalshi", "kalshi_docs_examples_2026-07_commands", {"client": 24}),
        ("kalshi", "kalshi_docs_examples_older-cents_server", {"control": 9, "data": 15}),
        ("coinbase", COINBASE, {"control": 3, "data": 365}),
        ("kraken", "kraken_v2", {"control": 2, "data": 5}),
    ],
)
def test_every_data_frame_is_routed_and_the_rest_is_named(feed: str, name: str, kinds: dict[str, int]) -> None:
    routing = routed(feed, recording(name))
    assert routing.lost == []
    assert dict(routing.kinds) == kinds
    assert all(name for _, name, _ in routing.rows)


def test_a_continuous_production_stream_has_no_false_gap() -> None:
    for name in (BOOKS, f"{BOOKS}.recv"):
        routing = routed("kalshi", recording(name))
        assert routing.breaks == []
        ((key, sequence),) = routing.sequences.items()
        assert (key, sequence.first, sequence.last, sequence.frames) == ("sid:1", 1, 268, 268)
        assert routing.unverifiable == []


def test_coinbases_trades_are_numbered_without_a_hole_and_its_tickers_never_go_back() -> None:
    routing = routed("coinbase", recording(COINBASE))
    assert routing.breaks == []
    kinds = [sequence.kind for sequence in routing.sequences.values()]
    assert (kinds.count("gapless"), kinds.count("increasing")) == (10, 10)
    assert routing.unverifiable == ["l2update", "snapshot", "ticker"]


def test_a_feed_without_numbers_is_unverifiable_in_all_its_types() -> None:
    routing = routed("kraken", recording("kraken_v2"))
    assert routing.sequences == {}
    assert routing.unverifiable == ["book", "ohlc", "ticker", "trade"]


def test_an_excerpt_tells_exactly_what_it_leaves_out() -> None:
    """The trades of this file are numbered 10 and 48 to 56: what lies between is truly not in it."""
    routing = routed("kalshi", recording("kalshi_prod_ticker_trade_20260212_cents_and_dollars"))
    assert [finding.text for finding in routing.breaks] == ["sid:2: 37 missing between 10 and 48"]
    assert routing.unverifiable == ["ticker"]


def test_examples_of_many_streams_are_no_stream_and_are_routed_all_the_same() -> None:
    routing = routed("kalshi", recording("kalshi_docs_examples_2026-07_server"))
    assert routing.breaks != []
    assert "fill" in routing.unknown


@cache
def _numbered(feed: str, name: str) -> list[tuple[int, str]]:
    """Return place and sequence key of each frame that carries a number, in order."""
    routes = [venue(feed).route(frame.data) for frame in recording(name)]
    return [(place, route.seq_key) for place, route in enumerate(routes) if route.seq_key]


SOURCES = st.sampled_from([("kalshi", BOOKS), ("coinbase", COINBASE)])


@given(SOURCES, st.data())
@settings(deadline=None)
def test_a_frame_that_is_dropped_is_found(source: tuple[str, str], data: st.DataObject) -> None:
    """Of a sequence without holes, and between two others: what is lost at the end only the next number shows."""
    gapless = [(place, key) for place, key in _numbered(*source) if not key.startswith("ticker")]
    inner = [
        (place, key)
        for place, key in gapless
        if any(other == key and at < place for at, other in gapless)
        and any(other == key and at > place for at, other in gapless)
    ]
    place, key = data.draw(st.sampled_from(inner))
    frames = list(recording(source[1]))
    del frames[place]
    routing = routed(source[0], frames)
    assert (routing.sequences[key].gaps, routing.sequences[key].missing) == (1, 1)
    assert len(routing.breaks) == 1


@given(SOURCES, st.data())
@settings(deadline=None)
def test_a_frame_that_comes_twice_is_found(source: tuple[str, str], data: st.DataObject) -> None:
    place, key = data.draw(st.sampled_from(_numbered(*source)))
    frames = list(recording(source[1]))
    again = data.draw(st.integers(place + 1, len(frames)))
    frames.insert(again, frames[place])
    routing = routed(source[0], frames)
    sequence = routing.sequences[key]
    # Where numbers leave holes, one that comes again behind a higher one cannot be told from one that came late.
    assert sequence.repeated + (sequence.late if sequence.leaves_holes else 0) == 1
    assert len(routing.breaks) == 1


@given(SOURCES, st.data())
@settings(deadline=None)
def test_two_frames_in_the_wrong_order_are_found(source: tuple[str, str], data: st.DataObject) -> None:
    numbered = _numbered(*source)
    pairs = [
        (place, next(at for at, other in numbered if other == key and at > place), key)
        for place, key in numbered
        if any(other == key and at > place for at, other in numbered)
    ]
    first, second, key = data.draw(st.sampled_from(pairs))
    frames = list(recording(source[1]))
    frames[first], frames[second] = frames[second], frames[first]
    routing = routed(source[0], frames)
    assert routing.sequences[key].late == 1
    assert routing.sequences[key].missing == 0
    assert {finding.text.split(": ")[0] for finding in routing.breaks} == {key}
