"""What a replay says: the messages of a source, told again in a session of its own. Pure: the caller has the clock.

Each connection of the source becomes one of this session, its frames counted from 1 in the order of the record, so
that the replay proves what it published as a capture does. Every message carries the id of the one it replays.
Times of the session and its connections are those of the replay; when a frame was received stays what it was.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import msgspec

from ssmd_common.archive.index import Event, Reject
from ssmd_common.archive.reader import Record
from ssmd_common.events import (
    CRASHED,
    ConnectionClosed,
    ConnectionOpened,
    ConnectionState,
    Heartbeat,
    ReplayedGap,
    SessionEnded,
    SessionStarted,
    decode_event,
)
from ssmd_common.frames import (
    MSG_ID_HEADER,
    RECEIVED_NS_HEADER,
    REPLAY_OF_HEADER,
    FrameId,
    parse_msg_id,
    session_instance,
)
from ssmd_common.ranges import range_total
from ssmd_connector.capture import Message
from ssmd_connector.journal import Track
from ssmd_connector.venues.venue import Kind, Route

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ssmd_common.archive.gaps import Gap
    from ssmd_common.frames import EventId
    from ssmd_connector.capture import Capture
    from ssmd_connector.ledger import Ledger
    from ssmd_connector.replay_source import Item

__all__ = ["INSTANCE", "Retelling"]

INSTANCE = "replay"
"""The instance of every replay's session: the next replay closes one that crashed, as of any connector."""

_REPLAY_OF = REPLAY_OF_HEADER.encode()
_UNKNOWN_URL = "replay:"
_FOREIGN = "foreign"
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.encode


