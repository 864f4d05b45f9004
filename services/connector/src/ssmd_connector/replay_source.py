"""What is replayed: the sealed segments that arguments name, and what they hold in the order of the stream.

The order is that of the record, epoch and sequence, whatever the order of the arguments. Every index is read before
anything is published, so that what cannot be replayed is refused at once; blocks are then read one by one.
"""

from __future__ import annotations

import datetime as dt
from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from ssmd_common.archive.gaps import Gap, GapLayer, GapStatus
from ssmd_common.archive.index import Event, GapRecord, Header, Reject
from ssmd_common.archive.layout import DATA_SUFFIX, OPEN, DayKeys, day_dates, is_segment_stem, segment_stems
from ssmd_common.archive.reader import Record, open_segment, segments_of
from ssmd_common.archive.store import LocalStore
from ssmd_common.errors import ArchiveError, ConfigError, WireError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from ssmd_common.archive.index import IndexLine, Seal
    from ssmd_common.archive.reader import Segment

__all__ = ["Item", "Source", "SourceSegment", "find_source", "in_order", "moment_ns"]

Item = Record | Event | Reject | Gap
"""A record, a capture event, a payload that is no JSON, or a gap whose key names what its sequences belong to."""

_REMEDY = "give segments (…/FEED/2026-11-23/0615.jsonl.gz), a day's folder, or a feed's folder"
LEFT_OUT = "left_out"
"""Cause of a gap between two segments that were given without those between them."""


@dataclass(frozen=True, slots=True)
class SourceSegment:
    """A sealed segment, as far as its replay needs to know before it begins.

    Attributes:
        base: The archive it lies in.
        day: Its day.
        stem: Its name.
        header: Its index's first line, without the connections.
        first_seq: Its first message; None where it holds none.
        last_seq: The archive's position at its end.
        first_ns: Server time of its first message; of its window where it holds none.
        last_ns: Server time of its last message.
        records: Its lines.
        seal: Its index's last line.
    """

    base: Path
    day: DayKeys
    stem: str
    header: Header
    first_seq: int | None
    last_seq: int | None
    first_ns: int
    last_ns: int
    records: int
    seal: Seal

    @property
    def order(self) -> tuple[int, int]:
        """Sort key: epoch, then sequence."""
        return self.header.epoch, self.first_seq or 0

    @property
    def place(self) -> tuple[str, str]:
        """Which one it is: its day's folder, and its name."""
        return str(self.base / self.day.folder), self.stem

    @property
    def file(self) -> str:
        """Path of its data file."""
        return str(self.base / self.day.sealed(self.stem).data)

    def groups(self) -> Iterator[list[Item]]:
        """Iterate over its content block by block.

        Raises:
            ArchiveError: A file is missing, damaged, or not what the index says.
        """
        segment = open_segment(LocalStore(self.base), self.day, self.stem, sealed=True)
        if segment is None:
            raise ArchiveError("is gone", where=self.day.sealed(self.stem).index)
        with segment.source() as source:
            for group in segment.index.groups:
                records = source.records(group.block) if group.block.records else []
                yield in_order(records, group.lines, stream=self.header.stream)


@dataclass(frozen=True, slots=True)
class Source:
    """Everything that is replayed.

    Attributes:
        segments: In the order of the stream; at least one.
        left_open: Folders with a segment that is still being written, which is not replayed.
    """

    segments: tuple[SourceSegment, ...]
    left_open: tuple[str, ...] = ()

    @property
    def header(self) -> Header:
        """The first segment's header; feed, environment and prefix are the same in all."""
        return self.segments[0].header

    @property
    def records(self) -> int:
        """How many records there are."""
        return sum(segment.records for segment in self.segments)

    @property
    def streams(self) -> frozenset[str]:
        """The streams it was recorded from."""
        return frozenset(segment.header.stream for segment in self.segments)

    def groups(self) -> Iterator[tuple[SourceSegment, list[Item]]]:
        """Iterate over everything in order, with the gaps open at the start and those between segments.

        Raises:
            ArchiveError: A file is missing or damaged.
        """
        before: SourceSegment | None = None
        for segment in self.segments:
            opening = _before(before, segment)
            if opening:
                yield segment, opening
            for items in segment.groups():
                yield segment, items
            before = segment


