"""Gaps: what the archive does not hold, by the layer that lost it.

The range of a gap is half-open on both axes. Its ``key`` tells whose sequences they are: the stream's where it is
empty, frame numbers for ``{session}.{connection}``, the exchange's own for ``{session}.{connection}/{its key}``. A
gap is written to the index when it is learned, and again, whole, when more becomes known: the last record of a
``gap_id`` counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

__all__ = ["Gap", "GapLayer", "GapStatus", "merge_gaps", "missing_total", "overlaps"]


class GapLayer(StrEnum):
    """Who lost the data."""

    EXCHANGE = "exchange"
    CONNECTION = "connection"
    STREAM = "stream"
    ARCHIVE = "archive"


class GapStatus(StrEnum):
    """How a gap stands: ``open`` while its end is unknown, then one of the others for good."""

    OPEN = "open"
    RESYNCED = "resynced"
    HEALED = "healed"
    PERMANENT = "permanent"


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """One gap.

    Attributes:
        gap_id: Unique in the feed, and the same whenever the same gap is derived again.
        epoch: The epoch of the stream it was learned in.
        key: What its sequences belong to; empty for the stream's.
        start_seq: First missing sequence; None where the layer counts nothing.
        end_seq: The sequence after the last missing one; None likewise, or while it is open.
        start_ns: When the loss began at the earliest.
        end_ns: When it had ended at the latest; None while it is open.
        missing_count: How many messages or frames are missing; None where that cannot be known.
        detected_ns: Server time of the message that showed it.
    """

    gap_id: str
    layer: GapLayer
    cause: str
    status: GapStatus
    epoch: int
    key: str = ""
    start_seq: int | None = None
    end_seq: int | None = None
    start_ns: int
    end_ns: int | None = None
    missing_count: int | None = None
    detected_ns: int


def merge_gaps(records: Iterable[Gap]) -> list[Gap]:
    """Return each gap as last recorded, sorted by start, layer and id; ``records`` come in the order written."""
    latest = {gap.gap_id: gap for gap in records}
    return sorted(latest.values(), key=lambda gap: (gap.start_ns, gap.layer.value, gap.gap_id))


def overlaps(gap: Gap, start_ns: int, end_ns: int) -> bool:
    """Tell whether a gap touches ``[start_ns, end_ns)``; a gap without extent counts at its start."""
    gap_end = gap.end_ns if gap.end_ns is not None else gap.detected_ns
    return gap.start_ns < end_ns and max(gap_end, gap.start_ns + 1) > start_ns


def missing_total(gaps: Iterable[Gap]) -> int:
    """Return how many messages and frames are known to be missing; gaps of unknown size add nothing."""
    return sum(gap.missing_count or 0 for gap in gaps)
