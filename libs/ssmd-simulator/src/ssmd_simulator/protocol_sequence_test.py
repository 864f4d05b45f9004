"""What a client's gap check and its books rest on, whatever it says in whatever order."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_simulator.directory import Directory
from ssmd_simulator.market import Exchange
from ssmd_simulator.protocol import Session

NOW_NS = 1_786_085_241_920_369_000
CHANNEL_OF_TYPE = {
    "orderbook_snapshot": "orderbook_delta",
    "orderbook_delta": "orderbook_delta",
    "trade": "trade",
}

TICKERS = [*(market.listing.ticker for market in Exchange(1, Directory(5)).markets), "NONE-SUCH"]
some_tickers = st.lists(st.sampled_from(TICKERS), max_size=4)
commands = st.one_of(
    st.fixed_dictionaries(
        {
            "cmd": st.just("subscribe"),
            "params": st.fixed_dictionaries(
                {
                    "channels": st.lists(
                        st.sampled_from(["ticker", "trade", "orderbook_delta", "market_lifecycle_v2", "fill", "x"]),
                        max_size=3,
                    )
                },
                optional={
                    "market_tickers": some_tickers,
                    "market_ticker": st.sampled_from(TICKERS),
                    "send_initial_snapshot": st.booleans(),
                    "use_yes_price": st.booleans(),
                },
            ),
        }
    ),
    st.fixed_dictionaries(
        {
            "cmd": st.just("update_subscription"),
            "params": st.fixed_dictionaries(
                {"sids": st.lists(st.integers(1, 6), max_size=2)},
                optional={
                    "action": st.sampled_from(["add_markets", "delete_markets", "get_snapshot", "sing"]),
                    "market_tickers": some_tickers,
                },
            ),
        }
    ),
    st.fixed_dictionaries(
        {
            "cmd": st.just("unsubscribe"),
            "params": st.fixed_dictionaries({"sids": st.lists(st.integers(1, 6), max_size=2)}),
        }
    ),
    st.fixed_dictionaries({"cmd": st.sampled_from(["list_subscriptions", "dance"])}),
)


class Reader:
    """Checks what every client's gap check rests on, frame by frame."""

    def __init__(self) -> None:
        self.last_seq: dict[int, int] = defaultdict(int)
        self.channel_of: dict[int, str] = {}
        self.ended: set[int] = set()
        self.books: dict[tuple[int, str], dict[tuple[str, str], int]] = {}

    def read(self, frame: dict[str, Any]) -> None:
        if frame["type"] == "subscribed":
            sid = frame["msg"]["sid"]
            assert sid == len(self.channel_of) + 1
            self.channel_of[sid] = frame["msg"]["channel"]
        if "sid" in frame:
            assert frame["sid"] in self.channel_of
            assert frame["sid"] not in self.ended
        if "seq" in frame:
            assert frame["seq"] == self.last_seq[frame["sid"]] + 1
            self.last_seq[frame["sid"]] = frame["seq"]
        if frame["type"] == "unsubscribed":
            self.ended.add(frame["sid"])
        if frame["type"] in CHANNEL_OF_TYPE:
            assert self.channel_of[frame["sid"]] == CHANNEL_OF_TYPE[frame["type"]]
        if frame["type"] == "orderbook_snapshot":
            self.books[frame["sid"], frame["msg"]["market_ticker"]] = {
                (side, price): round(float(size) * 100)
                for side in ("yes", "no")
                for price, size in frame["msg"].get(f"{side}_dollars_fp", [])
            }
        if frame["type"] == "orderbook_delta":
            msg = frame["msg"]
            levels = self.books[frame["sid"], msg["market_ticker"]]
            level = (msg["side"], msg["price_dollars"])
            levels[level] = levels.get(level, 0) + round(float(msg["delta_fp"]) * 100)
            assert levels[level] >= 0


@settings(max_examples=150, deadline=None)
@given(script=st.lists(st.one_of(commands, st.integers(1, 30)), max_size=25), seed=st.integers(0, 1000))
def test_any_order_of_commands_keeps_every_sid_contiguous_and_every_book_coherent(
    script: list[dict[str, Any] | int], seed: int
) -> None:
    session, reader = Session(Exchange(seed, Directory(5))), Reader()
    for step in [*script, {"cmd": "list_subscriptions"}]:
        if isinstance(step, int):
            frames = session.next_frames(step, NOW_NS)
        else:
            frames = session.handle(json.dumps(step).encode(), NOW_NS)
        for frame in frames:
            reader.read(json.loads(frame))
    listed = json.loads(frames[-1])
    alive = {sid: channel for sid, channel in reader.channel_of.items() if sid not in reader.ended}
    assert {entry["sid"]: entry["channel"] for entry in listed["msg"]} == alive
