"""Capture events: what the connector says about the capture itself, in the same stream, so in order.

Each is a small JSON object under ``{prefix}.capture.{event}`` whose ``event`` field names its kind. Times are
nanoseconds since the epoch by the connector's clock. Readers ignore fields they do not know, and an event of an
unknown kind is kept as it is.
"""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from ssmd_common.archive.gaps import Gap

__all__ = [
    "CRASHED",
    "STOPPED",
    "CaptureEvent",
    "ConnectionClosed",
    "ConnectionOpened",
    "ConnectionState",
    "Control",
    "ExchangeGap",
    "ExchangeResynced",
    "FrameOversize",
    "FrameUnparsed",
    "Heartbeat",
    "Market",
    "ReplayedGap",
    "SessionEnded",
    "SessionStarted",
    "Subscribed",
    "Unsubscribed",
    "carried_frame",
    "decode_event",
    "encode_event",
    "event_name",
]


STOPPED = "stopped"
"""The cause of a connection the connector closed because it was told to stop."""

CRASHED = "crashed"
"""The cause of one whose connector ended without a word."""


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


class CaptureEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag=_snake):
    """What every event carries.

    Attributes:
        session: Instance name and ULID of the connector's life.
        connection: Number of the connection in the session; 0 where none is meant.
        at_ns: When it happened.
    """

    session: str
    connection: int = 0
    at_ns: int


class SessionStarted(CaptureEvent, frozen=True, kw_only=True):
    """A connector came to life; a later session of the same instance closes a crashed one in the record."""

    instance: str
    env: str
    feed: str
    version: str = ""


class ConnectionOpened(CaptureEvent, frozen=True, kw_only=True):
    """A socket is open and authenticated.

    Attributes:
        url: Its address, without credentials.
        lane: Which of the session's sockets it is, from 1. A connection takes over from the one before in its lane.
        lanes: How many sockets the session keeps open at once.
        replay_of: In a replay, the connection it replays; empty in a capture.
    """

    url: str
    lane: int = 1
    lanes: int = 1
    replay_of: str = ""


class Subscribed(CaptureEvent, frozen=True, kw_only=True):
    """The exchange confirmed a subscription; ``sid`` is null where the exchange has none."""

    channel: str
    sid: int | None = None
    tickers: list[str] = []


class Unsubscribed(CaptureEvent, frozen=True, kw_only=True):
    """The exchange confirmed that ``tickers`` left a subscription, which goes on for the others."""

    channel: str
    sid: int | None = None
    tickers: list[str] = []


class Control(CaptureEvent, frozen=True, kw_only=True):
    """A control frame of the exchange; ``frame`` is its exact text, or base64 where ``base64`` says so."""

    frame_no: int
    frame: str
    base64: bool = False


class FrameUnparsed(CaptureEvent, frozen=True, kw_only=True):
    """A frame that is not JSON; ``data`` is its bytes in base64."""

    frame_no: int
    data: str
    reason: str


class FrameOversize(CaptureEvent, frozen=True, kw_only=True):
    """A frame too large to publish: what is known of it."""

    frame_no: int
    length: int
    sha256: str
    limit: int


class Market(CaptureEvent, frozen=True, kw_only=True):
    """The exchange's document about one market, as discovered."""

    ticker: str
    document: Any


class ExchangeGap(CaptureEvent, frozen=True, kw_only=True):
    """The exchange's own sequence skipped: frames it never sent us.

    Attributes:
        gap_no: Counts from 1 in the session; ``exchange_resynced`` refers to it.
        key: What the sequence belongs to (``sid:1``, ``product:BTC-USD``).
        after_seq: Last exchange sequence received before the gap.
        next_seq: First one received after it.
        missing_count: ``next_seq - after_seq - 1``; null where the exchange's sequence leaves holes of its own.
        frame_no: The frame that showed the gap.
        after_ns: When the last frame before the gap was received; null where none was.
    """

    gap_no: int
    key: str
    after_seq: int
    next_seq: int
    missing_count: int | None
    frame_no: int
    after_ns: int | None = None


class ExchangeResynced(CaptureEvent, frozen=True, kw_only=True):
    """Snapshots of all markets behind ``key`` have come since the gap: state is whole again, its past is not.

    Attributes:
        gap_no: The gap's number.
        key: What its sequence belongs to.
        healed: Instead, every number that was skipped has come after all, late: nothing is missing.
    """

    gap_no: int
    key: str
    healed: bool = False


class ReplayedGap(CaptureEvent, frozen=True, kw_only=True):
    """A gap of the archive that is replayed, or a new state of one.

    Attributes:
        gap: The gap as that archive records it; what its sequences belong to is named, even where it is the stream.
        began_ns: When it would have begun had the replay gone on at its speed; ``at_ns`` is its end.
    """

    gap: Gap
    began_ns: int


class ConnectionState(msgspec.Struct, frozen=True, kw_only=True):
    """How far one connection is.

    Attributes:
        connection: Its number in the session.
        frames: Frames received so far: the last ``frame_no`` given.
        acked_through: The highest number up to which every frame has its PubAck.
        unverifiable: Message types received on it of which a loss at the exchange cannot be seen: their frames
            carry no sequence, or one that leaves holes.
    """

    connection: int
    frames: int
    acked_through: int
    unverifiable: list[str] = []


class Heartbeat(CaptureEvent, frozen=True, kw_only=True):
    """The session is alive: one message for all its open connections."""

    connections: list[ConnectionState]


class ConnectionClosed(CaptureEvent, frozen=True, kw_only=True):
    """A socket is gone.

    Attributes:
        cause: Why, as one word of the connector's (``peer_closed``, ``silent``, ``stopped``, ``protocol_error``).
        code: WebSocket close code, where one came.
        reason: The peer's words.
        frames: Frames received over its life.
        acked_through: As in :class:`ConnectionState`.
        lost: Half-open ranges of frame numbers that could not be kept.
        unverifiable: As in :class:`ConnectionState`.
    """

    cause: str
    code: int | None = None
    reason: str = ""
    frames: int
    acked_through: int
    lost: list[tuple[int, int]] = []
    unverifiable: list[str] = []


class SessionEnded(CaptureEvent, frozen=True, kw_only=True):
    """The connector stopped in order; ``frames`` counts all connections."""

    cause: str
    connections: int
    frames: int


_KINDS = (
    SessionStarted
    | ConnectionOpened
    | Subscribed
    | Unsubscribed
    | Control
    | FrameUnparsed
    | FrameOversize
    | Market
    | ReplayedGap
    | ExchangeGap
    | ExchangeResynced
    | Heartbeat
    | ConnectionClosed
    | SessionEnded
)
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_KINDS)


def encode_event(event: CaptureEvent) -> bytes:
    """Return the event's message payload."""
    return _encoder.encode(event)


def decode_event(payload: bytes) -> CaptureEvent | None:
    """Read a payload back; None where it is no event of a known kind (a newer connector's, or damaged)."""
    try:
        event: CaptureEvent = _decoder.decode(payload)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return event


def carried_frame(event: CaptureEvent | None) -> bytes | None:
    """Return the bytes of the frame an event carries whole; None for one that carries none."""
    if isinstance(event, Control):
        return base64.b64decode(event.frame) if event.base64 else event.frame.encode()
    return base64.b64decode(event.data) if isinstance(event, FrameUnparsed) else None


def event_name(event: CaptureEvent) -> str:
    """Return the event's last subject token, such as ``connection_opened``."""
    return str(event.__struct_config__.tag)
