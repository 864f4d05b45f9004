"""Which markets the exchange lists, and what became of them: one truth for all connections and for REST.

Beside `market`, where each connection's books are: those differ from connection to connection, what is listed does
not. Pure: the caller brings the time, and opens and settles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from ssmd_simulator.markets import Listing, listing

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Directory", "Entry", "LifecycleKind", "News"]

LifecycleKind: TypeAlias = Literal[
    "created", "activated", "close_date_updated", "determined", "settled", "metadata_updated"
]
"""What can become of a market, in the words of the lifecycle channel."""

_DAY_S = 86_400
_NS_PER_S = 1_000_000_000


@dataclass(slots=True, eq=False)
class Entry:
    """A market as it is listed now; times are epoch seconds.

    Attributes:
        listing: What does not change about it.
        opens_ts: When trading opened.
        closes_ts: When trading closes, or closed.
        updated_ts: When this entry changed last.
        settled_ts: When it was settled; None while it trades.
        result: ``yes`` or ``no`` once it is settled.
    """

    listing: Listing
    opens_ts: int
    closes_ts: int
    updated_ts: int
    settled_ts: int | None = None
    result: str = ""

    @property
    def is_open(self) -> bool:
        """Whether it trades."""
        return self.settled_ts is None

    def settle(self, ts: int) -> None:
        """Close it early and settle it. The result is the same in every run."""
        self.closes_ts = self.updated_ts = self.settled_ts = ts
        self.result = "yes" if int(self.listing.market_id[:2], 16) % 2 else "no"


@dataclass(frozen=True, slots=True)
class News:
    """One thing that became of a market."""

    kind: LifecycleKind
    entry: Entry


class Directory:
    """All markets ever listed in this run.

    Args:
        markets: How many are listed, and open, at the start.

    Attributes:
        entries: Every market, in the order of listing.
        news: What became of them since the start; it only grows, so a reader remembers how far it has read.
    """

    def __init__(self, markets: int) -> None:
        self.entries: list[Entry] = []
        self.news: list[News] = []
        self._by_ticker: dict[str, Entry] = {}
        for index in range(markets):
            new = listing(index)
            self._add(Entry(new, new.opens_ts, new.closes_ts, updated_ts=new.opens_ts))

    def find(self, ticker: str) -> Entry | None:
        """Return the market of that ticker, if it was ever listed."""
        return self._by_ticker.get(ticker)

    def open_next(self, now_ns: int) -> Entry:
        """List one more market, which trades at once and for a day."""
        ts = now_ns // _NS_PER_S
        entry = Entry(listing(len(self.entries)), ts, ts + _DAY_S, updated_ts=ts)
        self._add(entry)
        self._tell(entry, ("created", "activated"))
        return entry

    def settle(self, ticker: str, now_ns: int) -> None:
        """Close a market that trades, determine its result and settle it.

        Raises:
            KeyError: No such market trades.
        """
        entry = self._by_ticker[ticker]
        if not entry.is_open:
            raise KeyError(ticker)
        entry.settle(now_ns // _NS_PER_S)
        self._tell(entry, ("close_date_updated", "determined", "settled"))

    def settle_oldest(self, now_ns: int) -> Entry | None:
        """Settle the market that is listed longest; the last one that trades is left alone (None)."""
        trading = (entry for entry in self.entries if entry.is_open)
        oldest, another = next(trading, None), next(trading, None)
        if oldest is None or another is None:
            return None
        self.settle(oldest.listing.ticker, now_ns)
        return oldest

    def _add(self, entry: Entry) -> None:
        self.entries.append(entry)
        self._by_ticker[entry.listing.ticker] = entry

    def _tell(self, entry: Entry, kinds: Sequence[LifecycleKind]) -> None:
        self.news += [News(kind, entry) for kind in kinds]
