"""What the archive says about itself at the start: cut what never counted, finish what was begun.

Runs under the folder's lock, before anything is written. Afterwards every segment is either sealed in its place or
the one open segment to go on with.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import structlog

from ssmd_archiver.disk import Disk
from ssmd_archiver.epoch import Position
from ssmd_archiver.proof import FrameLedger
from ssmd_archiver.segment import SegmentWriter, finish_renames
from ssmd_common import events
from ssmd_common.archive.gaps import Gap
from ssmd_common.archive.index import Event, GapRecord, Header, Index, Reject, read_index
from ssmd_common.archive.layout import OPEN, DayPaths, list_days
from ssmd_common.errors import ArchiveError
from ssmd_common.frames import EventId, FrameId

__all__ = ["Recovered", "recover", "replay"]

log = structlog.get_logger()


@dataclass(slots=True)
class Recovered:
    """Where the archive stands.

    Attributes:
        last: Header of the newest segment; None in an empty archive.
        position: How far it is; None in an empty archive.
        ledger: The frames known.
        writer: The open segment to go on with; None where the newest is sealed.
    """

    last: Header | None
    position: Position | None
    ledger: FrameLedger
    writer: SegmentWriter | None


def recover(base: Path, feed: str, disk: Disk) -> Recovered:
    """Recover a feed's archive.

    Raises:
        ArchiveError: A file is damaged in a part that counted, or contradicts another.
    """
    days = list_days(base, feed)
    for day in days:
        _finish(day, disk)
    newest = _newest(days)
    if newest is None:
        return Recovered(None, None, FrameLedger(), None)
    day, index = newest
    ledger = FrameLedger(index.header.connections, index.header.open_gaps, epoch=index.header.epoch)
    for group in index.groups:
        ledger.apply(group.block)
        for line in group.lines:
            if isinstance(line, Event | Reject):
                replay(ledger, line)
        for line in group.lines:
            if isinstance(line, GapRecord):
                ledger.recorded(line.gap)
    writer = None if index.seal else SegmentWriter.resume(day, index, disk)
    position = _position(index)
    log.info(
        "archive_recovered",
        day=day.date.isoformat(),
        segment=index.header.name,
        open=writer is not None,
        epoch=position.epoch,
        seq=position.seq,
    )
    return Recovered(index.header, position, ledger, writer)


def _finish(day: DayPaths, disk: Disk) -> None:
    """Leave a day with sealed segments and at most whole open ones."""
    folder = day.folder / OPEN
    if not folder.is_dir():
        return
    for stem in day.sealed_stems():
        if day.open(stem).data.exists() or day.open(stem).meta.exists():
            finish_renames(day, stem, disk)
            log.info("seal_finished", day=day.date.isoformat(), segment=stem)
    for path in sorted(folder.iterdir()):
        stem = path.name.split(".", 1)[0]
        paths = day.open(stem)
        if path == paths.index or not path.exists():
            continue
        if not paths.index.exists():
            # Its header never lasted, so nothing in it was acknowledged.
            disk.remove(path)
    for stem in day.open_stems():
        _finish_open(day, stem, disk)


def _finish_open(day: DayPaths, stem: str, disk: Disk) -> None:
    paths = day.open(stem)
    index = read_index(paths.index.read_bytes(), where=str(paths.index))
    if index is None or not index.groups:
        # Nothing was committed to it: the next message opens it again, the same.
        for path in (paths.data, paths.meta, paths.index):
            disk.remove(path)
        disk.sync_folder(paths.index.parent)
        return
    if index.seal is not None:
        finish_renames(day, stem, disk)
        log.info("seal_finished", day=day.date.isoformat(), segment=stem)
        return
    blocks = index.blocks
    data_end = blocks[-1].data_offset + blocks[-1].data_bytes if blocks else 0
    meta_end = blocks[-1].meta_offset + blocks[-1].meta_bytes if blocks else 0
    for path, end in ((paths.data, data_end), (paths.meta, meta_end), (paths.index, index.committed_bytes)):
        size = path.stat().st_size if path.exists() else -1
        if size < end:
            raise ArchiveError(
                f"is {max(size, 0)} bytes long where its index counts {end}",
                where=str(path),
                remedy="restore the file from a backup, or move the segment's three files aside",
            )
        if size > end:
            disk.truncate(path, end)
            log.info("torn_tail_cut", file=path.name, day=day.date.isoformat(), bytes=size - end)


def _newest(days: list[DayPaths]) -> tuple[DayPaths, Index] | None:
    """Return the segment with the highest epoch and position; an open one is always the newest."""
    opened = [(day, stem) for day in days for stem in day.open_stems()]
    if len(opened) > 1:
        names = ", ".join(f"{day.date}/{stem}" for day, stem in opened)
        raise ArchiveError(f"more than one open segment: {names}", remedy="move all but the newest aside")
    for day, stem in opened:
        path = day.open(stem).index
        index = read_index(path.read_bytes(), where=str(path))
        if index is not None:
            return day, index
    best: tuple[tuple[int, int], DayPaths, Index] | None = None
    for day in reversed(days):
        for stem in day.sealed_stems():
            path = day.sealed(stem).index
            index = read_index(path.read_bytes(), where=str(path))
            if index is None:
                raise ArchiveError("index has no header", where=str(path), remedy="restore it from a backup")
            key = (index.header.epoch, index.last_seq or 0)
            if best is None or key > best[0]:
                best = (key, day, index)
        if best is not None:
            return best[1], best[2]
    return None


def _position(index: Index) -> Position:
    """Return the position at the end of an index; a block without messages keeps the message before it."""
    header = index.header
    with_messages = [block for block in index.blocks if block.first_seq is not None]
    last = with_messages[-1] if with_messages else None
    return Position(
        epoch=header.epoch,
        created=header.created,
        seq=index.last_seq,
        stored_ns=last.last_ns if last else header.after_ns,
        msg_id=last.last_msg_id if last else None,
        message_seq=last.last_seq if last else None,
    )


def replay(ledger: FrameLedger, line: Event | Reject) -> list[Gap]:
    """Bring a committed message of the index into a ledger; return the gaps it led to, recorded beside it."""
    track, identity = ledger.identify(line.msg_id)
    if track is not None:
        match identity:
            case FrameId():
                ledger.frame(track, identity.frame_no, line.received_ns, line.stored_ns)
            case EventId():
                track.events.add(identity.event_no)
    event = events.decode_event(bytes(line.payload)) if isinstance(line, Event) else None
    return ledger.event(event, line.stored_ns) if event is not None and track is not None else []
