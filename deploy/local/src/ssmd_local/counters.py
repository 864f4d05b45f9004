"""What the services count, read from their metrics; pure.

The names are the services' own; a counter that is absent is None, never 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

__all__ = ["Counters", "read_counters"]

_RECEIVED = "ssmd_connector_frames_received_total"
_ARCHIVED = "ssmd_archiver_messages_total"
_SEALED = "ssmd_archiver_segments_sealed_total"
_GAPS = "ssmd_archiver_gaps_total"
_LAG = "ssmd_archiver_lag"


@dataclass(frozen=True, slots=True)
class Counters:
    """How far the run is; all since its processes started.

    Attributes:
        received: Frames off the exchange's sockets.
        archived: Messages made durable as records.
        lag: Messages in the stream that are not archived yet.
    """

    received: int | None = None
    archived: int | None = None
    sealed: int | None = None
    gaps: int | None = None
    lag: int | None = None


def read_counters(connector: str, archiver: str) -> Counters:
    """Return the counters in two services' Prometheus texts; an empty text is a service that did not answer."""
    received, archived = _sums(connector), _sums(archiver, only={_ARCHIVED: ("kind", "record")})
    return Counters(
        received=received.get(_RECEIVED),
        archived=archived.get(_ARCHIVED),
        sealed=archived.get(_SEALED),
        gaps=archived.get(_GAPS),
        lag=archived.get(_LAG),
    )


def _sums(text: str, *, only: Mapping[str, tuple[str, str]] | None = None) -> dict[str, int]:
    totals: dict[str, int] = {}
    for name, labels, value in _samples(text):
        label, wanted = (only or {}).get(name, ("", ""))
        if not label or labels.get(label) == wanted:
            totals[name] = totals.get(name, 0) + int(value)
    return totals


def _samples(text: str) -> Iterable[tuple[str, Mapping[str, str], float]]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value
