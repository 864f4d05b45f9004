"""What a feed file says of Kalshi alone: channels, and the markets to look for."""

from __future__ import annotations

import re
from datetime import time
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from ssmd_common.config.model import ConfigModel, Duration, Text, invalid, parse_interval

__all__ = ["Discover", "KalshiSettings", "SymbolsOrAll"]


def _or_all(value: Any) -> Any:
    if value == "all":
        return ()
    if isinstance(value, str) or (isinstance(value, list) and not value):
        raise invalid("names nothing to subscribe to", remedy="list symbols, or write `all`")
    return value


SymbolsOrAll = Annotated[tuple[Text, ...], BeforeValidator(_or_all)]
"""A list of symbols, or ``all`` in the file, which is the empty tuple here."""


MarketStatus = Literal["open", "unopened", "paused", "closed", "settled"]
"""The words by which Kalshi's REST interface lists markets; a market's own status has others."""


def _one_or_several(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Discover(ConfigModel):
    """Which markets to look for over REST; all of them where neither series nor events are named.

    Attributes:
        series: Series, such as ``KXBTCD``.
        events: Events, such as ``KXBTCD-26APR2017``.
        status: What state a market must be in to be found. One that is listed later is found by its lifecycle
            frame, whatever this says.
        multivariate: Combinations of other markets, of which there are many: taken too, left out, or alone.
        every: How often to look again, which finds what no lifecycle frame told.
    """

    series: Annotated[tuple[Text, ...], BeforeValidator(_one_or_several)] = ()
    events: Annotated[tuple[Text, ...], BeforeValidator(_one_or_several)] = ()
    status: Annotated[tuple[MarketStatus, ...], BeforeValidator(_one_or_several), Field(min_length=1)] = (
        "open",
        "unopened",
    )
    multivariate: Literal["include", "exclude", "only"] = "include"
    every: Duration = parse_interval("10m")

    def __str__(self) -> str:
        """Say it in a line, for people."""
        named = [*(f"series {name}" for name in self.series), *(f"event {name}" for name in self.events)]
        return f"{', '.join(named) or 'all'} markets, {' or '.join(self.status)}, every {self.every}"

    @property
    def covers_everything(self) -> bool:
        """Whether every market is meant."""
        return not self.series and not self.events and self.multivariate == "include"


_UTC_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9]))?Z")


def _utc_time(value: Any) -> Any:
    # YAML reads a bare `off` as false.
    if value is None or value is False or value == "off":
        return None
    match = _UTC_TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise invalid(
            f"{value!r} is no time of the day in UTC", remedy='write it as "00:00Z", or `off` for no such time'
        )
    return time(int(match[1]), int(match[2]), int(match[3] or 0))


class KalshiSettings(ConfigModel):
    """What only Kalshi has.

    Attributes:
        channels: Channels to subscribe to. ``orderbook_delta`` is to be had by ticker alone: with ``markets: all``
            the tickers are discovered.
        markets: Tickers to subscribe to; empty, or ``all`` in the file: every market, or those of ``discover``.
        discover: Which markets to look for over REST, instead of a list.
        sockets: Connections that share the markets.
        snapshot_at: Time of the day, in UTC, at which full books are asked for, so that a day can be read without
            the one before; ``off`` for none.
        use_yes_price: Ask for the prices of both sides of a book as yes prices. Always sent, since the exchange's
            default is to change.
        rest_endpoint: Where markets are looked for.
        demo_endpoint: Used instead of the version's endpoint when ``KALSHI_USE_DEMO`` is true.
        demo_rest_endpoint: The same for ``rest_endpoint``.
    """

    channels: tuple[Text, ...] = Field(default=("ticker", "trade", "market_lifecycle_v2"), min_length=1)
    markets: SymbolsOrAll = ()
    discover: Discover | None = None
    sockets: int = Field(default=1, ge=1, le=64)
    snapshot_at: Annotated[time | None, BeforeValidator(_utc_time)] = time(0)
    use_yes_price: bool = True
    rest_endpoint: Text = "https://external-api.kalshi.com/trade-api/v2"
    demo_endpoint: Text = "wss://external-api-ws.demo.kalshi.co/trade-api/ws/v2"
    demo_rest_endpoint: Text = "https://external-api.demo.kalshi.co/trade-api/v2"

    @model_validator(mode="after")
    def _listed_or_discovered(self) -> Self:
        if self.markets and self.discover is not None:
            raise invalid("markets are listed and discovered", remedy="remove the list, or discover")
        return self

    @property
    def discovery(self) -> Discover | None:
        """Which markets to look for; None where a list names them, or where none has to be named."""
        if self.discover is None and not self.markets and "orderbook_delta" in self.channels:
            return Discover()
        return self.discover
