"""Which markets a recording is about, so that the capture of it names them; pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

__all__ = ["recorded_markets"]


class _Frame(msgspec.Struct, frozen=True):
    msg: Any = None
    frame: Any = None


_decoder = msgspec.json.Decoder(_Frame)


def recorded_markets(lines: Iterable[bytes]) -> tuple[str, ...]:
    """Return the tickers of a recording of Kalshi in the order met; recordings of others give none."""
    found: dict[str, None] = {}
    for line in lines:
        try:
            frame = _decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        inner = frame.frame.get("msg") if isinstance(frame.frame, dict) else frame.msg
        ticker = inner.get("market_ticker") if isinstance(inner, dict) else None
        if isinstance(ticker, str) and ticker:
            found[ticker] = None
    return tuple(found)
