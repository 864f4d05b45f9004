"""Re-check an archive offline: every byte against its hash, every sequence accounted for, manifests derived again.

Segments are read block by block, each by itself (:mod:`ssmd_archiver.verify_files`), and added up here in the order
of the stream, so memory does not grow with the archive. An archiver may run beside it: a segment that is sealed
meanwhile is found where it went, and a manifest that is seconds behind gets the seconds it needs.
"""

from __future__ import annotations

import datetime as dt
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path

from ssmd_archiver.catalog import SKEW, recorded_gaps
from ssmd_archiver.findings import FeedReport, Finding
from ssmd_archiver.proof import FrameLedger
from ssmd_archiver.recovery import replay
from ssmd_archiver.verify_files import CheckedSegment, SequenceSet, check_segment
from ssmd_archiver.verify_manifest import verify_manifest
from ssmd_archiver.verify_segments import FoundSegment, find_segments
from ssmd_common.archive.derivation import SegmentSummary, gaps_of_day, summarise
from ssmd_common.archive.gaps import Gap, GapLayer, merge_gaps, missing_total
from ssmd_common.archive.index import Event, GapRecord, Group, Index, Reject, read_index
from ssmd_common.archive.layout import list_days
from ssmd_common.errors import ArchiveError
from ssmd_common.ranges import Ranges

__all__ = ["FeedReport", "Finding", "verify_feed"]


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
    base: Path,
    feed: str,
    *,
    date: dt.date | None = None,
    progress: Callable[[int], None] = lambda _: None,
    clock_ns: Callable[[], int] = time.time_ns,
    workers: Executor | None = None,
) -> FeedReport:
    """Verify a feed's archive, or one day of it.

    Args:
        base: The archive's base folder.
        feed: The feed.
        date: Only this day.
        progress: Told the data bytes read, a segment at a time.
        clock_ns: The time now, to tell a manifest that is behind from one that is wrong.
        workers: What reads the segments' files, several at once; without it one after the other.
    """
    report = FeedReport(feed)
    days = [day for day in list_days(base, feed) if date is None or day.date >= date - SKEW]
    gaps, newest = recorded_gaps(days)
    wanted = [day for day in days if date is None or day.date == date]
    report.days = len(wanted)
    segments = sorted((segment for day in wanted for segment in find_segments(day, report)), key=lambda s: s.order)
    left = Counter(segment.day.date for segment in segments)
    summaries: dict[dt.date, list[SegmentSummary]] = {}
    chain = _Chain()
    ledger: FrameLedger | None = None
    checks = map(check_segment, segments) if workers is None else workers.map(check_segment, segments)
    for segment, checked in zip(segments, checks, strict=True):
        report.findings += checked.findings
        progress(checked.data_bytes)
        summary, ledger = _fold_segment(checked, chain, ledger, report)
        of_day = summaries.setdefault(segment.day.date, [])
        if summary is not None:
            of_day.append(summary)
        left[segment.day.date] -= 1
        if newest is not None and not left[segment.day.date]:
            del summaries[segment.day.date]
            verify_manifest(segment.day, of_day, gaps, newest, report, clock_ns)
    for day in wanted:
        if newest is not None and day.date not in left:
            verify_manifest(day, [], gaps, newest, report, clock_ns)
    _total(report, ledger or FrameLedger(), [*gaps, *_unsealed_gaps(segments)], date)
    return report


def _fold_segment(
    checked: CheckedSegment,
    chain: _Chain,
    ledger: FrameLedger | None,
    report: FeedReport,
) -> tuple[SegmentSummary | None, FrameLedger | None]:
    """Fold one segment in; return its summary where it is sealed and whole, and the frames known after it."""
    path = str(checked.path)
    index = read_index(checked.index_bytes, where=path)
    if index is None:
        return None, ledger
    header = index.header
    ledger = ledger or FrameLedger(header.connections, header.open_gaps)

    def found(problem: str) -> None:
        report.findings.append(Finding(path, problem))

    if problem := chain.enter(index):
        found(problem)
    for group, seqs in zip(index.groups, checked.seqs, strict=True):
        problem = _account(group, seqs, chain, shared=header.shared)
        if problem and seqs is not None:
            found(problem)
        _fold(group, ledger, report)
    report.foreign += checked.foreign
    report.records += sum(block.records for block in index.blocks)
    report.raw_bytes += sum(block.raw_bytes for block in index.blocks)
    if index.seal is None:
        if checked.sealed:
            found("is not sealed")
        report.open_segments += 1
        return None, ledger
    report.files += 1
    report.compressed_bytes += index.seal.data_bytes
    try:
        return summarise(index, checked.index_bytes, where=path), ledger
    except ArchiveError as error:
        found(error.problem)
        return None, ledger


def _account(group: Group, records: SequenceSet | None, chain: _Chain, *, shared: bool) -> str | None:
    """Add up a group's sequences: each from the position to its end is there once."""
    block = group.block
    count, seqs = (records.count, Ranges(records.pairs)) if records is not None else (0, Ranges())
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


def _unsealed_gaps(segments: list[FoundSegment]) -> list[Gap]:
    """Return what open segments record: known, and in no manifest before they are sealed."""
    gaps: list[Gap] = []
    for segment in segments:
        if not segment.sealed:
            path, data = segment.index_bytes()
            index = read_index(data, where=str(path))
            gaps.extend(line.gap for line in (index.lines() if index else ()) if isinstance(line, GapRecord))
    return gaps


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
