"""What the catalog keeps of the archive's files: each made of one file's bytes; pure."""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass

from ssmd_common.archive.index import Index, read_index
from ssmd_common.archive.manifest import GapEntry, Manifest, parse_manifest
from ssmd_common.archive.selection import Extent, extent_of_entry, joined
from ssmd_common.archive.store import Content, Stat
from ssmd_common.errors import ArchiveError
from ssmd_manifest_api.condition import DayFacts, Verdict, facts_of
from ssmd_manifest_api.view_rate import Slice, index_slices

__all__ = [
    "Day",
    "Evidence",
    "ManifestFile",
    "OpenSegment",
    "SealedFile",
    "Summary",
    "day_of",
    "evidence_of",
    "journal_of",
    "manifest_file_of",
    "manifest_of",
    "slices_of",
    "summary_of",
]


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """A manifest as it lies in the archive."""

    data: bytes
    etag: str
    modified_ns: int


@dataclass(frozen=True, slots=True)
class OpenSegment:
    """The durable part of a segment still being written, as its journal tells."""

    name: str
    records: int
    bytes: int
    nats_start_seq: int | None
    nats_end_seq: int | None
    first_ns: int | None
    last_ns: int | None


@dataclass(frozen=True, slots=True)
class Day:
    """What a listing says of a day.

    Attributes:
        exists: False for a day between two of the archive's that it has no folder for.
        modified_ns: When its manifest was written; None where it has none.
    """

    date: dt.date
    verdict: Verdict
    exists: bool
    records: int
    bytes: int
    compressed_bytes: int
    files: int
    gaps: int
    complete_through: str | None
    modified_ns: int | None


@dataclass(frozen=True, slots=True)
class SealedFile:
    """A file of a sealed segment, ready to be sent."""

    key: str
    sha256: str
    stat: Stat


@dataclass(frozen=True, slots=True)
class Summary:
    """What listings need of a manifest."""

    facts: DayFacts
    records: int
    bytes: int
    compressed_bytes: int
    gaps: tuple[GapEntry, ...]
    complete_through: str | None
    modified_ns: int
    extent: Extent | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an index says of its segment, itself included."""

    tickers: frozenset[str]
    slices: tuple[Slice, ...]
    data_sha256: str
    meta_sha256: str
    index_sha256: str


def day_of(date: dt.date, facts: DayFacts, summary: Summary | None, verdict: Verdict, *, exists: bool) -> Day:
    """Return a day as a listing shows it."""
    return Day(
        date=date,
        verdict=verdict,
        exists=exists,
        records=summary.records if summary else 0,
        bytes=summary.bytes if summary else 0,
        compressed_bytes=summary.compressed_bytes if summary else 0,
        files=facts.files,
        gaps=len(summary.gaps) if summary else 0,
        complete_through=summary.complete_through if summary else None,
        modified_ns=summary.modified_ns if summary else None,
    )


def manifest_file_of(_key: str, file: Content) -> ManifestFile:
    """Return a manifest as it lies there."""
    return ManifestFile(file.data, f'"{hashlib.sha256(file.data).hexdigest()}"', file.stat.modified_ns)


def manifest_of(key: str, file: Content) -> Manifest:
    """Return a manifest, read."""
    return parse_manifest(file.data, where=key)


def summary_of(key: str, file: Content) -> Summary:
    """Return what listings need of a manifest."""
    manifest = parse_manifest(file.data, where=key)
    return Summary(
        facts=facts_of(manifest),
        records=sum(entry.records for entry in manifest.files),
        bytes=sum(entry.bytes for entry in manifest.files),
        compressed_bytes=sum(entry.compressed_bytes for entry in manifest.files),
        gaps=tuple(manifest.gaps),
        complete_through=manifest.complete_through,
        modified_ns=file.stat.modified_ns,
        extent=joined(extent_of_entry(entry) for entry in manifest.files),
    )


def evidence_of(key: str, file: Content) -> Evidence:
    """Return what is needed of a sealed index."""
    index = read_index(file.data, where=key)
    if index is None or index.seal is None:
        raise ArchiveError("index is not sealed", where=key, remedy="start the archiver")
    return Evidence(
        tickers=frozenset(ticker for block in index.blocks for ticker in block.tickers),
        slices=slices_of(index),
        data_sha256=index.seal.data_sha256,
        meta_sha256=index.seal.meta_sha256,
        index_sha256=hashlib.sha256(file.data).hexdigest(),
    )


def journal_of(key: str, file: Content) -> Index | None:
    """Return an open segment's index; None before its header is whole."""
    return read_index(file.data, where=key)


def slices_of(index: Index) -> tuple[Slice, ...]:
    """Return records by time and type, from an index."""
    return index_slices(index.blocks, window_ns=index.header.window_end_ns - index.header.window_start_ns)
