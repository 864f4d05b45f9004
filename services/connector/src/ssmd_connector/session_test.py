from __future__ import annotations

import itertools
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_connector.causes import Cause
from ssmd_connector.effects import Confirmed, Disconnect, Effect, GapFound, Ready, Repeated, Resynced, Send, Warn
from ssmd_connector.session import Session, State
from ssmd_connector.venues.generic_dialogue import GenericDialogue, GenericWishes
from ssmd_connector.venues.generic_refusals import PATIENCE, Refusals
from ssmd_connector.venues.kalshi import KalshiVenue
from ssmd_connector.venues.kalshi_dialogue import KalshiDialogue, KalshiWishes
from ssmd_connector.venues.venue import Kind, Route

S = 1_000_000_000
VENUE = KalshiVenue()


def kalshi(
    tickers: tuple[str, ...] = ("A", "B"), channels: tuple[str, ...] = ("orderbook_delta",), **more: Any
) -> Session:
    """Return a session that subscribes to the channels for the tickers, or for all markets where there is none."""
    whole = () if tickers else channels
    wishes = KalshiWishes(whole, () if whole else channels, tickers, **{"batch_size": 1, **more})
    return Session(KalshiDialogue(wishes), gap_numbers=itertools.count(1), silence_ns=60 * S, sequence_starts_at=1)


def give(session: Session, now_ns: int = 0, **frame: Any) -> list[Effect]:
    raw = json.dumps(frame).encode()
    return list(session.received(VENUE.route(raw), raw, now_ns))


def snapshot(session: Session, ticker: str, seq: int) -> list[Effect]:
    return give(session, type="orderbook_snapshot", sid=1, seq=seq, msg={"market_ticker": ticker})


def delta(session: Session, ticker: str, seq: int, now_ns: int = 0) -> list[Effect]:
    return give(session, now_ns, type="orderbook_delta", sid=1, seq=seq, msg={"market_ticker": ticker})


def sent(effects: list[Effect]) -> list[dict[str, Any]]:
    return [json.loads(effect.text) for effect in effects if isinstance(effect, Send)]


def streaming() -> Session:
    session = kalshi()
    session.opened(0)
    give(session, type="subscribed", id=1, msg={"channel": "orderbook_delta", "sid": 1})
    snapshot(session, "A", 1)
    give(session, type="ok", id=2, sid=1, seq=2, msg={"market_tickers": ["A", "B"]})
    snapshot(session, "B", 3)
    assert session.state is State.STREAMING
    return session


def test_answers_in_any_order_confirm_by_id() -> None:
    session = kalshi(("A",), ("orderbook_delta", "trade"))
    assert [command["id"] for command in sent(session.opened(0))] == [1, 2]
    second = give(session, type="ok", id=2, sid=7, seq=1, msg={"market_tickers": ["A"]})
    assert second == [Confirmed("trade", 7, ("A",))]
    before = session.state
    first = give(session, type="subscribed", id=1, msg={"channel": "orderbook_delta", "sid": 1})
    assert first == [Confirmed("orderbook_delta", 1, ("A",)), Ready(0)]
    assert (before, session.state) == (State.SUBSCRIBING, State.STREAMING)


def test_the_first_batch_subscribes_and_the_others_join_its_sid() -> None:
    session = kalshi(("A", "B", "C"))
    (first,) = sent(session.opened(0))
    assert (first["cmd"], first["params"]["market_tickers"]) == ("subscribe", ["A"])
    effects = give(session, type="subscribed", id=1, msg={"channel": "orderbook_delta", "sid": 4})
    added = [(command["params"]["sids"], command["params"]["market_tickers"]) for command in sent(effects)]
    assert added == [([4], ["B"]), ([4], ["C"])]
    assert {command["params"]["action"] for command in sent(effects)} == {"add_markets"}


def test_data_between_command_and_answer_is_followed() -> None:
    session = kalshi()
    session.opened(0)
    assert snapshot(session, "A", 1) == []
    give(session, type="subscribed", id=1, msg={"channel": "orderbook_delta", "sid": 1})
    assert any(isinstance(effect, GapFound) for effect in snapshot(session, "A", 3))


def test_a_book_gap_asks_for_all_books_and_ends_when_all_have_come() -> None:
    session = streaming()
    effects = delta(session, "A", 6)
    assert isinstance(effects[0], GapFound)
    assert (effects[0].gap.after_seq, effects[0].gap.next_seq, effects[0].gap.missing_count) == (3, 6, 2)
    asked = sent(effects)
    assert [command["params"]["action"] for command in asked] == ["get_snapshot", "get_snapshot"]
    assert sorted(t for command in asked for t in command["params"]["market_tickers"]) == ["A", "B"]
    assert snapshot(session, "A", 7) == []
    assert delta(session, "A", 8) == []
    assert snapshot(session, "B", 9) == [Resynced(1, "sid:1")]
    assert snapshot(session, "B", 10) == []


