"""The exchange's frames as bytes: one function a shape.

Between `protocol`, which decides what is sent, and the socket. Shapes and field names are those of frames
recorded in 2026: prices as dollar strings of four decimals, quantities as strings of two, ``ts`` RFC 3339
on book deltas and epoch seconds on tickers and trades. Data frames are format strings, since a simulator
that runs as fast as it can makes tens of thousands a second; replies are rare and go through the encoder.
Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from ssmd_simulator.markets import RULES

if TYPE_CHECKING:
    from ssmd_simulator.commands import ErrorCode
    from ssmd_simulator.market import BookChange, LifecycleChange, Market, Quote, Side, Trade

__all__ = [
    "Instant",
    "error",
    "lifecycle",
    "ok",
    "orderbook_delta",
    "orderbook_snapshot",
    "subscribed",
    "ticker",
    "trade",
    "unsubscribed",
]

_DOLLARS = tuple(f"{cents // 100}.{cents % 100:02d}00" for cents in range(101))


@dataclass(frozen=True, slots=True)
class Instant:
    """One moment in the three forms the frames use."""

    rfc3339: str
    epoch_s: int
    epoch_ms: int

    @classmethod
    def at(cls, now_ns: int) -> Instant:
        """Return the moment of an epoch in nanoseconds."""
        micros = now_ns // 1000
        epoch_s = micros // 1_000_000
        # The exchange leaves trailing zeros out, and the point with them.
        fraction = f".{micros % 1_000_000:06d}".rstrip("0").rstrip(".")
        return cls(f"{_to_the_second(epoch_s)}{fraction}Z", epoch_s, micros // 1000)


@lru_cache(maxsize=8)
def _to_the_second(epoch_s: int) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _fixed(hundredths: int) -> str:
    whole, part = divmod(abs(hundredths), 100)
    return f"{'-' if hundredths < 0 else ''}{whole}.{part:02d}"


def _book_price(side: Side, price_cents: int, *, use_yes_price: bool) -> str:
    return _DOLLARS[100 - price_cents if use_yes_price and side == "no" else price_cents]


def orderbook_snapshot(sid: int, seq: int, market: Market, *, use_yes_price: bool) -> bytes:
    """Return a whole book; the key of an empty side is absent."""
    msg: dict[str, Any] = {"market_ticker": market.listing.ticker, "market_id": market.listing.market_id}
    sides: tuple[Side, ...] = ("yes", "no")
    for side in sides:
        levels = [
            [_book_price(side, price, use_yes_price=use_yes_price), _fixed(quantity)]
            for price, quantity in market.book.levels(side)
        ]
        if levels:
            # Lowest price first, whatever scale the client asked for.
            msg[f"{side}_dollars_fp"] = sorted(levels)
    return msgspec.json.encode({"type": "orderbook_snapshot", "sid": sid, "seq": seq, "msg": msg})


def orderbook_delta(sid: int, seq: int, change: BookChange, now: Instant, *, use_yes_price: bool) -> bytes:
    """Return one level's change."""
    listing = change.market.listing
    return (
        f'{{"type":"orderbook_delta","sid":{sid},"seq":{seq},"msg":{{"market_ticker":"{listing.ticker}",'
        f'"market_id":"{listing.market_id}",'
        f'"price_dollars":"{_book_price(change.side, change.price_cents, use_yes_price=use_yes_price)}",'
        f'"delta_fp":"{_fixed(change.delta)}","side":"{change.side}","ts":"{now.rfc3339}","ts_ms":{now.epoch_ms}}}}}'
    ).encode()


def trade(sid: int, seq: int, event: Trade, now: Instant) -> bytes:
    """Return one public trade."""
    return (
        f'{{"type":"trade","sid":{sid},"seq":{seq},"msg":{{"trade_id":"{event.trade_id}",'
        f'"market_ticker":"{event.market.listing.ticker}",'
        f'"yes_price_dollars":"{_DOLLARS[event.yes_price_cents]}",'
        f'"no_price_dollars":"{_DOLLARS[100 - event.yes_price_cents]}",'
        f'"count_fp":"{_fixed(event.count)}","taker_side":"{event.taker_side}",'
        f'"ts":{now.epoch_s},"ts_ms":{now.epoch_ms}}}}}'
    ).encode()


