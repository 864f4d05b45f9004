"""What becomes of recorded frames: routed and followed as the connector does it, counted and judged. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ssmd_common.ranges import range_total
from ssmd_common.sequences import SequenceGap, SequenceTracker
from ssmd_connector.venues.venue import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ssmd_common.sequences import SequenceRepeat
    from ssmd_connector.recordings import RecordedFrame
    from ssmd_connector.venues.venue import Route, Venue

__all__ = ["CLIENT", "Finding", "Routing", "Row", "Sequence", "route_all"]

CLIENT = "client"
"""The kind of a recorded frame that was sent to the exchange, not by it."""

_PREVIEW = 100


@dataclass(slots=True)
class Row:
    """Frames of one kind, type and subject type.

    Attributes:
        frames: How many.
        tickers: The tickers they name.
        numbered: How many carry an exchange sequence.
        gapless: How many carry one that shows a loss.
        known: Whether the venue expects the type.
    """

    frames: int = 0
    tickers: set[str] = field(default_factory=set)
    numbered: int = 0
    gapless: int = 0
    known: bool = True


@dataclass(slots=True)
class Sequence:
    """One sequence of the exchange, as far as the recording goes; it may begin anywhere.

    Where frames of its connection lie elsewhere, or the exchange begins it anew, it is followed anew from there.

    Attributes:
        leaves_holes: Whether skipped numbers mean nothing.
        frames: Frames that carry its numbers.
        first: Its lowest number.
        last: Its highest number.
        gaps: Times it skipped.
        missing: Numbers that never came.
        repeated: Frames whose number had come before.
        late: Frames that came behind a higher number.
        run: Which unbroken run of its connection's frames it is followed in.
        missing_before: Numbers that never came in the runs before.
    """

    leaves_holes: bool
    first: int
    frames: int = 0
    last: int = 0
    gaps: int = 0
    missing: int = 0
    repeated: int = 0
    late: int = 0
    run: int = 0
    missing_before: int = 0

    @property
    def kind(self) -> str:
        """How its numbers go."""
        return "increasing" if self.leaves_holes else "gapless"

    @property
    def findings(self) -> int:
        """Everything that is not as it should be."""
        return self.gaps + self.repeated + self.late


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about one frame of the recording, and its line where it has one."""

    line: int | None
    text: str


