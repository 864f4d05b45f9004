from __future__ import annotations

import json
from typing import Any

import pytest

from ssmd_simulator.acks import Acks


def answer(acks: Acks, command: Any) -> list[dict[str, Any]]:
    return [json.loads(frame) for frame in acks.answer(json.dumps(command).encode())]


def test_a_channel_gets_the_sid_of_the_recording_and_others_the_next() -> None:
    acks = Acks({"ticker": 1, "trade": 4})
    replies = answer(acks, {"id": 3, "cmd": "subscribe", "params": {"channels": ["trade", "orderbook_delta"]}})
    assert replies == [
        {"type": "subscribed", "id": 3, "msg": {"channel": "trade", "sid": 4}},
        {"type": "subscribed", "id": 3, "msg": {"channel": "orderbook_delta", "sid": 5}},
    ]
    listed = [{"channel": "trade", "sid": 4}, {"channel": "orderbook_delta", "sid": 5}]
    assert answer(acks, {"id": 4, "cmd": "list_subscriptions"}) == [{"type": "ok", "id": 4, "msg": listed}]


@pytest.mark.parametrize(
    "command",
    [
        {"id": 1, "cmd": "subscribe", "params": {"channels": ["orderbook_delta"], "market_ticker": "A"}},
        {"id": 2, "cmd": "update_subscription", "params": {"sids": [1], "action": "get_snapshot"}},
        {"id": 3, "cmd": "unsubscribe", "params": {"sids": [1]}},
        {"id": 4, "cmd": "list_subscriptions"},
        {"id": 5, "cmd": "dance"},
    ],
)
def test_no_answer_consumes_a_seq(command: dict[str, Any]) -> None:
    replies = answer(Acks({"orderbook_delta": 1}), command)
    assert replies
    assert all("seq" not in reply and reply["id"] == command["id"] for reply in replies)


@pytest.mark.parametrize(
    "command",
    [
        {"type": "subscribe", "product_ids": ["BTC-USD"], "channels": ["ticker"]},
        {"method": "subscribe", "params": {"channel": "ticker", "symbol": ["BTC/USD"]}},
        "PING",
    ],
)
def test_other_exchanges_commands_get_no_answer(command: Any) -> None:
    assert answer(Acks({}), command) == []
