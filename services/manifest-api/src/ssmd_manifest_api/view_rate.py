"""How many records came when: from the blocks of indexes to the bars of a chart; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ssmd_common.archive.index import Block
from ssmd_common.archive.manifest import FileEntry
from ssmd_common.archive.times import DAY_NS, SECOND_NS, from_rfc3339

__all__ = ["Bar", "Slice", "bars", "bucket_ns", "file_slices", "index_slices", "outline"]

_STEPS_S = (5, 10, 15, 30, 60, 300, 900, 1800, 3600)
_MOST_BARS = 288
_SLICES_PER_SEGMENT = 15


@dataclass(frozen=True, slots=True)
class Slice:
    """Records stored in a span of server time, by type; half-open."""

    start_ns: int
    end_ns: int
    records_by_type: Mapping[str, int]

    @property
    def records(self) -> int:
        """All its records."""
        return sum(self.records_by_type.values())


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: a span of server time and the records stored in it."""

    start_ns: int
    end_ns: int
    records: float

    @property
    def per_second(self) -> float:
        """Records a second."""
        return self.records * SECOND_NS / (self.end_ns - self.start_ns)


def index_slices(blocks: Iterable[Block], *, window_ns: int) -> tuple[Slice, ...]:
    """Sum up the blocks of one segment by time.

    Args:
        blocks: Of one index, in order.
        window_ns: Length of the segment's window. There are about fifteen slices to it, however many blocks: short
            ones are summed up where they begin, one longer than a slice is a slice itself.
    """
    step_ns = _step_ns(window_ns / _SLICES_PER_SEGMENT)
    long: list[Slice] = []
    short: dict[int, dict[str, int]] = {}
    for block in blocks:
        if block.first_ns is None or block.last_ns is None or not block.records:
            continue
        if block.last_ns - block.first_ns > step_ns:
            long.append(Slice(block.first_ns, block.last_ns + 1, block.records_by_type))
            continue
        counts = short.setdefault(block.first_ns // step_ns, {})
        for name, records in block.records_by_type.items():
            counts[name] = counts.get(name, 0) + records
    return (*long, *(Slice(at * step_ns, (at + 1) * step_ns, counts) for at, counts in sorted(short.items())))


def file_slices(files: Iterable[FileEntry]) -> list[Slice]:
    """Take each segment as one slice: coarser than its index, and there without reading it."""
    return [
        Slice(start_ns := from_rfc3339(file.start), max(from_rfc3339(file.end), start_ns + 1), file.records_by_type)
        for file in files
        if file.records
    ]


def bucket_ns(span_ns: int) -> int:
    """Return how wide the bars over a span are to be, for at most 288 of them: five minutes of a day."""
    return _step_ns(span_ns / _MOST_BARS)


def bars(
    slices: Iterable[Slice], start_ns: int, end_ns: int, width_ns: int, *, kind: str | None = None
) -> list[Bar]:
    """Spread slices over bars of one width; a slice that spans several gives each its share.

    Args:
        slices: In any order.
        start_ns: Where the first bar begins.
        end_ns: Where the last one ends at the earliest.
        width_ns: Width of a bar.
        kind: Only records of this type; None for all.
    """
    counts = [0.0] * -(-(end_ns - start_ns) // width_ns)
    for part in slices:
        records = part.records if kind is None else part.records_by_type.get(kind, 0)
        first = max(0, (part.start_ns - start_ns) // width_ns)
        last = min(len(counts), -(-(part.end_ns - start_ns) // width_ns))
        for at in range(first, last):
            low = max(part.start_ns, start_ns + at * width_ns)
            high = min(part.end_ns, start_ns + (at + 1) * width_ns)
            counts[at] += records * (high - low) / (part.end_ns - part.start_ns)
    return [
        Bar(start_ns + at * width_ns, start_ns + (at + 1) * width_ns, records) for at, records in enumerate(counts)
    ]


def outline(values: Sequence[Bar], *, points: int = 96) -> str:
    """Return an SVG path over a box of 100 by 20: the bars as one shape, the highest as high as the box."""
    group = max(1, -(-len(values) // points))
    sums = [sum(bar.records for bar in values[at : at + group]) for at in range(0, len(values), group)]
    most = max(sums, default=0) or 1
    wide = 100 / max(1, len(sums))
    steps = "".join(f"V{20 - 20 * value / most:.4g}H{(at + 1) * wide:.4g}" for at, value in enumerate(sums))
    return f"M0 20{steps}V20Z"


def _step_ns(least_ns: float) -> int:
    fitting = (step * SECOND_NS for step in _STEPS_S if step * SECOND_NS >= least_ns)
    return next(fitting, DAY_NS)
