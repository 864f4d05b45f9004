"""Frame identity: which frame a message carries, readable from the message alone.

A *session* is one life of a connector (instance name + ULID). Its connections count from 1, and each frame off a
socket gets the next ``frame_no`` of its connection and yields exactly one message. The identity is the message id
JetStream dedupes on, ``{session}.{connection}.{frame_no}``; a capture event that is no frame is
``{session}.{connection}.e{event_no}``, its number counting through the session.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ssmd_common.errors import WireError
from ssmd_common.subjects import escape, unescape

__all__ = [
    "MSG_ID_HEADER",
    "RECEIVED_NS_HEADER",
    "REPLAY_OF_HEADER",
    "TICKERS_HEADER",
    "TYPE_HEADER",
    "EventId",
    "FrameId",
    "decode_tickers",
    "encode_tickers",
    "instance_name",
    "parse_msg_id",
    "session_instance",
]

MSG_ID_HEADER = "Nats-Msg-Id"
RECEIVED_NS_HEADER = "Ssmd-Received-Ns"
"""Connector's clock when the frame came off the socket: nanoseconds since the epoch, decimal."""
TYPE_HEADER = "Ssmd-Type"
"""The payload's own type, as a subject token (``orderbook_delta`` under subject type ``orderbook``)."""
TICKERS_HEADER = "Ssmd-Tickers"
"""The tickers its subject cannot name, because there are several or the one is too long: percent-encoded as in a
subject, of any length, joined by commas."""
REPLAY_OF_HEADER = "Ssmd-Replay-Of"
"""The message id a replayed message had in its source, or ``{epoch}:{sequence}`` where it had none of ours."""

_DIGITS = re.compile(r"[1-9][0-9]{0,17}")
_CONNECTION = re.compile(r"0|[1-9][0-9]{0,8}")
_INSTANCE_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_MAX_INSTANCE_LENGTH = 63
_ULID_AND_DASH = 27


@dataclass(frozen=True, slots=True)
class FrameId:
    """The identity of one received frame."""

    session: str
    connection: int
    frame_no: int

    def __str__(self) -> str:
        return f"{self.session}.{self.connection}.{self.frame_no}"


@dataclass(frozen=True, slots=True)
class EventId:
    """The identity of a capture event that is no frame; connection 0 stands before the first connection."""

    session: str
    connection: int
    event_no: int

    def __str__(self) -> str:
        return f"{self.session}.{self.connection}.e{self.event_no}"


def parse_msg_id(text: str) -> FrameId | EventId | None:
    """Read a message id back; None where it is not one of ours (a foreign publisher's)."""
    parts = text.rsplit(".", 2)
    if len(parts) != 3 or not parts[0] or not _CONNECTION.fullmatch(parts[1]):  # noqa: PLR2004 - three parts
        return None
    session, connection, number = parts
    if _DIGITS.fullmatch(number):
        return FrameId(session, int(connection), int(number))
    if number.startswith("e") and _DIGITS.fullmatch(number[1:]):
        return EventId(session, int(connection), int(number[1:]))
    return None


def instance_name(text: str) -> str:
    """Return ``text`` (a host or configured name) as the instance part of a session.

    Raises:
        WireError: Nothing usable is left.
    """
    name = _INSTANCE_UNSAFE.sub("-", text).strip("-")[:_MAX_INSTANCE_LENGTH]
    if not name:
        raise WireError(f"instance name {text!r} has no letter or digit", remedy="set `instance`")
    return name


def session_instance(session: str) -> str:
    """Return the instance part of a session."""
    return session[:-_ULID_AND_DASH]


def encode_tickers(tickers: list[str]) -> str:
    """Return the value of :data:`TICKERS_HEADER`."""
    return ",".join(escape(ticker).replace(",", "%2C") for ticker in tickers)


def decode_tickers(value: str) -> list[str]:
    """Read :data:`TICKERS_HEADER` back."""
    return [unescape(token) for token in value.split(",") if token]
