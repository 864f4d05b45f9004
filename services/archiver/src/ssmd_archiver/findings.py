"""What a verification tells."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["FeedReport", "Finding"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        where: The file.
        problem: What is wrong with it.
    """

    where: str
    problem: str


@dataclass(slots=True)
class FeedReport:
    """What a verification found.

    Attributes:
        received: Frames the connectors received, as far as they told.
        archived: Distinct frames in the archive.
        lost: Frames known to be lost.
        unverifiable: Frames received by a connector that crashed before it could say what became of them.
        missing: Messages and frames missing by the recorded gaps, where their number is known.
    """

    feed: str
    days: int = 0
    files: int = 0
    open_segments: int = 0
    records: int = 0
    capture_events: int = 0
    rejects: int = 0
    raw_bytes: int = 0
    compressed_bytes: int = 0
    received: int = 0
    archived: int = 0
    lost: int = 0
    unverifiable: int = 0
    foreign: int = 0
    missing: int = 0
    gaps: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
