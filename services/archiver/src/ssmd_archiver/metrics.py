"""What the archiver counts."""

from __future__ import annotations

from ssmd_archiver.rotation import Reason
from ssmd_common.archive.gaps import GapLayer
from ssmd_common.service.telemetry import Metrics

__all__ = ["ArchiverMetrics"]

KINDS = ("record", "event", "reject", "duplicate", "filtered")


class ArchiverMetrics:
    """The archiver's instruments, all at 0 from the start."""

    def __init__(self, metrics: Metrics) -> None:
        self.messages = metrics.counter(
            "ssmd_archiver_messages",
            "1",
            "Messages made durable, by what became of them",
            [{"kind": k} for k in KINDS],
        )
        self.raw_bytes = metrics.counter("ssmd_archiver_raw_bytes", "By", "Uncompressed bytes archived")
        self.blocks = metrics.counter("ssmd_archiver_blocks", "1", "Blocks made durable")
        self.sealed = metrics.counter(
            "ssmd_archiver_segments_sealed", "1", "Segments sealed", [{"reason": reason.value} for reason in Reason]
        )
        self.gaps = metrics.counter(
            "ssmd_archiver_gaps", "1", "Gaps recorded", [{"layer": layer.value} for layer in GapLayer]
        )
        self.last_gap = metrics.gauge(
            "ssmd_archiver_last_gap_timestamp",
            "s",
            "When a gap was last recorded, since 1970 by our clock; 0 before the first",
            [{"layer": layer.value} for layer in GapLayer],
        )
        self.restarts = metrics.counter("ssmd_archiver_consumer_restarts", "1", "Consumer made again")
        self.commit_seconds = metrics.histogram(
            "ssmd_archiver_commit_duration",
            "s",
            "Time to compress, write and sync a block",
            bounds=[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5],
        )
        self.position = metrics.gauge("ssmd_archiver_position", "1", "Highest stream sequence archived")
        self.lag = metrics.gauge("ssmd_archiver_lag", "1", "Messages of the stream not archived yet")
        self.buffered = metrics.gauge("ssmd_archiver_buffered", "1", "Messages received and not archived yet")
        self.unsealed_seconds = metrics.gauge(
            "ssmd_archiver_unsealed_age", "s", "Span of server time in the open segment"
        )
        self.disk_free = metrics.gauge("ssmd_archiver_disk_free", "By", "Free space on the archive's disk")
