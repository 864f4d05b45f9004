from __future__ import annotations

import json
from typing import Any

import pytest

from ssmd_simulator.directory import Directory
from ssmd_simulator.frames import Instant
from ssmd_simulator.market import Exchange
from ssmd_simulator.protocol import Session

NOW_NS = 1_786_085_241_920_369_000
A = "KXHIGHCHI-26APR20-B55.5"
B = "KXINXU-26APR20H1600-T5000"
C = "KXBTCD-26APR2017-T67749.99"


class Client:
    """A connection's other end: speaks in commands, reads JSON."""

    def __init__(self, *, markets: int = 8, seed: int = 1) -> None:
        self.directory = Directory(markets)
        self.session = Session(Exchange(seed, self.directory))
        self.ids = 0

    def say(self, cmd: str, **params: Any) -> list[dict[str, Any]]:
        self.ids += 1
        command: dict[str, Any] = {"id": self.ids, "cmd": cmd}
        if params:
            command["params"] = params
        return self.say_raw(json.dumps(command))

    def say_raw(self, text: str | bytes) -> list[dict[str, Any]]:
        sent = text.encode() if isinstance(text, str) else text
        return [json.loads(frame) for frame in self.session.handle(sent, NOW_NS)]

    def data(self, count: int) -> list[dict[str, Any]]:
        return [json.loads(frame) for frame in self.session.next_frames(count, NOW_NS)]

    def news(self) -> list[dict[str, Any]]:
        return [json.loads(frame) for frame in self.session.news(NOW_NS)]


def test_the_first_subscription_is_confirmed_without_seq_and_its_snapshot_is_seq_1() -> None:
    confirmed, snapshot = Client().say("subscribe", channels=["orderbook_delta"], market_ticker=A)
    assert confirmed == {"type": "subscribed", "id": 1, "msg": {"channel": "orderbook_delta", "sid": 1}}
    assert (snapshot["type"], snapshot["sid"], snapshot["seq"]) == ("orderbook_snapshot", 1, 1)
    assert snapshot["msg"]["market_ticker"] == A


def test_a_later_market_is_confirmed_with_ok_which_consumes_the_seq() -> None:
    client = Client()
    client.say("subscribe", channels=["orderbook_delta"], market_tickers=[B])
    ok, snapshot = client.say("subscribe", channels=["orderbook_delta"], market_tickers=[A])
    assert ok == {"type": "ok", "id": 2, "sid": 1, "seq": 2, "msg": {"market_tickers": sorted([A, B])}}
    assert (snapshot["seq"], snapshot["msg"]["market_ticker"]) == (3, A)


def test_subscribing_a_market_again_gives_ok_and_no_snapshot() -> None:
    client = Client()
    client.say("subscribe", channels=["orderbook_delta"], market_tickers=[A])
    (ok,) = client.say("subscribe", channels=["orderbook_delta"], market_tickers=[A])
    assert (ok["type"], ok["seq"]) == ("ok", 2)


def test_several_channels_get_a_sid_each_in_their_order() -> None:
    replies = Client().say("subscribe", channels=["ticker", "trade", "market_lifecycle_v2"])
    assert [reply["msg"] for reply in replies] == [
        {"channel": "ticker", "sid": 1},
        {"channel": "trade", "sid": 2},
        {"channel": "market_lifecycle_v2", "sid": 3},
    ]


def test_a_command_without_id_is_answered_without_one() -> None:
    (reply,) = Client().say_raw('{"cmd":"subscribe","params":{"channels":["trade"]}}')
    assert "id" not in reply


def test_a_sid_is_never_used_again() -> None:
    client = Client()
    client.say("subscribe", channels=["trade"])
    assert client.say("unsubscribe", sids=[1]) == [{"type": "unsubscribed", "id": 2, "sid": 1, "seq": 1}]
    (reply,) = client.say("subscribe", channels=["trade"])
    assert reply["msg"]["sid"] == 2


def test_nothing_comes_from_a_channel_after_it_was_unsubscribed() -> None:
    client = Client()
    client.say("subscribe", channels=["trade", "ticker"])
    client.say("unsubscribe", sids=[1])
    assert {frame["type"] for frame in client.data(50)} == {"ticker"}
    client.say("unsubscribe", sids=[2])
    assert client.data(5) == []
    assert not client.session.streaming


def test_skip_ticker_ack_leaves_the_list_out_of_ok() -> None:
    client = Client()
    client.say("subscribe", channels=["trade"], market_tickers=[A])
    (ok,) = client.say("subscribe", channels=["trade"], market_tickers=[B], skip_ticker_ack=True)
    assert ok["msg"] == {}


