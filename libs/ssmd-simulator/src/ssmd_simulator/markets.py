"""The exchange's listings: which markets exist, under which tickers.

First on the data path: every frame the simulator makes is about one of these markets. Half of the tickers
hold a dot, as half of the real ones do. Pure.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

__all__ = ["RULES", "Listing", "listing"]

RULES = "Made up by a simulator."
"""The rules of every market."""

#: Markets open and close at these instants (2026-04-20 and the day after), the same in every run.
_OPENS_TS = 1_776_643_200
_CLOSES_TS = 1_776_729_600

#: (event ticker, strike letter, first strike in hundredths, step in hundredths, decimals shown)
_FAMILIES = (
    ("KXHIGHCHI-26APR20", "B", 5550, 200, 1),
    ("KXINXU-26APR20H1600", "T", 500_000, 2500, 0),
    ("KXBTCD-26APR2017", "T", 6_774_999, 25_000, 2),
    ("KXNASDAQ100-26APR20", "B", 1_805_000, 10_000, 0),
)


@dataclass(frozen=True, slots=True)
class Listing:
    """What does not change about a market.

    Attributes:
        ticker: The market's name on the wire, e.g. ``KXHIGHCHI-26APR20-B55.5``.
        market_id: The exchange's UUID for it.
        event_ticker: The event it belongs to.
        strike: The strike as it stands in the ticker, e.g. ``55.5``.
        opens_ts: Epoch seconds at which trading opens.
        closes_ts: Epoch seconds at which trading closes.
    """

    ticker: str
    market_id: str
    event_ticker: str
    strike: str
    opens_ts: int
    closes_ts: int

    @property
    def series_ticker(self) -> str:
        """The series its event belongs to."""
        return self.event_ticker.partition("-")[0]

    @property
    def name(self) -> str:
        """Its name for people."""
        return f"{self.event_ticker} at {self.strike}"

    @property
    def title(self) -> str:
        """The question it answers."""
        return f"Will it be {self.strike} or more?"

    @property
    def yes_sub_title(self) -> str:
        """What yes means."""
        return f"{self.strike} or more"

    @property
    def no_sub_title(self) -> str:
        """What no means."""
        return f"below {self.strike}"


def listing(index: int) -> Listing:
    """Return the exchange's market number ``index`` (from 0); the same in every run."""
    event_ticker, letter, first, step, decimals = _FAMILIES[index % len(_FAMILIES)]
    hundredths = first + step * (index // len(_FAMILIES))
    strike = f"{hundredths // 100}.{hundredths % 100:02d}"[: None if decimals == 2 else decimals - 2]  # noqa: PLR2004 - two decimals are the whole text
    strike = strike.removesuffix(".")
    ticker = f"{event_ticker}-{letter}{strike}"
    return Listing(
        ticker=ticker,
        market_id=str(uuid.uuid5(uuid.NAMESPACE_OID, ticker)),
        event_ticker=event_ticker,
        strike=strike,
        opens_ts=_OPENS_TS,
        closes_ts=_CLOSES_TS,
    )
