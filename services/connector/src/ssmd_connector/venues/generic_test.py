from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_common.config.websocket import WebsocketSettings
from ssmd_connector.venues.generic import GenericVenue
from ssmd_connector.venues.generic_dialogue import GenericWishes
from ssmd_connector.venues.venue import Kind, Route

KRAKEN = {
    "route": {"type": ["channel", "method"], "symbol": ["data.*.symbol"]},
    "control": {"types": ["heartbeat", "status", "subscribe", "pong"]},
}
COINBASE = {
    "route": {"type": ["type"], "symbol": ["product_id"]},
    "control": {"types": ["subscriptions", "heartbeat"], "refused": [{"path": "type", "equals": "error"}]},
    "sequences": [{"kind": "increasing", "key": ["product_id"], "value": "sequence"}],
}
BINANCE = {
    "route": {
        "type": ["data.e", {"path": "stream", "after": "@"}],
        "symbol": ["data.s", {"path": "stream", "before": "@", "upper": True}],
    },
    "control": {"present": ["result"]},
    "sequences": [
        {"kind": "range", "types": ["depthUpdate"], "key": ["data.s"], "first": "data.U", "last": "data.u"},
        {"kind": "contiguous", "types": ["aggTrade"], "key": ["data.s"], "value": "data.a"},
    ],
}
POLYMARKET = {
    "route": {
        "type": ["event_type", "*.event_type"],
        "symbol": ["asset_id", "*.asset_id", "price_changes.*.asset_id"],
    },
    "control": {"texts": ["PONG"]},
}


def route(rules: dict[str, Any], frame: Any) -> Route:
    raw = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
    return GenericVenue(WebsocketSettings.model_validate(rules)).route(raw)


def captured(name: str) -> list[bytes]:
    folder = os.environ.get("SSMD_CAPTURES")
    if not folder:
        pytest.skip("SSMD_CAPTURES names no folder of recorded frames")
    return [line for line in (Path(folder) / name).read_bytes().splitlines() if line]


def test_an_array_of_one_symbol_names_it_and_of_several_names_all() -> None:
    one = route(KRAKEN, {"channel": "trade", "data": [{"symbol": "BTC/USD"}, {"symbol": "BTC/USD"}]})
    assert (one.type, one.ticker, one.tickers) == ("trade", "BTC/USD", ())
    several = route(KRAKEN, {"channel": "trade", "data": [{"symbol": "BTC/USD"}, {"symbol": "ETH/USD"}]})
    assert (several.ticker, several.tickers) == (None, ("BTC/USD", "ETH/USD"))


def test_the_first_place_that_finds_a_value_decides() -> None:
    assert route(KRAKEN, {"method": "subscribe", "success": True}).kind is Kind.CONTROL
    assert route(BINANCE, {"stream": "btcusdt@depth20", "data": {"bids": []}}) == Route(
        Kind.DATA, "depth20", "depth20", "BTCUSDT"
    )


def test_a_null_that_is_there_marks_a_control_frame() -> None:
    assert route(BINANCE, {"result": None, "id": 1}).kind is Kind.CONTROL
    assert route(BINANCE, {"id": 1}).kind is Kind.DATA


def test_a_refusal_is_control_and_says_so() -> None:
    refused = route(COINBASE, {"type": "error", "message": "no such product"})
    assert (refused.kind, refused.refused) == (Kind.CONTROL, True)


def test_sequences_are_read_by_their_rule() -> None:
    depth = route(BINANCE, {"stream": "x", "data": {"e": "depthUpdate", "s": "BTCUSDT", "U": 5, "u": 9}})
    assert (depth.seq_key, depth.seq, depth.seq_last) == ("depthUpdate:BTCUSDT", 5, 9)
    trade = route(BINANCE, {"stream": "x", "data": {"e": "aggTrade", "s": "BTCUSDT", "a": 7}})
    assert (trade.seq_key, trade.seq, trade.leaves_holes) == ("aggTrade:BTCUSDT", 7, False)
    assert route(COINBASE, {"type": "ticker", "product_id": "A", "sequence": 4}).leaves_holes
    assert route(COINBASE, {"type": "ticker", "product_id": "A", "sequence": "4"}).seq == 4
    odd_numbers: tuple[Any, ...] = ("-4", "4.0", "", "\u0664", "9" * 30, 1 << 63, -1, 4.0, True, None, [4])
    for odd in odd_numbers:
        assert route(COINBASE, {"type": "ticker", "product_id": "A", "sequence": odd}).seq_key == ""


