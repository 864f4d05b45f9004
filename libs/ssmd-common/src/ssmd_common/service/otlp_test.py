"""Pushing metrics to a collector: a real one is an HTTP server that reads what is posted."""

from __future__ import annotations

import gzip
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from ssmd_common.errors import ConfigError
from ssmd_common.nats.testing import free_port
from ssmd_common.service.otlp import otlp_readers
from ssmd_common.service.telemetry import Metrics

if TYPE_CHECKING:
    from collections.abc import Iterator


class Collector(ThreadingHTTPServer):
    """Keeps every request posted to ``/v1/metrics``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pushed: list[ExportMetricsServiceRequest] = []

    def values(self) -> dict[str, float]:
        """Return each series' latest value by name and labels, and the service that told it."""
        found: dict[str, float] = {}
        for request in self.pushed:
            for resource in request.resource_metrics:
                names = {a.key: a.value.string_value for a in resource.resource.attributes}
                for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
                    for point in metric.sum.data_points or metric.gauge.data_points:
                        labels = ",".join(f"{a.key}={a.value.string_value}" for a in point.attributes)
                        found[f"{names['service.name']} {metric.name}{{{labels}}}"] = getattr(
                            point, str(point.WhichOneof("value"))
                        )
        return found


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if self.path == "/v1/metrics":
            self.server.pushed.append(ExportMetricsServiceRequest.FromString(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        pass


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    server = Collector()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield server
    server.shutdown()
    server.server_close()


def test_everything_counted_is_pushed_at_the_end_and_at_0_from_the_start(collector: Collector) -> None:
    metrics = Metrics("ssmd-test", readers=otlp_readers())
    counted = metrics.counter("ssmd_test_frames", "{frame}", "Frames")
    metrics.counter("ssmd_test_gaps", "{gap}", "Gaps", [{"layer": "stream"}, {"layer": "exchange"}])
    metrics.gauge("ssmd_test_depth", "{message}", "Depth").observe(lambda: 7)
    counted.add(3)
    metrics.close()

    assert collector.values() == {
        "ssmd-test ssmd_test_frames{}": 3,
        "ssmd-test ssmd_test_gaps{layer=stream}": 0,
        "ssmd-test ssmd_test_gaps{layer=exchange}": 0,
        "ssmd-test ssmd_test_depth{}": 7,
    }


def test_without_a_collector_named_nothing_is_pushed() -> None:
    assert otlp_readers({}) == []


def test_a_disabled_sdk_pushes_nothing_and_leaves_the_exposition(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "True")
    metrics = Metrics("ssmd-test", readers=otlp_readers())
    metrics.counter("ssmd_test_frames", "{frame}", "Frames").add(3)
    assert b"ssmd_test_frames_total 3.0" in metrics.exposition()
    metrics.close()
    assert collector.pushed == []
    assert os.environ["OTEL_SDK_DISABLED"] == "True"


@pytest.mark.usefixtures("collector")
def test_a_collector_that_is_away_neither_raises_nor_holds_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    metrics = Metrics("ssmd-test", readers=otlp_readers())
    metrics.counter("ssmd_test_frames", "{frame}", "Frames").add()
    metrics.close()


@pytest.mark.parametrize(
    ("environ", "field"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL",
        ),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
                "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/json",
            },
            "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
        ),
    ],
)
def test_an_endpoint_that_cannot_be_pushed_to_is_named(environ: dict[str, str], field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        otlp_readers(environ)


@pytest.mark.parametrize(
    "protocols",
    [
        {"OTEL_EXPORTER_OTLP_PROTOCOL": ""},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/protobuf"},
    ],
    ids=["an empty variable is none", "metrics go another way than the rest"],
)
def test_the_protocol_that_counts_is_that_of_metrics(collector: Collector, protocols: dict[str, str]) -> None:
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}", **protocols}
    metrics = Metrics("ssmd-test", readers=otlp_readers(environ))
    metrics.counter("ssmd_test_frames", "{frame}", "Frames").add(2)
    metrics.close()
    assert collector.values() == {"ssmd-test ssmd_test_frames{}": 2}


@pytest.mark.usefixtures("collector")
def test_an_interval_of_nothing_is_a_wrong_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "0")
    with pytest.raises(ConfigError, match="OTEL_METRIC_EXPORT_INTERVAL"):
        otlp_readers()


@pytest.mark.parametrize(
    "headers", ["x-api-key:HIDDEN", "a=b,HIDDEN", "x-api-key=HIDDEN\nx", 'k="HIDDEN"', "=HIDDEN"]
)
@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_METRICS_HEADERS"])
def test_a_header_that_is_none_is_refused_without_being_shown(
    headers: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ConfigError, match=name) as refused:
        otlp_readers({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", name: headers})
    assert "HIDDEN" not in f"{refused.value}{caplog.text}"


@pytest.mark.parametrize(
    "headers", ["", "a=b", "Authorization=Bearer%20x==, x-key = y", "authorization=Basic a:b,"]
)
def test_headers_that_opentelemetry_takes_are_taken(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, headers: str
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", headers)
    Metrics("ssmd-test", readers=otlp_readers()).close()
    assert collector.server_port
    assert caplog.text == ""
