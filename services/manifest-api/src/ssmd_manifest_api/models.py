"""What the API answers, beside the manifests themselves: listings, made of the archive's own entries."""

from __future__ import annotations

import datetime as dt

from pydantic import BaseModel, ConfigDict, Field

from ssmd_common.archive.manifest import FileEntry, GapEntry
from ssmd_manifest_api.condition import Condition

__all__ = [
    "DayConditions",
    "DayEntry",
    "DayGaps",
    "FeedConditions",
    "FeedDays",
    "FeedEntry",
    "FeedGaps",
    "FeedList",
    "FileList",
    "ListedFile",
    "OpenEntry",
    "ReasonEntry",
    "UnreadableDay",
]

_NEXT = Field(
    description="Cursor of the next page; null on the last one",
    examples=["WyJkYXlzIiwiMjAyNi0xMS0yMyJd"],
)
_TIME = Field(description="RFC 3339 UTC; null where there is none", examples=["2026-11-23T06:16:18.123456789Z"])


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class ReasonEntry(_Answer):
    """Why a day is not `available`."""

    code: str = Field(examples=["gap"])
    text: str
    gap_id: str | None = Field(description="The gap it points at")
    start: str | None = _TIME
    end: str | None = _TIME


class FeedEntry(_Answer):
    """A feed and how it stands."""

    feed: str = Field(examples=["kalshi"])
    days: int
    first_date: dt.date
    last_date: dt.date
    records: int
    bytes: int = Field(description="Uncompressed bytes")
    compressed_bytes: int
    gaps: int = Field(description="Gaps of all days; one that touches two days counts in both")
    condition: Condition = Field(description="Of the last day")
    complete_through: str | None = _TIME
    url: str = Field(examples=["/manifests/kalshi"])


class FeedList(_Answer):
    """Every feed of the archive."""

    feeds: list[FeedEntry]


class DayEntry(_Answer):
    """A day of a feed."""

    date: dt.date
    condition: Condition
    reasons: list[ReasonEntry]
    records: int
    bytes: int = Field(description="Uncompressed bytes")
    compressed_bytes: int
    files: int
    gaps: int
    complete_through: str | None = _TIME
    last_modified: str | None = _TIME
    url: str = Field(examples=["/manifests/kalshi/2026-11-23"])


class FeedDays(_Answer):
    """The days of a feed, oldest first."""

    feed: str
    days: list[DayEntry]
    next: str | None = _NEXT


class ListedFile(FileEntry):
    """A sealed segment and where to download it."""

    url: str = Field(examples=["/files/kalshi/2026-11-23/0615.jsonl.gz"])


class OpenEntry(_Answer):
    """What is durable of a segment still being written."""

    name: str
    records: int
    bytes: int = Field(description="Uncompressed bytes")
    nats_start_seq: int | None
    nats_end_seq: int | None
    last_stored_at: str | None = _TIME


class FileList(_Answer):
    """A day's segments: the sealed ones that pass the filters, and the open ones."""

    feed: str
    date: dt.date
    files: list[ListedFile]
    open: list[OpenEntry] = Field(description="Segments being written; they cannot be downloaded yet")
    next: str | None = _NEXT


class UnreadableDay(_Answer):
    """A day whose manifest or index cannot be read, so that it may know of more."""

    date: dt.date
    problem: str = Field(examples=["is no manifest"])


_UNREADABLE = Field(description="Days that cannot be read: they may know of gaps that are not listed here")


class FeedGaps(_Answer):
    """The gaps of a feed, by start."""

    feed: str
    gaps: list[GapEntry]
    unreadable: list[UnreadableDay] = _UNREADABLE
    next: str | None = _NEXT


class DayGaps(_Answer):
    """The gaps that touch a day, by start."""

    feed: str
    date: dt.date
    gaps: list[GapEntry]
    unreadable: list[UnreadableDay] = _UNREADABLE
    next: str | None = _NEXT


class DayConditions(_Answer):
    """The condition of one day."""

    date: dt.date
    condition: Condition
    reasons: list[ReasonEntry]
    last_modified: str | None = _TIME


class FeedConditions(_Answer):
    """The condition of every day from a feed's first to its last."""

    feed: str
    conditions: list[DayConditions]
    next: str | None = _NEXT
