"""What an archive holds, in a few numbers: from the manifest API while it runs, else from the manifests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ssmd_common.archive.layout import list_days, list_feeds
from ssmd_common.archive.manifest import parse_manifest
from ssmd_common.client import Client

__all__ = ["FeedSummary", "ask_archive", "summarise_archive"]


@dataclass(frozen=True, slots=True)
class FeedSummary:
    """A feed's sealed part.

    Attributes:
        last_segment: ``{date}/{name}`` of the segment sealed last; None before the first.
        last_sealed_at: When that was, RFC 3339.
    """

    feed: str
    days: int
    segments: int
    records: int
    gaps: int
    last_segment: str | None
    last_sealed_at: str | None


def ask_archive(api: Client) -> list[FeedSummary]:
    """Return every feed of the archive an API serves, by name.

    Raises:
        ApiError: It does not answer.
    """
    return [_ask(api, info.feed) for info in api.feeds()]


def _ask(api: Client, feed: str) -> FeedSummary:
    days = list(api.days(feed))
    last_segment = last_sealed_at = None
    sealed = [day.date for day in days if day.files]
    if sealed:
        *_, last = api.files(feed, sealed[-1])
        last_segment, last_sealed_at = f"{sealed[-1].isoformat()}/{last.name}", last.sealed_at
    return FeedSummary(
        feed=feed,
        days=len(days),
        segments=sum(day.files for day in days),
        records=sum(day.records for day in days),
        gaps=sum(1 for _ in api.gaps(feed)),
        last_segment=last_segment,
        last_sealed_at=last_sealed_at,
    )


def summarise_archive(base: Path) -> list[FeedSummary]:
    """Return every feed of an archive by name.

    Raises:
        ArchiveError: A manifest is damaged.
    """
    return [_summarise(base, feed) for feed in list_feeds(base)]


def _summarise(base: Path, feed: str) -> FeedSummary:
    segments = records = 0
    gaps: set[str] = set()
    last_segment = last_sealed_at = None
    days = list_days(base, feed)
    for day in days:
        if not day.manifest.exists():
            continue
        manifest = parse_manifest(day.manifest.read_bytes(), where=str(day.manifest))
        segments += len(manifest.files)
        records += sum(file.records for file in manifest.files)
        gaps.update(gap.gap_id for gap in manifest.gaps)
        if manifest.files:
            last = manifest.files[-1]
            last_segment, last_sealed_at = f"{day.date.isoformat()}/{last.name}", last.sealed_at
    return FeedSummary(feed, len(days), segments, records, len(gaps), last_segment, last_sealed_at)