ONE_COUNTER = {
    "route": {"type": ["channel"]},
    "control": {"types": ["heartbeats", "pong"], "refused": ["error"]},
    "keep_alive": {"text": "ping", "interval_s": 9, "answer": "pong"},
    "sequences": [
        {"kind": "contiguous", "types": ["own"], "value": "n"},
        {"kind": "contiguous", "value": "sequence_num"},
    ],
}


def test_a_control_frame_counts_where_the_exchange_numbers_it() -> None:
    numbered = {
        "heartbeats": route(ONE_COUNTER, {"channel": "heartbeats", "sequence_num": 1}),
        "pong": route(ONE_COUNTER, {"channel": "pong", "sequence_num": 1}),
        "reply": route(ONE_COUNTER, {"error": "no", "sequence_num": 1}),
    }
    for kind, found in numbered.items():
        assert (found.kind, found.type, found.numbers) == (Kind.CONTROL, kind, (("all", 1, 1),))
    assert (numbered["pong"].is_pong, numbered["reply"].refused) == (True, True)
    assert route(ONE_COUNTER, {"channel": "heartbeats", "n": 1}).numbers == ()
    assert route(ONE_COUNTER, {"channel": "trades", "sequence_num": 2}).numbers == (("all", 2, 2),)


def test_an_answer_without_a_type_is_known_by_what_it_holds() -> None:
    rules: dict[str, Any] = {
        "route": {"type": ["method"]},
        "keep_alive": {
            "text": '{"id":9,"method":"public/test"}',
            "interval_s": 9,
            "answer": {"path": "result.version"},
        },
        "control": {"present": ["result"]},
    }
    answer = route(rules, {"id": 9, "result": {"version": "1.2.26"}})
    assert (answer.kind, answer.type, answer.is_pong) == (Kind.CONTROL, "reply", True)
    assert not route(rules, {"id": 1, "result": ["trades"]}).is_pong
    rules["keep_alive"]["answer"] = {"path": "id", "equals": 9}
    assert [route(rules, {"id": number}).is_pong for number in (9, 8, "9")] == [True, False, False]


def test_an_array_root_may_be_counted_from_its_end_whatever_its_length_and_type() -> None:
    rules = {"route": {"type": ["event", 1], "symbol": [0]}, "sequences": [{"kind": "contiguous", "value": -1}]}
    typed = route(rules, [19111, "te", [401597395, 7245.3], 2])
    assert (typed.type, typed.ticker, typed.numbers) == ("te", "19111", (("all", 2, 2),))
    untyped = route(rules, [19111, [[401597395, 7245.3]], 1])
    assert (untyped.routed, untyped.numbers) == (False, (("all", 1, 1),))
    assert route(rules, []).numbers == ()


def test_a_number_of_63_bits_counts_however_it_is_written() -> None:
    for number in (2290000000061666327, (1 << 63) - 1):
        for written in (number, str(number)):
            found = route(COINBASE, {"type": "ticker", "product_id": "A", "sequence": written})
            assert found.seq == number
    assert route(COINBASE, {"type": "ticker", "product_id": "A", "sequence": str(1 << 63)}).numbers == ()


