"""Which markets are wanted, and on which socket: by a list, by discovery, by lifecycle frames. Pure.

A market stays on the socket it was given to for as long as it is wanted, so that nobody's sequence is disturbed; a
new one goes to the socket that has the fewest. What ended is taken away; what is only paused or closed stays, since
it may open again.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from ssmd_connector.venues.kalshi import MarketNews

__all__ = ["Change", "Listing", "Markets", "Selection", "read_listing"]

_ENDED_STATUSES = frozenset({"determined", "disputed", "amended", "finalized", "settled"})
_ENDING_NEWS = frozenset({"determined", "settled"})
_OPENING_NEWS = frozenset({"created", "activated"})
_VOLATILE = re.compile(r"(^|_)(bid|ask|volume|interest|liquidity|last_price|previous_price|updated)(_|$)")
"""Fields of a market's document that change with every trade: one that differs in these alone is the same."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which markets are wanted.

    Attributes:
        tickers: These alone; empty where the others decide.
        series: All markets of these series.
        events: All markets of these events.
        multivariate: Whether combinations of markets are taken beside (``include``), not (``exclude``), or alone
            (``only``).
    """

    tickers: frozenset[str] = frozenset()
    series: frozenset[str] = frozenset()
    events: frozenset[str] = frozenset()
    multivariate: str = "include"

    def takes(self, news: MarketNews, series_of_event: dict[str, str]) -> bool:
        """Tell whether the market a lifecycle frame is about is one of them.

        Tickers are series, event and market joined by ``-``, which decides where the frame does not say more.
        """
        if self.tickers:
            return news.ticker in self.tickers
        if self.multivariate != "include" and news.multivariate != (self.multivariate == "only"):
            return False
        if not self.series and not self.events:
            return True
        event = news.event_ticker or news.ticker.rpartition("-")[0]
        series = news.series_ticker or series_of_event.get(event) or news.ticker.partition("-")[0]
        return event in self.events or series in self.series


@dataclass(frozen=True, slots=True)
class Listing:
    """A market as REST lists it.

    Attributes:
        ticker: Its name.
        status: ``initialized``, ``active``, ``inactive``, ``closed``, ``determined``, ``finalized`` and the like.
        document: All the exchange says about it, compact JSON, its numbers spelled as they came.
        digest: Differs where documents differ in more than prices and volumes.
    """

    ticker: str
    status: str
    document: bytes
    digest: bytes

    @property
    def has_ended(self) -> bool:
        """Whether it will not trade again."""
        return self.status in _ENDED_STATUSES


def read_listing(raw: bytes) -> Listing | None:
    """Read one market's document; None where it names no ticker.

    Raises:
        msgspec.DecodeError: It is no JSON.
    """
    value: Any = msgspec.json.decode(raw)
    ticker = value.get("ticker") if isinstance(value, dict) else None
    if not isinstance(ticker, str) or not ticker:
        return None
    status = value.get("status")
    lasting = {name: part for name, part in value.items() if not _VOLATILE.search(name)}
    digest = hashlib.blake2b(msgspec.json.encode(lasting, order="sorted"), digest_size=16).digest()
    return Listing(ticker, status if isinstance(status, str) else "", msgspec.json.format(raw, indent=-1), digest)


@dataclass(frozen=True, slots=True)
class Change:
    """What one socket is to subscribe to from now on, and what no longer.

    Attributes:
        lane: The socket, from 1.
        added: New markets.
        removed: Markets that ended.
        opened: Markets it was to subscribe to before, which the exchange may have refused as long as they were not
            open.
    """

    lane: int
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    opened: tuple[str, ...] = ()


@dataclass(slots=True)
class _Lane:
    tickers: dict[str, None] = field(default_factory=dict)
    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)


class Markets:
    """The markets wanted now.

    Args:
        selection: Which they are; those it names are wanted from the start.
        lanes: How many sockets share them.
    """

    def __init__(self, selection: Selection, lanes: int = 1) -> None:
        self._selection = selection
        self._lanes = [_Lane() for _ in range(lanes)]
        self._lane_of: dict[str, _Lane] = {}
        self._digests: dict[str, bytes] = {}
        self._series_of_event: dict[str, str] = {}
        self._ended: set[str] = set()
        self._listed: set[str] = set()
        self._opened: set[str] = set()
        for ticker in sorted(selection.tickers):
            self._want(ticker)
        self._changes()

    def __len__(self) -> int:
        """Count the markets wanted."""
        return len(self._lane_of)

    def tickers(self, lane: int) -> tuple[str, ...]:
        """Return what the ``lane``-th socket (from 1) is to subscribe to."""
        return tuple(self._lanes[lane - 1].tickers)

    def begin_pass(self) -> None:
        """Begin to list all markets anew."""
        self._listed.clear()
        self._opened.clear()

    def listed(self, listings: Iterable[Listing]) -> list[Change]:
        """Take markets discovery found."""
        for listing in listings:
            self._listed.add(listing.ticker)
            # A page may be older than the frame that told of the market's end.
            if not listing.has_ended and listing.ticker not in self._ended:
                self._want(listing.ticker)
        return self._changes()

    def end_pass(self) -> tuple[str, ...]:
        """End the listing; return the markets wanted that it did not name: they may have ended unheard.

        One that was opened meanwhile may have been too late for it.
        """
        self._ended &= self._listed
        seen = self._listed | self._opened
        return tuple(ticker for ticker in self._lane_of if ticker not in seen)

    def looked_up(self, asked: Iterable[str], found: Collection[Listing], *, strict: bool) -> list[Change]:
        """Take the documents of markets that were asked for by name.

        Args:
            asked: The tickers asked for.
            found: What came.
            strict: Whether a market that is not there has ended; one just created may not be there yet.
        """
        known = {listing.ticker: listing for listing in found}
        for ticker in asked:
            listing = known.get(ticker)
            if listing.has_ended if listing is not None else strict:
                self._end(ticker)
        return self._changes()

    def heard(self, news: MarketNews) -> tuple[bool, list[Change]]:
        """Take what a lifecycle frame says.

        Returns:
            Whether it is about a market of ours, whose document may have changed; and what follows at once.
        """
        if not news.ticker:
            self._learn_series(news)
            return False, []
        if not self._selection.takes(news, self._series_of_event):
            return False, []
        if news.what in _ENDING_NEWS:
            self._end(news.ticker)
        elif news.what in _OPENING_NEWS:
            self._ended.discard(news.ticker)
            self._opened.add(news.ticker)
            if news.ticker in self._lane_of:
                self._lane_of[news.ticker].opened.append(news.ticker)
            self._want(news.ticker)
        return True, self._changes()

    def is_new(self, listing: Listing) -> bool:
        """Tell whether a document has not been seen in this session, or has changed; it counts as seen from now."""
        if self._digests.get(listing.ticker) == listing.digest:
            return False
        self._digests[listing.ticker] = listing.digest
        return True

    def forget_documents(self) -> None:
        """Forget the documents of markets that are over, so that years of them do not fill the memory."""
        gone = [ticker for ticker in self._digests if ticker not in self._lane_of and ticker not in self._listed]
        for ticker in gone:
            del self._digests[ticker]

    def _learn_series(self, news: MarketNews) -> None:
        """Remember an event whose series its ticker does not begin with."""
        series = news.series_ticker
        if series in self._selection.series and news.event_ticker.partition("-")[0] != series:
            self._series_of_event[news.event_ticker] = series

    def _want(self, ticker: str) -> None:
        if ticker in self._lane_of:
            return
        lane = min(self._lanes, key=lambda one: len(one.tickers))
        lane.tickers[ticker] = None
        lane.added.append(ticker)
        self._lane_of[ticker] = lane

    def _end(self, ticker: str) -> None:
        self._ended.add(ticker)
        lane = self._lane_of.pop(ticker, None)
        if lane is not None:
            del lane.tickers[ticker]
            lane.removed.append(ticker)

    def _changes(self) -> list[Change]:
        changes = []
        for number, lane in enumerate(self._lanes, start=1):
            if lane.added or lane.removed or lane.opened:
                changes.append(Change(number, tuple(lane.added), tuple(lane.removed), tuple(lane.opened)))
                lane.added, lane.removed, lane.opened = [], [], []
        return changes
