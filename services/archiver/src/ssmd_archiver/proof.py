"""Which frames are proven, missing or unverifiable (pure): sessions and connections followed by frame number.

Fed with every frame and capture event in stream order. It tells whether a frame is archived already, and returns a
gap for each loss an event proves: frames acknowledged to the connector that never came, frames it could not keep,
the time between two connections, and the exchange's own gaps. A frame counts as missing only at or below
``acked_through``: what lies above may still come.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from ssmd_archiver.track import ConnectionTrack
from ssmd_common import events
from ssmd_common.archive.gaps import Gap, GapLayer, GapStatus
from ssmd_common.archive.index import Block, ConnectionFrames
from ssmd_common.frames import EventId, FrameId, parse_msg_id, session_instance
from ssmd_common.ranges import range_total

if TYPE_CHECKING:
    from ssmd_archiver.runs import Run

__all__ = ["FrameLedger"]

_CLOSED_KEPT = 256
_INTERRUPTED = ".closed"


class FrameLedger:
    """Follows every connection of a feed.

    Args:
        connections: The state an index header keeps.
        open_gaps: The gaps whose end was unknown there.
        epoch: Epoch that new gaps are recorded under.
    """

    def __init__(
        self, connections: Iterable[ConnectionFrames] = (), open_gaps: Iterable[Gap] = (), *, epoch: int = 1
    ) -> None:
        self.epoch = epoch
        self.tracks: dict[str, ConnectionTrack] = {}
        self.open_gaps: dict[str, Gap] = {gap.gap_id: gap for gap in open_gaps}
        for state in connections:
            track = ConnectionTrack.of(state)
            self.tracks[track.key] = track
        self._stopped = {track.key for track in self.tracks.values() if track.waits}

    def snapshot(self) -> tuple[list[ConnectionFrames], list[Gap]]:
        """Return the state a new segment's header keeps: connections and open gaps."""
        self._forget()
        return [track.state() for track in self.tracks.values()], list(self.open_gaps.values())

    def _forget(self) -> None:
        """Drop the oldest closed connections: their frames came long before any resend could."""
        closed = [key for key, track in self.tracks.items() if track.closed]
        for key in closed[: max(0, len(closed) - _CLOSED_KEPT)]:
            del self.tracks[key]

    def track(self, session: str, connection: int) -> ConnectionTrack:
        """Return the track of a connection, made where it is new."""
        key = f"{session}.{connection}"
        found = self.tracks.get(key)
        if found is None:
            found = self.tracks[key] = ConnectionTrack(session, connection)
        return found

    def identify(self, msg_id: str | None) -> tuple[ConnectionTrack | None, FrameId | EventId | None]:
        """Return whose message an id names; None for a foreign publisher's."""
        identity = None if msg_id is None else parse_msg_id(msg_id)
        if identity is None:
            return None, None
        return self.track(identity.session, identity.connection), identity

    def locate(self, msg_id: str | None) -> tuple[ConnectionTrack | None, int | None]:
        """Return the connection and frame number of a data message: the quick road of :meth:`identify`."""
        if msg_id is None:
            return None, None
        key, _, number = msg_id.rpartition(".")
        track = self.tracks.get(key)
        if track is not None and number.isdigit() and number.isascii() and number[0] != "0":
            return track, int(number)
        found, identity = self.identify(msg_id)
        return found, identity.frame_no if isinstance(identity, FrameId) else None

    def frame(
        self, track: ConnectionTrack, frame_no: int, received_ns: int | None, stored_ns: int
    ) -> Iterable[Gap]:
        """Add a frame that was not archived yet; return gaps whose end it shows.

        The caller has asked :attr:`ConnectionTrack.frames` first: a frame in it is a duplicate.
        """
        track.frames.add(frame_no)
        # A replay's frames were received at another time: what happens to them now is told by the time of storing.
        track.seen_ns = stored_ns if track.replayed else received_ns or stored_ns
        if self.open_gaps or self._stopped:
            return list(self._reconnected(track, track.seen_ns, stored_ns))
        return ()

    def follows(self, frames: dict[str, list[int]]) -> bool:
        """Tell whether frames are new and end no gap, so that :meth:`add_frames` may take them.

        Args:
            frames: Frame numbers, ascending, by ``{session}.{connection}``.
        """
        for key, numbers in frames.items():
            track = self.tracks.get(key)
            if track is None or numbers[0] < track.frames.end or self._interrupted(track):
                return False
        return True

    def add_frames(self, run: Run) -> dict[str, int]:
        """Add the frames of a run that :meth:`follows`; return ``seen_ns`` of their connections.

        :meth:`frame` for each would lead to the same.
        """
        received = dict(zip(run.connection, run.received_ns, strict=True))
        stored = dict(zip(run.connection, run.stored_ns, strict=True))
        seen_ns = {}
        for key, numbers in run.frames.items():
            track = self.tracks[key]
            track.frames.extend(numbers)
            track.seen_ns = seen_ns[key] = stored[key] if track.replayed else received[key] or stored[key]
        return seen_ns

    def apply(self, block: Block) -> None:
        """Add a committed block's frames (recovery: their gaps are recorded already)."""
        for key, pairs in block.frames.items():
            session, _, connection = key.rpartition(".")
            track = self.track(session, int(connection))
            track.seen_ns = block.seen_ns.get(key, track.seen_ns)
            for first, end in pairs:
                track.frames.add_range(first, end)

    def recorded(self, gap: Gap) -> None:
        """Take note of a gap as recorded, by this ledger, another, or an index being recovered."""
        if gap.status is GapStatus.OPEN:
            self.open_gaps[gap.gap_id] = gap
        else:
            self.open_gaps.pop(gap.gap_id, None)
        if gap.gap_id == f"{gap.key}{_INTERRUPTED}" and gap.key in self.tracks:
            self.tracks[gap.key].resumed = gap.status is not GapStatus.OPEN
            self._stopped.discard(gap.key)
        if gap.layer is GapLayer.STREAM and not gap.key:
            for track in self.tracks.values():
                track.covered = track.covered or not track.closed

    def event(self, event: events.CaptureEvent, stored_ns: int) -> list[Gap]:
        """Take in a capture event; return the gaps it opens, proves or closes.

        Args:
            event: The event.
            stored_ns: Server time of its message.
        """
        gaps = list(self._consequences(event, stored_ns))
        for gap in gaps:
            self.recorded(gap)
        return gaps

    def _consequences(self, event: events.CaptureEvent, stored_ns: int) -> Iterator[Gap]:
        match event:
            case events.SessionStarted():
                yield from self._crashed(event, stored_ns)
            case events.ConnectionOpened():
                track = self.track(event.session, event.connection)
                track.opened_ns, track.lane, track.lanes = event.at_ns, event.lane, event.lanes
                track.replayed = bool(event.replay_of)
            case events.Subscribed():
                track = self.track(event.session, event.connection)
                yield from self._reconnected(track, event.at_ns, stored_ns)
            case events.Heartbeat():
                yield from self._beat(event, stored_ns)
            case events.ConnectionClosed():
                yield from self._closed(event, stored_ns)
            case events.SessionEnded():
                self.track(event.session, 0).closed = event.cause
            case events.ExchangeGap() | events.ExchangeResynced() | events.ReplayedGap():
                yield from self._told(event, stored_ns)
            case _:
                pass

    def _told(
        self, event: events.ExchangeGap | events.ExchangeResynced | events.ReplayedGap, stored_ns: int
    ) -> Iterator[Gap]:
        """Return the gap an event is about."""
        match event:
            case events.ReplayedGap():
                yield self._replayed_gap(event, stored_ns)
            case events.ExchangeGap():
                if not self.track(event.session, event.connection).replayed:
                    yield self._exchange_gap(event, stored_ns)
            case events.ExchangeResynced():
                gap = self.open_gaps.get(_exchange_gap_id(event.session, event.gap_no))
                if gap is not None:
                    status = GapStatus.HEALED if event.healed else GapStatus.RESYNCED
                    yield msgspec.structs.replace(gap, status=status)

    def _beat(self, event: events.Heartbeat, stored_ns: int) -> Iterator[Gap]:
        for state in event.connections:
            track = self.track(event.session, state.connection)
            yield from self._check(track, state.frames, state.acked_through, event.at_ns, stored_ns)

    def _check(
        self, track: ConnectionTrack, reported: int, acked_through: int, at_ns: int, stored_ns: int
    ) -> Iterator[Gap]:
        """Find frames the connector has a PubAck for that did not come."""
        track.reported = max(reported, track.reported or 0)
        before = track.acked_through
        track.acked_through = max(acked_through, before)
        covered, track.covered = track.covered, False
        start_ns = track.seen_ns or track.opened_ns or at_ns
        for first, end in track.frames.missing(before + 1, track.acked_through + 1):
            for start, stop in track.missing.missing(first, end):
                track.missing.add_range(start, stop)
                if not covered:
                    yield self._frame_gap(
                        track, "frames_missing", GapLayer.STREAM, start, stop, start_ns, at_ns, stored_ns
                    )

    def _frame_gap(
        self,
        track: ConnectionTrack,
        cause: str,
        layer: GapLayer,
        first: int,
        end: int,
        start_ns: int,
        end_ns: int,
        stored_ns: int,
    ) -> Gap:
        return Gap(
            gap_id=f"{track.key}.{first}",
            layer=layer,
            cause=cause,
            status=GapStatus.PERMANENT,
            epoch=self.epoch,
            key=track.key,
            start_seq=first,
            end_seq=end,
            start_ns=min(start_ns, end_ns),
            end_ns=end_ns,
            missing_count=end - first,
            detected_ns=stored_ns,
        )

    def _closed(self, event: events.ConnectionClosed, stored_ns: int) -> Iterator[Gap]:
        track = self.track(event.session, event.connection)
        for first, end in event.lost:
            track.missing.add_range(first, end)
            yield self._frame_gap(
                track,
                "not_kept",
                GapLayer.CONNECTION,
                first,
                end,
                track.opened_ns or event.at_ns,
                event.at_ns,
                stored_ns,
            )
        yield from self._check(track, event.frames, event.acked_through, event.at_ns, stored_ns)
        track.closed, track.closed_ns = event.cause, event.at_ns
        if track.replayed:
            # The source's gaps are told by events of their own, and the end of a replay loses nothing.
            return
        if event.cause == events.STOPPED:
            # Nobody listens because nobody was to: a gap only once a later connection shows how long.
            self._stopped.add(track.key)
        else:
            yield self._interruption(track, stored_ns)
        for gap in list(self.open_gaps.values()):
            if gap.layer is GapLayer.EXCHANGE and gap.key.startswith(f"{track.key}/"):
                yield msgspec.structs.replace(gap, status=GapStatus.PERMANENT)

    def _interruption(self, track: ConnectionTrack, stored_ns: int) -> Gap:
        """Open the gap from a closed connection's last frame to the next connection's first."""
        return Gap(
            gap_id=f"{track.key}{_INTERRUPTED}",
            layer=GapLayer.CONNECTION,
            cause=track.closed,
            status=GapStatus.OPEN,
            epoch=self.epoch,
            key=track.key,
            start_seq=None if track.closed == events.CRASHED else (track.reported or 0) + 1,
            start_ns=track.seen_ns or track.closed_ns or stored_ns,
            detected_ns=stored_ns,
        )

    def _crashed(self, event: events.SessionStarted, stored_ns: int) -> Iterator[Gap]:
        """Close in the record what an earlier session of this instance left open."""
        for track in self.tracks.values():
            if track.closed or track.session == event.session or track.instance != event.instance:
                continue
            if not track.connection:
                track.closed = events.CRASHED
                continue
            track.closed, track.closed_ns = events.CRASHED, track.seen_ns or track.opened_ns or event.at_ns
            yield from self._left_behind(track, track.closed_ns, stored_ns)
            yield self._interruption(track, stored_ns)

    def _left_behind(self, track: ConnectionTrack, closed_ns: int, stored_ns: int) -> Iterator[Gap]:
        """Find frames that a crashed connector had in memory alone while later ones were stored."""
        start_ns = track.opened_ns or closed_ns
        for (_, first), (end, _) in pairwise(track.frames.pairs()):
            for start, stop in track.missing.missing(first, end):
                track.missing.add_range(start, stop)
                yield self._frame_gap(
                    track, events.CRASHED, GapLayer.CONNECTION, start, stop, start_ns, closed_ns, stored_ns
                )

    def _reconnected(self, track: ConnectionTrack, at_ns: int, stored_ns: int) -> Iterator[Gap]:
        """End the interruptions of this lane of this instance: frames flow again."""
        waiting = [self._interruption(self.tracks[key], stored_ns) for key in self._stopped if key in self.tracks]
        for gap in (*self.open_gaps.values(), *waiting):
            if gap.layer is GapLayer.CONNECTION and self._takes_over(track, gap.key):
                end_ns = max(at_ns, gap.start_ns)
                ended = msgspec.structs.replace(gap, status=GapStatus.PERMANENT, end_ns=end_ns)
                self.recorded(ended)
                yield ended

    def _interrupted(self, track: ConnectionTrack) -> bool:
        """Tell whether a frame of this connection ends an interruption."""
        waiting = [key for key in self._stopped if key in self.tracks]
        opened = [gap.key for gap in self.open_gaps.values() if gap.layer is GapLayer.CONNECTION]
        return any(self._takes_over(track, key) for key in (*opened, *waiting))

    def _takes_over(self, track: ConnectionTrack, broken_key: str) -> bool:
        """Tell whether a connection's frames are those an interrupted one would have brought.

        Sockets open side by side bring different markets: only the next in the same lane takes over. A session with
        fewer lanes than the one before shares the markets of those it has not among the ones it has.
        """
        session, _, _ = broken_key.rpartition(".")
        if broken_key == track.key or session_instance(session) != track.instance:
            return False
        broken = self.tracks.get(broken_key)
        lane = broken.lane if broken is not None else 1
        return (lane if session == track.session else min(lane, track.lanes)) == track.lane

    def _exchange_gap(self, event: events.ExchangeGap, stored_ns: int) -> Gap:
        return Gap(
            gap_id=_exchange_gap_id(event.session, event.gap_no),
            layer=GapLayer.EXCHANGE,
            cause="sequence_skipped",
            status=GapStatus.OPEN,
            epoch=self.epoch,
            key=f"{event.session}.{event.connection}/{event.key}",
            start_seq=event.after_seq + 1,
            end_seq=event.next_seq,
            start_ns=event.after_ns or event.at_ns,
            end_ns=event.at_ns,
            missing_count=event.missing_count,
            detected_ns=stored_ns,
        )

    def _replayed_gap(self, event: events.ReplayedGap, stored_ns: int) -> Gap:
        """Record a gap of the archive that is replayed, at its place in the replay's time."""
        gap = event.gap
        gap_id = f"{event.session}/{gap.gap_id}"
        known = self.open_gaps.get(gap_id)
        start_ns = known.start_ns if known is not None else min(event.began_ns, event.at_ns)
        return msgspec.structs.replace(
            gap,
            gap_id=gap_id,
            epoch=self.epoch,
            start_ns=start_ns,
            end_ns=None if gap.status is GapStatus.OPEN else max(event.at_ns, start_ns),
            detected_ns=stored_ns,
        )

    def lost_frames(self) -> int:
        """Return how many frames of the followed connections are known to be lost."""
        return sum(range_total(track.missing.pairs()) for track in self.tracks.values())


def _exchange_gap_id(session: str, gap_no: int) -> str:
    return f"{session}.x{gap_no}"