def test_a_chain_names_the_number_before_and_begins_anew_without_one() -> None:
    rules = {
        "route": {"type": ["ch"]},
        "sequences": [{"kind": "range", "key": ["s"], "previous": "d.*.before", "last": "d.*.now"}],
    }

    def link(**numbers: object) -> tuple[tuple[tuple[str, int, int | None], ...], bool]:
        found = route(rules, {"ch": "book", "s": "A", "d": [numbers]})
        return found.numbers, found.begins

    assert link(before=10, now=14) == ((("all:A", 11, 14),), False)
    assert link(before=14, now=14) == ((("all:A", 15, 14),), False)
    assert link(now=20) == link(before=-1, now=20) == link(before=30, now=20) == ((("all:A", 20, 20),), True)
    assert link(before=10) == link() == ((), False)


def test_a_full_book_begins_its_numbers_anew_where_the_feed_says_so() -> None:
    rules = {
        "route": {"type": ["ch"]},
        "sequences": [{"kind": "contiguous", "value": "u", "restart": [{"path": "type", "equals": "snapshot"}]}],
    }
    assert route(rules, {"ch": "book", "type": "snapshot", "u": 1}).begins
    assert not route(rules, {"ch": "book", "type": "delta", "u": 2}).begins


ARRAYS = {
    "route": {"type": ["ch"], "symbol": ["d.*.s"]},
    "sequences": [
        {"kind": "contiguous", "types": ["t"], "key": ["d.*.s"], "value": "d.*.n"},
        {"kind": "range", "types": ["r"], "key": ["d.*.s"], "first": "d.*.U", "last": "d.*.u"},
        {"kind": "increasing", "types": ["i"], "key": ["d.*.s"], "value": "d.*.n"},
        {"kind": "contiguous", "types": ["whole"], "key": ["d.*.s"], "value": "n"},
    ],
}


def numbers_of(kind: str, *elements: dict[str, Any], **frame: Any) -> list[tuple[str, int, int | None]]:
    return list(route(ARRAYS, {"ch": kind, "d": list(elements), **frame}).numbers)


def test_in_an_array_each_number_counts_for_the_key_of_its_own_element() -> None:
    assert numbers_of("t", {"s": "A", "n": 4}, {"s": "B", "n": 90}, {"s": "A", "n": 5}) == [
        ("t:A", 4, 5),
        ("t:B", 90, 90),
    ]
    assert numbers_of("r", {"s": "A", "U": 1, "u": 3}, {"s": "B", "U": 7, "u": 7}) == [("r:A", 1, 3), ("r:B", 7, 7)]


def test_a_hole_inside_an_array_shows_and_the_order_of_its_elements_does_not() -> None:
    assert numbers_of("t", {"s": "A", "n": 4}, {"s": "A", "n": 8}) == [("t:A", 4, 4), ("t:A", 8, 8)]
    assert numbers_of("t", {"s": "A", "n": 6}, {"s": "A", "n": 5}, {"s": "A", "n": 5}) == [("t:A", 5, 6)]
    assert numbers_of("i", {"s": "A", "n": 4}, {"s": "A", "n": 8}) == [("i:A", 4, 8)]


def test_a_number_without_a_key_of_its_own_counts_for_nothing() -> None:
    assert numbers_of("t", {"s": "A", "n": 4}, {"n": 5}) == []
    assert numbers_of("whole", {"s": "A"}, {"s": "B"}, n=5) == []
    assert numbers_of("whole", {"s": "A"}, {"s": "A"}, n=5) == [("whole:A", 5, 5)]
    assert numbers_of("r", {"s": "A", "U": 1, "u": 3}, {"s": "A", "U": 4}) == []


def test_an_array_root_is_one_frame_of_its_type_and_symbols() -> None:
    big = "9" * 76
    found = route(POLYMARKET, [{"event_type": "book", "asset_id": big}, {"event_type": "book", "asset_id": "2"}])
    assert (found.kind, found.type, found.tickers) == (Kind.DATA, "book", (big, "2"))


def test_an_array_of_different_types_is_data_of_no_known_type() -> None:
    found = route(POLYMARKET, [{"event_type": "book", "asset_id": "1"}, {"event_type": "trade", "asset_id": "1"}])
    assert (found.kind, found.type, found.ticker, found.routed) == (Kind.DATA, "untyped", "1", False)
    assert "book, trade" in found.reason


