from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_simulator.market import (
    BookChange,
    Channel,
    Event,
    Exchange,
    Interest,
    LifecycleChange,
    Quote,
    Side,
    Trade,
)
from ssmd_simulator.markets import listing

SIDES: tuple[Side, Side] = ("yes", "no")


def interest_in_all(exchange: Exchange) -> Interest:
    return Interest((channel, exchange.markets) for channel in Channel)


def run(seed: int, steps: int, *, markets: int = 7, stream: int = 0) -> tuple[Exchange, list[Event]]:
    exchange = Exchange(seed, markets, stream)
    interest = interest_in_all(exchange)
    return exchange, [event for _ in range(steps) for event in exchange.advance(interest)]


def told(events: list[Event]) -> list[object]:
    """Events without their market objects, so that two runs compare."""
    return [
        (
            type(event).__name__,
            event.market.listing.ticker,
            *(getattr(event, name) for name in event.__dataclass_fields__ if name != "market"),
        )
        for event in events
    ]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_books_never_cross_and_no_level_is_negative(seed: int) -> None:
    exchange = Exchange(seed, 7)
    interest = interest_in_all(exchange)
    for _ in range(300):
        exchange.advance(interest)
        for market in exchange.markets:
            book = market.book
            assert book.best_cents("yes") + book.best_cents("no") < 100
            for side in SIDES:
                levels = [book.quantity(side, price) for price in range(100)]
                assert min(levels) >= 0
                assert book.best_cents(side) == max((p for p, q in enumerate(levels) if q), default=0)
                assert not levels[0]


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_deltas_alone_rebuild_every_book_from_its_first_snapshot(seed: int) -> None:
    exchange = Exchange(seed, 5)
    rebuilt = {
        (market.listing.ticker, side): dict(market.book.levels(side))
        for market in exchange.markets
        for side in SIDES
    }
    interest = interest_in_all(exchange)
    for _ in range(500):
        for event in exchange.advance(interest):
            if isinstance(event, BookChange):
                levels = rebuilt[event.market.listing.ticker, event.side]
                levels[event.price_cents] = levels.get(event.price_cents, 0) + event.delta
    for market in exchange.markets[:5]:
        for side in SIDES:
            left = {price: held for price, held in rebuilt[market.listing.ticker, side].items() if held}
            assert left == dict(market.book.levels(side))


def test_a_trade_takes_from_the_book_what_it_traded() -> None:
    _, events = run(seed=3, steps=3000)
    trades = [(at, event) for at, event in enumerate(events) if isinstance(event, Trade)]
    assert trades
    for at, trade in trades:
        taken = events[at + 1]
        assert isinstance(taken, BookChange)
        maker_price = trade.yes_price_cents if trade.taker_side == "no" else 100 - trade.yes_price_cents
        assert (taken.market, taken.price_cents, taken.delta) == (trade.market, maker_price, -trade.count)
        assert taken.side != trade.taker_side
        quote = events[at + 2]
        assert isinstance(quote, Quote)
        assert (quote.last_price_cents, quote.last_size) == (trade.yes_price_cents, trade.count)


def test_volume_is_the_sum_of_the_trades() -> None:
    exchange, events = run(seed=4, steps=3000)
    traded = sum(event.count for event in events if isinstance(event, Trade))
    assert sum(market.volume for market in exchange.markets) == traded


def test_the_same_seed_gives_the_same_events() -> None:
    assert told(run(seed=5, steps=500)[1]) == told(run(seed=5, steps=500)[1])


@pytest.mark.parametrize(("seed", "stream"), [(6, 0), (5, 1)])
def test_another_seed_or_stream_gives_others(seed: int, stream: int) -> None:
    assert told(run(seed=5, steps=50)[1]) != told(run(seed=seed, steps=50, stream=stream)[1])


def test_a_step_is_about_what_somebody_listens_to() -> None:
    exchange = Exchange(1, 10)
    market = exchange.markets[6]
    for channel, kind in (
        (Channel.TRADE, Trade),
        (Channel.TICKER, Quote),
        (Channel.ORDERBOOK, BookChange),
    ):
        interest = Interest([(channel, [market])])
        for _ in range(50):
            events = exchange.advance(interest)
            assert any(isinstance(event, kind) and event.market is market for event in events)


def test_new_markets_are_listed_up_to_twice_the_first_number() -> None:
    exchange = Exchange(1, 3)
    interest = Interest([(Channel.LIFECYCLE, exchange.markets)])
    changes = [event for _ in range(40) for event in exchange.advance(interest)]
    created = [event.market for event in changes if isinstance(event, LifecycleChange) and event.kind == "created"]
    assert exchange.markets[3:] == created
    assert len(created) == 3
    assert all(exchange.find(market.listing.ticker) is market for market in created)


def test_every_seventh_market_begins_with_an_empty_no_side() -> None:
    exchange = Exchange(1, 14)
    assert [not market.book.levels("no") for market in exchange.markets].count(True) == 2


def test_an_interest_without_markets_is_none() -> None:
    assert not Interest([(Channel.TRADE, [])])


def test_half_of_the_tickers_hold_a_dot_and_all_differ() -> None:
    tickers = [listing(index).ticker for index in range(1000)]
    assert len(set(tickers)) == 1000
    assert sum("." in ticker for ticker in tickers) == 500
    assert tickers[0] == "KXHIGHCHI-26APR20-B55.5"
    assert tickers[2] == "KXBTCD-26APR2017-T67749.99"


def test_a_listing_is_the_same_in_every_run() -> None:
    assert listing(5) == listing(5)
    assert len({listing(index).market_id for index in range(100)}) == 100
