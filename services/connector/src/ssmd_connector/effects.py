"""What a session decides: the shell around it performs these and decides nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ssmd_common.sequences import SequenceGap, SequenceRepeat
    from ssmd_connector.causes import Cause
    from ssmd_connector.venues.kalshi import MarketNews

__all__ = [
    "Confirmed",
    "Disconnect",
    "Effect",
    "GapFound",
    "Heard",
    "Left",
    "Ready",
    "Refreshed",
    "Repeated",
    "Resynced",
    "Send",
    "Warn",
]


@dataclass(frozen=True, slots=True)
class Send:
    """Send this frame."""

    text: str


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The exchange confirmed a subscription, or that these markets joined it: tell of it."""

    channel: str
    sid: int | None
    tickers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Left:
    """The exchange confirmed that these markets left a subscription: tell of it."""

    channel: str
    sid: int | None
    tickers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ready:
    """Everything wanted is subscribed."""

    refused: int = 0


@dataclass(frozen=True, slots=True)
class GapFound:
    """The exchange's sequence skipped: record it under this number."""

    gap_no: int
    gap: SequenceGap


@dataclass(frozen=True, slots=True)
class Resynced:
    """Full state came for everything behind the gap of this number; ``healed``: every number of it did, late."""

    gap_no: int
    key: str
    healed: bool = False


@dataclass(frozen=True, slots=True)
class Refreshed:
    """So many full books came, as the schedule asked."""

    books: int


@dataclass(frozen=True, slots=True)
class Heard:
    """The exchange tells what becomes of a market."""

    news: MarketNews


@dataclass(frozen=True, slots=True)
class Repeated:
    """A sequence number came again, or late."""

    repeat: SequenceRepeat


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Close the socket and connect anew; ``reason`` is the exchange's where it gave one."""

    cause: Cause
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Warn:
    """Tell the operator, under a fixed event name."""

    event: str
    fields: Mapping[str, object] = field(default_factory=dict)


Effect = Send | Confirmed | Left | Ready | GapFound | Resynced | Refreshed | Heard | Repeated | Disconnect | Warn