def test_send_initial_snapshot_gives_a_ticker_for_each_market() -> None:
    _, first, second = Client().say(
        "subscribe", channels=["ticker"], market_tickers=[A, B], send_initial_snapshot=True
    )
    assert [first["msg"]["market_ticker"], second["msg"]["market_ticker"]] == [A, B]
    assert "seq" not in first


def test_use_yes_price_puts_the_no_side_on_the_yes_scale() -> None:
    plain, yes = Client(), Client()
    command: dict[str, Any] = {"channels": ["orderbook_delta"], "market_tickers": [A]}
    no_scale = plain.say("subscribe", **command)[1]["msg"]
    yes_scale = yes.say("subscribe", **command, use_yes_price=True)[1]["msg"]
    assert yes_scale["yes_dollars_fp"] == no_scale["yes_dollars_fp"]
    expected = [[f"{1 - float(price):.4f}", size] for price, size in reversed(no_scale["no_dollars_fp"])]
    assert yes_scale["no_dollars_fp"] == expected
    for one, other in zip(plain.data(100), yes.data(100), strict=True):
        flipped = one["msg"]["side"] == "no"
        price = float(one["msg"]["price_dollars"])
        assert float(other["msg"]["price_dollars"]) == pytest.approx(1 - price if flipped else price)


def test_the_key_of_an_empty_side_is_absent() -> None:
    client = Client()
    # The seventh market begins with nobody on the no side.
    ticker = client.session._exchange.markets[6].listing.ticker
    _, snapshot = client.say("subscribe", channels=["orderbook_delta"], market_tickers=[ticker])
    assert "no_dollars_fp" not in snapshot["msg"]
    assert snapshot["msg"]["yes_dollars_fp"]


def test_update_adds_markets_with_ok_then_snapshots() -> None:
    client = Client()
    client.say("subscribe", channels=["orderbook_delta"], market_tickers=[A])
    ok, snapshot = client.say("update_subscription", sids=[1], action="add_markets", market_tickers=[A, B])
    assert (ok["type"], ok["sid"], ok["seq"]) == ("ok", 1, 2)
    assert (snapshot["seq"], snapshot["msg"]["market_ticker"]) == (3, B)


def test_update_deletes_markets_and_they_fall_silent() -> None:
    client = Client()
    client.say("subscribe", channels=["orderbook_delta"], market_tickers=[A, B])
    (ok,) = client.say("update_subscription", sid=1, action="delete_markets", market_tickers=[B])
    assert ok == {"type": "ok", "id": 2, "sid": 1, "seq": 3, "msg": {"market_tickers": [A]}}
    assert {frame["msg"]["market_ticker"] for frame in client.data(50)} == {A}


def test_get_snapshot_answers_with_snapshots_that_go_on_with_the_seq() -> None:
    client = Client()
    client.say("subscribe", channels=["orderbook_delta"], market_tickers=[A, B])
    client.data(10)
    frames = client.say("update_subscription", sids=[1], action="get_snapshot", market_tickers=[B, A])
    assert [frame["msg"]["market_ticker"] for frame in frames] == [B, A]
    assert [frame["seq"] for frame in frames] == [13, 14]


def test_what_a_trade_caused_is_told_before_the_answer_to_a_command() -> None:
    client = Client()
    client.say("subscribe", channels=["trade", "orderbook_delta", "ticker"], market_tickers=[A])
    while client.data(1)[0]["type"] != "trade":
        pass
    delta, ticker, snapshot = client.say("update_subscription", sids=[2], action="get_snapshot", market_tickers=[A])
    assert (delta["type"], ticker["type"], snapshot["type"]) == ("orderbook_delta", "ticker", "orderbook_snapshot")
    assert snapshot["seq"] == delta["seq"] + 1
    following = next(frame for frame in client.data(100) if frame["type"] == "orderbook_delta")
    assert following["seq"] == snapshot["seq"] + 1
    assert following["msg"] != delta["msg"], "told once, not again after the snapshot that holds it"


def test_list_subscriptions_lists_them_without_sid_or_seq_of_its_own() -> None:
    client = Client()
    client.say("subscribe", channels=["trade", "ticker"])
    (reply,) = client.say("list_subscriptions")
    listed = [{"channel": "trade", "sid": 1}, {"channel": "ticker", "sid": 2}]
    assert reply == {"type": "ok", "id": 2, "msg": listed}


