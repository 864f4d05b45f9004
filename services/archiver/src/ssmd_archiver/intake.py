"""What a message is, and what of it goes into the block: a record, a reject, an event, a duplicate, or nothing.

Pure but for the log: :class:`~ssmd_archiver.archiver.Archiver` says which window and when a block is full.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from ssmd_archiver.blocks import BlockBuilder
from ssmd_archiver.records import json_problem
from ssmd_common import events
from ssmd_common.archive.gaps import Gap, GapStatus
from ssmd_common.archive.index import Anomaly, GapRecord
from ssmd_common.archive.times import SECOND_NS
from ssmd_common.frames import EventId, FrameId
from ssmd_common.subjects import CaptureSubject, DataSubject

if TYPE_CHECKING:
    from collections.abc import Callable

    from ssmd_archiver.metrics import ArchiverMetrics
    from ssmd_archiver.proof import FrameLedger
    from ssmd_archiver.records import Message
    from ssmd_archiver.runs import Run

__all__ = ["Intake"]

log = structlog.get_logger()


class Intake:
    """Keeps messages in the block being gathered, and with them the gaps they show.

    Args:
        ledger: The frames known.
        block: The block being gathered.
        metrics: Told of every gap.
        clock_ns: Our clock, for the time of the latest gap alone.
    """

    def __init__(
        self, ledger: FrameLedger, block: BlockBuilder, metrics: ArchiverMetrics, clock_ns: Callable[[], int]
    ) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._clock_ns = clock_ns
        self._open_gaps = set(ledger.open_gaps)
        self.block = block

    def next_block(self) -> BlockBuilder:
        """Begin the next block; return the one gathered so far."""
        block = self.block
        self.block = BlockBuilder(block.position, block.last_msg_id)
        return block

    def add_run(self, run: Run) -> None:
        """Keep a run the ledger follows; :meth:`keep` for each of its messages would lead to the same."""
        self.block.add_run(run, self._ledger.add_frames(run))

    def keep(self, message: Message, named: DataSubject | CaptureSubject | None) -> None:
        """Keep a message, once, as what its subject says it is; None for one the filter leaves out."""
        block, ledger = self.block, self._ledger
        match named:
            case DataSubject():
                track, frame_no = ledger.locate(message.msg_id)
                if track is not None and frame_no is not None:
                    if frame_no in track.frames:
                        block.add_duplicate(message)
                        return
                    problem = json_problem(message.payload)
                    gaps = ledger.frame(track, frame_no, message.received_ns, message.stored_ns)
                    if problem is None:
                        block.add_record(message, named, track.key, frame_no, track.seen_ns)
                    else:
                        block.add_reject(message, problem)
                    for gap in gaps:
                        self.note_gap(gap)
                elif problem := json_problem(message.payload):
                    block.add_reject(message, problem)
                else:
                    block.add_record(message, named, None, None)
            case CaptureSubject():
                self._keep_event(message)
            case None:
                block.add_filtered(message)

    def _keep_event(self, message: Message) -> None:
        track, identity = self._ledger.identify(message.msg_id)
        gaps: list[Gap] = []
        if track is not None:
            match identity:
                case FrameId():
                    if identity.frame_no in track.frames:
                        self.block.add_duplicate(message)
                        return
                    gaps += self._ledger.frame(track, identity.frame_no, message.received_ns, message.stored_ns)
                case EventId():
                    if not track.events.add(identity.event_no):
                        self.block.add_duplicate(message)
                        return
        self.block.add_event(message)
        event = events.decode_event(message.payload)
        if event is not None and track is not None:
            gaps += self._ledger.event(event, message.stored_ns)
        for gap in gaps:
            self.note_gap(gap)

    def note_gap(self, gap: Gap) -> None:
        """Record a gap, or a new state of one, with the next block."""
        log.warning(
            "gap_recorded",
            gap_id=gap.gap_id,
            layer=gap.layer.value,
            cause=gap.cause,
            status=gap.status.value,
            missing_count=gap.missing_count,
        )
        self._count(gap)
        self._ledger.recorded(gap)
        self.block.note(GapRecord(gap=gap))

    def _count(self, gap: Gap) -> None:
        """Count a gap once, however often its state changes."""
        if gap.gap_id not in self._open_gaps:
            self._metrics.gaps.add(1, layer=gap.layer.value)
            self._metrics.last_gap.set(self._clock_ns() / SECOND_NS, layer=gap.layer.value)
        if gap.status is GapStatus.OPEN:
            self._open_gaps.add(gap.gap_id)
        else:
            self._open_gaps.discard(gap.gap_id)

    def anomaly(self, name: str, message: Message, detail: dict[str, int]) -> None:
        """Record what is odd about a message with the block."""
        log.warning(name, seq=message.seq, **detail)
        self.block.note(Anomaly(name=name, seq=message.seq, at_ns=message.stored_ns, detail=dict(detail)))
