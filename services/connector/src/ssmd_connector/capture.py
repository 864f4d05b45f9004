"""From a routed frame to its message: subject, headers and identity, made without touching the bytes.

Every frame yields exactly one message under its frame number. Data keeps its bytes as the payload; a control
frame travels inside a ``control`` event, an unreadable one inside ``frame_unparsed``, and one too large to publish
is told of by ``frame_oversize``. Pure: the caller brings the clock.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

import msgspec

from ssmd_common.errors import WireError
from ssmd_common.events import (
    Control,
    FrameOversize,
    FrameUnparsed,
    carried_frame,
    decode_event,
    encode_event,
    event_name,
)
from ssmd_common.frames import (
    MSG_ID_HEADER,
    RECEIVED_NS_HEADER,
    TICKERS_HEADER,
    TYPE_HEADER,
    FrameId,
    encode_tickers,
    parse_msg_id,
)
from ssmd_common.subjects import encode_token
from ssmd_connector.venues.venue import UNTYPED, Kind

if TYPE_CHECKING:
    from ssmd_common.events import CaptureEvent
    from ssmd_common.subjects import SubjectBuilder
    from ssmd_connector.venues.venue import Route

__all__ = ["Capture", "Message"]

MAX_TICKERS_HEADER_BYTES = 32 * 1024
"""Above this the header is left out: the tickers stand in the frame all the same."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """One message ready to publish. A msgspec struct, since one is made for every frame.

    Attributes:
        subject: Where it goes.
        headers: Its NATS header block, status line and blank line included.
        payload: Its bytes.
        connection: The connection its acknowledgement counts for.
        frame_no: The frame it carries; 0 for an event that is no frame.
        is_oversize: Whether it stands for a frame too large to publish.
    """

    subject: bytes
    headers: bytes
    payload: bytes
    connection: int
    frame_no: int
    is_oversize: bool = False

    @property
    def size(self) -> int:
        """What the server counts against ``max_payload``."""
        return len(self.headers) + len(self.payload)

    @property
    def msg_id(self) -> str:
        """Its ``Nats-Msg-Id``; empty where it has none."""
        fields = dict(line.split(b": ", 1) for line in self.headers.split(b"\r\n") if b": " in line)
        return fields.get(MSG_ID_HEADER.encode(), b"").decode("ascii", "replace")

    def command(self, reply_prefix: bytes, token: int) -> bytes:
        """Return the protocol command that publishes it; its answer comes to the prefix and the token."""
        headers, payload = self.headers, self.payload
        return b"HPUB %b %b%d %d %d\r\n%b%b\r\n" % (
            self.subject,
            reply_prefix,
            token,
            len(headers),
            len(headers) + len(payload),
            headers,
            payload,
        )


class Capture:
    """Makes the messages of one session.

    Args:
        session: The session's name, instance and ULID.
        subjects: The feed's subjects.
    """

    def __init__(self, session: str, subjects: SubjectBuilder) -> None:
        self.session = session
        self._subjects = subjects
        self._capture_head = subjects.capture_filter.removesuffix(">").encode("ascii")
        self._events = 0
        self._subject_cache: dict[tuple[str, str | None], tuple[bytes, bytes]] = {}
        # The parts of a header block that stay the same from frame to frame, and what they were made for.
        self._id_head, self._head_connection = b"", -1
        self._received_line, self._line_ns = b"", -1

    def frame(
        self, route: Route, frame: bytes, *, connection: int, frame_no: int, received_ns: int, limit: int
    ) -> Message:
        """Return the message of a frame.

        Args:
            route: Where the venue sends it.
            frame: Its bytes.
            connection: Number of the connection in the session.
            frame_no: Its number in the connection.
            received_ns: When it came off the socket.
            limit: Largest message, header included, that can be published.
        """
        if route.kind is Kind.DATA:
            message = self._data(route, frame, connection, frame_no, received_ns)
        else:
            message = self._carried(route, frame, connection, frame_no, received_ns)
        if message.size <= limit:
            return message
        return self.oversize(frame, connection=connection, frame_no=frame_no, received_ns=received_ns, limit=limit)

    def oversize(self, frame: bytes, *, connection: int, frame_no: int, received_ns: int, limit: int) -> Message:
        """Return the message that stands for a frame too large to publish."""
        event = FrameOversize(
            session=self.session,
            connection=connection,
            at_ns=received_ns,
            frame_no=frame_no,
            length=len(frame),
            sha256=hashlib.sha256(frame).hexdigest(),
            limit=limit,
        )
        told = self._event_message(event, frame_no)
        return Message(told.subject, told.headers, told.payload, connection, frame_no, is_oversize=True)

    def substitute(self, message: Message, limit: int) -> Message:
        """Return what stands for a message the stream will not take for its size, under the same identity."""
        fields = dict(line.split(b": ", 1) for line in message.headers.split(b"\r\n") if b": " in line)
        identity = message.msg_id
        received_ns = fields.get(RECEIVED_NS_HEADER.encode(), b"0").decode("ascii", "replace")
        frame_id = parse_msg_id(identity)
        is_event = message.subject.startswith(self._capture_head)
        frame = (carried_frame(decode_event(message.payload)) if is_event else None) or message.payload
        event = FrameOversize(
            session=frame_id.session if frame_id else self.session,
            connection=frame_id.connection if frame_id else 0,
            at_ns=int(received_ns),
            frame_no=frame_id.frame_no if isinstance(frame_id, FrameId) else 0,
            length=len(frame),
            sha256=hashlib.sha256(frame).hexdigest(),
            limit=limit,
        )
        headers = f"NATS/1.0\r\n{MSG_ID_HEADER}: {identity}\r\n{RECEIVED_NS_HEADER}: {received_ns}\r\n\r\n"
        subject = self._subjects.capture(event_name(event)).encode("ascii")
        return Message(
            subject,
            headers.encode("ascii"),
            encode_event(event),
            message.connection,
            message.frame_no,
            is_oversize=True,
        )

    def event(self, event: CaptureEvent) -> Message:
        """Return the message of an event that is no frame, under the session's next event number."""
        return self._event_message(event, 0)

    def _data(self, route: Route, frame: bytes, connection: int, frame_no: int, received_ns: int) -> Message:
        subject, fields = self._subject_cache.get((route.type, route.ticker)) or self._place(route)
        if route.tickers:
            fields += _tickers_field(route.tickers)
        if connection != self._head_connection:
            self._head_connection = connection
            self._id_head = f"NATS/1.0\r\n{MSG_ID_HEADER}: {self.session}.{connection}.".encode("ascii")
        if received_ns != self._line_ns:
            self._line_ns = received_ns
            self._received_line = f"\r\n{RECEIVED_NS_HEADER}: {received_ns}\r\n".encode("ascii")
        headers = b"%b%d%b%b\r\n" % (self._id_head, frame_no, self._received_line, fields)
        return Message(subject, headers, frame, connection, frame_no)

    def _place(self, route: Route) -> tuple[bytes, bytes]:
        """Return the subject and the header fields that follow from type and ticker alone."""
        try:
            kind, subject_type = encode_token(route.type), route.subject_type
        except WireError:
            kind, subject_type = UNTYPED, UNTYPED
        fields = f"{TYPE_HEADER}: {kind}\r\n".encode("ascii")
        try:
            subject = self._subjects.json(subject_type, route.ticker)
        except WireError:
            # A ticker too long for a subject token; the header has room for it, the cache has none.
            subject = self._subjects.json(subject_type, None)
            return subject.encode("ascii"), fields + _tickers_field((route.ticker or "",))
        place = subject.encode("ascii"), fields
        if len(self._subject_cache) >= 1 << 17:
            self._subject_cache.clear()
        self._subject_cache[route.type, route.ticker] = place
        return place

    def _carried(self, route: Route, frame: bytes, connection: int, frame_no: int, received_ns: int) -> Message:
        event: CaptureEvent
        if route.kind is Kind.CONTROL:
            try:
                text, encoded = frame.decode("utf-8"), False
            except UnicodeDecodeError:
                text, encoded = base64.b64encode(frame).decode("ascii"), True
            event = Control(
                session=self.session,
                connection=connection,
                at_ns=received_ns,
                frame_no=frame_no,
                frame=text,
                base64=encoded,
            )
        else:
            event = FrameUnparsed(
                session=self.session,
                connection=connection,
                at_ns=received_ns,
                frame_no=frame_no,
                data=base64.b64encode(frame).decode("ascii"),
                reason=route.reason,
            )
        return self._event_message(event, frame_no)

    def _event_message(self, event: CaptureEvent, frame_no: int) -> Message:
        return self.encoded_event(
            event_name(event),
            encode_event(event),
            connection=event.connection,
            frame_no=frame_no,
            at_ns=event.at_ns,
        )

    def encoded_event(self, name: str, payload: bytes, *, connection: int, frame_no: int, at_ns: int) -> Message:
        """Return the message of an event that is encoded already.

        Args:
            name: The event's kind.
            payload: Its JSON.
            connection: The connection it is about.
            frame_no: The frame it carries; 0 for the session's next event number.
            at_ns: When the frame was received, or it happened.
        """
        number = str(frame_no)
        if frame_no == 0:
            self._events += 1
            number = f"e{self._events}"
        headers = (
            f"NATS/1.0\r\n{MSG_ID_HEADER}: {self.session}.{connection}.{number}\r\n"
            f"{RECEIVED_NS_HEADER}: {at_ns}\r\n\r\n"
        )
        subject = self._subjects.capture(name).encode("ascii")
        return Message(subject, headers.encode("ascii"), payload, connection, frame_no)


def _tickers_field(tickers: tuple[str, ...]) -> bytes:
    value = encode_tickers(list(tickers))
    return f"{TICKERS_HEADER}: {value}\r\n".encode("ascii") if len(value) <= MAX_TICKERS_HEADER_BYTES else b""
