"""One connection of a session, as far as it is known (pure): its frames, its events, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from ssmd_common import events
from ssmd_common.archive.index import ConnectionFrames
from ssmd_common.frames import session_instance
from ssmd_common.ranges import Ranges

__all__ = ["ConnectionTrack"]


@dataclass(slots=True)
class ConnectionTrack:
    """One connection; fields as in :class:`~ssmd_common.archive.index.ConnectionFrames`.

    Attributes:
        covered: A gap of the stream was recorded since the last check, so missing frames lie in it.
    """

    session: str
    connection: int
    frames: Ranges = field(default_factory=Ranges)
    missing: Ranges = field(default_factory=Ranges)
    events: Ranges = field(default_factory=Ranges)
    acked_through: int = 0
    reported: int | None = None
    opened_ns: int | None = None
    seen_ns: int | None = None
    closed: str = ""
    closed_ns: int | None = None
    resumed: bool = False
    lane: int = 1
    lanes: int = 1
    replayed: bool = False
    covered: bool = False

    @property
    def key(self) -> str:
        """``{session}.{connection}``."""
        return f"{self.session}.{self.connection}"

    @property
    def instance(self) -> str:
        """The instance part of the session."""
        return session_instance(self.session)

    @classmethod
    def of(cls, state: ConnectionFrames) -> Self:
        """Return the track an index header keeps; :meth:`state` gives it back."""
        return cls(
            session=state.session,
            connection=state.connection,
            frames=Ranges(state.frames),
            missing=Ranges(state.missing),
            events=Ranges(state.events),
            acked_through=state.acked_through,
            reported=state.reported,
            opened_ns=state.opened_ns,
            seen_ns=state.seen_ns,
            closed=state.closed,
            closed_ns=state.closed_ns,
            resumed=state.resumed,
            lane=state.lane,
            lanes=state.lanes,
            replayed=state.replayed,
        )

    @property
    def waits(self) -> bool:
        """Whether it was stopped in order and none has taken over yet."""
        return self.closed == events.STOPPED and not self.resumed and not self.replayed

    def state(self) -> ConnectionFrames:
        """Return it as an index header keeps it."""
        return ConnectionFrames(
            session=self.session,
            connection=self.connection,
            frames=self.frames.pairs(),
            missing=self.missing.pairs(),
            events=self.events.pairs(),
            acked_through=self.acked_through,
            reported=self.reported,
            opened_ns=self.opened_ns,
            seen_ns=self.seen_ns,
            closed=self.closed,
            closed_ns=self.closed_ns,
            resumed=self.resumed,
            lane=self.lane,
            lanes=self.lanes,
            replayed=self.replayed,
        )