ERRORS: list[tuple[str, dict[str, Any], int, str]] = [
    ("subscribe", {}, 2, "Params required"),
    ("unsubscribe", {}, 2, "Params required"),
    ("update_subscription", {}, 2, "Params required"),
    ("subscribe", {"market_ticker": A}, 3, "Channels required"),
    ("unsubscribe", {"sid": 1}, 4, "Subscription IDs required"),
    ("resubscribe", {"sids": [1]}, 5, "Unknown command"),
    ("subscribe", {"channels": ["ticker"]}, 6, "Already subscribed"),
    ("unsubscribe", {"sids": [9]}, 7, "Unknown subscription ID"),
    ("update_subscription", {"sids": [9], "action": "add_markets"}, 7, "Unknown subscription ID"),
    ("subscribe", {"channels": ["tickers"]}, 8, "Unknown channel name"),
    ("subscribe", {"channels": ["fill"]}, 9, "Authentication required"),
    ("subscribe", {"channels": ["trade"], "market_ticker": A, "market_tickers": [B]}, 11, "Invalid parameter"),
    ("update_subscription", {"sids": [1, 2]}, 12, "Exactly one subscription ID is required"),
    ("update_subscription", {"action": "add_markets"}, 12, "Exactly one subscription ID is required"),
    ("subscribe", {"channels": ["orderbook_delta"]}, 14, "Market Ticker required"),
]


@pytest.mark.parametrize(("cmd", "params", "code", "text"), ERRORS)
def test_documented_errors_about_no_sid(cmd: str, params: dict[str, Any], code: int, text: str) -> None:
    client = Client()
    client.say("subscribe", channels=["ticker"])
    assert client.say(cmd, **params) == [{"type": "error", "id": 2, "msg": {"code": code, "msg": text}}]


def test_a_market_that_is_not_listed_is_named() -> None:
    (reply,) = Client().say("subscribe", channels=["trade"], market_tickers=[A, "NONE-SUCH"])
    assert reply["msg"] == {"code": 16, "msg": "Market not found", "market_ticker": "NONE-SUCH"}


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"action": "get_snapshot"}, 14),
        ({"action": "sing", "market_tickers": [A]}, 13),
        ({"market_tickers": [A]}, 15),
        ({"action": "add_markets", "market_tickers": ["NONE-SUCH"]}, 16),
        ({"action": "get_snapshot", "market_tickers": [B]}, 16),
    ],
)
def test_an_error_about_a_sid_consumes_its_seq(params: dict[str, Any], code: int) -> None:
    client = Client()
    client.say("subscribe", channels=["orderbook_delta"], market_tickers=[A])
    (reply,) = client.say("update_subscription", sids=[1], **params)
    assert (reply["type"], reply["sid"], reply["seq"], reply["msg"]["code"]) == ("error", 1, 2, code)
    assert [frame["seq"] for frame in client.data(3)] == [3, 4, 5]


def test_a_snapshot_of_a_channel_without_books_is_no_action_of_it() -> None:
    client = Client()
    client.say("subscribe", channels=["trade"], market_tickers=[A])
    (reply,) = client.say("update_subscription", sids=[1], action="get_snapshot", market_tickers=[A])
    assert reply["msg"]["code"] == 13


@pytest.mark.parametrize(
    ("text", "command_id"),
    [
        (b"hello", None),
        (b"", None),
        (b"\xff", None),
        (b"[]", None),
        (b'{"id":7}', 7),
        (b'{"id":7,"cmd":5}', 7),
        (b'{"id":"7","cmd":"subscribe"}', None),
        (b'{"id":7,"cmd":"subscribe","params":{"channels":"ticker"}}', 7),
    ],
)
def test_text_that_is_no_command_is_answered_with_code_1(text: bytes, command_id: int | None) -> None:
    (reply,) = Client().say_raw(text)
    assert (reply["type"], reply.get("id"), reply["msg"]["code"]) == ("error", command_id, 1)


def test_one_bad_channel_does_not_spoil_the_others() -> None:
    bad, good = Client().say("subscribe", channels=["nonsense", "trade"])
    assert (bad["type"], good["type"]) == ("error", "subscribed")


def test_the_shapes_are_those_of_the_recorded_frames() -> None:
    client = Client()
    client.say("subscribe", channels=["ticker", "trade", "market_lifecycle_v2"])
    client.say("subscribe", channels=["orderbook_delta"], market_tickers=[A, B, C])
    seen: dict[str, dict[str, Any]] = {}
    for frame in client.data(6000):
        seen.setdefault(frame["type"], frame)
    assert list(seen["orderbook_delta"]["msg"]) == [
        "market_ticker",
        "market_id",
        "price_dollars",
        "delta_fp",
        "side",
        "ts",
        "ts_ms",
    ]
    assert seen["orderbook_delta"]["msg"]["ts"] == "2026-08-07T06:47:21.920369Z"
    assert seen["orderbook_delta"]["msg"]["ts_ms"] == 1786085241920
    assert (seen["trade"]["msg"]["ts"], seen["trade"]["seq"] > 0) == (1786085241, True)
    assert len(seen["trade"]["msg"]["trade_id"]) == 36
    prices = seen["trade"]["msg"]
    assert float(prices["yes_price_dollars"]) + float(prices["no_price_dollars"]) == pytest.approx(1)
    assert "seq" not in seen["ticker"]
    assert seen["ticker"]["msg"]["ts"] == 1786085241
    assert float(seen["ticker"]["msg"]["yes_bid_dollars"]) < float(seen["ticker"]["msg"]["yes_ask_dollars"])
    assert "seq" not in seen["market_lifecycle_v2"]
    assert seen["market_lifecycle_v2"]["msg"]["event_type"] == "metadata_updated"


