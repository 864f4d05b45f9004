"""Books, trades and quotes that agree with each other, from a seed.

The source of the generated road: :class:`Exchange` moves its markets one step at a time and says what
happened as events; `protocol` turns them into frames. Prices are whole cents of a dollar (1 to 99),
quantities hundredths of a contract. Pure: all chance comes from the seed, all time from the caller.

What holds after every step: no level is negative; the best yes bid plus the best no bid is below a
dollar, so the book never crosses; a trade takes exactly what it takes out of the book.
"""

from __future__ import annotations

import bisect
import random
import uuid
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, TypeAlias

from ssmd_simulator.directory import Entry, LifecycleKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ssmd_simulator.directory import Directory, News
    from ssmd_simulator.markets import Listing

__all__ = [
    "Book",
    "BookChange",
    "Channel",
    "Event",
    "Exchange",
    "Interest",
    "LifecycleChange",
    "Market",
    "Quote",
    "Side",
    "Trade",
]

Side: TypeAlias = Literal["yes", "no"]

_DOLLAR_CENTS = 100
#: How far below the best bid new orders arrive, in cents.
_DEPTH_CENTS = 8


class Channel(StrEnum):
    """The channels a client can subscribe to, by their names on the wire."""

    TICKER = "ticker"
    TRADE = "trade"
    ORDERBOOK = "orderbook_delta"
    LIFECYCLE = "market_lifecycle_v2"


#: How often a step begins in each channel, among those somebody listens to.
_WEIGHTS: Mapping[Channel, float] = {
    Channel.ORDERBOOK: 100.0,
    Channel.TICKER: 8.0,
    Channel.TRADE: 6.0,
    Channel.LIFECYCLE: 0.2,
}


class Book:
    """The resting bids of one market on both sides; a no bid at ``p`` is a yes offer at a dollar less ``p``."""

    __slots__ = ("_best", "_levels")

    def __init__(self) -> None:
        self._levels: dict[Side, list[int]] = {"yes": [0] * _DOLLAR_CENTS, "no": [0] * _DOLLAR_CENTS}
        self._best: dict[Side, int] = {"yes": 0, "no": 0}

    def best_cents(self, side: Side) -> int:
        """Return the side's highest bid in cents, 0 where the side is empty."""
        return self._best[side]

    def quantity(self, side: Side, price_cents: int) -> int:
        """Return what rests at a price, in hundredths of a contract."""
        return self._levels[side][price_cents]

    def levels(self, side: Side) -> list[tuple[int, int]]:
        """Return ``(price_cents, quantity)`` of every level that is not empty, lowest price first."""
        return [(price, quantity) for price, quantity in enumerate(self._levels[side]) if quantity]

    def change(self, side: Side, price_cents: int, delta: int) -> None:
        """Add ``delta`` (negative: take away) at a price."""
        levels = self._levels[side]
        levels[price_cents] += delta
        best = self._best[side]
        if price_cents > best:
            self._best[side] = price_cents
        elif price_cents == best and not levels[best]:
            while best and not levels[best]:
                best -= 1
            self._best[side] = best


@dataclass(slots=True, eq=False)
class Market:
    """One market as one connection sees it now; quantities in hundredths of a contract."""

    entry: Entry
    listing: Listing
    book: Book
    last_price_cents: int = 0
    last_size: int = 0
    volume: int = 0
    open_interest: int = 0


@dataclass(frozen=True, slots=True)
class BookChange:
    """A level of a book grew or shrank by ``delta`` hundredths of a contract."""

    market: Market
    side: Side
    price_cents: int
    delta: int


@dataclass(frozen=True, slots=True)
class Trade:
    """``count`` hundredths of a contract changed hands at ``yes_price_cents``."""

    market: Market
    trade_id: str
    yes_price_cents: int
    count: int
    taker_side: Side


@dataclass(frozen=True, slots=True)
class Quote:
    """A market's best prices and totals at one moment (what the ticker channel tells).

    An empty yes side bids 0 cents, an empty no side offers at 100, both with size 0, as the exchange does.
    """

    market: Market
    last_price_cents: int
    yes_bid_cents: int
    yes_ask_cents: int
    yes_bid_size: int
    yes_ask_size: int
    last_size: int
    volume: int
    open_interest: int


@dataclass(frozen=True, slots=True)
class LifecycleChange:
    """Something became of a market."""

    market: Market
    kind: LifecycleKind


Event: TypeAlias = BookChange | Trade | Quote | LifecycleChange


class Interest:
    """Which markets somebody listens to, by channel: what the next step may be about.

    Args:
        markets_by_channel: The subscribed markets of each channel, in a stable order. Channels without
            markets are left out of the draw.
    """

    __slots__ = ("channels", "cumulative", "markets")

    def __init__(self, markets_by_channel: Iterable[tuple[Channel, Sequence[Market]]]) -> None:
        self.channels: list[Channel] = []
        self.markets: dict[Channel, Sequence[Market]] = {}
        self.cumulative: list[float] = []
        total = 0.0
        for channel, markets in markets_by_channel:
            if markets:
                total += _WEIGHTS[channel]
                self.channels.append(channel)
                self.markets[channel] = markets
                self.cumulative.append(total)

    def __bool__(self) -> bool:
        """Tell whether anything at all is listened to."""
        return bool(self.channels)


