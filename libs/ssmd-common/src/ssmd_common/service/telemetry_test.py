from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ssmd_common.errors import ConfigError
from ssmd_common.service.telemetry import MAX_SERIES, Metrics


def _samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = list(text_string_to_metric_families(metrics.exposition().decode()))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_every_declared_instrument_is_there_at_zero_from_the_start() -> None:
    metrics = Metrics("ssmd-test")
    metrics.counter("ssmd_test_frames", "{frame}", "Frames", [{"type": "trade"}, {"type": "ticker"}])
    metrics.gauge("ssmd_test_lag", "s", "Lag")
    metrics.histogram("ssmd_test_flush", "s", "Flush", bounds=[0.1, 1], attributes=[{"op": "a"}, {"op": "b"}])

    samples = _samples(metrics)
    assert samples["ssmd_test_frames_total", (("type", "trade"),)] == 0
    assert samples["ssmd_test_frames_total", (("type", "ticker"),)] == 0
    assert samples["ssmd_test_lag_seconds", ()] == 0
    assert samples["ssmd_test_flush_seconds_count", (("op", "a"),)] == 0
    assert samples["ssmd_test_flush_seconds_bucket", (("le", "0.1"), ("op", "b"))] == 0


def test_counters_add_up_however_they_are_held() -> None:
    metrics = Metrics("ssmd-test")
    frames = metrics.counter("ssmd_test_frames", "{frame}", "Frames", [{"type": "trade"}])
    held = frames.labelled(type="trade")
    held.add()
    held.add(4096)
    frames.add(3, type="trade")
    frames.add(1, type="new")

    samples = _samples(metrics)
    assert samples["ssmd_test_frames_total", (("type", "trade"),)] == 4100
    assert samples["ssmd_test_frames_total", (("type", "new"),)] == 1


def test_a_gauge_is_set_or_observed_when_read() -> None:
    metrics = Metrics("ssmd-test")
    gauge = metrics.gauge("ssmd_test_depth", "By", "Depth", [{"queue": "a"}, {"queue": "b"}])
    queue: list[int] = []
    gauge.set(7, queue="a")
    gauge.observe(lambda: len(queue), queue="b")
    queue += [1, 2]

    samples = _samples(metrics)
    assert samples["ssmd_test_depth_bytes", (("queue", "a"),)] == 7
    assert samples["ssmd_test_depth_bytes", (("queue", "b"),)] == 2


def test_a_histogram_keeps_its_quiet_label_sets_beside_the_recorded_ones() -> None:
    metrics = Metrics("ssmd-test")
    histogram = metrics.histogram(
        "ssmd_test_flush", "s", "Flush", bounds=[0.1, 1], attributes=[{"op": "a"}, {"op": "b"}]
    )
    histogram.record(0.5, op="a")

    samples = _samples(metrics)
    assert samples["ssmd_test_flush_seconds_count", (("op", "a"),)] == 1
    assert samples["ssmd_test_flush_seconds_bucket", (("le", "1"), ("op", "a"))] == 1
    assert samples["ssmd_test_flush_seconds_count", (("op", "b"),)] == 0


def test_other_label_names_than_declared_are_a_mistake_of_the_caller() -> None:
    metrics = Metrics("ssmd-test")
    counter = metrics.counter("ssmd_test_a", "1", "A", [{"type": "x"}])
    histogram = metrics.histogram("ssmd_test_b", "s", "B", bounds=[1])

    with pytest.raises(ValueError, match="has the labels"):
        counter.add(1, kind="x")
    with pytest.raises(ValueError, match="has the labels"):
        histogram.record(1, kind="x")
    with pytest.raises(ValueError, match="one set of label names"):
        metrics.counter("ssmd_test_c", "1", "C", [{"a": "x"}, {"b": "x"}])


def test_a_flood_of_label_values_is_counted_together() -> None:
    metrics = Metrics("ssmd-test")
    counter = metrics.counter("ssmd_test_frames", "{frame}", "Frames", [{"type": "trade"}])
    for number in range(MAX_SERIES + 100):
        counter.add(1, type=f"t{number}")

    samples = _samples(metrics)
    counted = [value for (name, _labels), value in samples.items() if name == "ssmd_test_frames_total"]
    assert len(counted) == MAX_SERIES + 1
    assert sum(counted) == MAX_SERIES + 100
    assert samples["ssmd_test_frames_total", (("type", "other"),)] == 101


def test_two_services_in_one_process_never_meet() -> None:
    one, other = Metrics("ssmd-one"), Metrics("ssmd-other")
    one.counter("ssmd_test_a", "1", "A").add(1)
    other.counter("ssmd_test_a", "1", "A")

    assert _samples(one)["ssmd_test_a_total", ()] == 1
    assert _samples(other)["ssmd_test_a_total", ()] == 0
    one.close()


def test_an_exemplar_filter_that_is_none_is_a_wrong_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXEMPLAR_FILTER", "foo")
    with pytest.raises(ConfigError, match="OTEL_METRICS_EXEMPLAR_FILTER: 'foo' is no filter"):
        Metrics("ssmd-test")
