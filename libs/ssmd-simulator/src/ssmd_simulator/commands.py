"""What clients may say: the commands' grammar and the exchange's error codes.

From the socket's text to :class:`Command`, before `protocol` decides. Pure.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

__all__ = ["Command", "ErrorCode", "Malformed", "Params", "decode"]


class ErrorCode(IntEnum):
    """The documented codes this exchange can answer with."""

    MALFORMED = 1
    PARAMS_REQUIRED = 2
    CHANNELS_REQUIRED = 3
    SIDS_REQUIRED = 4
    UNKNOWN_COMMAND = 5
    ALREADY_SUBSCRIBED = 6
    UNKNOWN_SID = 7
    UNKNOWN_CHANNEL = 8
    AUTHENTICATION_REQUIRED = 9
    CHANNEL_ERROR = 10
    INVALID_PARAMETER = 11
    ONE_SID_REQUIRED = 12
    UNSUPPORTED_ACTION = 13
    MARKET_REQUIRED = 14
    ACTION_REQUIRED = 15
    MARKET_NOT_FOUND = 16
    COMMAND_TIMEOUT = 18
    BUFFER_OVERFLOW = 25
    MARKET_LIMIT = 26
    COMMAND_RATE = 27

    @property
    def text(self) -> str:
        """The text that goes with the code on the wire."""
        return _TEXTS[self]


_TEXTS = {
    ErrorCode.MALFORMED: "Unable to process message",
    ErrorCode.PARAMS_REQUIRED: "Params required",
    ErrorCode.CHANNELS_REQUIRED: "Channels required",
    ErrorCode.SIDS_REQUIRED: "Subscription IDs required",
    ErrorCode.UNKNOWN_COMMAND: "Unknown command",
    ErrorCode.ALREADY_SUBSCRIBED: "Already subscribed",
    ErrorCode.UNKNOWN_SID: "Unknown subscription ID",
    ErrorCode.UNKNOWN_CHANNEL: "Unknown channel name",
    ErrorCode.AUTHENTICATION_REQUIRED: "Authentication required",
    ErrorCode.CHANNEL_ERROR: "Channel error",
    ErrorCode.INVALID_PARAMETER: "Invalid parameter",
    ErrorCode.ONE_SID_REQUIRED: "Exactly one subscription ID is required",
    ErrorCode.UNSUPPORTED_ACTION: "Unsupported action",
    ErrorCode.MARKET_REQUIRED: "Market Ticker required",
    ErrorCode.ACTION_REQUIRED: "Action required",
    ErrorCode.MARKET_NOT_FOUND: "Market not found",
    ErrorCode.COMMAND_TIMEOUT: "Command timeout",
    ErrorCode.BUFFER_OVERFLOW: "Subscription buffer overflow",
    ErrorCode.MARKET_LIMIT: "Subscription market limit exceeded",
    ErrorCode.COMMAND_RATE: "Command rate limit exceeded",
}


class Params(msgspec.Struct, frozen=True):
    """The parameters of a command; each command reads those it knows and ignores the rest, as the exchange does."""

    channels: tuple[str, ...] = ()
    market_ticker: str | None = None
    market_tickers: tuple[str, ...] | None = None
    sid: int | None = None
    sids: tuple[int, ...] = ()
    action: str | None = None
    send_initial_snapshot: bool = False
    skip_ticker_ack: bool = False
    use_yes_price: bool = False

    @property
    def tickers(self) -> tuple[str, ...] | None:
        """The markets named in either way; None where none is named."""
        if self.market_ticker is not None:
            return (self.market_ticker,)
        return self.market_tickers or None


class Command(msgspec.Struct, frozen=True):
    """One command of a client; an id of 0 means it has none."""

    cmd: str
    id: int = 0
    params: Params | None = None


class Malformed(msgspec.Struct, frozen=True):
    """Text that is no command; ``id`` where one could still be read, else 0."""

    id: int = 0


def decode(text: bytes) -> Command | Malformed:
    """Read one message of a client."""
    try:
        return msgspec.json.decode(text, type=Command)
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:
            return msgspec.json.decode(text, type=Malformed)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return Malformed()
