"""Kalshi's WebSocket v2: where its frames go, and what is said to it.

A ``sid`` is one subscription of one connection; its ``seq`` counts every frame of that sid, whichever market it
is about, control frames among them. Ticker frames carry no seq.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import TYPE_CHECKING, Any

import msgspec

from ssmd_connector.venues.venue import UNTYPED, Kind, Route, decode_json, is_utf8, unparsed

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "BOOK_CHANNEL",
    "CONTROL_TYPES",
    "LIFECYCLE_TYPES",
    "UNFILTERED_CHANNELS",
    "Action",
    "Command",
    "KalshiVenue",
    "MarketNews",
    "Reply",
    "read_news",
    "read_reply",
    "subscribe_command",
    "unsubscribe_text",
    "update_command",
]

BOOK_CHANNEL = "orderbook_delta"
MARKET_LIFECYCLE, MULTIVARIATE_LIFECYCLE = "market_lifecycle_v2", "multivariate_market_lifecycle"
UNFILTERED_CHANNELS = frozenset({MARKET_LIFECYCLE, MULTIVARIATE_LIFECYCLE})
"""Channels that take no list of markets."""
EVENT_LIFECYCLE = "event_lifecycle"
LIFECYCLE_TYPES = frozenset({MARKET_LIFECYCLE, MULTIVARIATE_LIFECYCLE, EVENT_LIFECYCLE})
"""Types of the frames that tell what becomes of markets."""

CONTROL_TYPES = frozenset({"subscribed", "unsubscribed", "ok", "error"})
_SUBJECT_TYPES = {"orderbook_snapshot": "orderbook", "orderbook_delta": "orderbook"}
_DATA_TYPES = frozenset(
    {
        "ticker",
        "trade",
        "orderbook_snapshot",
        "orderbook_delta",
        *LIFECYCLE_TYPES,
        "event_fee_update",
    }
)


class _Message(msgspec.Struct, gc=False):
    market_ticker: str | None = None


class _Frame(msgspec.Struct, gc=False):
    type: str
    sid: int | None = None
    seq: int | None = None
    msg: _Message | None = None


_decode_frame = msgspec.json.Decoder(_Frame).decode


class KalshiVenue:
    """Routes Kalshi's frames."""

    known_types = _DATA_TYPES | CONTROL_TYPES

    def route(self, frame: bytes) -> Route:
        """Decide where a frame goes. Never raises, whatever the bytes."""
        if not is_utf8(frame):
            return unparsed("not UTF-8")
        try:
            read = _decode_frame(frame)
        except (msgspec.DecodeError, RecursionError):
            return self._route_tolerantly(frame)
        message = read.msg
        return self._route(read.type, read.sid, read.seq, message.market_ticker if message is not None else None)

    def command(self, frame: bytes) -> str:
        """Return the name of a command to the exchange; empty for what is none."""
        try:
            value = decode_json(frame)
        except ValueError:
            return ""
        fields = value if isinstance(value, dict) else {}
        return _name(fields.get("cmd")) if _integer(fields.get("id")) is not None else ""

    def _route_tolerantly(self, frame: bytes) -> Route:
        """Route a frame whose fields are not what they used to be, from those that still are."""
        try:
            value = decode_json(frame)
        except ValueError as error:
            return unparsed(str(error))
        fields = value if isinstance(value, dict) else {}
        kind, sid, seq, message = (fields.get(name) for name in ("type", "sid", "seq", "msg"))
        ticker = message.get("market_ticker") if isinstance(message, dict) else None
        return self._route(
            kind if isinstance(kind, str) else "",
            sid if type(sid) is int else None,
            seq if type(seq) is int else None,
            ticker if isinstance(ticker, str) else None,
        )

    def _route(self, kind: str, sid: int | None, seq: int | None, ticker: str | None) -> Route:
        if sid is not None and seq is not None:
            key, number = f"sid:{sid}", seq
        else:
            key, number = "", 0
        if kind in CONTROL_TYPES:
            return Route(Kind.CONTROL, kind, kind, None, (), key, number)
        if not kind:
            return Route(
                Kind.DATA, UNTYPED, UNTYPED, ticker or None, (), key, number, routed=False, reason="no type in it"
            )
        return Route(Kind.DATA, kind, _SUBJECT_TYPES.get(kind, kind), ticker or None, (), key, number)


class Action(Enum):
    """What a command is for."""

    SUBSCRIBE = "subscribe"
    ADD = "add_markets"
    DELETE = "delete_markets"
    SNAPSHOT = "get_snapshot"


