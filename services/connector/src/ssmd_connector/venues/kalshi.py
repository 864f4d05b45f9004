"""Kalshi's WebSocket v2: where its frames go, and what is said to it.

A ``sid`` is one subscription of one connection; its ``seq`` counts every frame of that sid, whichever market it
is about, control frames among them. Ticker frames carry no seq.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from ssmd_connector.venues.venue import UNTYPED, Kind, Route, decode_json, is_utf8, unparsed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = [
    "BOOK_CHANNEL",
    "CONTROL_TYPES",
    "Command",
    "KalshiVenue",
    "Reply",
    "read_reply",
    "snapshot_command",
    "subscribe_commands",
]

BOOK_CHANNEL = "orderbook_delta"
UNFILTERED_CHANNELS = frozenset({"market_lifecycle_v2", "multivariate_market_lifecycle"})
"""Channels that take no list of markets."""

CONTROL_TYPES = frozenset({"subscribed", "unsubscribed", "ok", "error"})
_SUBJECT_TYPES = {"orderbook_snapshot": "orderbook", "orderbook_delta": "orderbook"}
_DATA_TYPES = frozenset(
    {
        "ticker",
        "trade",
        "orderbook_snapshot",
        "orderbook_delta",
        "market_lifecycle_v2",
        "event_lifecycle",
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


class Command(msgspec.Struct, frozen=True):
    """A command to send.

    Attributes:
        id: Unique in the connection, from 1.
        channel: The channel it is about.
        tickers: The markets it names; empty for all.
        text: The exact frame.
    """

    id: int
    channel: str
    tickers: tuple[str, ...]
    text: str


def subscribe_commands(
    channels: Sequence[str],
    tickers: Sequence[str],
    *,
    batch_size: int,
    use_yes_price: bool,
    first_id: int = 1,
) -> list[Command]:
    """Return the commands that subscribe to everything wanted, one channel and at most a batch of markets each."""
    commands: list[Command] = []
    for channel in channels:
        filtered = channel not in UNFILTERED_CHANNELS and bool(tickers)
        for batch in _batches(tickers, batch_size) if filtered else [()]:
            params: dict[str, Any] = {"channels": [channel]}
            if batch:
                params["market_tickers"] = list(batch)
            if channel == BOOK_CHANNEL:
                # The exchange's default is going to change, so it is always said.
                params["use_yes_price"] = use_yes_price
            commands.append(_command(first_id + len(commands), "subscribe", channel, tuple(batch), params))
    return commands


def snapshot_command(command_id: int, sid: int, tickers: Sequence[str]) -> Command:
    """Return the command that asks for full books of ``tickers`` on the book subscription ``sid``."""
    params = {"sids": [sid], "market_tickers": list(tickers), "action": "get_snapshot"}
    return _command(command_id, "update_subscription", BOOK_CHANNEL, tuple(tickers), params)


def unsubscribe_text(command_id: int, sids: Sequence[int]) -> str:
    """Return the frame that ends subscriptions, said before the socket is closed."""
    return json.dumps(
        {"id": command_id, "cmd": "unsubscribe", "params": {"sids": list(sids)}}, separators=(",", ":")
    )


def _command(command_id: int, cmd: str, channel: str, tickers: tuple[str, ...], params: dict[str, Any]) -> Command:
    text = json.dumps({"id": command_id, "cmd": cmd, "params": params}, separators=(",", ":"))
    return Command(command_id, channel, tickers, text)


def _batches(tickers: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(tickers), size):
        yield tickers[start : start + size]


class Reply(msgspec.Struct, frozen=True):
    """What a control frame says, as far as it can be read.

    Attributes:
        type: One of :data:`CONTROL_TYPES`.
        id: The command it answers; None where it answers none.
        sid: The subscription.
        channel: The channel a ``subscribed`` names.
        code: An error's code.
        text: An error's words.
    """

    type: str
    id: int | None
    sid: int | None
    channel: str
    code: int | None
    text: str


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
    )


def _integer(value: object) -> int | None:
    return value if type(value) is int else None
