from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_simulator.directory import Directory
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

NOW_NS = 1_786_085_241_920_369_000
SIDES: tuple[Side, Side] = ("yes", "no")


def interest_in_all(exchange: Exchange) -> Interest:
    return Interest((channel, exchange.markets) for channel in Channel)


def run(seed: int, steps: int, *, markets: int = 7, stream: int = 0) -> tuple[Exchange, list[Event]]:
    exchange = Exchange(seed, Directory(markets), stream)
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
    exchange = Exchange(seed, Directory(7))
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
    exchange = Exchange(seed, Directory(5))
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
    exchange = Exchange(1, Directory(10))
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


def test_a_new_market_of_the_directory_is_told_of_once_and_trades() -> None:
    directory = Directory(3)
    exchange = Exchange(1, directory)
    entry = directory.open_next(NOW_NS)
    created, activated = exchange.news()
    market = exchange.find(entry.listing.ticker)
    assert market is not None
    assert (created, activated) == (LifecycleChange(market, "created"), LifecycleChange(market, "activated"))
    assert exchange.markets[3:] == [market]
    assert market.book.levels("yes")
    assert exchange.news() == []


def test_a_settled_market_is_no_longer_among_those_that_trade_and_its_book_is_empty() -> None:
    directory = Directory(3)
    before = Exchange(1, directory)
    first = before.markets[0]
    directory.settle(first.listing.ticker, NOW_NS)
    assert [change.kind for change in before.news()] == ["close_date_updated", "determined", "settled"]
    for exchange in (before, Exchange(1, directory, stream=2)):
        market = exchange.find(first.listing.ticker)
        assert market is not None
        assert market not in exchange.markets
        assert len(exchange.markets) == 2
        assert (market.book.levels("yes"), market.book.levels("no")) == ([], [])


def test_every_seventh_market_begins_with_an_empty_no_side() -> None:
    exchange = Exchange(1, Directory(14))
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
