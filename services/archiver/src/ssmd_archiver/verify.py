"""Re-check an archive offline: every byte against its hash, every sequence accounted for, manifests derived again.

Reads segment by segment and block by block, so memory does not grow with the archive.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ssmd_archiver.catalog import SKEW, recorded_gaps
from ssmd_archiver.proof import FrameLedger
from ssmd_archiver.records import json_problem
from ssmd_archiver.recovery import replay
from ssmd_common.archive.derivation import SegmentSummary, derive_manifest, gaps_of_day, summarise
from ssmd_common.archive.gaps import Gap, GapLayer, merge_gaps, missing_total
from ssmd_common.archive.index import (
    Block,
    Event,
    GapRecord,
    Group,
    Header,
    Index,
    Reject,
    Seal,
    read_index,
)
from ssmd_common.archive.layout import DATA_SUFFIX, DayPaths, SegmentPaths, list_days
from ssmd_common.archive.manifest import encode_manifest
from ssmd_common.archive.reader import read_block
from ssmd_common.errors import ArchiveError
from ssmd_common.ranges import Ranges

__all__ = ["FeedReport", "Finding", "verify_feed"]


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


@dataclass(frozen=True, slots=True)
class _Segment:
    """One segment and its index, as they were found."""

    paths: SegmentPaths
    index: Index
    sealed: bool

    @property
    def order(self) -> tuple[int, int]:
        """Sort key: epoch, then sequence."""
        return self.index.header.epoch, self.index.last_seq or 0


class _Chain:
    """How far the sequences are accounted for, over all segments in order."""

    def __init__(self) -> None:
        self.epoch = 0
        self.position: int | None = None

    def enter(self, index: Index) -> str | None:
        """Begin a segment; return what does not fit."""
        header = index.header
        if header.epoch == self.epoch and header.after_seq != self.position:
            return f"begins after sequence {header.after_seq}, the segment before it ends at {self.position}"
        self.epoch, self.position = header.epoch, header.after_seq
        return None


def verify_feed(
    base: Path, feed: str, *, date: dt.date | None = None, progress: Callable[[int], None] = lambda _: None
) -> FeedReport:
    """Verify a feed's archive, or one day of it.

    Args:
        base: The archive's base folder.
        feed: The feed.
        date: Only this day.
        progress: Told the bytes read, as they are read.
    """
    report = FeedReport(feed)
    days = [day for day in list_days(base, feed) if date is None or day.date >= date - SKEW]
    gaps, newest = recorded_gaps(days)
    chain = _Chain()
    ledger: FrameLedger | None = None
    for day in days:
        if date is not None and day.date != date:
            continue
        report.days += 1
        summaries = []
        for segment in _segments(day, report):
            if ledger is None:
                ledger = FrameLedger(segment.index.header.connections, segment.index.header.open_gaps)
            summary = _verify_segment(segment, chain, ledger, report, progress)
            if summary is not None:
                summaries.append(summary)
        if newest is not None:
            _verify_manifest(day, summaries, gaps, newest, report)
    _total(report, ledger or FrameLedger(), gaps, date)
    return report


def _segments(day: DayPaths, report: FeedReport) -> list[_Segment]:
    """Read a day's indexes, noting files that lack a partner."""
    sealed, data = set(day.sealed_stems()), set(day.data_stems())
    for stem in sorted(data - sealed):
        report.findings.append(Finding(str(day.sealed(stem).data), "has no index"))
    for stem in sorted(sealed - data):
        report.findings.append(Finding(str(day.sealed(stem).index), "its data file is missing"))
    found = []
    for paths, is_sealed in (
        *((day.sealed(stem), True) for stem in sorted(sealed & data)),
        *((day.open(stem), False) for stem in day.open_stems() if stem not in sealed),
    ):
        try:
            index = read_index(paths.index.read_bytes(), where=str(paths.index))
        except ArchiveError as error:
            report.findings.append(Finding(str(paths.index), error.problem))
            continue
        except FileNotFoundError:
            continue  # the archiver sealed it meanwhile
        if index is not None:
            found.append(_Segment(paths, index, is_sealed))
        elif is_sealed:
            report.findings.append(Finding(str(paths.index), "has no header"))
    return sorted(found, key=lambda segment: segment.order)


def _verify_segment(
    segment: _Segment, chain: _Chain, ledger: FrameLedger, report: FeedReport, progress: Callable[[int], None]
) -> SegmentSummary | None:
    """Verify one segment; return its summary where it is sealed and whole."""
    index, paths = segment.index, segment.paths

    def found(problem: str, path: Path = paths.index) -> None:
        report.findings.append(Finding(str(path), problem))

    if problem := chain.enter(index):
        found(problem)
    raw_sha256 = hashlib.sha256()
    try:
        with paths.data.open("rb") as data, paths.meta.open("rb") as meta:
            for group in index.groups:
                seqs = _verify_block(segment, group.block, data.fileno(), meta.fileno(), report, raw_sha256)
                progress(group.block.data_bytes)
                problem = _account(group, seqs, chain, shared=index.header.shared)
                if problem and seqs is not None:
                    found(problem)
                _fold(group, ledger, report)
    except OSError as error:
        found(f"cannot be read: {error.strerror}", Path(str(error.filename or paths.data)))
    report.records += sum(block.records for block in index.blocks)
    report.raw_bytes += sum(block.raw_bytes for block in index.blocks)
    if index.seal is None:
        if segment.sealed:
            found("is not sealed")
        report.open_segments += 1
        return None
    report.files += 1
    report.compressed_bytes += index.seal.data_bytes
    index_bytes = paths.index.read_bytes()
    _verify_seal(segment, index.seal, raw_sha256.hexdigest(), found)
    try:
        return summarise(index, index_bytes, where=str(paths.index))
    except ArchiveError as error:
        found(error.problem)
        return None