def test_a_new_market_is_told_of_and_joins_the_subscriptions_to_all_markets() -> None:
    client = Client(markets=2)
    client.say("subscribe", channels=["ticker", "market_lifecycle_v2"])
    client.say("subscribe", channels=["orderbook_delta"], market_tickers=[A, B])
    entry = client.directory.open_next(NOW_NS)
    created, activated = client.news()
    ticker = entry.listing.ticker
    assert [frame["msg"]["event_type"] for frame in (created, activated)] == ["created", "activated"]
    assert {frame["msg"]["market_ticker"] for frame in (created, activated)} == {ticker}
    assert "seq" not in created
    assert created["msg"]["open_ts"] == 1786085241
    assert created["msg"]["additional_metadata"]["event_ticker"] == entry.listing.event_ticker
    about = {(frame["type"], frame["msg"]["market_ticker"]) for frame in client.data(3000)}
    assert ("ticker", ticker) in about
    assert ("orderbook_delta", ticker) not in about
    _, snapshot = client.say("update_subscription", sids=[3], action="add_markets", market_tickers=[ticker])
    assert snapshot["msg"]["market_ticker"] == ticker


def test_a_settled_market_is_told_of_in_three_frames_and_trades_no_more() -> None:
    client = Client(markets=3)
    client.say("subscribe", channels=["ticker", "trade", "market_lifecycle_v2"])
    client.say("subscribe", channels=["orderbook_delta"], market_tickers=[A, B])
    client.data(100)
    client.directory.settle(A, NOW_NS)
    told = client.news()
    closed, determined, settled = (frame["msg"] for frame in told if frame["type"] == "market_lifecycle_v2")
    assert closed == {"market_ticker": A, "event_type": "close_date_updated", "close_ts": 1786085241}
    assert (determined["determination_ts"], determined["result"] in {"yes", "no"}) == (1786085241, True)
    assert settled == {"market_ticker": A, "event_type": "settled", "settled_ts": 1786085241}
    assert A not in {frame["msg"]["market_ticker"] for frame in client.data(3000)}
    (ok,) = client.say("update_subscription", sids=[4], action="delete_markets", market_tickers=[A])
    assert (ok["type"], ok["msg"]) == ("ok", {"market_tickers": [B]})


def test_a_client_that_does_not_listen_to_lifecycles_is_told_none_and_its_sequence_goes_on() -> None:
    client = Client(markets=2)
    _, first, _ = client.say("subscribe", channels=["orderbook_delta"], market_tickers=[A, B])
    client.directory.open_next(NOW_NS)
    client.directory.settle(A, NOW_NS)
    assert first["seq"] == 1
    assert client.news() == []
    assert [frame["seq"] for frame in client.data(5)] == [3, 4, 5, 6, 7]


def test_a_market_listed_a_moment_ago_can_be_subscribed() -> None:
    client = Client(markets=2)
    ticker = client.directory.open_next(NOW_NS).listing.ticker
    subscribed, snapshot = client.say("subscribe", channels=["orderbook_delta"], market_ticker=ticker)
    assert (subscribed["type"], snapshot["type"]) == ("subscribed", "orderbook_snapshot")


def test_nothing_streams_when_all_that_is_subscribed_is_settled() -> None:
    client = Client(markets=2)
    client.say("subscribe", channels=["ticker"], market_ticker=A)
    client.directory.settle(A, NOW_NS)
    client.news()
    assert (client.session.streaming, client.session.subscribed, client.data(5)) == (False, True, [])


def test_the_same_seed_and_commands_give_the_same_frames() -> None:
    one, other = Client(), Client()
    for client in (one, other):
        client.say("subscribe", channels=["ticker", "trade"])
        client.say("subscribe", channels=["orderbook_delta"], market_tickers=[A, C])
    assert one.session.next_frames(500, NOW_NS) == other.session.next_frames(500, NOW_NS)


@pytest.mark.parametrize(
    ("now_ns", "expected"),
    [
        (1_786_085_241_920_770_000, "2026-08-07T06:47:21.92077Z"),
        (1_786_085_241_000_000_999, "2026-08-07T06:47:21Z"),
        (1_786_085_241_000_001_000, "2026-08-07T06:47:21.000001Z"),
    ],
)
def test_times_leave_trailing_zeros_out(now_ns: int, expected: str) -> None:
    assert Instant.at(now_ns).rfc3339 == expected
