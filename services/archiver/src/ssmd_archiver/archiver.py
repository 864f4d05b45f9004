"""The archiver's loop: messages in, durable segments out.

Follow :meth:`Archiver.take_in` for a message: is it the next one of the stream, which window does it belong to,
what is it, and is the block full. Everything before a discontinuity is contiguous and valid, so it is committed,
never rolled back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import structlog

from ssmd_archiver.blocks import BlockBuilder
from ssmd_archiver.catalog import Catalog
from ssmd_archiver.compression import DEFAULT, Compress
from ssmd_archiver.disk import Disk
from ssmd_archiver.epoch import Position
from ssmd_archiver.intake import Intake
from ssmd_archiver.metrics import ArchiverMetrics
from ssmd_archiver.proof import FrameLedger
from ssmd_archiver.records import Message, SubjectReader, parse_message
from ssmd_archiver.recovery import Recovered
from ssmd_archiver.rotation import Reason, Rotation
from ssmd_archiver.runs import RUN_MESSAGES, Room, Run, read_run
from ssmd_archiver.segment import SegmentWriter
from ssmd_archiver.writing import BlockQueue, Written
from ssmd_common.archive.gaps import Gap
from ssmd_common.archive.index import INDEX_VERSION, Header
from ssmd_common.archive.layout import Window, day_paths, segment_name
from ssmd_common.archive.times import SECOND_NS
from ssmd_common.nats.client import RawMessage
from ssmd_common.ranges import range_total
from ssmd_common.subjects import DataSubject, SubjectBuilder

__all__ = ["Archiver", "FeedSettings", "Jump"]

log = structlog.get_logger()

BLOCK_BYTES = 1 << 20
BLOCK_MESSAGES = 16_384
MANIFEST_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class FeedSettings:
    """What is archived, and how.

    Attributes:
        base: The archive's base folder.
        stream: Name of the stream.
        shared: The stream holds other prefixes too, so a jump in sequence is no loss.
        data_filter: The configured filter.
        interval: The rotation interval as configured, for headers and manifests.
        flush_s: How long a message may wait before it is durable.
        compress: Makes the gzip members of new blocks.
    """

    base: Path
    subjects: SubjectBuilder
    stream: str
    shared: bool
    data_filter: str
    interval: str
    rotation: Rotation
    flush_s: float
    compress: Compress = DEFAULT


@dataclass(frozen=True, slots=True)
class Jump:
    """The stream went on at ``message`` where ``expected_seq`` was due; the messages before it are committed."""

    expected_seq: int
    message: Message
    rest: list[RawMessage]


@dataclass(frozen=True, slots=True)
class _Bridge:
    """Gaps to be recorded with the next message; it has sequence ``to_seq`` where they are a jump's."""

    gaps: list[Gap]
    to_seq: int | None


