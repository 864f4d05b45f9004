from __future__ import annotations

from structlog.testing import capture_logs

from ssmd_common.service.telemetry import Metrics
from ssmd_connector.link import TypeWatch
from ssmd_connector.metrics import ConnectorMetrics
from ssmd_connector.venues.kalshi import KalshiVenue
from ssmd_connector.venues.venue import Kind, Route


def test_frames_that_are_too_large_are_told_of_once_a_type_and_counted_each() -> None:
    metrics = ConnectorMetrics(Metrics("test"))
    watch = TypeWatch(KalshiVenue(), metrics)
    with capture_logs() as said:
        for size in range(900, 1000):
            for kind in ("trade", "ticker"):
                watch.too_large(Route(Kind.DATA, kind, kind), size, 800)
    assert [(line["event"], line["type"], line["bytes"]) for line in said] == [
        ("frame_oversize", "trade", 900),
        ("frame_oversize", "ticker", 900),
    ]
    assert metrics.oversize.value == 200