class Retelling:
    """Makes the messages of one replay.

    Args:
        capture: Names this session, and makes a frame's message as in any capture.
        ledger: Knows which of them are acknowledged.
        source_prefix: Subject prefix of the source.
        target_prefix: Subject prefix of the replay.
        subject_types: Message types that travel under another type's subject.

    Attributes:
        frames: Frames told so far.
        connections: Connections told of so far.
        lost: Frames the stream would not take, of connections that are closed.
    """

    def __init__(
        self,
        capture: Capture,
        ledger: Ledger,
        *,
        source_prefix: str,
        target_prefix: str,
        subject_types: Mapping[str, str],
    ) -> None:
        self._capture = capture
        self._ledger = ledger
        self._prefixes = source_prefix, target_prefix
        self._subject_types = subject_types
        self._tracks: dict[str, Track] = {}
        self.frames = 0
        self.connections = 0
        self.lost = 0

    def started(self, now_ns: int, *, env: str, feed: str, version: str) -> Message:
        """Return the message that begins the session."""
        event = SessionStarted(
            session=self._capture.session, at_ns=now_ns, instance=INSTANCE, env=env, feed=feed, version=version
        )
        return self._capture.event(event)

    def beat(self, now_ns: int) -> Message:
        """Return the message that says the session lives, and how far its connections are acknowledged."""
        states = [
            ConnectionState(
                connection=track.number,
                frames=track.frames,
                acked_through=self._ledger.through(track.number),
                unverifiable=sorted(track.unverifiable),
            )
            for track in self._tracks.values()
        ]
        return self._capture.event(Heartbeat(session=self._capture.session, at_ns=now_ns, connections=states))

    def ended(self, now_ns: int, *, cause: str, reason: str) -> Iterator[Message]:
        """Yield the ends of the connections the record leaves open, then the session's."""
        for key in list(self._tracks):
            yield self._close(key, now_ns, cause="stopped", reason=reason)
        event = SessionEnded(
            session=self._capture.session,
            at_ns=now_ns,
            cause=cause,
            connections=self.connections,
            frames=self.frames,
        )
        yield self._capture.event(event)

    def closes(self, item: Item) -> bool:
        """Tell whether an item ends a connection: everything before should be acknowledged by then."""
        if not isinstance(item, Event):
            return False
        return isinstance(decode_event(bytes(item.payload)), ConnectionClosed | SessionStarted)

    def tell(self, item: Item, now_ns: int, *, epoch: int, limit: int, began_ns: int) -> Iterator[Message]:
        """Yield the messages that replay an item: one, or also those that open or close its connection.

        Args:
            item: What the source holds.
            now_ns: The clock.
            epoch: The source's epoch, which names a message that has no id of ours.
            limit: Largest message that can be published.
            began_ns: When a gap began in the time of the replay.
        """
        match item:
            case Record():
                yield from self._record(item, now_ns, epoch, limit)
            case Event():
                yield from self._event(item, now_ns)
            case Reject():
                yield from self._reject(item, now_ns, epoch)
            case _:
                yield self._gap(item, now_ns, began_ns)

    def _record(self, record: Record, now_ns: int, epoch: int, limit: int) -> Iterator[Message]:
        track = self._tracks.get(record.connection or _FOREIGN)
        if track is None:
            track = self._begin(record.connection or _FOREIGN)
            yield self._opened(track, now_ns, record.connection or f"{epoch}:{record.seq}")
        if record.connection is None:
            # Nothing proved these complete, and a replay does not either.
            track.unverifiable.add(record.type)
            replay_of = f"{epoch}:{record.seq}"
        else:
            replay_of = f"{record.connection}.{record.frame_no}"
        tickers = record.tickers
        route = Route(
            Kind.DATA,
            record.type,
            self._subject_types.get(record.type, record.type),
            tickers[0] if len(tickers) == 1 else None,
            tickers if len(tickers) > 1 else (),
        )
        message = self._capture.frame(
            route,
            record.data,
            connection=track.number,
            frame_no=self._next_frame(track),
            received_ns=record.stored_ns if record.received_ns is None else record.received_ns,
            limit=limit,
        )
        yield _replaying(message, replay_of)

    def _event(self, line: Event, now_ns: int) -> Iterator[Message]:
        payload = bytes(line.payload)
        event, identity = decode_event(payload), parse_msg_id(line.msg_id)
        match event:
            case SessionStarted():
                yield from self._crashed(event, now_ns)
                return
            case Heartbeat():
                for state in event.connections:
                    self._learn(f"{event.session}.{state.connection}", state.unverifiable)
                return
            case SessionEnded() | ReplayedGap():
                return  # a session of ours replaces it; the index's own gap records tell of every gap
            case _:
                yield from self._told_again(line, payload, event, identity, now_ns)

    def _told_again(
        self, line: Event, payload: bytes, event: Any, identity: FrameId | EventId | None, now_ns: int
    ) -> Iterator[Message]:
        """Yield an event as it was, but for whose it is and when it is told."""
        key = f"{identity.session}.{identity.connection}" if identity and identity.connection else ""
        track = self._tracks.get(key)
        fields = _fields(payload)
        if key and track is None:
            track = self._begin(key)
            if not isinstance(event, ConnectionOpened):
                yield self._opened(track, now_ns, key)
        replay_of = line.msg_id
        if isinstance(event, ConnectionOpened):
            replay_of = key
        fields |= {
            "session": self._capture.session,
            "connection": track.number if track else 0,
            "at_ns": now_ns,
            "replay_of": replay_of,
        }
        frame_no = 0
        if track is not None:
            if isinstance(identity, FrameId):
                frame_no = self._next_frame(track)
            if "frame_no" in fields:
                fields["frame_no"] = track.frames
            if isinstance(event, ConnectionClosed):
                self._learn(key, event.unverifiable)
                fields |= self._count(track)
                self._forget(key)
        name = _name(fields)
        message = self._capture.encoded_event(
            name,
            _encode(fields),
            connection=track.number if track else 0,
            frame_no=frame_no,
            at_ns=now_ns if line.received_ns is None else line.received_ns,
        )
        yield _replaying(message, line.msg_id)

    def _reject(self, reject: Reject, now_ns: int, epoch: int) -> Iterator[Message]:
        identity = None if reject.msg_id is None else parse_msg_id(reject.msg_id)
        ours = isinstance(identity, FrameId)
        key = f"{identity.session}.{identity.connection}" if isinstance(identity, FrameId) else _FOREIGN
        replay_of = reject.msg_id if ours and reject.msg_id else f"{epoch}:{reject.seq}"
        track = self._tracks.get(key)
        if track is None:
            track = self._begin(key)
            yield self._opened(track, now_ns, key if ours else replay_of)
        number = self._next_frame(track)
        received_ns = reject.stored_ns if reject.received_ns is None else reject.received_ns
        headers = (
            f"NATS/1.0\r\n{MSG_ID_HEADER}: {self._capture.session}.{track.number}.{number}\r\n"
            f"{RECEIVED_NS_HEADER}: {received_ns}\r\n\r\n"
        )
        source, target = self._prefixes
        message = Message(
            subject=(target + reject.subject.removeprefix(source)).encode(),
            headers=headers.encode("ascii"),
            payload=base64.b64decode(reject.data),
            connection=track.number,
            frame_no=number,
        )
        yield _replaying(message, replay_of)

    def _gap(self, gap: Gap, now_ns: int, began_ns: int) -> Message:
        event = ReplayedGap(session=self._capture.session, at_ns=now_ns, gap=gap, began_ns=began_ns)
        return _replaying(self._capture.event(event), gap.gap_id)

    def _crashed(self, event: SessionStarted, now_ns: int) -> Iterator[Message]:
        """Yield the ends of the connections that an earlier session of the instance left open at the source."""
        for key in list(self._tracks):
            session, _, _ = key.rpartition(".")
            if session != event.session and session_instance(session) == event.instance:
                yield self._close(key, now_ns, cause=CRASHED, reason="")

    def _begin(self, key: str) -> Track:
        self.connections += 1
        track = self._tracks[key] = Track(self.connections)
        self._ledger.opened(track.number)
        return track

    def _opened(self, track: Track, now_ns: int, replay_of: str) -> Message:
        event = ConnectionOpened(
            session=self._capture.session,
            connection=track.number,
            at_ns=now_ns,
            url=_UNKNOWN_URL,
            replay_of=replay_of,
        )
        return self._capture.event(event)

    def _close(self, key: str, now_ns: int, *, cause: str, reason: str) -> Message:
        track = self._tracks[key]
        event = ConnectionClosed(
            session=self._capture.session,
            connection=track.number,
            at_ns=now_ns,
            cause=cause,
            reason=reason,
            **self._count(track),
        )
        self._forget(key)
        return self._capture.event(event)

    def _forget(self, key: str) -> None:
        track = self._tracks.pop(key)
        self.lost += range_total(self._ledger.lost(track.number))
        self._ledger.forget(track.number)

    def _count(self, track: Track) -> dict[str, Any]:
        return {
            "frames": track.frames,
            "acked_through": self._ledger.through(track.number),
            "lost": self._ledger.lost(track.number),
            "unverifiable": sorted(track.unverifiable),
        }

    def _next_frame(self, track: Track) -> int:
        track.frames += 1
        self.frames += 1
        return track.frames

    def _learn(self, key: str, unverifiable: list[str]) -> None:
        track = self._tracks.get(key)
        if track is not None:
            track.unverifiable.update(unverifiable)


def _fields(payload: bytes) -> dict[str, Any]:
    """Return an event's fields, each as its JSON; what is no object is carried whole."""
    try:
        return dict(_decode_fields(payload))
    except msgspec.DecodeError:
        return {"event": msgspec.Raw(b'"unknown"'), "payload": msgspec.Raw(payload)}


def _name(fields: Mapping[str, Any]) -> str:
    """Return an event's kind; its subject names it too, but is not archived."""
    raw = fields.get("event")
    try:
        return msgspec.json.decode(raw, type=str) if isinstance(raw, msgspec.Raw) else "unknown"
    except msgspec.DecodeError:
        return "unknown"


def _replaying(message: Message, replay_of: str) -> Message:
    """Return a message that names the one it replays."""
    return Message(
        message.subject,
        b"%b%b: %b\r\n\r\n"
        % (message.headers[:-2], REPLAY_OF_HEADER.encode(), replay_of.encode("ascii", "replace")),
        message.payload,
        message.connection,
        message.frame_no,
        message.is_oversize,
    )