class Archiver:
    """One feed's archive being written.

    Args:
        settings: What and how.
        recovered: Where the archive stands.
        position: Where the stream is read from: that of ``recovered``, or the beginning of a new epoch.
        clock_ns: Our clock, for ``sealed_at`` and the metrics alone.
    """

    def __init__(
        self,
        settings: FeedSettings,
        recovered: Recovered,
        position: Position,
        catalog: Catalog,
        disk: Disk,
        metrics: ArchiverMetrics,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._disk = disk
        self._metrics = metrics
        self._clock_ns = clock_ns
        self._reader = SubjectReader(settings.subjects, settings.data_filter)
        self._ledger = recovered.ledger
        self._intake = Intake(recovered.ledger, BlockBuilder(position.seq, position.msg_id), metrics, clock_ns)
        self._writer = recovered.writer
        self._segment_bytes = recovered.writer.raw_bytes if recovered.writer else 0
        self._queue = BlockQueue(settings.compress, self._written)
        self._window = _window_of_header(recovered.last)
        self._bridge: _Bridge | None = None
        self._late = False
        self._idle_sealed = False
        self._manifest_written_at = -MANIFEST_EVERY_S
        self._pending_since: float | None = None
        self.position = position
        self.last_reply: str | None = None

    @property
    def ledger(self) -> FrameLedger:
        """The frames known."""
        return self._ledger

    @property
    def window(self) -> Window | None:
        """The window of the open segment; None where none is open."""
        return self._window if self._writer is not None else None

    @property
    def flush_due(self) -> bool:
        """Whether the oldest pending message has waited long enough."""
        since = self._pending_since
        return since is not None and time.monotonic() - since >= self._settings.flush_s

    @property
    def next_seq(self) -> int:
        """The sequence to read next."""
        return (self._intake.block.position or 0) + 1

    async def take_in(self, batch: list[RawMessage], expected_consumer_seq: int) -> tuple[int, Jump | None]:
        """Take in messages in the order delivered.

        Args:
            batch: The messages.
            expected_consumer_seq: Number the first delivery must have.

        Returns:
            The next delivery's number, or -1 where a delivery was skipped or repeated: the reader must start again
            at :attr:`next_seq`. And a jump of the stream, where one was met.
        """
        place = one_by_one = 0
        while place < len(batch):
            if place >= one_by_one:
                run, count = self._read_run(batch[place : place + RUN_MESSAGES], expected_consumer_seq)
                if run is None:
                    one_by_one = place + count
                else:
                    place += count
                    expected_consumer_seq += count
                    self._add_run(run)
                    await self._commit_full()
                continue
            message = parse_message(*batch[place])
            if message.consumer_seq != expected_consumer_seq or message.seq < self.next_seq:
                return -1, None
            if message.seq != self.next_seq and self._is_jump(message):
                await self.commit()
                return expected_consumer_seq, Jump(self.next_seq, message, batch[place:])
            place += 1
            expected_consumer_seq += 1
            await self._add(message)
            await self._commit_full()
        return expected_consumer_seq, None

    async def _commit_full(self) -> None:
        block = self._intake.block
        if block.raw_bytes >= BLOCK_BYTES or block.messages >= BLOCK_MESSAGES:
            await self._begin_commit()

    def _read_run(self, batch: list[RawMessage], consumer_seq: int) -> tuple[Run | None, int]:
        """Read messages at once that go on with the open segment, or tell how many to read one by one."""
        block, window = self._intake.block, self._window
        if self._writer is None or window is None or self._bridge is not None:
            return None, 1
        room = Room(BLOCK_MESSAGES - block.messages, BLOCK_BYTES - block.raw_bytes)
        if self._settings.rotation.max_bytes is not None:
            most_bytes = self._settings.rotation.max_bytes - block.raw_bytes - self._segment_bytes
            room = replace(room, most_bytes=most_bytes)
        run, count = read_run(batch, self._reader, next_seq=self.next_seq, consumer_seq=consumer_seq, room=room)
        if run is not None and not (
            window.start_ns <= min(run.stored_ns)
            and max(run.stored_ns) < window.end_ns
            and self._ledger.follows(run.frames)
        ):
            return None, count
        return run, count

    def _add_run(self, run: Run) -> None:
        """Keep a run; :meth:`_add` for each of its messages would lead to the same."""
        if self._pending_since is None:
            self._pending_since = time.monotonic()
        self._late = False
        self._intake.add_run(run)

    def _is_jump(self, message: Message) -> bool:
        explained = self._bridge is not None and self._bridge.to_seq == message.seq
        return self._intake.block.position is not None and not self._settings.shared and not explained

    def explain(self, gaps: list[Gap], to_seq: int) -> None:
        """Say what a jump was: the gaps are recorded with the message at ``to_seq``, in its segment."""
        self._bridge = _Bridge(gaps, to_seq)

    async def _add(self, message: Message) -> None:
        named = self._reader.read(message.subject)
        line_bytes = len(message.payload) + 1 if isinstance(named, DataSubject) else 0
        raw_bytes = self._intake.block.raw_bytes + self._segment_bytes
        place = self._settings.rotation.place(self._window, raw_bytes, message.stored_ns, line_bytes)
        if place.seal is not None:
            await self.seal(place.seal)
        before = self._window
        self._window = place.window
        if self._writer is None:
            late_window = self._idle_sealed and before == place.window
            await self._open(place.window)
        else:
            late_window = False
        if self._pending_since is None:
            self._pending_since = time.monotonic()
        if self._bridge is not None:
            self._cross(self._bridge, message)
        late = place.late or late_window
        if late and not self._late:
            self._intake.anomaly("late", message, {"window_start_ns": place.window.start_ns})
        self._late = place.late
        if place.seal is Reason.CLOCK and before is not None:
            self._intake.anomaly("clock_stepped", message, {"from_ns": before.start_ns, "to_ns": message.stored_ns})
        self._intake.keep(message, named)

    def _cross(self, bridge: _Bridge, message: Message) -> None:
        """Record the gaps before a message: their end is its server time, whenever they are learned."""
        self._bridge = None
        for gap in bridge.gaps:
            end_ns = max(message.stored_ns, gap.start_ns)
            self._intake.note_gap(msgspec.structs.replace(gap, end_ns=end_ns, detected_ns=message.stored_ns))
        if bridge.to_seq is not None:
            self._intake.block.pass_gap(bridge.to_seq)
        else:
            self._intake.anomaly("epoch_opened", message, {"epoch": self.position.epoch})

    async def _open(self, window: Window) -> None:
        settings = self._settings
        day = day_paths(settings.base, settings.subjects.feed, window.date)
        taken = {*day.sealed_stems(), *day.data_stems(), *day.open_stems()}
        part = 0
        interval_ns = settings.rotation.interval_ns
        while segment_name(window, interval_ns, part) in taken:
            part += 1
        connections, open_gaps = self._ledger.snapshot()
        header = Header(
            version=INDEX_VERSION,
            env=settings.subjects.env,
            feed=settings.subjects.feed,
            prefix=settings.subjects.prefix,
            stream=settings.stream,
            created=self.position.created,
            epoch=self.position.epoch,
            shared=settings.shared,
            name=segment_name(window, interval_ns, part),
            interval=settings.interval,
            window_start_ns=window.start_ns,
            window_end_ns=window.end_ns,
            after_seq=self._intake.block.position,
            after_ns=self.position.stored_ns,
            connections=connections,
            open_gaps=open_gaps,
        )
        self._writer = await asyncio.to_thread(SegmentWriter, day, header, self._disk)

    async def commit(self) -> None:
        """Make everything pending durable.

        Raises:
            ArchiveError: A write failed; nothing was acknowledged.
        """
        await self._begin_commit()
        await self._queue.settle()

    async def settle(self, *, wait: bool) -> None:
        """Take note of the block being written: once it is durable, or only if it is already.

        Raises:
            ArchiveError: A write failed; nothing was acknowledged.
        """
        await self._queue.settle(wait=wait)

    async def _begin_commit(self) -> None:
        if self._intake.block.empty or self._writer is None:
            return
        block = self._intake.next_block()
        self._pending_since = None
        self._segment_bytes += block.raw_bytes
        await self._queue.put(block, self._writer)

    def _written(self, written: Written) -> None:
        """Move the position to the end of a block that is durable."""
        pending, block = written.pending, written.block
        position = replace(self.position, seq=pending.last_seq)
        if pending.first_seq is not None:
            position = replace(
                position, stored_ns=pending.last_ns, msg_id=pending.last_msg_id, message_seq=pending.last_seq
            )
            self.last_reply = pending.last_reply
        self.position = position
        metrics = self._metrics
        metrics.commit_seconds.record(written.seconds)
        metrics.blocks.add()
        metrics.raw_bytes.add(block.raw_bytes)
        duplicates, filtered = range_total(block.duplicates), range_total(block.filtered)
        metrics.messages.add(block.records, kind="record")
        metrics.messages.add(pending.events, kind="event")
        metrics.messages.add(pending.rejects, kind="reject")
        metrics.messages.add(duplicates, kind="duplicate")
        metrics.messages.add(filtered, kind="filtered")
        metrics.position.set(pending.last_seq or 0)
        if self._window is not None:
            last_ns = pending.last_ns or self._window.start_ns
            metrics.unsealed_seconds.set((last_ns - self._window.start_ns) / SECOND_NS)

    async def seal(self, reason: Reason) -> None:
        """Make everything pending durable and close the open segment for good."""
        await self.commit()
        writer = self._writer
        if writer is None:
            return
        self._writer = None
        self._segment_bytes = 0
        self._idle_sealed = reason is Reason.IDLE
        whole_window = reason in (Reason.WINDOW, Reason.IDLE)
        through_ns = writer.header.window_end_ns if whole_window else writer.last_ns
        summary = await asyncio.to_thread(
            writer.seal,
            reason=reason.value,
            sealed_ns=self._clock_ns(),
            complete_through_ns=through_ns or writer.header.window_start_ns,
        )
        await asyncio.to_thread(self._catalog.add, writer.day, summary)
        self._metrics.sealed.add(1, reason=reason.value)
        self._metrics.unsealed_seconds.set(0)
        entry = summary.entry
        log.info(
            "segment_sealed",
            file=entry.name,
            day=writer.day.date.isoformat(),
            records=entry.records,
            bytes=entry.bytes,
            compressed_bytes=entry.compressed_bytes,
            reason=reason.value,
        )
        await self.write_manifests()

    async def write_manifests(self, *, now: bool = False) -> None:
        """Write the manifests that changed; at most every ten seconds unless ``now``."""
        due = time.monotonic() - self._manifest_written_at >= MANIFEST_EVERY_S
        if self._catalog.dirty and (now or due):
            self._manifest_written_at = time.monotonic()
            await asyncio.to_thread(self._catalog.write)

    async def begin_epoch(self, position: Position, gap: Gap) -> None:
        """Close what belongs to the old life of the stream and go on in the new one."""
        await self.seal(Reason.EPOCH)
        self.position = position
        self._ledger.epoch = position.epoch
        self._intake.block = BlockBuilder(position.seq, None)
        self._bridge = _Bridge([gap], None)

    async def close(self, *, seal: bool) -> None:
        """End: everything pending durable, the open segment sealed where ``seal`` says so, manifests written."""
        if seal:
            await self.seal(Reason.EXIT)
        else:
            await self.commit()
            if self._writer is not None:
                self._writer.close()
                self._writer = None
        await self.write_manifests(now=True)


def _window_of_header(header: Header | None) -> Window | None:
    return None if header is None else Window(header.window_start_ns, header.window_end_ns)
