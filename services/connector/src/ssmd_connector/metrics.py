"""What the connector counts, every series at 0 from the start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssmd_connector.answers import Verdict
from ssmd_connector.causes import Cause

if TYPE_CHECKING:
    from ssmd_common.service.telemetry import Metrics

__all__ = ["ConnectorMetrics"]

_LATENCY_BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_REFUSALS = [verdict for verdict in Verdict if verdict not in (Verdict.STORED, Verdict.DUPLICATE)]
_LOSSES = [cause for cause in Cause if cause is not Cause.STOPPED]


class ConnectorMetrics:
    """The connector's instruments, declared on one registry."""

    def __init__(self, metrics: Metrics) -> None:
        counter, gauge = metrics.counter, metrics.gauge
        prefix = "ssmd_connector_"
        self.frames_received = counter(
            f"{prefix}frames_received", "{frame}", "Frames taken off the socket"
        ).labelled()
        self.received_bytes = counter(
            f"{prefix}received", "By", "Size of the frames taken off the socket"
        ).labelled()
        self.messages_published = counter(
            f"{prefix}messages_published", "{message}", "Messages sent to NATS for the first time"
        ).labelled()
        self.pubacks = counter(f"{prefix}pubacks", "{message}", "Messages JetStream acknowledged").labelled()
        self.duplicates = counter(
            f"{prefix}puback_duplicates", "{message}", "Acknowledgements that say the message was there already"
        ).labelled()
        self.retries = counter(f"{prefix}publish_retries", "{message}", "Messages sent again").labelled()
        self.refusals = counter(
            f"{prefix}publish_refusals",
            "{answer}",
            "Error answers of JetStream to a message",
            [{"reason": verdict.value} for verdict in _REFUSALS],
        )
        self.frames_lost = counter(
            f"{prefix}frames_lost", "{frame}", "Frames received that could not be kept; each is on record"
        ).labelled()
        self.set_aside = counter(
            f"{prefix}messages_set_aside", "{message}", "Messages given up: the stream takes others, and never them"
        ).labelled()
        self.connections = counter(f"{prefix}connections", "{connection}", "Sockets opened").labelled()
        self.disconnects = counter(
            f"{prefix}disconnects",
            "{connection}",
            "Sockets lost or given up",
            [{"cause": cause.value} for cause in _LOSSES],
        )
        self.reconnects = counter(
            f"{prefix}reconnects", "{attempt}", "Attempts to connect after the first"
        ).labelled()
        self.expected_silence = gauge(
            f"{prefix}expected_silence", "1", "1 while the feed's calendar expects silence, 0 while it expects data"
        ).labelled()
        self.gaps = counter(f"{prefix}exchange_gaps", "{gap}", "Gaps in the exchange's own sequence").labelled()
        self.resyncs = counter(f"{prefix}exchange_resyncs", "{gap}", "Gaps after which full state came").labelled()
        self.repeats = counter(
            f"{prefix}exchange_repeats", "{frame}", "Frames whose exchange sequence came again or late"
        ).labelled()
        self.markets = gauge(f"{prefix}markets", "{market}", "Markets subscribed to by name").labelled()
        self.subscriptions_refused = gauge(
            f"{prefix}subscriptions_refused",
            "{refusal}",
            "Different refusals of the exchange on the open connections, which go on without what they are about",
        ).labelled()
        self.discovery_requests = counter(
            f"{prefix}discovery_requests", "{request}", "Requests for lists of markets"
        ).labelled()
        self.discovery_retries = counter(
            f"{prefix}discovery_retries", "{request}", "Requests for lists of markets that have to be repeated"
        ).labelled()
        self.unparsed = counter(f"{prefix}frames_unparsed", "{frame}", "Frames that are not JSON").labelled()
        self.unrouted = counter(f"{prefix}frames_unrouted", "{frame}", "JSON frames without a type").labelled()
        self.unknown_types = counter(
            f"{prefix}unknown_types", "{type}", "Message types seen that the venue does not know"
        ).labelled()
        self.oversize = counter(f"{prefix}frames_oversize", "{frame}", "Frames too large to publish").labelled()
        self.spooled = counter(f"{prefix}messages_spooled", "{message}", "Messages written to the spool").labelled()
        self.stalls = counter(
            f"{prefix}reader_stalls", "{stall}", "Times reading stopped for want of room"
        ).labelled()
        self.spool_bytes = gauge(f"{prefix}spool_size", "By", "Size of the spool on disk").labelled()
        self.memory_bytes = gauge(f"{prefix}memory_size", "By", "Size of the messages held in memory").labelled()
        self.window_depth = gauge(
            f"{prefix}window_depth", "{message}", "Messages sent and not yet acknowledged"
        ).labelled()
        self.waiting = gauge(f"{prefix}waiting", "{message}", "Messages in memory that wait to be sent").labelled()
        self.puback_latency = metrics.histogram(
            f"{prefix}puback_latency",
            "s",
            "From sending a message to its acknowledgement, one message a batch",
            bounds=_LATENCY_BOUNDS_S,
        )
