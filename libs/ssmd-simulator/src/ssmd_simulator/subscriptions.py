"""One channel of one connection: its sid, its seq and its markets, and which channels there are.

Below `protocol`, which decides what is subscribed. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ssmd_simulator import frames
from ssmd_simulator.market import Channel, Market

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ACTIONS", "CHANNELS", "PRIVATE_CHANNELS", "Subscription"]

CHANNELS = {channel.value: channel for channel in Channel}
#: Channels of a user's own orders and positions; this exchange has no users.
PRIVATE_CHANNELS = frozenset({"fill", "user_orders", "market_positions", "communications", "order_group_updates"})
#: What may be done to a subscription, by channel. The lifecycle channel has no markets to choose.
_MARKET_ACTIONS = frozenset({"add_markets", "delete_markets"})
ACTIONS: dict[Channel, frozenset[str]] = {
    Channel.TICKER: _MARKET_ACTIONS,
    Channel.TRADE: _MARKET_ACTIONS,
    Channel.ORDERBOOK: _MARKET_ACTIONS | {"get_snapshot"},
    Channel.LIFECYCLE: frozenset(),
}


@dataclass(slots=True, eq=False)
class Subscription:
    """One channel of this connection; ``seq`` is the last one used."""

    sid: int
    channel: Channel
    markets: dict[str, Market] = field(default_factory=dict)
    all_markets: bool = False
    use_yes_price: bool = False
    seq: int = 0

    def next_seq(self) -> int:
        """Use the next number of the sequence."""
        self.seq += 1
        return self.seq

    def add(self, markets: Iterable[Market], *, all_markets: bool) -> list[Market]:
        """Widen it; return the markets it did not hold before."""
        new = {market.listing.ticker: market for market in markets if market.listing.ticker not in self.markets}
        self.markets |= new
        self.all_markets = self.all_markets or all_markets
        return list(new.values())

    def snapshots(self, markets: Iterable[Market]) -> list[bytes]:
        """Return the books of markets, each with its seq."""
        return [
            frames.orderbook_snapshot(self.sid, self.next_seq(), market, use_yes_price=self.use_yes_price)
            for market in markets
        ]
