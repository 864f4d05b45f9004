"""A day drawn to scale: the message rate, then lanes of segments, connections and gaps by layer; pure.

Places are per cent of the width, so that one drawing fits a phone and a wall.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ssmd_common.archive.layout import window_of
from ssmd_common.archive.manifest import FileEntry, SessionEntry
from ssmd_common.archive.times import DAY_NS, SECOND_NS, from_rfc3339
from ssmd_manifest_api.explanations import LAYERS
from ssmd_manifest_api.view_gaps import GapView
from ssmd_manifest_api.view_rate import Bar, Slice, bars, bucket_ns
from ssmd_manifest_api.view_text import clock, compact, count, number, span

__all__ = ["Column", "Lane", "Mark", "Scale", "Tick", "Timeline", "timeline"]

_MINUTE_NS = 60 * SECOND_NS
_TICKS = (1, 2, 5, 10, 15, 30, 60, 180)
"""Steps of the axis, minutes."""
_MOST_TICKS = 8
_LEAST_HEIGHT = 0.8
"""Per cent of the drawing: a single record is not nothing."""
_MOST_MARKS = 300
_MOST_LINKS = 60
_ZOOM = 8
"""A day whose data fill less than this part of it is drawn larger."""


@dataclass(frozen=True, slots=True)
class Scale:
    """From server time to per cent of the width."""

    start_ns: int
    end_ns: int

    def at(self, ns: int) -> float:
        """Return the place of a moment, kept inside the drawing."""
        inside = min(max(ns, self.start_ns), self.end_ns)
        return round(100 * (inside - self.start_ns) / (self.end_ns - self.start_ns), 3)

    def shows(self, start_ns: int, end_ns: int) -> bool:
        """Tell whether a span is in the drawing, be it as one moment."""
        return start_ns < self.end_ns and max(end_ns, start_ns + 1) > self.start_ns


@dataclass(frozen=True, slots=True)
class Tick:
    """A line of the axis; every second one is ``minor`` and goes unlabelled on a phone."""

    x: float
    text: str
    minor: bool


@dataclass(frozen=True, slots=True)
class Mark:
    """A box of a lane.

    Attributes:
        kind: Classes of its look.
        title: What it stands for.
        url: Where it leads; empty for nowhere.
    """

    x: float
    width: float
    kind: str
    title: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class Lane:
    """A line of the drawing; ``summary`` says in words what it shows."""

    name: str
    summary: str
    marks: list[Mark]


@dataclass(frozen=True, slots=True)
class Column:
    """A bar of the rate, height in per cent of the highest."""

    x: float
    width: float
    height: float
    title: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """The whole drawing.

    Attributes:
        zoomed: It shows less than the day.
        peak: The highest bar, records a second; empty without records.
        peak_at: When, for who cannot see it.
        table: The same in numbers, at most 24 rows.
    """

    scale: Scale
    zoomed: bool
    zoomable: bool
    ticks: list[Tick]
    columns: list[Column]
    peak: str
    peak_at: str
    table: list[Bar]
    lanes: list[Lane] = field(default_factory=list)


def timeline(
    day_ns: int,
    *,
    files: Sequence[FileEntry],
    open_spans: Sequence[tuple[int, int]],
    sessions: Sequence[SessionEntry],
    gaps: Sequence[GapView],
    slices: Sequence[Slice],
    interval_ns: int,
    now_ns: int,
    whole: bool,
) -> Timeline:
    """Draw a day.

    Args:
        day_ns: Its first nanosecond.
        files: Its sealed segments, in the order of the stream.
        open_spans: First and last server time of each open segment.
        sessions: Its connections.
        gaps: Its gaps, by start.
        slices: Records by time.
        interval_ns: Length of a window.
        now_ns: The time now: an open gap is drawn until then.
        whole: Draw all of the day, however little of it is filled.
    """
    sealed = _coverage(files, interval_ns)
    # A connection without an end lived on at least as long as anything was archived.
    through_ns = max((end for _, end in (*sealed, *open_spans)), default=day_ns)
    full = Scale(day_ns, day_ns + DAY_NS)
    near = _zoom(full, [*sealed, *open_spans, *((gap.start_ns, gap.end_ns or now_ns) for gap in gaps)])
    scale = full if whole else near
    width_ns = bucket_ns(scale.end_ns - scale.start_ns)
    values = bars(slices, scale.start_ns, scale.end_ns, width_ns)
    highest = max(values, key=lambda bar: bar.records)
    return Timeline(
        scale=scale,
        zoomed=scale != full,
        zoomable=near != full,
        ticks=_ticks(scale),
        columns=_columns(values, scale, highest.records),
        peak=_rate(highest) if highest.records else "",
        peak_at=clock(highest.start_ns),
        table=bars(slices, scale.start_ns, scale.end_ns, -(-(scale.end_ns - scale.start_ns) // 24)),
        lanes=[
            _segments(scale, files, sealed, open_spans),
            _connections(scale, sessions, through_ns),
            *(_gaps(scale, layer, [gap for gap in gaps if gap.entry.layer == layer], now_ns) for layer in LAYERS),
        ],
    )


def _coverage(files: Sequence[FileEntry], interval_ns: int) -> list[tuple[int, int]]:
    """Return the span each segment speaks for: to the ends of its window where the stream goes on unbroken."""
    spans: list[tuple[int, int]] = []
    for at, file in enumerate(files):
        start_ns, end_ns = from_rfc3339(file.start), from_rfc3339(file.end)
        if at and _follows(files[at - 1], file):
            start_ns = min(start_ns, max(spans[-1][1], window_of(start_ns, interval_ns).start_ns))
        if at + 1 < len(files) and _follows(file, files[at + 1]):
            end_ns = max(end_ns, min(window_of(end_ns, interval_ns).end_ns, from_rfc3339(files[at + 1].start)))
        spans.append((start_ns, end_ns))
    return spans


def _follows(before: FileEntry, after: FileEntry) -> bool:
    return before.epoch == after.epoch and before.nats_end_seq + 1 == after.nats_start_seq


def _zoom(full: Scale, spans: Sequence[tuple[int, int]]) -> Scale:
    """Return the part of the day that holds something, to whole steps of an axis; all of it where that is much."""
    shown = [(full_start, full_end) for full_start, full_end in spans if full.shows(full_start, full_end)]
    if not shown:
        return full
    start_ns = max(full.start_ns, min(start for start, _ in shown))
    end_ns = min(full.end_ns, max(end for _, end in shown))
    for minutes in _TICKS:
        step_ns = minutes * _MINUTE_NS
        low = start_ns - start_ns % step_ns
        high = -(-(end_ns + 1) // step_ns) * step_ns
        if high - low <= _MOST_TICKS * step_ns:
            return Scale(low, high) if (high - low) * _ZOOM <= DAY_NS else full
    return full


def _ticks(scale: Scale) -> list[Tick]:
    length_ns = scale.end_ns - scale.start_ns
    step_ns = next(m * _MINUTE_NS for m in _TICKS if length_ns <= _MOST_TICKS * m * _MINUTE_NS)
    first_ns = -(-scale.start_ns // step_ns) * step_ns
    moments = list(range(first_ns, scale.end_ns + 1, step_ns))
    return [Tick(scale.at(ns), _tick_text(ns, scale), minor=at % 2 == 1) for at, ns in enumerate(moments)]


def _tick_text(ns: int, scale: Scale) -> str:
    return "24:00" if ns == scale.end_ns and ns % DAY_NS == 0 else clock(ns)[:5]


def _rate(bar: Bar) -> str:
    per_second = bar.per_second
    if per_second >= 100:  # noqa: PLR2004 - from here on a fraction says nothing
        return f"{compact(round(per_second))}/s"
    return f"{per_second:.2g}/s"


def _columns(values: Sequence[Bar], scale: Scale, most: float) -> list[Column]:
    return [
        Column(
            x=scale.at(bar.start_ns),
            width=round(scale.at(bar.end_ns) - scale.at(bar.start_ns), 3),
            height=max(_LEAST_HEIGHT, round(100 * bar.records / most, 2)),
            title=f"{clock(bar.start_ns)}: {number(round(bar.records))} records, {_rate(bar)}",
        )
        for bar in values
        if bar.records
    ]


def _mark(scale: Scale, start_ns: int, end_ns: int, kind: str, title: str, url: str = "") -> Mark:
    x = scale.at(start_ns)
    return Mark(x, round(scale.at(end_ns) - x, 3), kind, title, url)


def _between(start_ns: int, end_ns: int) -> str:
    return f"{clock(start_ns)} to {clock(end_ns)}"


def _segments(
    scale: Scale,
    files: Sequence[FileEntry],
    sealed: Sequence[tuple[int, int]],
    open_spans: Sequence[tuple[int, int]],
) -> Lane:
    if len(files) <= _MOST_MARKS:
        marks = [
            _mark(
                scale, start, end, "sealed", f"{file.name}: {_between(start, end)}, {count(file.records, 'record')}"
            )
            for file, (start, end) in zip(files, sealed, strict=True)
            if scale.shows(start, end)
        ]
    else:
        marks = [_mark(scale, start, end, "sealed", _between(start, end)) for start, end in _runs(sealed)]
    marks += [
        _mark(scale, start, end, "unsealed", f"open segment: {_between(start, end)} so far")
        for start, end in open_spans
        if scale.shows(start, end)
    ]
    summary = f"{number(len(files))} sealed"
    if open_spans:
        summary += f", {len(open_spans)} open"
    covered = sum(end - start for start, end in _runs([*sealed, *open_spans]))
    if covered:
        summary += f", {span(covered)}"
    return Lane("Segments", summary, marks)


def _connections(scale: Scale, sessions: Sequence[SessionEntry], through_ns: int) -> Lane:
    marks: list[Mark] = []
    for session in sessions:
        start_ns = scale.start_ns if session.opened_at is None else from_rfc3339(session.opened_at)
        end_ns = through_ns if session.closed_at is None else from_rfc3339(session.closed_at)
        if scale.shows(start_ns, end_ns):
            how = f"closed: {(session.cause or 'unknown').replace('_', ' ')}" if session.closed_at else "not closed"
            title = f"connection {session.connection} of {session.session}: {_between(start_ns, end_ns)}, {how}"
            kind = "connected" + (" abrupt" if session.cause not in (None, "stopped") else "")
            marks.append(_mark(scale, start_ns, end_ns, kind, title))
    summary = count(len(sessions), "connection") if sessions else "no connection is known"
    return Lane("Connections", summary, marks[:_MOST_MARKS])


def _gaps(scale: Scale, layer: str, gaps: Sequence[GapView], now_ns: int) -> Lane:
    shown = [gap for gap in gaps if scale.shows(gap.start_ns, gap.end_ns or now_ns)]
    if len(shown) <= _MOST_LINKS:
        marks = [
            _mark(
                scale,
                gap.start_ns,
                gap.end_ns or now_ns,
                f"gap {layer} {gap.entry.status}",
                gap.label,
                gap.url,
            )
            for gap in shown
        ]
    else:
        spans = sorted((gap.start_ns, max(gap.end_ns or now_ns, gap.start_ns + 1)) for gap in shown)
        marks = [
            _mark(scale, start, end, f"gap {layer} permanent", _between(start, end)) for start, end in _runs(spans)
        ]
    return Lane(f"{layer.capitalize()} gaps", count(len(gaps), "gap") if gaps else "none", marks)


def _runs(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join spans that touch, in order of start."""
    runs: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if runs and start <= runs[-1][1]:
            runs[-1] = (runs[-1][0], max(runs[-1][1], end))
        else:
            runs.append((start, end))
    return runs