def _before(before: SourceSegment | None, segment: SourceSegment) -> list[Item]:
    """Return the gaps to tell before a segment: open ones where the reading begins, and what was left out."""
    header = segment.header
    follows = before is not None and before.header.epoch == header.epoch and before.last_seq == header.after_seq
    if follows:
        return []
    gaps: list[Item] = [_keyed(gap, header.stream) for gap in header.open_gaps]
    if before is None or before.header.epoch != header.epoch:
        return gaps
    if before.last_seq is None or header.after_seq is None or before.last_seq >= header.after_seq:
        return gaps
    missing = Gap(
        gap_id=f"{header.epoch}:{before.last_seq + 1}.{LEFT_OUT}",
        layer=GapLayer.ARCHIVE,
        cause=LEFT_OUT,
        status=GapStatus.PERMANENT,
        epoch=header.epoch,
        start_seq=before.last_seq + 1,
        end_seq=header.after_seq + 1,
        start_ns=before.last_ns,
        end_ns=max(before.last_ns, segment.first_ns),
        detected_ns=segment.first_ns,
    )
    return [*gaps, _keyed(missing, header.stream)]


def find_source(paths: Sequence[Path]) -> Source:
    """Find the segments that paths name, each once: data files, days' folders, feeds' folders.

    Raises:
        ConfigError: A path names none, or a segment that is still open, or they are of several feeds or streams,
            or two of them hold the same messages.
        ArchiveError: The evidence of a segment is missing or damaged, or a file is shorter than it says.
    """
    found: dict[tuple[str, str], SourceSegment] = {}
    left_open: dict[str, None] = {}
    for path in paths:
        try:
            found |= {segment.place: segment for segment in _segments(path.resolve(), path, left_open)}
        except OSError as error:
            raise ConfigError(f"cannot be read: {error.strerror}", file=str(path)) from None
    segments = sorted(found.values(), key=lambda segment: segment.order)
    if not segments:
        raise ConfigError(
            "holds no sealed segment", file=", ".join(map(str, paths)), remedy="wait until one is sealed"
        )
    _require_one_feed(segments)
    return Source(tuple(_each_once(segments)), tuple(left_open))


def _require_one_feed(segments: Iterable[SourceSegment]) -> None:
    for before, after in pairwise(segments):
        ours, theirs = before.header, after.header
        if (ours.env, ours.feed, ours.prefix) != (theirs.env, theirs.feed, theirs.prefix):
            raise ConfigError(
                f"holds {ours.prefix} and {theirs.prefix}",
                file="FILE",
                remedy="replay one feed of one environment at a time",
            )
        same_stream = ours.stream == theirs.stream and (
            ours.epoch != theirs.epoch or ours.created == theirs.created
        )
        if not same_stream:
            raise ConfigError(
                f"comes from {_stream(ours)} and {_stream(theirs)}: their sequences have no common order",
                file="FILE",
                remedy="replay one after the other",
            )


def _stream(header: Header) -> str:
    return f"stream {header.stream} of {header.created}"


def _each_once(segments: Sequence[SourceSegment]) -> Iterator[SourceSegment]:
    """Iterate over the segments in order, leaving out further copies of one.

    Raises:
        ConfigError: Two that are no copies hold the same messages.
    """
    before: SourceSegment | None = None
    for segment in segments:
        if before is not None and before.seal == segment.seal:
            continue
        if (
            before is not None
            and before.header.epoch == segment.header.epoch
            and None not in (before.last_seq, segment.first_seq)
            and (segment.first_seq or 0) <= (before.last_seq or 0)
        ):
            raise ConfigError(
                f"holds messages that {before.file} holds too", file=segment.file, remedy="give one of the two"
            )
        before = segment
        yield segment


def _segments(path: Path, given: Path, left_open: dict[str, None]) -> Iterator[SourceSegment]:
    """Iterate over the segments that one path names."""
    if path.is_dir():
        inside = [path] if day_dates([path.name]) else sorted(path.iterdir())
        folders = [folder for folder in inside if day_dates([folder.name]) and folder.is_dir()]
        if not folders:
            raise ConfigError("is neither a day's folder nor a feed's", file=str(given), remedy=_REMEDY)
        for folder in folders:
            yield from _segments_of_day(folder, given, left_open)
        return
    if not path.exists():
        raise ConfigError("no such file or folder", file=str(given), remedy=_REMEDY)
    stem = path.name.removesuffix(DATA_SUFFIX)
    if not path.name.endswith(DATA_SUFFIX) or not is_segment_stem(stem):
        raise ConfigError("is no data file of an archive", file=str(given), remedy=_REMEDY)
    if path.parent.name == OPEN:
        raise ConfigError(
            "is still being written",
            file=str(given),
            remedy="wait until it is sealed, or stop the archiver and run `ssmd-archiver seal`",
        )
    base, day = _place(path.parent, given)
    found = open_segment(LocalStore(base), day, stem, sealed=True)
    if found is None:
        raise _without_evidence(day, stem, given)
    yield _summary(base, found)


