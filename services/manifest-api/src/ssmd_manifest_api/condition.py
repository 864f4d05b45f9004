"""What a day of the archive is worth, computed from its manifest and its neighbours; pure.

The archive tells what it holds and what it misses; this module turns that into one word a reader can act on, with
the reasons beside it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from ssmd_common.archive.manifest import GapEntry, Manifest
from ssmd_common.archive.times import DAY_NS, day_start_ns, from_rfc3339, to_rfc3339

__all__ = ["Condition", "DayFacts", "Reason", "Verdict", "facts_of", "judge"]


class Condition(StrEnum):
    """One word for a day.

    * ``available``: whole as far as anyone can tell.
    * ``degraded``: something that was sent or expected is known to be missing.
    * ``pending``: still being written.
    * ``missing``: nothing is archived though data was expected.
    * ``unverifiable``: nothing is known to be missing, and nothing proves that it is not.
    """

    AVAILABLE = "available"
    DEGRADED = "degraded"
    PENDING = "pending"
    MISSING = "missing"
    UNVERIFIABLE = "unverifiable"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a day is not ``available``.

    Attributes:
        code: A fixed word (``gap``, ``absent``, ``no_sessions``, ``session_unclosed``, ``open``, ``damaged``).
        text: The same for a person.
        gap_id: The gap it points at.
        start_ns: From when it applies; None where no time is meant.
        end_ns: Until when, exclusive; None likewise or while unknown.
    """

    code: str
    text: str
    gap_id: str | None = None
    start_ns: int | None = None
    end_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A day's condition and why; ``reasons`` is empty for ``available``."""

    condition: Condition
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class DayFacts:
    """What a judgement needs of one day; small, so that thousands of days fit in memory.

    Attributes:
        files: How many sealed segments it has.
        first_ns: Server time of its first message; None where it has no file.
        complete_through_ns: Server time before which nothing will be added; None likewise.
        losses: What is known to be missing.
        doubts: What keeps the day from being proven whole.
        unclosed: Connections that were neither closed nor declared dead.
        damage: Why the manifest cannot be read; empty when it can.
        open_segments: How many segments are open now.
    """

    date: dt.date
    files: int = 0
    first_ns: int | None = None
    complete_through_ns: int | None = None
    losses: tuple[Reason, ...] = ()
    doubts: tuple[Reason, ...] = ()
    unclosed: tuple[str, ...] = ()
    damage: str = ""
    open_segments: int = 0


def facts_of(manifest: Manifest) -> DayFacts:
    """Gather a day's facts from its manifest; it knows nothing of open segments."""
    doubts: list[Reason] = []
    if manifest.files and not manifest.sessions:
        doubts.append(Reason("no_sessions", "the publisher numbers no frames: a loss before NATS cannot be seen"))
    through = manifest.complete_through
    return DayFacts(
        date=manifest.date,
        files=len(manifest.files),
        first_ns=min((from_rfc3339(file.start) for file in manifest.files), default=None),
        complete_through_ns=None if through is None else from_rfc3339(through),
        losses=tuple(_loss(gap) for gap in manifest.gaps if gap.status != "healed" and gap.missing_count != 0),
        doubts=tuple(doubts),
        unclosed=tuple(f"{s.session}.{s.connection}" for s in manifest.sessions if s.closed_at is None),
    )


def _loss(gap: GapEntry) -> Reason:
    missing = "an unknown number of" if gap.missing_count is None else str(gap.missing_count)
    noun = "messages" if gap.layer in ("stream", "archive") else "frames"
    end_ns = None if gap.end is None else from_rfc3339(gap.end)
    text = f"{missing} {noun} missing at the layer {gap.layer}: {gap.cause} ({gap.status})"
    return Reason("gap", text, gap_id=gap.gap_id, start_ns=from_rfc3339(gap.start), end_ns=end_ns)


def judge(day: DayFacts, *, now_ns: int, data_before: bool = False, data_after: bool = False) -> Verdict:
    """Judge a day.

    What is expected of it follows from its neighbours: data on the day before says that the day should hold data
    from its first moment, data on the day after says until its last.

    Args:
        day: The day's facts; one without files where the archive has no such day.
        now_ns: The time now.
        data_before: The day before holds data.
        data_after: The day after holds data.
    """
    start_ns, end_ns = day_start_ns(day.date), day_start_ns(day.date) + DAY_NS
    if day.damage:
        return Verdict(Condition.UNVERIFIABLE, (Reason("damaged", day.damage),))
    if not day.files:
        if day.open_segments or now_ns < end_ns:
            return Verdict(Condition.PENDING, (Reason("open", "no segment is sealed yet", start_ns=start_ns),))
        absent = Reason("absent", "nothing is archived", start_ns=start_ns, end_ns=end_ns)
        return Verdict(Condition.MISSING, (absent, *day.losses))
    losses = (*day.losses, *_absences(day, start_ns, end_ns, before=data_before, after=data_after))
    if losses:
        return Verdict(Condition.DEGRADED, losses)
    through_ns = day.complete_through_ns or start_ns
    if now_ns < end_ns and through_ns < end_ns:
        text = f"still being written; nothing will be added before {to_rfc3339(through_ns)}"
        return Verdict(Condition.PENDING, (Reason("open", text, start_ns=through_ns),))
    doubts = (*day.doubts, *_unclosed(day, through_ns, end_ns))
    return Verdict(Condition.UNVERIFIABLE, doubts) if doubts else Verdict(Condition.AVAILABLE)


def _absences(day: DayFacts, start_ns: int, end_ns: int, *, before: bool, after: bool) -> Sequence[Reason]:
    """Return the ends of the day that hold nothing although its neighbour does; a gap there says it better."""
    absences: list[Reason] = []
    first_ns, through_ns = day.first_ns, day.complete_through_ns
    if before and first_ns is not None and first_ns - start_ns > _QUIET_NS and not _covered(day, start_ns):
        absences.append(Reason("absent", "nothing is archived at its start", start_ns=start_ns, end_ns=first_ns))
    if after and through_ns is not None and through_ns < end_ns - _QUIET_NS and not _covered(day, through_ns):
        absences.append(Reason("absent", "nothing is archived at its end", start_ns=through_ns, end_ns=end_ns))
    return absences


_QUIET_NS = 5 * 60 * 1_000_000_000
"""How long a stream may be silent without being absent: several times the slowest heartbeat."""


def _covered(day: DayFacts, ns: int) -> bool:
    return any(
        loss.start_ns is not None and loss.start_ns <= ns and (loss.end_ns is None or loss.end_ns > ns)
        for loss in day.losses
    )


def _unclosed(day: DayFacts, through_ns: int, end_ns: int) -> Sequence[Reason]:
    """A connection without an end is a doubt only where the record breaks off: else it lives on in the next day."""
    if through_ns >= end_ns:
        return ()
    return [
        Reason("session_unclosed", f"connection {name} never closed: its last frames cannot be accounted for")
        for name in day.unclosed
    ]