def test_a_second_gap_while_recovering_starts_again_and_resyncs_both() -> None:
    session = streaming()
    delta(session, "A", 6)
    snapshot(session, "A", 7)
    delta(session, "A", 9)
    assert snapshot(session, "B", 10) == []
    assert snapshot(session, "A", 11) == [Resynced(1, "sid:1"), Resynced(2, "sid:1")]


def test_snapshots_that_stay_away_are_asked_for_again_and_then_given_up() -> None:
    session = streaming()
    delta(session, "A", 6, now_ns=0)
    snapshot(session, "A", 7)
    seen: list[Effect] = []
    for second in range(0, 80, 10):
        delta(session, "A", 8 + second // 10, now_ns=second * S)
        seen += session.tick(second * S)
    assert [command["params"]["market_tickers"] for command in sent(seen)] == [["B"], ["B"]]
    assert [effect.event for effect in seen if isinstance(effect, Warn)] == ["resync_given_up"]
    assert session.state is State.STREAMING


def test_a_trade_gap_is_recorded_without_a_request() -> None:
    session = kalshi((), ("trade",))
    session.opened(0)
    give(session, type="subscribed", id=1, msg={"channel": "trade", "sid": 1})
    give(session, type="trade", sid=1, seq=1, msg={"market_ticker": "A"})
    effects = give(session, type="trade", sid=1, seq=3, msg={"market_ticker": "A"})
    assert [type(effect) for effect in effects] == [GapFound]


def test_terminal_codes_ask_for_a_new_connection() -> None:
    for code in (10, 25):
        session = streaming()
        effects = give(session, type="error", sid=1, seq=4, msg={"code": code, "msg": "gone"})
        assert effects == [Disconnect(Cause.TERMINAL_ERROR, f"code {code}: gone")]
        assert session.state is State.ENDED


def test_a_market_that_is_not_there_does_not_cost_its_batch() -> None:
    session = kalshi(("A", "B"), batch_size=200)
    session.opened(0)
    named = {"code": 16, "msg": "Market not found", "market_ticker": "A"}
    refused = give(session, type="error", id=1, msg=named)
    assert refused[0] == Warn("market_not_found", {"channel": "orderbook_delta", "ticker": "A"})
    (again,) = sent(refused)
    assert (again["cmd"], again["params"]["market_tickers"]) == ("subscribe", ["B"])
    confirmed = give(session, type="subscribed", id=again["id"], msg={"channel": "orderbook_delta", "sid": 1})
    assert confirmed[-1] == Ready(1)


def test_nothing_confirmed_is_no_session() -> None:
    session = kalshi(("A",))
    session.opened(0)
    effects = give(session, type="error", id=1, msg={"code": 8, "msg": "Unknown channel name"})
    assert effects[-1] == Disconnect(Cause.SUBSCRIPTION_REFUSED, "code 8: Unknown channel name")


def test_already_subscribed_confirms() -> None:
    session = kalshi(("A",))
    session.opened(0)
    assert give(session, type="error", id=1, msg={"code": 6, "msg": "Already subscribed"})[-1] == Ready(0)


def test_an_answer_that_stays_away_ends_the_connection() -> None:
    session = kalshi()
    session.opened(0)
    assert session.tick(14 * S) == []
    assert [type(effect) for effect in session.tick(15 * S)] == [Disconnect]


def test_only_frames_break_the_silence() -> None:
    session = streaming()
    delta(session, "A", 4, now_ns=10 * S)
    assert session.tick(69 * S) == []
    (effect,) = session.tick(70 * S)
    assert effect == Disconnect(Cause.SILENT, "no frame for 60 s")
    assert session.tick(71 * S) == []


def test_time_in_which_nobody_read_is_no_silence() -> None:
    session = streaming()
    session.excuse_silence(100 * S)
    assert session.tick(159 * S) == []


def test_an_orderly_end_unsubscribes_and_decides_nothing_more() -> None:
    session = streaming()
    assert [command["cmd"] for command in sent(session.stopping())] == ["unsubscribe"]
    assert give(session, type="error", sid=1, seq=4, msg={"code": 25, "msg": "x"}) == []
    assert session.stopping() == []


def test_a_repeated_number_is_told_and_changes_nothing() -> None:
    session = streaming()
    assert [type(effect) for effect in delta(session, "A", 3)] == [Repeated]
    assert delta(session, "A", 4) == []


REFUSAL = Route(Kind.CONTROL, "error", "error", refused=True)


def test_a_generic_feed_subscribes_keeps_alive_and_hears_a_refusal() -> None:
    wishes = GenericWishes(("{}",), keep_alive="PING", keep_alive_ns=10 * S)
    session = Session(
        GenericDialogue(wishes, Refusals()),
        gap_numbers=itertools.count(1),
        silence_ns=60 * S,
        sequence_starts_at=None,
    )
    assert session.opened(0) == [Send("{}"), Ready()]
    assert session.tick(10 * S) == [Send("PING")]
    assert session.tick(19 * S) == []
    assert session.tick(20 * S) == [Send("PING")]
    assert not session.received(REFUSAL, b"no", 21 * S)
    assert session.refused == ("no",)
    assert session.tick(22 * S) == []
    assert session.tick(23 * S) == [Disconnect(Cause.SUBSCRIPTION_REFUSED, "no")]


def refused_often() -> Session:
    """Return a connection that was refused as its forerunners were, at 0."""
    refusals = Refusals()
    for _ in range(PATIENCE - 1):
        refusals.begin()
        refusals.take("no")
    dialogue = GenericDialogue(GenericWishes(("{}",)), refusals)
    session = Session(dialogue, gap_numbers=itertools.count(1), silence_ns=60 * S, sequence_starts_at=None)
    session.opened(0)
    session.received(REFUSAL, b"no", 0)
    return session


def test_a_refusal_that_stays_is_told_once_and_ends_no_connection() -> None:
    session = refused_often()
    (said,) = session.tick(2 * S)
    assert isinstance(said, Warn)
    assert (said.event, said.fields["answer"], said.fields["more"]) == ("refusal_stays", "no", 0)
    session.received(Route(Kind.DATA, "t", "t"), b"{}", 3 * S)
    session.received(REFUSAL, b"no", 4 * S)
    assert [session.tick(now * S) for now in (5, 10, 62)] == [[], [], []]
    assert session.state is State.STREAMING


def test_where_all_is_refused_heartbeats_and_refusals_do_not_keep_the_connection() -> None:
    session = refused_often()
    session.tick(2 * S)
    for now in range(10, 60, 10):
        session.received(REFUSAL, b"no", now * S)
        session.received(Route(Kind.CONTROL, "heartbeat", "heartbeat"), b"{}", now * S)
    assert session.tick(60 * S) == [Disconnect(Cause.SILENT, "no frame for 60 s")]


steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("frame"), st.sampled_from(["subscribed", "ok", "error", "orderbook_snapshot", "trade", "x"])
        ),
        st.tuples(st.just("tick"), st.integers(0, 30)),
        st.tuples(st.just("stop"), st.none()),
    ),
    max_size=30,
)


