"""What a day of the archive is worth, computed from its manifest and its neighbours; pure.

The archive tells what it holds and what it misses; this module turns that into one word a reader can act on, with
the reasons beside it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from ssmd_common.archive.manifest import GapEntry, Manifest
from ssmd_common.archive.times import DAY_NS, day_start_ns, from_rfc3339, to_rfc3339
from ssmd_manifest_api.explanations import explain, missing_words

__all__ = ["Condition", "DayFacts", "Expectation", "Reason", "Span", "Verdict", "facts_of", "judge"]

Span = tuple[int, int]
"""A half-open range of server time, nanoseconds."""


class Condition(StrEnum):
    """One word for a day.

    * ``available``: whole as far as anyone can tell; so is an empty day on which the calendar expects nothing.
    * ``degraded``: something that was sent or expected is known to be missing.
    * ``pending``: still being written.
    * ``missing``: nothing is archived though data was expected: by the feed's calendar, by a gap, or by
      earlier and later days with data.
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
        code: A fixed word (``gap``, ``absent``, ``no_sessions``, ``unnumbered``, ``session_unclosed``,
            ``no_expectation``, ``open``, ``damaged``).
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
    """A day's condition and why; of an ``available`` one, what it says nothing about."""

    condition: Condition
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class Expectation:
    """What tells when a day should hold data.

    Attributes:
        earlier: Some earlier day holds data, so the capture had begun.
        later: Some later day does.
        before: The day just before does, so data is expected from the first moment on.
        after: The day just after does, so until the last.
        quiet: When the feed's calendar expects silence; None where the feed has no calendar.
    """

    earlier: bool = False
    later: bool = False
    before: bool = False
    after: bool = False
    quiet: tuple[Span, ...] | None = None


@dataclass(frozen=True, slots=True)
class DayFacts:
    """What a judgement needs of one day; small, so that thousands of days fit in memory.

    Attributes:
        files: How many sealed segments it has.
        first_ns: Server time of its first message; None where it has no file.
        complete_through_ns: Server time before which nothing will be added; None likewise.
        holes: Long times between two segments, where heartbeats would have made one.
        losses: What is known to be missing.
        let_go: The times when the exchange let go of the connection: losses unless the calendar expects silence.
        doubts: What keeps the day from being proven whole.
        limits: What a proof does not reach: message types the exchange does not number, beside others it does.
        unclosed: Connections that were neither closed nor declared dead.
        damage: Why the manifest cannot be read; empty when it can.
        open_segments: How many segments are open now.
    """

    date: dt.date
    files: int = 0
    first_ns: int | None = None
    complete_through_ns: int | None = None
    holes: tuple[Span, ...] = ()
    losses: tuple[Reason, ...] = ()
    let_go: tuple[Reason, ...] = ()
    doubts: tuple[Reason, ...] = ()
    limits: tuple[Reason, ...] = ()
    unclosed: tuple[str, ...] = ()
    damage: str = ""
    open_segments: int = 0


_SILENT_CAUSES = frozenset({"maintenance", "exchange_closed"})

_QUIET_NS = 5 * 60 * 1_000_000_000
"""How long a stream may be silent without being absent: several times the slowest heartbeat."""


def facts_of(manifest: Manifest) -> DayFacts:
    """Gather a day's facts from its manifest; it knows nothing of open segments."""
    doubts: list[Reason] = []
    if manifest.files and not manifest.sessions:
        doubts.append(Reason("no_sessions", "the publisher numbers no frames: a loss before NATS cannot be seen"))
    unnumbered = _unnumbered(manifest)
    limits = (_limit(unnumbered),) if unnumbered else ()
    if len(unnumbered) == len(manifest.message_types):
        doubts += limits
    through = manifest.complete_through
    spans = sorted((from_rfc3339(file.start), from_rfc3339(file.end)) for file in manifest.files)
    let_go: list[Reason] = []
    losses: list[Reason] = []
    for gap in manifest.gaps:
        if gap.status != "healed" and gap.missing_count != 0:
            expected = gap.missing_count is None and gap.cause in _SILENT_CAUSES
            (let_go if expected else losses).append(_loss(gap))
    return DayFacts(
        date=manifest.date,
        files=len(manifest.files),
        first_ns=spans[0][0] if spans else None,
        complete_through_ns=None if through is None else from_rfc3339(through),
        holes=tuple(_holes(spans)) if manifest.sessions else (),
        losses=tuple(losses),
        let_go=tuple(let_go),
        doubts=tuple(doubts),
        limits=limits,
        unclosed=tuple(f"{s.session}.{s.connection}" for s in manifest.sessions if s.closed_at is None),
    )


def _holes(spans: Sequence[Span]) -> Iterator[Span]:
    through_ns = spans[0][1] if spans else 0
    for (_, end_ns), (start_ns, _) in pairwise(spans):
        through_ns = max(through_ns, end_ns)
        if start_ns - through_ns > _QUIET_NS:
            yield through_ns, start_ns


_TYPES_SHOWN = 8


def _unnumbered(manifest: Manifest) -> list[str]:
    """Return the day's message types whose frames carry no sequence that shows a loss at the exchange, sorted."""
    told = {name for session in manifest.sessions for name in session.unverifiable}
    return [name for name in manifest.message_types if name in told]


def _limit(names: Sequence[str]) -> Reason:
    shown = ", ".join(names[:_TYPES_SHOWN]) + (", …" if len(names) > _TYPES_SHOWN else "")
    return Reason("unnumbered", f"the exchange does not number {shown}: a loss there cannot be seen")