class Command(msgspec.Struct, frozen=True):
    """A command to send.

    Attributes:
        id: Unique in the connection, from 1.
        action: What it is for.
        channel: The channel it is about.
        tickers: The markets it names; empty for all.
        text: The exact frame.
    """

    id: int
    action: Action
    channel: str
    tickers: tuple[str, ...]
    text: str


def subscribe_command(command_id: int, channel: str, tickers: Sequence[str], *, use_yes_price: bool) -> Command:
    """Return the command that begins a channel's subscription with ``tickers``, or with all markets for none."""
    params: dict[str, Any] = {"channels": [channel]}
    if tickers:
        # Without this every answer repeats all the markets of the subscription, and outgrows a frame.
        params |= {"market_tickers": list(tickers), "skip_ticker_ack": True}
    if channel == BOOK_CHANNEL:
        # The exchange's default is going to change, so it is always said.
        params["use_yes_price"] = use_yes_price
    text = _text(command_id, "subscribe", params)
    return Command(command_id, Action.SUBSCRIBE, channel, tuple(tickers), text)


def update_command(command_id: int, action: Action, channel: str, sid: int, tickers: Sequence[str]) -> Command:
    """Return the command that changes the markets of subscription ``sid``, or asks for their full books."""
    params: dict[str, Any] = {"sids": [sid], "market_tickers": list(tickers), "action": action.value}
    if action is not Action.SNAPSHOT:
        params["skip_ticker_ack"] = True
    return Command(command_id, action, channel, tuple(tickers), _text(command_id, "update_subscription", params))


def unsubscribe_text(command_id: int, sids: Sequence[int]) -> str:
    """Return the frame that ends subscriptions, said before the socket is closed."""
    return _text(command_id, "unsubscribe", {"sids": list(sids)})


def _text(command_id: int, cmd: str, params: dict[str, Any]) -> str:
    return json.dumps({"id": command_id, "cmd": cmd, "params": params}, separators=(",", ":"))


class Reply(msgspec.Struct, frozen=True):
    """What a control frame says, as far as it can be read.

    Attributes:
        type: One of :data:`CONTROL_TYPES`.
        id: The command it answers; None where it answers none.
        sid: The subscription.
        channel: The channel a ``subscribed`` names.
        code: An error's code.
        text: An error's words.
        ticker: The market an error names.
    """

    type: str
    id: int | None
    sid: int | None
    channel: str
    code: int | None
    text: str
    ticker: str = ""


def read_reply(kind: str, frame: bytes) -> Reply:
    """Read a control frame; fields that are missing or odd are None or empty."""
    try:
        value = decode_json(frame)
    except ValueError:
        value = None
    fields: dict[str, Any] = value if isinstance(value, dict) else {}
    body = fields.get("msg")
    message: dict[str, Any] = body if isinstance(body, dict) else {}
    sid = _integer(fields.get("sid"))
    return Reply(
        type=kind,
        id=_integer(fields.get("id")),
        sid=_integer(message.get("sid")) if sid is None else sid,
        channel=str(message.get("channel", "")),
        code=_integer(message.get("code")),
        text=str(message.get("msg", "")),
        ticker=_name(message.get("market_ticker")),
    )


class MarketNews(msgspec.Struct, frozen=True):
    """What a lifecycle frame says about one market, or about the event that groups several.

    Attributes:
        what: ``created``, ``activated``, ``deactivated``, ``close_date_updated``, ``determined``, ``settled`` and
            more; empty for an event's own frame.
        ticker: The market; empty for an event's own frame.
        event_ticker: The event it belongs to, where the frame says.
        series_ticker: The event's series, where the frame says.
        multivariate: Whether it is a combination of other markets.
    """

    what: str
    ticker: str
    event_ticker: str = ""
    series_ticker: str = ""
    multivariate: bool = False


def read_news(kind: str, frame: bytes) -> MarketNews | None:
    """Read a frame of one of :data:`LIFECYCLE_TYPES`; None where it names neither a market nor an event."""
    try:
        value = decode_json(frame)
    except ValueError:
        return None
    body = value.get("msg") if isinstance(value, dict) else None
    message: dict[str, Any] = body if isinstance(body, dict) else {}
    nested = message.get("additional_metadata")
    metadata: dict[str, Any] = nested if isinstance(nested, dict) else {}
    event = _name(message.get("event_ticker")) or _name(metadata.get("event_ticker"))
    news = MarketNews(
        what=_name(message.get("event_type")),
        ticker=_name(message.get("market_ticker")),
        event_ticker=event,
        series_ticker=_name(message.get("series_ticker")),
        multivariate=kind == MULTIVARIATE_LIFECYCLE,
    )
    return news if news.ticker or news.event_ticker else None


def _name(value: object) -> str:
    return value if isinstance(value, str) else ""


def _integer(value: object) -> int | None:
    return value if type(value) is int else None