def test_control_text_that_is_no_json_is_control_and_other_text_is_unparsed() -> None:
    assert route(POLYMARKET, b"PONG\n").kind is Kind.CONTROL
    assert route(POLYMARKET, b"PANG").kind is Kind.UNPARSED


def test_what_is_no_text_names_nothing() -> None:
    odd: tuple[Any, ...] = (None, True, 1.5, [], {}, "")
    for value in odd:
        assert route(KRAKEN, {"channel": "trade", "data": [{"symbol": value}]}).ticker is None
    assert route(KRAKEN, {"channel": "trade", "data": [{"symbol": 12}]}).ticker == "12"


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_no_bytes_whatever_raise(frame: bytes) -> None:
    for rules in (KRAKEN, COINBASE, BINANCE, POLYMARKET):
        assert route(rules, frame).kind in Kind


@pytest.mark.parametrize(
    ("rules", "name"), [(COINBASE, "coinbase_exchange_2021.jsonl"), (KRAKEN, "kraken_v2.jsonl")], ids=["c", "k"]
)
def test_every_captured_frame_is_routed(rules: dict[str, Any], name: str) -> None:
    routes = [route(rules, frame) for frame in captured(name)]
    assert [found for found in routes if found.kind is Kind.UNPARSED or not found.routed] == []
    assert all(found.ticker for found in routes if found.kind is Kind.DATA)


def test_a_symbol_in_a_mapping_of_a_list_makes_an_item_each_and_outside_a_list_a_frame_each() -> None:
    settings = WebsocketSettings.model_validate(
        {
            **KRAKEN,
            "symbols": ["A", "B"],
            "subscribe": [
                {"op": "subscribe", "args": [{"channel": "trades", "inst": "{symbol}"}, {"channel": "status"}]},
                {"event": "subscribe", "symbol": "t{symbol}", "id": "{id}", "all": ["{symbol}"]},
                ["join", {"topics": "{symbols}"}, "{symbol}-{id}", "r{id}"],
            ],
        }
    )
    assert [json.loads(text) for text in GenericWishes.of(settings).subscribe] == [
        {
            "op": "subscribe",
            "args": [
                {"channel": "trades", "inst": "A"},
                {"channel": "trades", "inst": "B"},
                {"channel": "status"},
            ],
        },
        {"event": "subscribe", "symbol": "tA", "id": 1, "all": ["A"]},
        {"event": "subscribe", "symbol": "tB", "id": 2, "all": ["B"]},
        ["join", {"topics": ["A", "B"]}, "A-3", "B-4", "r5"],
    ]


def test_subscribe_frames_are_filled_a_batch_at_a_time() -> None:
    settings = WebsocketSettings.model_validate(
        {
            **KRAKEN,
            "symbols": ["BTC/USD", "ETH/USD", "SOL/USD"],
            "subscribe_batch_size": 2,
            "subscribe": [
                {"method": "subscribe", "params": {"symbol": "{symbols}"}, "req_id": "{id}"},
                {"streams": ["{symbol}@trade", "fixed"]},
                {"once": True},
                "hello",
            ],
            "keep_alive": {"text": "PING", "interval_s": 10},
        }
    )
    wishes = GenericWishes.of(settings)
    assert [json.loads(text) for text in wishes.subscribe[:-1]] == [
        {"method": "subscribe", "params": {"symbol": ["BTC/USD", "ETH/USD"]}, "req_id": 1},
        {"method": "subscribe", "params": {"symbol": ["SOL/USD"]}, "req_id": 2},
        {"streams": ["BTC/USD@trade", "ETH/USD@trade", "fixed"]},
        {"streams": ["SOL/USD@trade", "fixed"]},
        {"once": True},
    ]
    assert wishes.subscribe[-1] == "hello"
    assert (wishes.keep_alive, wishes.keep_alive_ns) == ("PING", 10_000_000_000)
