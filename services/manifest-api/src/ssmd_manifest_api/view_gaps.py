"""A gap beside its explanation, as the page of a day shows it; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ssmd_common.archive.manifest import GapEntry
from ssmd_common.archive.times import from_rfc3339
from ssmd_manifest_api.explanations import LAYERS, STATUSES, Explanation, explain, missing_words
from ssmd_manifest_api.view_parts import Download
from ssmd_manifest_api.view_text import number, span

__all__ = ["GapView", "gap_view"]


@dataclass(frozen=True, slots=True)
class GapView:
    """A gap beside its explanation.

    Attributes:
        anchor: Its name in the page.
        url: Where it is explained; relative to the day's page.
        missing: How much is missing, in words.
        where: Whose sequences are missing and which; empty where the layer counts nothing.
        lasted: How long; empty while it is open.
        beside: The segments before and after it.
    """

    anchor: str
    url: str
    entry: GapEntry
    explanation: Explanation
    layer: str
    status: str
    missing: str
    where: str
    lasted: str
    start_ns: int
    end_ns: int | None
    beside: list[Download]

    @property
    def label(self) -> str:
        """It in one line, for who cannot see its mark."""
        until = f"for {self.lasted}" if self.lasted else "and still open"
        return f"{self.entry.layer} gap from {self.entry.start[11:19]} {until}: {self.explanation.title}"


def gap_view(entry: GapEntry, place: int, files: Sequence[Download], *, page: int) -> GapView:
    """Return what a page shows of a gap.

    Args:
        entry: The gap.
        place: Its number among the day's gaps, from 1 on.
        files: The day's segments, in the order of the stream.
        page: The page of gaps that explains it.
    """
    start_ns = from_rfc3339(entry.start)
    end_ns = None if entry.end is None else from_rfc3339(entry.end)
    return GapView(
        anchor=f"gap-{place}",
        url=f"?gaps={page}#gap-{place}" if page > 1 else f"#gap-{place}",
        entry=entry,
        explanation=explain(entry.layer, entry.cause),
        layer=LAYERS[entry.layer],
        status=STATUSES[entry.status],
        missing=missing_words(entry),
        where=_where(entry),
        lasted="" if end_ns is None else span(end_ns - start_ns),
        start_ns=start_ns,
        end_ns=end_ns,
        beside=_beside(start_ns, start_ns if end_ns is None else end_ns, files),
    )


def _beside(start_ns: int, end_ns: int, files: Sequence[Download]) -> list[Download]:
    """Return the last segment that begins before a gap and the first that ends after it."""
    before = [file for file in files if from_rfc3339(file.entry.start) <= start_ns][-1:]
    after = [file for file in files if from_rfc3339(file.entry.end) >= end_ns][:1]
    return before if before == after else before + after


def _where(entry: GapEntry) -> str:
    if entry.start_seq is None:
        return ""
    whose = "stream sequence" if not entry.key else "update" if "/" in entry.key else "frame"
    first = number(entry.start_seq)
    if entry.end_seq is None:
        return f"{whose} {first} and on"
    last = entry.end_seq - 1
    return f"{whose} {first}" if last <= entry.start_seq else f"{whose} {first} to {number(last)}"
