"""What the connector says about the capture, in the same stream as the frames: events of one session."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from ssmd_common.events import CaptureEvent, ConnectionClosed, ConnectionState, Heartbeat
from ssmd_common.ranges import range_total
from ssmd_connector.venues.venue import Kind

if TYPE_CHECKING:
    from ssmd_connector.capture import Capture
    from ssmd_connector.ledger import Ledger
    from ssmd_connector.publisher import Publisher
    from ssmd_connector.venues.venue import Route
    from ssmd_connector.websocket import Ended

__all__ = ["Journal", "Track"]

_EventT = TypeVar("_EventT", bound=CaptureEvent)
_MAX_UNVERIFIABLE = 100


@dataclass(slots=True)
class Track:
    """How far a connection is.

    Attributes:
        number: Its number in the session.
        frames: Frames received.
        unverifiable: Types received of which a loss at the exchange cannot be seen.
    """

    number: int
    frames: int = 0
    unverifiable: set[str] = field(default_factory=set)

    def add_unverifiable(self, route: Route) -> None:
        """Take note of a frame without a sequence that shows losses; of data alone, and of so many types."""
        if route.kind is Kind.DATA and len(self.unverifiable) < _MAX_UNVERIFIABLE:
            self.unverifiable.add(route.type)


class Journal:
    """Publishes the events of one session.

    Args:
        capture: Makes their messages.
        publisher: Publishes them.
        ledger: Knows how far the frames are acknowledged.
    """

    def __init__(self, capture: Capture, publisher: Publisher, ledger: Ledger) -> None:
        self._capture = capture
        self._publisher = publisher
        self._ledger = ledger
        self._tracks: dict[int, Track] = {}
        self.connections = 0
        self.frames_of_closed = 0

    @property
    def frames(self) -> int:
        """Frames received on all connections of the session."""
        return self.frames_of_closed + sum(track.frames for track in self._tracks.values())

    def open_track(self) -> Track:
        """Begin a connection that is open: the next number."""
        self.connections += 1
        track = Track(self.connections)
        self._tracks[track.number] = track
        self._ledger.opened(track.number)
        return track

    async def tell(self, kind: type[_EventT], *, connection: int = 0, **fields: Any) -> None:
        """Publish an event of this moment."""
        event = kind(session=self._capture.session, connection=connection, at_ns=time.time_ns(), **fields)
        await self._publisher.put(self._capture.event(event))

    def beat(self) -> bool:
        """Publish a heartbeat if there is room for one; return whether there was."""
        states = [
            ConnectionState(
                connection=track.number,
                frames=track.frames,
                acked_through=self._ledger.through(track.number),
                unverifiable=sorted(track.unverifiable),
            )
            for track in self._tracks.values()
        ]
        event = Heartbeat(session=self._capture.session, at_ns=time.time_ns(), connections=states)
        return self._publisher.try_put(self._capture.event(event))

    def is_settled(self, track: Track) -> bool:
        """Whether every frame of the connection has its PubAck, or is known to be lost."""
        return self._ledger.settled(track.number) >= track.frames

    def lose(self, track: Track, count: int) -> int:
        """Take note of the next ``count`` frames as received and lost; return how many are lost up to now."""
        first = track.frames + 1
        track.frames += count
        self._ledger.lose(track.number, first, track.frames + 1)
        return range_total(self._ledger.lost(track.number))

    async def close_track(self, track: Track, ended: Ended) -> None:
        """Publish the end of a connection, with how far its frames are acknowledged now."""
        await self.tell(
            ConnectionClosed,
            connection=track.number,
            cause=ended.cause,
            code=ended.code,
            reason=ended.reason,
            frames=track.frames,
            acked_through=self._ledger.through(track.number),
            lost=self._ledger.lost(track.number),
            unverifiable=sorted(track.unverifiable),
        )
        self.frames_of_closed += track.frames
        self._tracks.pop(track.number, None)
        self._ledger.forget(track.number)