def ticker(sid: int, quote: Quote, now: Instant) -> bytes:
    """Return one market's quote; tickers carry no seq."""
    listing = quote.market.listing
    # Whole dollars, at half a dollar a contract, as the exchange counts them.
    dollar_volume, dollar_open_interest = quote.volume // 200, quote.open_interest // 200
    return (
        f'{{"type":"ticker","sid":{sid},"msg":{{"market_ticker":"{listing.ticker}",'
        f'"market_id":"{listing.market_id}","price_dollars":"{_DOLLARS[quote.last_price_cents]}",'
        f'"yes_bid_dollars":"{_DOLLARS[quote.yes_bid_cents]}",'
        f'"yes_ask_dollars":"{_DOLLARS[quote.yes_ask_cents]}",'
        f'"volume_fp":"{_fixed(quote.volume)}","open_interest_fp":"{_fixed(quote.open_interest)}",'
        f'"dollar_volume":{dollar_volume},"dollar_open_interest":{dollar_open_interest},'
        f'"yes_bid_size_fp":"{_fixed(quote.yes_bid_size)}","yes_ask_size_fp":"{_fixed(quote.yes_ask_size)}",'
        f'"last_trade_size_fp":"{_fixed(quote.last_size)}","ts":{now.epoch_s},"ts_ms":{now.epoch_ms},'
        f'"time":"{now.rfc3339}"}}}}'
    ).encode()


def lifecycle(sid: int, change: LifecycleChange) -> bytes:
    """Return one market's change of state; lifecycle frames carry no seq."""
    entry = change.market.entry
    listing = entry.listing
    msg: dict[str, Any] = {"market_ticker": listing.ticker, "event_type": change.kind}
    match change.kind:
        case "created":
            msg |= {
                "open_ts": entry.opens_ts,
                "close_ts": entry.closes_ts,
                "price_level_structure": "linear_cent",
                "additional_metadata": {
                    "name": listing.name,
                    "title": listing.title,
                    "yes_sub_title": listing.yes_sub_title,
                    "no_sub_title": listing.no_sub_title,
                    "rules_primary": RULES,
                    "rules_secondary": "",
                    "can_close_early": True,
                    "event_ticker": listing.event_ticker,
                    "expected_expiration_ts": entry.closes_ts,
                    "strike_type": "greater",
                    "floor_strike": float(listing.strike),
                },
            }
        case "activated":
            msg["is_deactivated"] = False
        case "close_date_updated":
            msg["close_ts"] = entry.closes_ts
        case "determined":
            msg |= {"determination_ts": entry.settled_ts, "result": entry.result}
        case "settled":
            msg["settled_ts"] = entry.settled_ts
        case "metadata_updated":
            msg["yes_sub_title"] = listing.yes_sub_title
    return msgspec.json.encode({"type": "market_lifecycle_v2", "sid": sid, "msg": msg})


def _reply(kind: str, command_id: int, *, sid: int | None = None, seq: int | None = None, msg: Any = None) -> bytes:
    """Return a reply; an id of 0 means the command had none, and a part that is None is left out."""
    parts = {"type": kind, "id": command_id or None, "sid": sid, "seq": seq, "msg": msg}
    return msgspec.json.encode({key: value for key, value in parts.items() if value is not None})


def subscribed(command_id: int, channel: str, sid: int) -> bytes:
    """Return the confirmation of a channel's first subscription; it has no seq."""
    return _reply("subscribed", command_id, msg={"channel": channel, "sid": sid})


def ok(command_id: int, *, sid: int | None = None, seq: int | None = None, msg: Any) -> bytes:
    """Return a confirmation; with a sid it carries the seq it consumed."""
    return _reply("ok", command_id, sid=sid, seq=seq, msg=msg)


def unsubscribed(command_id: int, *, sid: int, seq: int | None = None) -> bytes:
    """Return the end of a subscription, the last frame of its sid."""
    return _reply("unsubscribed", command_id, sid=sid, seq=seq)


def error(
    command_id: int, code: ErrorCode, *, sid: int | None = None, seq: int | None = None, market_ticker: str = ""
) -> bytes:
    """Return a refusal with its documented code and text."""
    msg: dict[str, Any] = {"code": int(code), "msg": code.text}
    if market_ticker:
        msg["market_ticker"] = market_ticker
    return _reply("error", command_id, sid=sid, seq=seq, msg=msg)