@settings(deadline=None)
@given(steps, st.randoms(use_true_random=False))
def test_no_order_of_frames_breaks_the_machine_and_the_end_is_final(moves: list[Any], random: Any) -> None:
    session = kalshi()
    session.opened(0)
    now, ended = 0, False
    for move, detail in moves:
        if move == "tick":
            now += detail * S
            effects = session.tick(now)
        elif move == "stop":
            effects = session.stopping()
        else:
            body = {"code": random.choice([6, 8, 10, 16, 25]), "channel": "orderbook_delta", "market_ticker": "A"}
            effects = give(
                session, now, type=detail, id=random.randint(0, 4), sid=1, seq=random.randint(0, 9), msg=body
            )
        if ended:
            assert not any(isinstance(effect, Disconnect | Ready | Confirmed) for effect in effects)
        ended = ended or session.state is State.ENDED
        assert ended == (session.state is State.ENDED)


def test_a_gap_whose_numbers_all_come_late_is_healed() -> None:
    session = streaming()
    found = [effect for seq in (6, 9, 5, 5, 4, 7, 10) for effect in delta(session, "A", seq)]
    assert [effect.gap_no for effect in found if isinstance(effect, GapFound)] == [1, 2]
    assert [effect for effect in found if isinstance(effect, Resynced)] == [Resynced(1, "sid:1", healed=True)]
    assert len([effect for effect in found if isinstance(effect, Repeated)]) == 4


def test_a_sequence_that_begins_anew_has_no_gap_behind_it_and_the_others_go_on() -> None:
    dialogue = GenericDialogue(GenericWishes(()), Refusals())
    session = Session(dialogue, gap_numbers=itertools.count(1), silence_ns=60 * S, sequence_starts_at=None)

    def book(key: str, number: int, *, begins: bool = False) -> list[Effect]:
        route = Route(Kind.DATA, "book", "book", "A", (), key, number, begins=begins)
        return list(session.received(route, b"{}", 0))

    assert [book("a", 90), book("b", 5), book("a", 1, begins=True), book("a", 2), book("b", 6)] == [[]] * 5
    (found,) = book("a", 4)
    assert isinstance(found, GapFound)
    assert (found.gap.after_seq, found.gap.missing_count) == (2, 1)