def _segments_of_day(folder: Path, given: Path, left_open: dict[str, None]) -> Iterator[SourceSegment]:
    base, day = _place(folder, given)
    # The data files first: one that is sealed meanwhile has its evidence before them.
    stems = segment_stems((file.name for file in folder.iterdir()), DATA_SUFFIX)
    segments = segments_of(LocalStore(base), day)
    for stem in sorted(set(stems) - {segment.name for segment in segments if segment.sealed}):
        raise _without_evidence(day, stem, folder / f"{stem}{DATA_SUFFIX}")
    for segment in segments:
        if segment.sealed:
            yield _summary(base, segment)
        else:
            left_open[str(folder)] = None


def _without_evidence(day: DayKeys, stem: str, file: Path) -> ArchiveError:
    return ArchiveError(
        f"its evidence is missing: {day.sealed(stem).index.removeprefix(day.folder + '/')}",
        where=str(file),
        remedy="copy the folder _evidence with it; without it order and times are unknown",
    )


def _place(folder: Path, given: Path) -> tuple[Path, DayKeys]:
    """Return the archive and the day a day's folder belongs to."""
    try:
        return folder.parent.parent, DayKeys(folder.parent.name, dt.date.fromisoformat(folder.name))
    except (ValueError, WireError):
        raise ConfigError("does not lie in …/FEED/YYYY-MM-DD/", file=str(given), remedy=_REMEDY) from None


def _summary(base: Path, segment: Segment) -> SourceSegment:
    index, seal = segment.index, segment.index.seal
    keys = segment.day.sealed(segment.name)
    if seal is None:
        raise ArchiveError("its index has no seal", where=keys.index, remedy="start the archiver: it recovers it")
    for key, expected in ((keys.data, seal.data_bytes), (keys.meta, seal.meta_bytes)):
        stat = segment.store.stat(key)
        if stat is None or stat.size != expected:
            held = "is missing" if stat is None else f"has {stat.size} bytes, its seal says {expected}"
            raise ArchiveError(held, where=key, remedy="restore it from a backup")
    blocks = index.blocks
    times = [ns for block in blocks for ns in (block.first_ns, block.last_ns) if ns is not None]
    return SourceSegment(
        base=base,
        day=segment.day,
        stem=segment.name,
        header=msgspec.structs.replace(index.header, connections=[]),
        first_seq=next((block.first_seq for block in blocks if block.first_seq is not None), None),
        last_seq=index.last_seq,
        first_ns=min(times, default=index.header.window_start_ns),
        last_ns=max(times, default=index.header.window_start_ns),
        records=sum(block.records for block in blocks),
        seal=seal,
    )


def in_order(records: Sequence[Record], lines: Iterable[IndexLine], *, stream: str) -> list[Item]:
    """Return a block's records and its index's other lines as one sequence, gaps where they were learned.

    Args:
        records: The block's records.
        lines: The lines of its group.
        stream: Name of the stream, which the stream's own gaps are told of by.
    """
    messages: list[Record | Event | Reject] = list(records)
    gaps: deque[tuple[int, Gap]] = deque()
    told_by = 0
    for line in lines:
        match line:
            case Event() | Reject():
                messages.append(line)
                told_by = line.seq
            case GapRecord():
                gaps.append((told_by, line.gap))
            case _:
                pass
    messages.sort(key=lambda message: message.seq)
    if not gaps:
        return list(messages)
    items: list[Item] = []
    for message in messages:
        while gaps and gaps[0][0] < message.seq and _is_known_before(gaps[0][1], message):
            items.append(_keyed(gaps.popleft()[1], stream))
        items.append(message)
    items += [_keyed(gap, stream) for _, gap in gaps]
    return items


def _is_known_before(gap: Gap, message: Record | Event | Reject) -> bool:
    """Tell whether a gap was learned before a message came: the stream's own show in a jump of its sequence."""
    if not gap.key and gap.end_seq is not None:
        return message.seq >= gap.end_seq
    return message.stored_ns > max(gap.detected_ns, gap.end_ns or 0)


def _keyed(gap: Gap, stream: str) -> Gap:
    """Return a gap whose key names what its sequences belong to, even where that is the stream itself."""
    return gap if gap.key else msgspec.structs.replace(gap, key=f"{stream}:{gap.epoch}")


def moment_ns(item: Item) -> int | None:
    """Return when something happened at the source, by which it is paced; None for a gap, which has no moment."""
    if isinstance(item, Gap):
        return None
    return item.stored_ns if item.received_ns is None else item.received_ns