class Routing:
    """Takes frames in order.

    Args:
        venue: Routes them.

    Attributes:
        frames: How many there were.
        rows: Frames by kind, type and subject type.
        sequences: The exchange's sequences by key, behind the connection where that is known.
        breaks: Gaps, repeated and late numbers, in order.
        lost: Frames that could not be routed, in order.
    """

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self._strict, self._holey = SequenceTracker(), SequenceTracker(leaves_holes=True)
        self._runs: dict[str, tuple[int, int]] = {}
        self.frames = 0
        self.rows: dict[tuple[str, str, str], Row] = {}
        self.sequences: dict[str, Sequence] = {}
        self.breaks: list[Finding] = []
        self.lost: list[Finding] = []

    @property
    def kinds(self) -> Counter[str]:
        """Frames by kind."""
        counts: Counter[str] = Counter()
        for (kind, _, _), row in self.rows.items():
            counts[kind] += row.frames
        return counts

    @property
    def unverifiable(self) -> list[str]:
        """Types of data of which a loss at the exchange cannot be seen, sorted."""
        types = {
            kind for (of, kind, _), row in self.rows.items() if of == Kind.DATA.value and row.gapless < row.frames
        }
        return sorted(types)

    @property
    def unknown(self) -> list[str]:
        """Types of data the venue does not know, sorted; the connector publishes them under their own names."""
        return sorted({kind for (_, kind, _), row in self.rows.items() if not row.known})

    def take(self, frame: RecordedFrame) -> None:
        """Route one frame and follow its numbers."""
        self.frames += 1
        route = self._venue.route(frame.data)
        command = "" if route.routed else self._venue.command(frame.data)
        if command:
            self._count(CLIENT, command, "-", route)
            return
        self._count(route.kind.value, route.type or "-", route.subject_type or "-", route)
        if not route.routed:
            shown = frame.data[:_PREVIEW].decode("utf-8", "replace")
            self.lost.append(Finding(frame.line, f"{route.reason}: {shown}"))
        run = self._run_of(frame)
        before = f"{frame.connection} " if frame.connection else ""
        for key in {key for key, _, _ in route.numbers} if route.begins else ():
            self._begin(before + key, leaves_holes=route.leaves_holes)
        for key, first, last in route.numbers:
            named = before + key
            self._follow(frame.line, named, first, last, leaves_holes=route.leaves_holes, run=run)

    def _run_of(self, frame: RecordedFrame) -> int:
        """Return which unbroken run of its connection's frames a frame belongs to."""
        number = frame.frame_no
        if number is None:
            return 0
        before, run = self._runs.get(frame.connection, (number - 1, 0))
        run += number != before + 1
        self._runs[frame.connection] = number, run
        return run

    def _count(self, kind: str, name: str, subject_type: str, route: Route) -> None:
        row = self.rows.setdefault((kind, name, subject_type), Row())
        row.frames += 1
        row.tickers.update(route.tickers or ((route.ticker,) if route.ticker else ()))
        row.numbered += bool(route.seq_key)
        row.gapless += bool(route.seq_key) and not route.leaves_holes
        known = self._venue.known_types
        row.known = not known or route.kind is not Kind.DATA or not route.routed or name in known

    def _begin(self, key: str, *, leaves_holes: bool) -> None:
        """Follow a sequence anew; what never came of it before stays missing."""
        (self._holey if leaves_holes else self._strict).forget(key)
        if sequence := self.sequences.get(key):
            sequence.missing_before = sequence.missing

    def _follow(
        self, line: int | None, key: str, first: int, last: int | None, *, leaves_holes: bool, run: int
    ) -> None:
        tracker = self._holey if leaves_holes else self._strict
        sequence = self.sequences.setdefault(key, Sequence(leaves_holes, first, run=run))
        if sequence.run != run:
            self._begin(key, leaves_holes=leaves_holes)
            sequence.run = run
        sequence.frames += 1
        sequence.first = min(sequence.first, first) if tracker.highest(key) is None else sequence.first
        finding = tracker.observe(key, first, last)
        sequence.last = max(sequence.last, first if last is None else last)
        if isinstance(finding, SequenceGap):
            sequence.gaps += 1
            text = f"{key}: {finding.missing_count} missing between {finding.after_seq} and {finding.next_seq}"
            self.breaks.append(Finding(line, text))
        elif finding is not None:
            self._repeat(line, sequence, finding)
        sequence.missing = sequence.missing_before + range_total(tracker.missing(key))

    def _repeat(self, line: int | None, sequence: Sequence, repeat: SequenceRepeat) -> None:
        before_first = repeat.seq < sequence.first
        sequence.first = min(sequence.first, repeat.seq)
        late = repeat.was_missing or before_first or (sequence.leaves_holes and repeat.seq < repeat.highest_seq)
        sequence.late += late
        sequence.repeated += not late
        what = "late" if late else "repeated"
        self.breaks.append(Finding(line, f"{repeat.key}: {repeat.seq} {what} behind {repeat.highest_seq}"))

    def summary(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "frames": self.frames,
            "kinds": dict(sorted(self.kinds.items())),
            "types": [
                {
                    "kind": kind,
                    "type": name,
                    "subject_type": subject_type,
                    "frames": row.frames,
                    "tickers": sorted(row.tickers),
                    "numbered": row.numbered,
                    "known": row.known,
                }
                for (kind, name, subject_type), row in sorted(self.rows.items())
            ],
            "sequences": [
                {
                    "key": key,
                    "kind": sequence.kind,
                    "frames": sequence.frames,
                    "first": sequence.first,
                    "last": sequence.last,
                    "gaps": sequence.gaps,
                    "missing": sequence.missing,
                    "repeated": sequence.repeated,
                    "late": sequence.late,
                }
                for key, sequence in sorted(self.sequences.items())
            ],
            "unverifiable": self.unverifiable,
            "breaks": [{"line": finding.line, "text": finding.text} for finding in self.breaks],
            "not_routed": [{"line": finding.line, "text": finding.text} for finding in self.lost],
        }


def route_all(venue: Venue, frames: Iterable[RecordedFrame]) -> Routing:
    """Route frames as the connector would."""
    routing = Routing(venue)
    for frame in frames:
        routing.take(frame)
    return routing
