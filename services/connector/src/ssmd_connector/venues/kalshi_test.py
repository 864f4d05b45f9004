from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_common.sequences import SequenceTracker
from ssmd_connector.venues.kalshi import (
    LIFECYCLE_TYPES,
    Action,
    KalshiVenue,
    MarketNews,
    read_news,
    read_reply,
    subscribe_command,
    update_command,
)
from ssmd_connector.venues.venue import Kind, Route

VENUE = KalshiVenue()


def captured(name: str) -> list[bytes]:
    folder = os.environ.get("SSMD_CAPTURES")
    if not folder:
        pytest.skip("SSMD_CAPTURES names no folder of recorded frames")
    return [line for line in (Path(folder) / name).read_bytes().splitlines() if line]


def test_the_plans_frames_go_where_the_plan_says() -> None:
    trade = b'{"type":"trade","sid":2,"seq":1,"msg":{"market_ticker":"KXTEST-123","price":50,"ts":1732579880}}'
    ticker = b'{"type":"ticker","sid":1,"msg":{"market_ticker":"KXTEST-456","yes_bid":45,"ts":1732579880}}'
    assert VENUE.route(trade) == Route(Kind.DATA, "trade", "trade", "KXTEST-123", (), "sid:2", 1)
    assert VENUE.route(ticker) == Route(Kind.DATA, "ticker", "ticker", "KXTEST-456")
    assert VENUE.route(b'{"type":"subscribed","id":1}').kind is Kind.CONTROL


@pytest.mark.parametrize("kind", ["orderbook_snapshot", "orderbook_delta"])
def test_snapshot_and_delta_share_a_subject_type_and_keep_their_own(kind: str) -> None:
    route = VENUE.route(json.dumps({"type": kind, "sid": 1, "seq": 3, "msg": {"market_ticker": "A.5"}}).encode())
    assert (route.type, route.subject_type, route.ticker) == (kind, "orderbook", "A.5")


@pytest.mark.parametrize(
    "frame",
    [
        b'{"type":"trade","sid":"2","seq":1,"msg":{"market_ticker":"A"}}',
        b'{"type":"trade","sid":2,"seq":"1","msg":{"market_ticker":"A"}}',
        b'{"type":"trade","sid":2.5,"seq":null,"msg":{"market_ticker":"A"}}',
        b'{"msg":{"market_ticker":"A"},"seq":[],"type":"trade"}',
    ],
)
def test_a_wrong_typed_field_never_costs_the_frame(frame: bytes) -> None:
    route = VENUE.route(frame)
    assert (route.kind, route.type, route.ticker, route.seq_key) == (Kind.DATA, "trade", "A", "")


@pytest.mark.parametrize(
    "message", [b"[1]", b'"x"', b"null", b"7", b'{"market_ticker":5}', b'{"market_ticker":""}']
)
def test_a_frame_without_a_readable_ticker_is_data_of_its_type(message: bytes) -> None:
    route = VENUE.route(b'{"type":"trade","msg":' + message + b"}")
    assert (route.kind, route.type, route.ticker, route.routed) == (Kind.DATA, "trade", None, True)


def test_an_unknown_type_is_captured_under_its_own_name() -> None:
    route = VENUE.route(b'{"type":"brand_new","sid":9,"seq":4,"msg":{"market_ticker":"A"}}')
    assert (route.kind, route.type, route.seq_key, route.seq) == (Kind.DATA, "brand_new", "sid:9", 4)
    assert "brand_new" not in VENUE.known_types


@pytest.mark.parametrize("frame", [b"{}", b"[]", b"3", b'{"type":5}', b'{"type":""}', b'"type"'])
def test_json_without_a_type_is_data_that_could_not_be_routed(frame: bytes) -> None:
    route = VENUE.route(frame)
    assert (route.kind, route.type, route.routed) == (Kind.DATA, "untyped", False)


@pytest.mark.parametrize(
    "frame",
    [b"", b"PONG", b'{"type":"trade"', b'{"type":"trade","x":"\xff"}', b"[" * 100_000, b'{"type":"a"}{"type":"b"}'],
)
def test_what_is_no_json_is_unparsed_and_says_why(frame: bytes) -> None:
    route = VENUE.route(frame)
    assert route.kind is Kind.UNPARSED
    assert route.reason


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_whatever_raise(frame: bytes) -> None:
    assert VENUE.route(frame).kind in Kind


KEYS = st.sampled_from(["type", "sid", "seq", "msg"])
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner),
    max_leaves=8,
)


@settings(deadline=None)
@given(json_values)
def test_no_json_value_whatever_is_unparsed(value: object) -> None:
    frame = json.dumps(value).encode()
    assert VENUE.route(frame).kind is not Kind.UNPARSED


