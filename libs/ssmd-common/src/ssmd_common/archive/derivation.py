"""From indexes to a manifest: the one rule by which archiver, rebuild and verify agree, byte for byte."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ssmd_common import events
from ssmd_common.archive import manifest as m
from ssmd_common.archive.gaps import Gap, merge_gaps, overlaps
from ssmd_common.archive.index import (
    Anomaly,
    Block,
    Event,
    GapRecord,
    Header,
    Index,
    Reject,
    Seal,
)
from ssmd_common.archive.layout import DATA_SUFFIX
from ssmd_common.archive.times import DAY_NS, day_start_ns, to_rfc3339
from ssmd_common.errors import ArchiveError
from ssmd_common.frames import FrameId, parse_msg_id
from ssmd_common.ranges import Range, range_total

__all__ = ["SegmentSummary", "SummaryFold", "derive_manifest", "gap_entry", "gaps_of_day", "summarise"]


@dataclass(slots=True)
class _Connection:
    opened_ns: int | None = None
    closed_ns: int | None = None
    cause: str | None = None
    frames: list[tuple[int, int]] = field(default_factory=list)
    unverifiable: set[str] = field(default_factory=set)

    def add(self, first: int, end: int) -> None:
        """Add frame numbers; those that go on where the last ones ended make one range with them."""
        if self.frames and self.frames[-1][1] == first:
            first, _ = self.frames.pop()
        self.frames.append((first, end))


@dataclass(frozen=True, slots=True)
class SegmentSummary:
    """What a sealed segment contributes to its day; everything a manifest needs and no more."""

    header: Header
    entry: m.FileEntry
    tickers: tuple[str, ...]
    gaps: tuple[Gap, ...]
    anomalies: tuple[Anomaly, ...]
    complete_through_ns: int
    connections: dict[tuple[str, int], _Connection]

    @property
    def order(self) -> tuple[int, int]:
        """Sort key of segments: epoch, then sequence."""
        return self.entry.epoch, self.entry.nats_start_seq


class SummaryFold:
    """Folds a segment group by group, so that neither its index nor its blocks need be held.

    Args:
        header: The segment's first line.
    """

    def __init__(self, header: Header) -> None:
        self._header = header
        self._first_seq: int | None = None
        self._last_seq: int | None = None
        self._stored: list[int] = []
        self._received: list[int] = []
        self._counts: Counter[str] = Counter()
        self._by_type: Counter[str] = Counter()
        self._tickers: set[str] = set()
        self._gaps: list[Gap] = []
        self._anomalies: list[Anomaly] = []
        self._connections = {
            (state.session, state.connection): _Connection(opened_ns=state.opened_ns)
            for state in header.connections
            if not state.closed
        }

    def add(self, lines: Iterable[Event | GapRecord | Anomaly | Reject], block: Block) -> None:
        """Take in the next group."""
        if block.first_seq is not None:
            self._add_block(block)
        for line in lines:
            match line:
                case Event() | Reject():
                    self._counts["events" if isinstance(line, Event) else "rejects"] += 1
                    _fold_message(line, self._connections)
                case GapRecord():
                    self._gaps.append(line.gap)
                case Anomaly():
                    self._anomalies.append(line)

    def _add_block(self, block: Block) -> None:
        if self._first_seq is None:
            self._first_seq = block.first_seq
        self._last_seq = block.last_seq
        stored = (block.first_ns, block.last_ns, *_ends(block.stored))
        self._stored = _outermost([*self._stored, *(ns for ns in stored if ns is not None)])
        self._received = _outermost([*self._received, *_ends(block.received)])
        self._by_type.update(block.records_by_type)
        self._tickers.update(block.tickers)
        self._counts.update(
            records=block.records,
            bytes=block.raw_bytes,
            duplicates=range_total(block.duplicates),
            filtered=range_total(block.filtered),
        )
        for key, ranges in block.frames.items():
            session, _, number = key.rpartition(".")
            connection = self._connections.setdefault((session, int(number)), _Connection())
            for first, end in ranges:
                connection.add(first, end)

    def finish(self, seal: Seal | None, index_sha256: str, *, where: str) -> SegmentSummary:
        """Return the summary.

        Args:
            seal: The segment's last line.
            index_sha256: Of the whole index.
            where: The index's path, for errors.

        Raises:
            ArchiveError: The segment is not sealed or holds no message.
        """
        if seal is None or self._first_seq is None:
            raise ArchiveError(
                "index is not sealed", where=where, remedy="start the archiver: it recovers the segment"
            )
        header, counts, received = self._header, self._counts, self._received
        entry = m.FileEntry(
            name=header.name + DATA_SUFFIX,
            start=to_rfc3339(self._stored[0]),
            end=to_rfc3339(self._stored[-1]),
            received_start=to_rfc3339(received[0]) if received else None,
            received_end=to_rfc3339(received[-1]) if received else None,
            records=counts["records"],
            bytes=counts["bytes"],
            nats_start_seq=self._first_seq,
            nats_end_seq=_known(self._last_seq),
            epoch=header.epoch,
            compressed_bytes=seal.data_bytes,
            sha256=seal.data_sha256,
            sha256_raw=seal.raw_sha256,
            meta_sha256=seal.meta_sha256,
            index_sha256=index_sha256,
            records_by_type=dict(sorted(self._by_type.items())),
            capture_events=counts["events"],
            rejects=counts["rejects"],
            duplicates=counts["duplicates"],
            filtered=counts["filtered"],
            sealed_at=to_rfc3339(seal.sealed_ns),
            seal_reason=seal.reason,
        )
        return SegmentSummary(
            header=header,
            entry=entry,
            tickers=tuple(sorted(self._tickers)),
            gaps=tuple(self._gaps),
            anomalies=tuple(self._anomalies),
            complete_through_ns=seal.complete_through_ns,
            connections=self._connections,
        )


def summarise(index: Index, index_bytes: bytes, *, where: str) -> SegmentSummary:
    """Fold a sealed index into its summary.

    Args:
        index: The index read from ``index_bytes``.
        index_bytes: The whole file, for its hash.
        where: The file's path, for errors.

    Raises:
        ArchiveError: The index is not sealed or holds no message.
    """
    fold = SummaryFold(index.header)
    for group in index.groups:
        fold.add(group.lines, group.block)
    return fold.finish(index.seal, hashlib.sha256(index_bytes).hexdigest(), where=where)


def _outermost(times_ns: list[int]) -> list[int]:
    """Return the earliest and the latest time; nothing of none."""
    return [min(times_ns), max(times_ns)] if times_ns else []


def _ends(span: Range | None) -> tuple[int, ...]:
    """Return the first and the last number of a range."""
    return () if span is None else (span[0], span[1] - 1)


def _known(value: int | None) -> int:
    if value is None:
        raise ArchiveError("a block with messages has no sequence or time")
    return value


def _fold_message(line: Event | Reject, connections: dict[tuple[str, int], _Connection]) -> None:
    identity = None if line.msg_id is None else parse_msg_id(line.msg_id)
    if isinstance(identity, FrameId):
        key = (identity.session, identity.connection)
        connections.setdefault(key, _Connection()).add(identity.frame_no, identity.frame_no + 1)
    event = events.decode_event(bytes(line.payload)) if isinstance(line, Event) else None
    match event:
        case events.ConnectionOpened():
            connections.setdefault((event.session, event.connection), _Connection()).opened_ns = event.at_ns
        case events.Heartbeat():
            for beat in event.connections:
                state = connections.setdefault((event.session, beat.connection), _Connection())
                state.unverifiable.update(beat.unverifiable)
        case events.ConnectionClosed():
            state = connections.setdefault((event.session, event.connection), _Connection())
            state.closed_ns, state.cause = event.at_ns, event.cause
            state.unverifiable.update(event.unverifiable)
        case _:
            pass


def gaps_of_day(records: Iterable[Gap], date: dt.date) -> list[Gap]:
    """Return the gaps that touch a day, each as last recorded; ``records`` in the order written."""
    start = day_start_ns(date)
    return [gap for gap in merge_gaps(records) if overlaps(gap, start, start + DAY_NS)]


def derive_manifest(
    *, header: Header, date: dt.date, segments: Sequence[SegmentSummary], gaps: Sequence[Gap]
) -> m.Manifest:
    """Derive a day's manifest.

    Args:
        header: Any header of the feed, for a day that has gaps and no file; else the last segment's counts.
        date: The day.
        segments: The day's sealed segments, in any order.
        gaps: The gaps of the day, from :func:`gaps_of_day`.
    """
    ordered = sorted(segments, key=lambda segment: segment.order)
    last = ordered[-1].header if ordered else header
    types = {name for segment in ordered for name in segment.entry.records_by_type}
    tickers = {ticker for segment in ordered for ticker in segment.tickers}
    return m.Manifest(
        schema_version=m.SCHEMA_VERSION,
        feed=last.feed,
        env=last.env,
        stream=last.stream,
        date=date,
        format="jsonl",
        rotation_interval=last.interval,
        complete_through=to_rfc3339(max(s.complete_through_ns for s in ordered)) if ordered else None,
        files=[segment.entry for segment in ordered],
        gaps=[gap_entry(gap) for gap in gaps],
        tickers=sorted(tickers),
        message_types=sorted(types),
        has_gaps=bool(gaps),
        epochs=_epochs(ordered),
        sessions=_sessions(ordered),
        anomalies=[
            m.AnomalyEntry(
                name=anomaly.name,
                file=segment.entry.name,
                seq=anomaly.seq,
                at=to_rfc3339(anomaly.at_ns),
                detail=anomaly.detail,
            )
            for segment in ordered
            for anomaly in segment.anomalies
        ],
    )


def gap_entry(gap: Gap) -> m.GapEntry:
    """Return a gap as a manifest lists it."""
    return m.GapEntry(
        gap_id=gap.gap_id,
        layer=gap.layer.value,
        cause=gap.cause,
        status=gap.status.value,
        epoch=gap.epoch,
        key=gap.key,
        start_seq=gap.start_seq,
        end_seq=gap.end_seq,
        start=to_rfc3339(gap.start_ns),
        end=None if gap.end_ns is None else to_rfc3339(gap.end_ns),
        after_seq=None if gap.start_seq is None else gap.start_seq - 1,
        missing_count=gap.missing_count,
        detected_at=to_rfc3339(gap.detected_ns),
    )


def _epochs(ordered: Sequence[SegmentSummary]) -> list[m.EpochEntry]:
    entries: dict[int, m.EpochEntry] = {}
    for segment in ordered:
        entry = segment.entry
        before = entries.get(entry.epoch)
        entries[entry.epoch] = m.EpochEntry(
            epoch=entry.epoch,
            created=segment.header.created,
            start_seq=before.start_seq if before else entry.nats_start_seq,
            end_seq=entry.nats_end_seq,
        )
    return list(entries.values())


def _sessions(ordered: Sequence[SegmentSummary]) -> list[m.SessionEntry]:
    merged: dict[tuple[str, int], _Connection] = {}
    for segment in ordered:
        for key, part in segment.connections.items():
            if not key[1]:
                continue  # the session's own events, before and beside its connections
            state = merged.setdefault(key, _Connection())
            state.frames.extend(part.frames)
            state.unverifiable |= part.unverifiable
            state.opened_ns = state.opened_ns if part.opened_ns is None else part.opened_ns
            if part.cause is not None:
                state.closed_ns, state.cause = part.closed_ns, part.cause
    return [
        m.SessionEntry(
            session=session,
            connection=connection,
            first_frame=min((first for first, _ in state.frames), default=None),
            last_frame=max((end - 1 for _, end in state.frames), default=None),
            received=range_total(state.frames),
            opened_at=None if state.opened_ns is None else to_rfc3339(state.opened_ns),
            closed_at=None if state.closed_ns is None else to_rfc3339(state.closed_ns),
            cause=state.cause,
            unverifiable=sorted(state.unverifiable),
        )
        for (session, connection), state in sorted(merged.items())
    ]
