"""The conversation against a model of the exchange: commands carried out in any order, refused at any time."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_connector.causes import Cause
from ssmd_connector.effects import (
    Confirmed,
    Disconnect,
    Effect,
    GapFound,
    Heard,
    Left,
    Ready,
    Refreshed,
    Repeated,
    Resynced,
    Send,
    Warn,
)
from ssmd_connector.session import Session, State
from ssmd_connector.venues.kalshi import KalshiVenue, MarketNews
from ssmd_connector.venues.kalshi_dialogue import KalshiDialogue, KalshiWishes

S = 1_000_000_000
VENUE = KalshiVenue()
BOOK = "orderbook_delta"
FILTERED = (BOOK, "trade")


@dataclass
class Sub:
    """A subscription at the exchange."""

    sid: int
    seq: int = 0
    held: set[str] = field(default_factory=set)


@dataclass
class Bench:
    """One session, and a model of the exchange that carries out its commands when the test says so."""

    wishes: KalshiWishes
    unknown: frozenset[str] = frozenset()
    unknown_code: int = 16
    limit: int = 1000
    names_the_market: bool = True
    now_ns: int = 0
    subs: dict[str, Sub] = field(default_factory=dict)
    inbox: list[dict[str, Any]] = field(default_factory=list)
    seen: list[Effect] = field(default_factory=list)
    wanted: set[str] = field(default_factory=set)
    losing: int = 0

    def __post_init__(self) -> None:
        self.wanted = set(self.wishes.tickers)
        self.session = Session(
            KalshiDialogue(self.wishes), gap_numbers=itertools.count(1), silence_ns=10**18, sequence_starts_at=1
        )
        self.take(self.session.opened(self.now_ns))

    def take(self, effects: Any) -> None:
        for effect in effects:
            self.seen.append(effect)
            if isinstance(effect, Send):
                command = json.loads(effect.text)
                self._look_at(command)
                self.inbox.append(command)

    def _look_at(self, command: dict[str, Any]) -> None:
        params = command["params"]
        tickers = params.get("market_tickers", [])
        assert command["cmd"] != "unsubscribe", "a sid is given up only at the end"
        assert len(tickers) <= self.wishes.batch_size
        channel = self._channel(command)
        in_flight = [t for other in self.inbox if self._channel(other) == channel for t in self._changed(other)]
        assert not set(self._changed(command)) & set(in_flight), "a market is in one command at a time"
        held = self.subs[channel].held if channel in self.subs else set()
        if params.get("action") == "delete_markets":
            assert not set(tickers) & self.wanted, "nothing wanted is taken away"
        elif params.get("action") != "get_snapshot":
            assert not set(tickers) & held, "nothing is subscribed to twice"
            assert set(tickers) <= self.wanted

    def _channel(self, command: dict[str, Any]) -> str:
        params = command["params"]
        if "channels" in params:
            return str(params["channels"][0])
        return next(name for name, sub in self.subs.items() if [sub.sid] == params["sids"])

    def _changed(self, command: dict[str, Any]) -> list[str]:
        return (
            [] if command["params"].get("action") == "get_snapshot" else command["params"].get("market_tickers", [])
        )

    def change(self, added: set[str], removed: set[str]) -> None:
        self.wanted = (self.wanted | added) - removed
        self.take(self.session.change_markets(sorted(added), sorted(removed), self.now_ns))

    def tick(self, seconds: int = 1) -> None:
        self.now_ns += seconds * S
        self.take(self.session.tick(self.now_ns))

    def refuse(self, index: int, code: int) -> None:
        command = self.inbox.pop(index % len(self.inbox))
        self._send({"type": "error", "id": command["id"], "msg": {"code": code, "msg": "no"}})

    def answer(self, index: int = 0) -> None:
        """Carry out a command and say so."""
        command = self.inbox.pop(index % len(self.inbox))
        params, number = command["params"], command["id"]
        channel, tickers = self._channel(command), params.get("market_tickers", [])
        sub, action = self.subs.get(channel), params.get("action", "add_markets")
        refusal = self._refusal(sub, action, set(tickers))
        if refusal:
            self._send({"type": "error", "id": number, "msg": refusal})
            return
        begins = sub is None
        if sub is None:
            sub = self.subs[channel] = Sub(len(self.subs) + 1)
        if action == "add_markets":
            sub.held |= set(tickers)
        if action == "delete_markets":
            sub.held -= set(tickers)
        if begins:
            self._send({"type": "subscribed", "id": number, "msg": {"channel": channel, "sid": sub.sid}})
        elif action != "get_snapshot":
            self._numbered(sub, "ok", id=number)
        if channel == BOOK and action != "delete_markets":
            for ticker in tickers:
                self._numbered(sub, "orderbook_snapshot", msg={"market_ticker": ticker})

    def _refusal(self, sub: Sub | None, action: str, tickers: set[str]) -> dict[str, Any]:
        held = sub.held if sub is not None else set()
        missing = sorted(tickers - held if action == "get_snapshot" else tickers & self.unknown)
        if missing:
            named = {"market_ticker": missing[0]} if self.names_the_market else {}
            return {"code": self.unknown_code, "msg": "Market not found", **named}
        if action == "add_markets" and len(held | tickers) > self.limit:
            return {"code": 26, "msg": "limit"}
        return {}

    def data(self, channel: str) -> None:
        """Send a frame of a channel somebody listens to."""
        sub = self.subs.get(channel)
        if sub is not None and sub.held:
            kind = "orderbook_delta" if channel == BOOK else "trade"
            self._numbered(sub, kind, msg={"market_ticker": min(sub.held)})

    def lose(self, frames: int) -> None:
        """Let the next numbered data frames not arrive."""
        self.losing += frames

    def settle(self) -> None:
        """Answer everything until nobody has anything to say."""
        for _ in range(400):
            while self.inbox:
                self.answer()
            self.tick()
            if not self.inbox and self.session.state is State.ENDED:
                return

    def _numbered(self, sub: Sub, kind: str, **frame: Any) -> None:
        sub.seq += 1
        # What is lost is a snapshot or a delta: an answer that stays away ends the connection.
        if self.losing and kind.startswith("orderbook"):
            self.losing -= 1
            return
        self._send({"type": kind, "sid": sub.sid, "seq": sub.seq, **frame})

    def _send(self, frame: dict[str, Any]) -> None:
        raw = json.dumps(frame).encode()
        self.take(self.session.received(VENUE.route(raw), raw, self.now_ns))

    def of(self, kind: type[Any]) -> list[Any]:
        return [effect for effect in self.seen if isinstance(effect, kind)]


def wishes(tickers: str = "", *, batch_size: int = 3, **more: Any) -> KalshiWishes:
    return KalshiWishes(filtered=FILTERED, tickers=tuple(tickers), batch_size=batch_size, **more)


unhurried = settings(deadline=None)  # a busy machine is no failure
TICKERS = st.sets(st.sampled_from("ABCDEFGHIJKL"), max_size=5)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("change"), st.tuples(TICKERS, TICKERS)),
        st.tuples(st.just("answer"), st.integers(0, 9)),
        st.tuples(st.just("haste"), st.tuples(st.integers(0, 9), st.sampled_from([17, 18, 27]))),
        st.tuples(st.just("data"), st.sampled_from(FILTERED)),
        st.tuples(st.just("tick"), st.integers(1, 3)),
        st.tuples(st.just("refresh"), st.none()),
    ),
    max_size=40,
)


def play(bench: Bench, moves: list[tuple[str, Any]]) -> None:
    for move, detail in moves:
        if move == "change":
            added, removed = detail
            bench.change(added - removed, removed)
        elif move == "data":
            bench.data(detail)
        elif move == "tick":
            # Answers are never so late that the connection is given up.
            while bench.inbox:
                bench.answer()
            bench.tick(detail)
        elif move == "refresh":
            bench.take(bench.session.refresh_books(bench.now_ns))
        elif move == "lose":
            bench.lose(detail)
        elif bench.inbox and move == "haste":
            bench.refuse(*detail)
        elif bench.inbox:
            bench.answer(detail)


@unhurried
@given(steps, st.sampled_from(["", "A", "ABCDEFG"]), st.sampled_from([None, 1, 20]))
def test_whatever_comes_in_between_every_wanted_market_ends_subscribed_exactly_once(
    moves: list[tuple[str, Any]], first: str, rate: int | None
) -> None:
    bench = Bench(wishes(first, commands_per_s=rate))
    play(bench, moves)
    bench.settle()
    for channel in FILTERED:
        held = bench.subs[channel].held if channel in bench.subs else set()
        assert held == bench.wanted
        told = [
            effect for effect in bench.seen if isinstance(effect, Confirmed | Left) and effect.channel == channel
        ]
        state: set[str] = set()
        for effect in told:
            state = state | set(effect.tickers) if isinstance(effect, Confirmed) else state - set(effect.tickers)
        assert state == bench.wanted, "the record says the same"
    assert bench.of(GapFound) == bench.of(Repeated) == bench.of(Disconnect) == []
    assert len(bench.of(Ready)) == 1


@unhurried
@given(steps, st.sets(st.sampled_from("ABCDEFGHIJKL"), max_size=4), st.booleans())
def test_markets_the_exchange_does_not_have_cost_no_other_market(
    moves: list[tuple[str, Any]],
    unknown: set[str],
    named: bool,  # noqa: FBT001 - drawn
) -> None:
    bench = Bench(wishes("Z"), frozenset(unknown), names_the_market=named)
    play(bench, moves)
    bench.settle()
    for channel in FILTERED:
        assert bench.subs[channel].held == bench.wanted - unknown
    assert bench.of(Disconnect) == []


@pytest.mark.parametrize("seconds", [0, 301])
def test_a_market_the_exchange_did_not_have_yet_is_asked_for_when_it_opens_and_from_time_to_time(
    seconds: int,
) -> None:
    bench = Bench(wishes("A"), frozenset("N"))
    bench.settle()
    bench.change({"N"}, set())
    bench.settle()
    assert bench.session.refused == tuple(f"{channel}: 1 of the markets" for channel in FILTERED)
    bench.unknown = frozenset()
    if seconds:
        bench.tick(seconds)
    else:
        bench.change({"N"}, set())
    while bench.inbox:
        bench.answer()
    assert [bench.subs[name].held for name in FILTERED] == [{"A", "N"}] * 2
    assert bench.session.refused == ()
    warned = [effect.event for effect in bench.of(Warn)]
    assert warned == ["market_not_found"] * len(FILTERED), "once, however often it is asked for"


def test_a_market_whose_name_is_invalid_costs_no_other_market() -> None:
    bench = Bench(wishes("A"), frozenset("N"), unknown_code=11, names_the_market=False)
    bench.settle()
    bench.change(set("LMNO"), set())
    bench.settle()
    assert [bench.subs[name].held for name in FILTERED] == [set("ALMO")] * 2


def test_an_invalid_name_among_the_first_markets_is_named_once_and_costs_no_other_market() -> None:
    bench = Bench(wishes("NAB"), frozenset("N"), unknown_code=11, names_the_market=False)
    bench.settle()
    assert [bench.subs[name].held for name in FILTERED] == [set("AB")] * 2
    assert bench.of(Ready) == [Ready(2)]
    bench.tick(301)
    bench.settle()
    warned = [effect.fields["ticker"] for effect in bench.of(Warn) if effect.event == "command_refused"]
    assert warned == ["N"] * len(FILTERED), "once, however often it is asked for"


def test_where_every_market_is_called_invalid_the_channel_is_refused_before_all_are_asked_for_alone() -> None:
    bench = Bench(wishes("ABCDEFGHIJKL"), frozenset("ABCDEFGHIJKL"), unknown_code=11, names_the_market=False)
    while bench.inbox:
        bench.answer()
    assert bench.session.refused == tuple(f"{channel}: code 11: Market not found" for channel in FILTERED)
    assert [effect.cause for effect in bench.of(Disconnect)] == [Cause.SUBSCRIPTION_REFUSED]


def test_trouble_with_one_market_costs_no_other_market() -> None:
    bench = Bench(wishes("ABCDEFGH"))
    for _ in range(100):
        while bench.inbox:
            if "A" in bench.inbox[0]["params"]["market_tickers"]:
                bench.refuse(0, 17)
            else:
                bench.answer()
        bench.tick()
    assert [bench.subs[name].held for name in FILTERED] == [set("BCDEFGH")] * 2
    bench.settle()
    assert [bench.subs[name].held for name in FILTERED] == [set("ABCDEFGH")] * 2


def test_refusals_that_follow_each_other_put_off_none_of_what_is_asked_for_again() -> None:
    bench = Bench(wishes("A"), frozenset("BCDE"))

    def answered() -> None:
        while bench.inbox:
            bench.answer()

    answered()
    for ticker in "BCDE":
        bench.change({ticker}, set())
        answered()
        bench.unknown -= {"B"}
        bench.tick(100)
        answered()
    assert [bench.subs[name].held for name in FILTERED] == [{"A", "B"}] * 2


def test_a_market_that_left_is_not_counted_as_refused() -> None:
    bench = Bench(wishes("A"))
    bench.settle()
    bench.change({"B"}, set())
    bench.change(set(), {"B"})
    while bench.inbox:
        bench.refuse(0, 8)
    assert bench.session.refused == ()


def test_a_channel_that_is_refused_is_told_of_and_asked_for_again_later() -> None:
    bench = Bench(wishes("A"))
    bench.refuse(0, 8)
    bench.answer()
    assert bench.session.refused == (f"{BOOK}: code 8: no",)
    assert bench.of(Ready) == [Ready(1)]
    bench.tick(300)
    bench.settle()
    assert [bench.subs[name].held for name in FILTERED] == [{"A"}] * 2
    assert list(bench.session.refused) == []


def test_answers_to_what_is_asked_in_vain_are_no_sign_of_life() -> None:
    bench = Bench(KalshiWishes(filtered=("trade",), tickers=("A", "B")), limit=1)
    bench.settle()
    assert bench.session.refused == ("trade: no room for 1 of the markets",)
    (warned,) = bench.of(Warn)
    assert warned.fields == {
        "channel": "trade",
        "subscribed": 1,
        "left_out": 1,
        "remedy": "raise websocket.kalshi.sockets",
    }
    assert bench.session.silent_s(bench.now_ns) >= 300


@unhurried
@given(steps, st.integers(1, 8))
def test_a_full_subscription_holds_as_much_as_it_can_and_says_what_is_left_out(
    moves: list[tuple[str, Any]], limit: int
) -> None:
    bench = Bench(wishes("ABCDEF"), limit=limit)
    play(bench, moves)
    bench.settle()
    for channel in FILTERED:
        held = bench.subs[channel].held
        assert held <= bench.wanted
        assert len(held) == min(limit, len(bench.wanted))
    left_out = [effect for effect in bench.of(Warn) if effect.event == "market_limit_reached"]
    assert all(effect.fields["left_out"] > 0 for effect in left_out)
    assert bench.of(Ready) == [Ready(0)]
    assert bool(left_out) or len(bench.wanted) <= limit
    assert bench.of(Disconnect) == []


@pytest.mark.parametrize(("refusals", "asked_at_once"), [(1, True), (2, False)])
def test_a_limit_that_passes_costs_no_market_for_long(refusals: int, *, asked_at_once: bool) -> None:
    bench = Bench(KalshiWishes(filtered=("trade",), tickers=("A",)))
    bench.answer()
    bench.change({"B"}, set())
    for _ in range(refusals):
        bench.refuse(0, 26)
    assert bool(bench.inbox) == asked_at_once
    warned = [effect.event for effect in bench.of(Warn)]
    assert warned == ([] if asked_at_once else ["market_limit_reached"])
    bench.settle()
    assert bench.subs["trade"].held == {"A", "B"}


losses = st.lists(
    st.one_of(
        st.tuples(st.just("lose"), st.integers(1, 3)),
        st.tuples(st.just("data"), st.just(BOOK)),
        st.tuples(st.just("change"), st.tuples(TICKERS, TICKERS)),
        st.tuples(st.just("answer"), st.integers(0, 9)),
        st.tuples(st.just("refresh"), st.none()),
    ),
    max_size=25,
)


@unhurried
@given(losses)
def test_every_gap_of_a_book_is_resynced_by_snapshots_that_came_after_it(moves: list[tuple[str, Any]]) -> None:
    bench = Bench(wishes("ABC"))
    while bench.inbox:
        bench.answer()
    play(bench, moves)
    bench.losing = 0
    bench.data(BOOK)
    bench.settle()
    gaps = {effect.gap_no for effect in bench.of(GapFound)}
    resynced = [effect.gap_no for effect in bench.of(Resynced)]
    assert sorted(resynced) == sorted(set(resynced))
    given_up = [effect for effect in bench.of(Warn) if effect.event.endswith("_given_up")]
    if not given_up:
        assert set(resynced) == gaps
    for number in resynced:
        found = next(i for i, e in enumerate(bench.seen) if isinstance(e, GapFound) and e.gap_no == number)
        done = next(i for i, e in enumerate(bench.seen) if isinstance(e, Resynced) and e.gap_no == number)
        assert found < done


def test_a_gap_whose_frame_comes_late_is_healed_and_not_called_resynced_after_that() -> None:
    bench = Bench(wishes("A"))
    bench.settle()
    sub = bench.subs[BOOK]
    for seq in (sub.seq + 2, sub.seq + 1):
        bench._send({"type": "orderbook_delta", "sid": sub.sid, "seq": seq, "msg": {"market_ticker": "A"}})
    sub.seq += 2
    bench.settle()
    assert [effect.healed for effect in bench.of(Resynced)] == [True]
    bench.lose(1)
    bench.data(BOOK)
    bench.data(BOOK)
    bench.settle()
    assert [(effect.gap_no, effect.healed) for effect in bench.of(Resynced)] == [(1, True), (2, False)]


def test_a_refresh_asks_for_every_book_in_batches_few_at_a_time() -> None:
    bench = Bench(wishes("ABCDEFG"))
    while bench.inbox:
        bench.answer()
    bench.take(bench.session.refresh_books(bench.now_ns))
    asked: list[str] = []
    while bench.inbox:
        assert len(bench.inbox) <= 2
        asked += bench.inbox[0]["params"]["market_tickers"]
        assert bench.inbox[0]["params"]["action"] == "get_snapshot"
        bench.answer()
    assert sorted(asked) == list("ABCDEFG")
    assert bench.of(Refreshed) == [Refreshed(7)]
    assert bench.of(GapFound) == []


def test_a_market_removed_while_a_gap_is_recovered_is_not_waited_for() -> None:
    bench = Bench(wishes("AB"))
    while bench.inbox:
        bench.answer()
    bench.lose(1)
    bench.data(BOOK)
    bench.data(BOOK)
    (snapshots,) = bench.inbox
    bench.change(set(), {"B"})
    bench.inbox.remove(snapshots)
    while bench.inbox:
        bench.answer()
    assert bench.of(Resynced) == []
    bench._numbered(bench.subs[BOOK], "orderbook_snapshot", msg={"market_ticker": "A"})
    assert bench.of(Resynced) == [Resynced(1, "sid:1")]


@pytest.mark.parametrize("code", [17, 18, 27])
def test_a_refusal_for_haste_waits_longer_each_time_and_asks_the_same_again(code: int) -> None:
    bench = Bench(KalshiWishes(filtered=("trade",), tickers=("A",)))
    waits = []
    for _ in range(4):
        bench.refuse(0, code)
        waited = 0
        while not bench.inbox:
            bench.tick()
            waited += 1
        waits.append(waited)
        assert bench.inbox[0]["params"]["market_tickers"] == ["A"]
    assert waits == [1, 2, 4, 8]
    bench.answer()
    assert bench.of(Ready) == [Ready(0)]


def test_no_more_commands_a_second_than_the_feed_allows() -> None:
    bench = Bench(wishes("ABCDEFGHIJ", batch_size=1, commands_per_s=2))
    sent = []
    for _ in range(20):
        before = len(bench.of(Send))
        while bench.inbox:
            bench.answer()
        bench.tick()
        sent.append(len(bench.of(Send)) - before)
    assert max(sent) <= 2
    assert sum(sent) + 2 == 20


def test_a_sid_the_exchange_does_not_know_or_ended_asks_for_a_new_connection() -> None:
    for frame in ({"type": "unsubscribed", "sid": 1, "seq": 9}, None):
        bench = Bench(KalshiWishes(filtered=("trade",), tickers=("A",)))
        bench.answer()
        if frame is None:
            bench.change({"B"}, set())
            bench.refuse(0, 7)
        else:
            bench._send(frame)
        (effect,) = bench.of(Disconnect)
        assert effect.cause is Cause.TERMINAL_ERROR


def test_a_socket_without_markets_is_ready_and_its_silence_means_nothing() -> None:
    dialogue = KalshiDialogue(wishes())
    session = Session(dialogue, gap_numbers=itertools.count(1), silence_ns=60 * S, sequence_starts_at=1)
    assert session.opened(0) == [Ready(0)]
    assert session.tick(10_000 * S) == []
    assert [type(effect) for effect in session.change_markets(["A"], [], 10_000 * S)] == [Send, Send]
    assert session.tick(10_001 * S) == []


def test_only_the_first_socket_hears_of_markets() -> None:
    bench = Bench(KalshiWishes(whole=("market_lifecycle_v2",)))
    bench.answer()
    bench._send({"type": "market_lifecycle_v2", "sid": 1, "msg": {"market_ticker": "A", "event_type": "settled"}})
    bench._send({"type": "market_lifecycle_v2", "sid": 1, "msg": {"nothing": "known"}})
    assert bench.of(Heard) == [Heard(MarketNews("settled", "A"))]