def _loss(gap: GapEntry) -> Reason:
    end_ns = None if gap.end is None else from_rfc3339(gap.end)
    text = f"{explain(gap.layer, gap.cause).title}: {missing_words(gap)} missing"
    if gap.status == "open":
        text += ", and still open"
    return Reason("gap", text, gap_id=gap.gap_id, start_ns=from_rfc3339(gap.start), end_ns=end_ns)


def judge(day: DayFacts, *, now_ns: int, expected: Expectation) -> Verdict:
    """Judge a day.

    Args:
        day: The day's facts; one without files where the archive has no such day.
        now_ns: The time now.
        expected: What tells when it should hold data.
    """
    start_ns, end_ns = day_start_ns(day.date), day_start_ns(day.date) + DAY_NS
    if day.damage:
        return Verdict(Condition.UNVERIFIABLE, (Reason("damaged", day.damage),))
    losses = (*day.losses, *(gap for gap in day.let_go if not _in_silence(gap, expected.quiet or (), now_ns)))
    if not day.files:
        return _judge_empty(day, losses, expected, now_ns=now_ns)
    losses = (*losses, *_absences(day, expected, now_ns=now_ns))
    if losses:
        return Verdict(Condition.DEGRADED, losses)
    through_ns = day.complete_through_ns or start_ns
    if through_ns < end_ns and (now_ns < end_ns or day.open_segments):
        text = f"still being written; nothing will be added before {to_rfc3339(through_ns)}"
        return Verdict(Condition.PENDING, (Reason("open", text, start_ns=through_ns),))
    doubts = (*day.doubts, *_unclosed(day, through_ns, end_ns))
    return Verdict(Condition.UNVERIFIABLE, doubts) if doubts else Verdict(Condition.AVAILABLE, day.limits)


def _judge_empty(day: DayFacts, losses: Sequence[Reason], expected: Expectation, *, now_ns: int) -> Verdict:
    start_ns, end_ns = day_start_ns(day.date), day_start_ns(day.date) + DAY_NS
    if day.open_segments or now_ns < end_ns:
        return Verdict(Condition.PENDING, (Reason("open", "no segment is sealed yet", start_ns=start_ns),))
    absent = tuple(
        Reason("absent", "nothing is archived", start_ns=first_ns, end_ns=last_ns)
        for first_ns, last_ns in _without([(start_ns, end_ns)], expected.quiet or ())
    )
    if not absent and not losses:
        return Verdict(Condition.AVAILABLE)
    if losses or (expected.earlier and (expected.later or expected.quiet is not None)):
        return Verdict(Condition.MISSING, (*absent, *losses))
    text = "nothing is archived, and neither a calendar nor the days around it tell whether anything was expected"
    return Verdict(Condition.UNVERIFIABLE, (Reason("no_expectation", text, start_ns=start_ns, end_ns=end_ns),))


def _absences(day: DayFacts, expected: Expectation, *, now_ns: int) -> Iterator[Reason]:
    """Yield the times of the day that hold nothing although data was expected; a gap there says it better."""
    start_ns, end_ns = day_start_ns(day.date), day_start_ns(day.date) + DAY_NS
    empty = [(*span, "nothing is archived between two segments") for span in day.holes]
    if day.first_ns is not None and (expected.before or (expected.earlier and expected.quiet is not None)):
        empty.append((start_ns, day.first_ns, "nothing is archived at its start"))
    over = now_ns >= end_ns and not day.open_segments
    if day.complete_through_ns is not None and (expected.after or (over and expected.quiet is not None)):
        empty.append((day.complete_through_ns, end_ns, "nothing is archived at its end"))
    told = [(gap.start_ns, gap.end_ns or end_ns) for gap in (*day.losses, *day.let_go) if gap.start_ns is not None]
    for first_ns, last_ns, text in sorted(empty):
        for absent_ns, until_ns in _without([(first_ns, last_ns)], (*told, *(expected.quiet or ()))):
            if until_ns - absent_ns > _QUIET_NS:
                yield Reason("absent", text, start_ns=absent_ns, end_ns=until_ns)


def _in_silence(gap: Reason, quiet: Sequence[Span], now_ns: int) -> bool:
    """Tell whether a gap leaves out nothing that was expected, but for the moments around the silence."""
    assert gap.start_ns is not None  # noqa: S101 - a gap has a start
    left = _without([(gap.start_ns, gap.end_ns or now_ns)], quiet)
    return bool(quiet) and all(end - start <= _QUIET_NS for start, end in left)


def _without(spans: Iterable[Span], taken: Iterable[Span]) -> list[Span]:
    """Return what of ``spans`` lies outside of every span in ``taken``."""
    left = list(spans)
    for start_ns, end_ns in taken:
        parts = (
            (part, cut)
            for first, last in left
            for part, cut in ((first, min(last, start_ns)), (max(first, end_ns), last))
        )
        left = [(first, last) for first, last in parts if first < last]
    return left


def _unclosed(day: DayFacts, through_ns: int, end_ns: int) -> Sequence[Reason]:
    """A connection without an end is a doubt only where the record breaks off: else it lives on in the next day."""
    if through_ns >= end_ns:
        return ()
    return [
        Reason("session_unclosed", f"connection {name} never closed: its last frames cannot be accounted for")
        for name in day.unclosed
    ]