def _verify_block(
    segment: _Segment, block: Block, data_fd: int, meta_fd: int, report: FeedReport, raw_sha256: hashlib._Hash
) -> list[int] | None:
    """Verify a block's two members; return the sequences of its records, None where they cannot be read."""
    if not block.records:
        return []
    paths = segment.paths
    try:
        columns, lines = read_block(data_fd, meta_fd, block, where=paths)
    except ArchiveError as error:
        report.findings.append(Finding(error.where, error.problem))
        return None
    for line in lines:
        raw_sha256.update(line + b"\n")
        if problem := json_problem(line):
            text = f"line in the block at byte {block.data_offset} is no JSON: {problem}"
            report.findings.append(Finding(str(paths.data), text))
    if problem := _differs(block, columns.type, columns.frame_no):
        report.findings.append(Finding(str(paths.meta), problem))
    report.foreign += columns.connection.count(None)
    return columns.seq


def _verify_seal(segment: _Segment, seal: Seal, raw_sha256: str, found: Callable[..., None]) -> None:
    paths = segment.paths
    if raw_sha256 != seal.raw_sha256:
        found("its lines differ from the sealed hash", paths.data)
    for path, expected in ((paths.data, seal.data_sha256), (paths.meta, seal.meta_sha256)):
        try:
            with path.open("rb") as file:
                actual = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            found(f"cannot be read: {error.strerror}", path)
            continue
        if actual != expected:
            found("differs from the sealed hash", path)


def _differs(block: Block, types: list[str], frame_no: list[int | None]) -> str | None:
    """Return how a block's columns differ from what its index line tells."""
    by_type = {name: types.count(name) for name in set(types)}
    frames = sum(end - first for pairs in block.frames.values() for first, end in pairs)
    if by_type != block.records_by_type or frames != len(frame_no) - frame_no.count(None):
        return f"columns of the block at byte {block.meta_offset} differ from the index"
    return None


def _account(group: Group, records: list[int] | None, chain: _Chain, *, shared: bool) -> str | None:
    """Add up a group's sequences: each from the position to its end is there once."""
    block = group.block
    seqs = Ranges()
    count = len(records or ())
    for seq in records or ():
        seqs.add(seq)
    for line in group.lines:
        if isinstance(line, Event | Reject):
            count += 1
            seqs.add(line.seq)
        elif isinstance(line, GapRecord):
            gap = line.gap
            ours = gap.layer is GapLayer.STREAM and not gap.key and gap.epoch == chain.epoch
            if ours and gap.start_seq is not None and gap.end_seq is not None:
                count += gap.end_seq - gap.start_seq
                seqs.add_range(gap.start_seq, gap.end_seq)
    for first, end in (*block.duplicates, *block.filtered):
        count += end - first
        seqs.add_range(first, end)
    before, chain.position = chain.position, block.last_seq
    if count != len(seqs):
        return f"sequences up to {block.last_seq} are counted twice"
    if block.last_seq is None:
        return None
    pairs = seqs.pairs()
    first = (before + 1) if before is not None else pairs[0][0] if pairs else block.last_seq + 1
    missing = [] if shared else seqs.missing(first, block.last_seq + 1)
    outside = pairs and (pairs[0][0] < first or pairs[-1][1] > block.last_seq + 1)
    if missing or outside:
        return f"sequences {first} to {block.last_seq} do not add up: {missing or pairs}"
    return None


def _fold(group: Group, ledger: FrameLedger, report: FeedReport) -> None:
    ledger.apply(group.block)
    for line in group.lines:
        match line:
            case Event():
                report.capture_events += 1
                replay(ledger, line)
            case Reject():
                report.rejects += 1
                replay(ledger, line)
            case GapRecord():
                ledger.recorded(line.gap)
            case _:
                pass


def _verify_manifest(
    day: DayPaths, summaries: list[SegmentSummary], gaps: list[Gap], newest: Header, report: FeedReport
) -> None:
    of_day = gaps_of_day(gaps, day.date)
    if not summaries and not of_day and not day.manifest.exists():
        return
    expected = derive_manifest(header=newest, date=day.date, segments=summaries, gaps=of_day)
    try:
        actual = day.manifest.read_bytes()
    except FileNotFoundError:
        report.findings.append(Finding(str(day.manifest), "is missing; `ssmd-archiver rebuild` derives it"))
        return
    if actual != encode_manifest(expected):
        names = {name + DATA_SUFFIX for name in day.sealed_stems()}
        report.findings.append(
            Finding(str(day.manifest), f"differs from what its {len(names)} files say; run `ssmd-archiver rebuild`")
        )


def _total(report: FeedReport, ledger: FrameLedger, gaps: list[Gap], date: dt.date | None) -> None:
    for track in ledger.tracks.values():
        archived = len(track.frames)
        received = max(track.reported or 0, track.frames.end - 1, 0)
        lost = len(track.missing)
        report.archived += archived
        report.received += received
        report.lost += lost
        report.unverifiable += max(0, received - archived - lost)
    seen = merge_gaps(gaps) if date is None else gaps_of_day(gaps, date)
    for gap in seen:
        report.gaps[gap.layer.value] = report.gaps.get(gap.layer.value, 0) + 1
    report.missing = missing_total(seen)
