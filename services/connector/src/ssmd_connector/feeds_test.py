"""The shipped feeds without credentials, on frames in the shapes their exchanges document."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ssmd_common.config.loading import load_environment, load_feed
from ssmd_connector.plan import Plan
from ssmd_connector.venues.generic_dialogue import GenericWishes
from ssmd_connector.venues.venue import Kind

if TYPE_CHECKING:
    from ssmd_connector.venues.venue import Route

BIG, OTHER = "7" * 76, "5" * 77


def _exchanges() -> Path:
    """Return the shipped files, in the repository or where a build laid them out."""
    for folder in (Path.cwd(), *Path.cwd().parents, *Path(__file__).parents):
        if (folder / "exchanges" / "feeds").is_dir():
            return folder / "exchanges"
    raise AssertionError("exchanges/ is not beside the tests")


@cache
def plan(feed: str) -> Plan:
    environment = load_environment(_exchanges() / "environments" / f"{feed}-local.yaml")
    return Plan.of(load_feed(_exchanges() / "feeds" / f"{feed}.yaml"), environment, {})


def routed(feed: str, frame: Any) -> Route:
    return plan(feed).venue.route(frame if isinstance(frame, bytes) else json.dumps(frame).encode())


@pytest.mark.parametrize(
    ("feed", "frame", "types", "tickers", "numbers"),
    [
        (
            "coinbase",
            {"type": "match", "trade_id": 10, "sequence": 50, "product_id": "BTC-USD"},
            ("match", "trade"),
            ("BTC-USD",),
            ("match+last_match:BTC-USD", 10, 10),
        ),
        (
            "coinbase",
            {"type": "ticker", "trade_id": 10, "sequence": 50, "product_id": "BTC-USD"},
            ("ticker", "ticker"),
            ("BTC-USD",),
            ("ticker:BTC-USD", 50, 50),
        ),
        (
            "coinbase",
            {"type": "l2update", "product_id": "BTC-USD", "changes": []},
            ("l2update", "orderbook"),
            ("BTC-USD",),
            None,
        ),
        (
            "binance",
            {"stream": "btcusdt@depth@100ms", "data": {"e": "depthUpdate", "s": "BTCUSDT", "U": 157, "u": 160}},
            ("depthUpdate", "orderbook"),
            ("BTCUSDT",),
            ("depthUpdate:BTCUSDT", 157, 160),
        ),
        (
            "binance",
            {"stream": "btcusdt@aggTrade", "data": {"e": "aggTrade", "s": "BTCUSDT", "a": 26129}},
            ("aggTrade", "aggTrade"),
            ("BTCUSDT",),
            ("aggTrade:BTCUSDT", 26129, 26129),
        ),
        (
            "binance",
            {"stream": "btcusdt@trade", "data": {"e": "trade", "s": "BTCUSDT", "t": 12345}},
            ("trade", "trade"),
            ("BTCUSDT",),
            ("trade:BTCUSDT", 12345, 12345),
        ),
        (
            "binance",
            {"stream": "btcusdt@depth20", "data": {"lastUpdateId": 160, "bids": []}},
            ("depth20", "depth20"),
            ("BTCUSDT",),
            None,
        ),
        (
            "binance",
            {
                "stream": "!miniTicker@arr",
                "data": [{"e": "24hrMiniTicker", "s": s} for s in ("BTCUSDT", "ETHUSDT")],
            },
            ("24hrMiniTicker", "24hrMiniTicker"),
            ("BTCUSDT", "ETHUSDT"),
            None,
        ),
        (
            "kraken",
            {"channel": "ticker", "type": "update", "data": [{"symbol": "BTC/USD"}, {"symbol": "ETH/USD"}]},
            ("ticker", "ticker"),
            ("BTC/USD", "ETH/USD"),
            None,
        ),
        (
            "polymarket",
            [{"event_type": "book", "asset_id": BIG}, {"event_type": "book", "asset_id": OTHER}],
            ("book", "orderbook"),
            (BIG, OTHER),
            None,
        ),
        (
            "polymarket",
            {"event_type": "price_change", "price_changes": [{"asset_id": BIG}, {"asset_id": OTHER}]},
            ("price_change", "orderbook"),
            (BIG, OTHER),
            None,
        ),
        (
            "polymarket",
            {"event_type": "last_trade_price", "asset_id": BIG},
            ("last_trade_price", "trade"),
            (BIG,),
            None,
        ),
    ],
)
def test_data_goes_to_its_type_and_tickers_with_its_numbers(
    feed: str, frame: Any, types: tuple[str, str], tickers: tuple[str, ...], numbers: tuple[str, int, int] | None
) -> None:
    route = routed(feed, frame)
    assert (route.kind, route.routed, route.type, route.subject_type) == (Kind.DATA, True, *types)
    assert (route.tickers or (route.ticker,)) == tickers
    assert ((route.seq_key, route.seq, route.seq_last) if route.seq_key else None) == numbers


@pytest.mark.parametrize(
    ("feed", "frame", "is_pong", "refused"),
    [
        ("coinbase", {"type": "subscriptions", "channels": []}, False, False),
        ("coinbase", {"type": "heartbeat", "sequence": 90, "last_trade_id": 20, "product_id": "A"}, False, False),
        ("coinbase", {"type": "error", "message": "Failed to subscribe"}, False, True),
        ("kraken", {"channel": "heartbeat"}, False, False),
        ("kraken", {"channel": "status", "data": [{"system": "online"}]}, False, False),
        ("kraken", {"method": "pong", "req_id": 1}, True, False),
        ("kraken", {"method": "subscribe", "success": False, "error": "x"}, False, True),
        ("binance", {"result": None, "id": 1}, False, False),
        ("binance", {"code": 2, "msg": "Invalid request"}, False, True),
        ("binance", {"error": {"code": 3}, "id": 1}, False, True),
        ("binance", {"stream": "!serverShutdown", "data": {"e": "serverShutdown", "E": 1}}, False, False),
        ("polymarket", b"PONG", True, False),
        ("polymarket", b"[]", False, False),
    ],
)
def test_control_frames_are_told_from_data(feed: str, frame: Any, is_pong: bool, refused: bool) -> None:  # noqa: FBT001 - a parameter of the test
    route = routed(feed, frame)
    assert (route.kind, route.is_pong, route.refused) == (Kind.CONTROL, is_pong, refused)


@pytest.mark.parametrize(
    ("feed", "sent"),
    [
        (
            "coinbase",
            [
                {
                    "type": "subscribe",
                    "product_ids": ["BTC-USD", "ETH-USD", "SOL-USD"],
                    "channels": ["ticker", "matches", "heartbeat"],
                }
            ],
        ),
        (
            "kraken",
            [
                {
                    "method": "subscribe",
                    "params": {"channel": channel, "symbol": ["BTC/USD", "ETH/USD", "SOL/USD"], **depth},
                    "req_id": number,
                }
                for number, (channel, depth) in enumerate(
                    [("ticker", {}), ("trade", {}), ("book", {"depth": 10})], start=1
                )
            ],
        ),
        (
            "binance",
            [
                {
                    "method": "SUBSCRIBE",
                    "params": [
                        f"{symbol}@{stream}"
                        for stream in ("trade", "aggTrade", "depth@100ms")
                        for symbol in ("btcusdt", "ethusdt", "solusdt")
                    ],
                    "id": 1,
                }
            ],
        ),
        ("polymarket", [{"type": "market", "assets_ids": list(plan("polymarket").settings.symbols)}]),
    ],
)
def test_a_feed_asks_for_what_it_captures(feed: str, sent: list[Any]) -> None:
    assert [json.loads(text) for text in GenericWishes.of(plan(feed).settings).subscribe] == sent