@pytest.mark.parametrize(
    "name",
    [
        "kalshi_prod_orderbook_stream_20260807.jsonl",
        "kalshi_prod_ticker_trade_20260212_cents_and_dollars.jsonl",
        "kalshi_prod_2025_cents.jsonl",
        "kalshi_docs_examples_2026-07_server.jsonl",
        "kalshi_docs_examples_older-cents_server.jsonl",
    ],
)
def test_every_captured_frame_is_routed(name: str) -> None:
    routes = [VENUE.route(frame) for frame in captured(name)]
    assert [route for route in routes if route.kind is Kind.UNPARSED or not route.routed] == []


def test_the_production_stream_with_its_eleven_ok_frames_has_no_gap() -> None:
    tracker = SequenceTracker(starts_at=1)
    routes = [VENUE.route(frame) for frame in captured("kalshi_prod_orderbook_stream_20260807.jsonl")]
    found = [tracker.observe(route.seq_key, route.seq) for route in routes if route.seq_key]
    assert [finding for finding in found if finding is not None] == []
    assert sum(route.type == "ok" for route in routes) == 11
    assert tracker.highest("sid:1") == 268


@pytest.mark.parametrize("yes_price", [True, False])
def test_a_book_subscription_always_says_the_price_side(*, yes_price: bool) -> None:
    command = subscribe_command(3, "orderbook_delta", ["A", "B"], use_yes_price=yes_price)
    assert json.loads(command.text) == {
        "id": 3,
        "cmd": "subscribe",
        "params": {
            "channels": ["orderbook_delta"],
            "market_tickers": ["A", "B"],
            "skip_ticker_ack": True,
            "use_yes_price": yes_price,
        },
    }


def test_without_tickers_all_markets_are_meant() -> None:
    text = subscribe_command(1, "trade", [], use_yes_price=True).text
    assert json.loads(text) == {"id": 1, "cmd": "subscribe", "params": {"channels": ["trade"]}}


def test_an_update_names_exactly_one_sid() -> None:
    snapshot = json.loads(update_command(9, Action.SNAPSHOT, "orderbook_delta", 4, ["A"]).text)
    expected = {"sids": [4], "market_tickers": ["A"], "action": "get_snapshot"}
    assert snapshot == {"id": 9, "cmd": "update_subscription", "params": expected}
    for action in (Action.ADD, Action.DELETE):
        params = json.loads(update_command(9, action, "ticker", 4, ["A"]).text)["params"]
        assert params == {
            "sids": [4],
            "market_tickers": ["A"],
            "action": action.value,
            "skip_ticker_ack": True,
        }


def test_the_documented_lifecycle_frames_say_what_became_of_which_market() -> None:
    frames = captured("kalshi_docs_examples_2026-07_server.jsonl") + captured("kalshi_prod_2025_cents.jsonl")
    read = [read_news(route.type, f) for f in frames if (route := VENUE.route(f)).type in LIFECYCLE_TYPES]
    assert MarketNews("created", "INXD-23SEP14-B4487", "INXD-23SEP14") in read
    assert MarketNews("created", "KXMVE-TEST-EVENT-M1", "KXMVE-TEST-EVENT", multivariate=True) in read
    assert MarketNews("", "", "KXQUICKSETTLE-26JAN25H2150", "KXQUICKSETTLE") in read
    assert MarketNews("determined", "KXMLBGAME-25OCT01DETCLE-DET") in read
    assert MarketNews("settled", "KXMLBTOTAL-25OCT01DETCLE-5") in read
    assert MarketNews("deactivated", "KXNFLFIRSTTD-25OCT05MIACAR-CARCHUBBARD30") in read
    assert None not in read


@settings(deadline=None)
@given(st.binary(max_size=80) | st.sampled_from([b'{"msg":5}', b'{"msg":{"market_ticker":5}}', b"[]"]))
def test_no_bytes_whatever_break_the_reading_of_news(frame: bytes) -> None:
    assert read_news("market_lifecycle_v2", frame) is None


def test_replies_are_read_wherever_their_fields_stand() -> None:
    subscribed = read_reply("subscribed", b'{"id":1,"type":"subscribed","msg":{"channel":"ticker","sid":3}}')
    assert (subscribed.id, subscribed.sid, subscribed.channel) == (1, 3, "ticker")
    older = read_reply("ok", b'{"id":3,"sid":4,"seq":2,"type":"ok","market_tickers":["A"]}')
    assert (older.id, older.sid, older.code) == (3, 4, None)
    error = read_reply("error", b'{"id":5,"type":"error","msg":{"code":25,"msg":"overflow"}}')
    assert (error.id, error.code, error.text) == (5, 25, "overflow")
    assert read_reply("ok", b'{"id":"7","type":"ok","msg":[1]}').id is None