class Exchange:
    """All markets of one exchange, moved by one seeded source of chance.

    Args:
        seed: The run's seed.
        directory: Which markets there are, now and later.
        stream: Which of the seed's independent streams of events to make: each connection has its own.
    """

    def __init__(self, seed: int, directory: Directory, stream: int = 0) -> None:
        # Not for secrets: the same seed has to give the same market.
        self._random = random.Random(f"{seed}/{stream}")  # noqa: S311 - a reproducible market, no secret
        self._markets: dict[str, Market] = {}
        self._directory = directory
        self._news_read = len(directory.news)
        for entry in directory.entries:
            self._list_market(entry)

    @property
    def markets(self) -> list[Market]:
        """Every market that trades, in the order of listing."""
        return [market for market in self._markets.values() if market.entry.is_open]

    def find(self, ticker: str) -> Market | None:
        """Return the market of that ticker, if it was ever listed."""
        return self._markets.get(ticker)

    def news(self) -> list[LifecycleChange]:
        """Return what became of the directory's markets since the last call; the books follow."""
        news: list[News] = self._directory.news[self._news_read :]
        self._news_read += len(news)
        return [self._follow(one) for one in news]

    def _follow(self, news: News) -> LifecycleChange:
        market = self._markets.get(news.entry.listing.ticker) or self._list_market(news.entry)
        if not news.entry.is_open:
            market.book = Book()
        return LifecycleChange(market=market, kind=news.kind)

    def advance(self, interest: Interest) -> tuple[Event, ...]:
        """Let the next thing happen in a channel somebody listens to, and return all it caused.

        At least one of the events is of a channel and market in ``interest``, which must not be empty.
        """
        chance = self._random
        drawn = bisect.bisect(interest.cumulative, chance.random() * interest.cumulative[-1])
        channel = interest.channels[min(drawn, len(interest.channels) - 1)]
        markets = interest.markets[channel]
        market = markets[int(chance.random() * len(markets))]
        match channel:
            case Channel.ORDERBOOK:
                return (self._order(market),)
            case Channel.TICKER:
                return (self.quote(market),)
            case Channel.TRADE:
                return self._trade(market)
            case Channel.LIFECYCLE:
                return (LifecycleChange(market=market, kind="metadata_updated"),)

    def quote(self, market: Market) -> Quote:
        """Return what the ticker channel says of a market now."""
        book = market.book
        yes, no = book.best_cents("yes"), book.best_cents("no")
        return Quote(
            market=market,
            last_price_cents=market.last_price_cents,
            yes_bid_cents=yes,
            yes_ask_cents=_DOLLAR_CENTS - no,
            yes_bid_size=book.quantity("yes", yes),
            yes_ask_size=book.quantity("no", no),
            last_size=market.last_size,
            volume=market.volume,
            open_interest=market.open_interest,
        )

    def _list_market(self, entry: Entry) -> Market:
        chance = self._random
        index = len(self._markets)
        market = Market(entry=entry, listing=entry.listing, book=Book())
        self._markets[entry.listing.ticker] = market
        fair_cents = chance.randint(10, 90)
        sides: tuple[tuple[Side, int], ...] = (("yes", fair_cents - 1), ("no", _DOLLAR_CENTS - fair_cents - 1))
        for side, best in sides:
            # Every seventh market has nobody on the no side: an empty side is a shape of its own on the wire.
            if side == "no" and index % 7 == 6:  # noqa: PLR2004 - the last of each seven
                continue
            for price in range(max(1, best - chance.randint(4, 30)), best + 1):
                market.book.change(side, price, chance.randint(1, 4000) * 100)
        if not entry.is_open:
            market.book = Book()
        return market

    def _order(self, market: Market) -> BookChange:
        """Place or cancel one order near the top of the book."""
        chance = self._random
        side: Side = "yes" if chance.random() < 0.5 else "no"  # noqa: PLR2004 - both sides alike
        book = market.book
        best = book.best_cents(side)
        if best and chance.random() < 0.5:  # noqa: PLR2004 - as many cancels as orders keeps the depth level
            price = best
            # A level near the top that holds something; the best one always does.
            below = best - int(chance.random() * _DEPTH_CENTS)
            if below > 0 and book.quantity(side, below):
                price = below
            resting = book.quantity(side, price)
            part = resting if chance.random() < 0.3 else 1 + int(chance.random() * resting)  # noqa: PLR2004 - some leave whole
            delta = -part
        else:
            other: Side = "no" if side == "yes" else "yes"
            highest = _DOLLAR_CENTS - 1 - book.best_cents(other)
            # At most one cent better than the best, and never touching the other side.
            price = max(1, min(highest, (best or highest) + 1 - int(chance.random() * (_DEPTH_CENTS + 1))))
            delta = 1 + int(chance.random() * 200_000)
        book.change(side, price, delta)
        return BookChange(market=market, side=side, price_cents=price, delta=delta)

    def _trade(self, market: Market) -> tuple[Event, ...]:
        """Let a taker meet the best bid of the other side: the trade, the level it shrank, the new quote."""
        chance = self._random
        book = market.book
        placed: tuple[Event, ...] = ()
        if not book.best_cents("yes") and not book.best_cents("no"):
            placed = (self._order(market),)
        taker: Side = "yes" if chance.random() < 0.5 else "no"  # noqa: PLR2004 - both sides alike
        maker: Side = "no" if taker == "yes" else "yes"
        if not book.best_cents(maker):
            taker, maker = maker, taker
        price = book.best_cents(maker)
        count = min(book.quantity(maker, price), chance.randint(1, 300) * 100)
        book.change(maker, price, -count)
        yes_price = price if maker == "yes" else _DOLLAR_CENTS - price
        market.last_price_cents = yes_price
        market.last_size = count
        market.volume += count
        market.open_interest += count // 2
        return (
            *placed,
            Trade(
                market=market,
                trade_id=str(uuid.UUID(int=chance.getrandbits(128), version=4)),
                yes_price_cents=yes_price,
                count=count,
                taker_side=taker,
            ),
            BookChange(market=market, side=maker, price_cents=price, delta=-count),
            self.quote(market),
        )
