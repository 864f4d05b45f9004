"""What a service counts: OpenTelemetry instruments, read by Prometheus at ``/metrics``.

A service declares every instrument once, with all the label sets it knows, and each is in the exposition at 0
from the start: a counter that first appears with its first failure cannot be alerted on. Counting is an addition
to a Python number; OpenTelemetry reads the numbers only when somebody asks::

    metrics = Metrics("ssmd-archiver")
    records = metrics.counter("ssmd_archiver_records", "{record}", "Records written durably")
    rolls = metrics.counter("ssmd_archiver_rolls", "{segment}", "Segments sealed", [{"reason": "window"}])
    records.add(4096)
    rolls.labelled(reason="window").add()

Names stand whole (``ssmd_<service>_<thing>``). The exposition adds the unit (``s`` → ``_seconds``, ``By`` →
``_bytes``; units in braces add nothing) and ``_total`` to counters. One event loop feeds a ``Metrics``.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

import structlog
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Observation
from opentelemetry.sdk.environment_variables import OTEL_METRICS_EXEMPLAR_FILTER, OTEL_SDK_DISABLED
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import HistogramMetricFamily

from ssmd_common.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from opentelemetry.metrics import CallbackOptions
    from opentelemetry.metrics import Histogram as OtelHistogram
    from opentelemetry.sdk.metrics.export import MetricReader

__all__ = ["CONTENT_TYPE", "MAX_SERIES", "Counter", "Gauge", "Histogram", "Metrics"]

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
"""The media type of :meth:`Metrics.exposition`."""

MAX_SERIES = 500
"""Label sets an instrument holds; later ones are counted under ``other``, so that an exchange which invents message
types cannot grow the process."""

log = structlog.get_logger()

_CLOSE_MS = 3_000
_EXEMPLAR_FILTERS = ("always_off", "always_on", "trace_based")
_OTHER = "other"
_EXPOSED_UNITS = {"s": "seconds", "By": "bytes"}
_ONE_WITHOUT_LABELS: Sequence[Mapping[str, str]] = ({},)


class CounterSeries:
    """One counter at one label set."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def add(self, amount: float = 1) -> None:
        """Count ``amount`` more, which is never negative."""
        self.value += amount

    def read(self) -> float:
        """Return the count since the process started."""
        return self.value


class GaugeSeries:
    """One gauge at one label set: set to a value, or observed through a function."""

    __slots__ = ("_observe", "value")

    def __init__(self) -> None:
        self.value: float = 0
        self._observe: Callable[[], float] | None = None

    def set(self, value: float) -> None:
        """Make this the gauge's value."""
        self.value = value

    def observe(self, read: Callable[[], float]) -> None:
        """Ask ``read`` for the value whenever somebody reads the metrics."""
        self._observe = read

    def read(self) -> float:
        """Return the value now."""
        return self.value if self._observe is None else self._observe()


_SeriesT = TypeVar("_SeriesT", CounterSeries, GaugeSeries)


class _Labelled(Generic[_SeriesT]):
    """The series of one instrument, by label set."""

    def __init__(self, name: str, kind: type[_SeriesT], attributes: Sequence[Mapping[str, str]]) -> None:
        self._name = name
        self._kind: Callable[[], _SeriesT] = kind
        self._keys = _label_keys(name, attributes)
        self._series: dict[tuple[str, ...], _SeriesT] = {}
        for labels in attributes:
            self.labelled(**labels)

    def labelled(self, **labels: str) -> _SeriesT:
        """Return the series of these labels, to be held where it is counted often.

        Raises:
            ValueError: The label names differ from those the instrument was declared with.
        """
        if sorted(labels) != self._keys:
            raise ValueError(f"{self._name} has the labels {self._keys}, not {sorted(labels)}")
        values = tuple(labels[key] for key in self._keys)
        if values not in self._series and len(self._series) >= MAX_SERIES:
            values = (_OTHER,) * len(values)
        return self._series.setdefault(values, self._kind())

    def observations(self, _options: CallbackOptions) -> Iterable[Observation]:
        """Hand every series to OpenTelemetry; called when somebody reads the metrics."""
        # A copy, since whoever reads may be a thread of its own.
        for values, series in list(self._series.items()):
            yield Observation(series.read(), dict(zip(self._keys, values, strict=True)))


class Counter(_Labelled[CounterSeries]):
    """A number that only grows."""

    def add(self, amount: float = 1, **labels: str) -> None:
        """Count ``amount`` more at these labels; batches add once."""
        self.labelled(**labels).add(amount)


class Gauge(_Labelled[GaugeSeries]):
    """A number that goes up and down."""

    def set(self, value: float, **labels: str) -> None:
        """Make this the value at these labels."""
        self.labelled(**labels).set(value)

    def observe(self, read: Callable[[], float], **labels: str) -> None:
        """Ask ``read`` for the value at these labels whenever somebody reads the metrics."""
        self.labelled(**labels).observe(read)


class Histogram:
    """How values spread over buckets: once a batch, a flush or a request, not once a message."""

    def __init__(
        self,
        name: str,
        instrument: OtelHistogram,
        bounds: Sequence[float],
        attributes: Sequence[Mapping[str, str]],
    ) -> None:
        self._name = name
        self._keys = _label_keys(name, attributes)
        self._instrument = instrument
        self._unseen = {tuple(labels[key] for key in self._keys) for labels in attributes}
        self._empty_buckets = [(bucket, 0.0) for bucket in (*(f"{bound}" for bound in bounds), "+Inf")]

    def record(self, value: float, **labels: str) -> None:
        """Count one value at these labels.

        Raises:
            ValueError: The label names differ from those the instrument was declared with.
        """
        if sorted(labels) != self._keys:
            raise ValueError(f"{self._name} has the labels {self._keys}, not {sorted(labels)}")
        self._unseen.discard(tuple(labels[key] for key in self._keys))
        self._instrument.record(value, labels)

    def add_unseen(self, family: HistogramMetricFamily) -> None:
        """Put the declared label sets that hold no value yet into the exposition, at 0.

        OpenTelemetry cannot show a histogram before its first value.
        """
        for values in sorted(self._unseen):
            family.add_metric(values, self._empty_buckets, 0)

    def empty_family(self, name: str, description: str, unit: str) -> HistogramMetricFamily:
        """Return the exposition's entry for this histogram before any value."""
        return HistogramMetricFamily(name, description, labels=self._keys, unit=unit)


class Metrics:
    """All instruments of one service, in a registry of its own: two in one process (as in tests) never meet.

    Args:
        service: The name of the service, such as ``ssmd-connector``.
        readers: Further OpenTelemetry readers beside the Prometheus one (:func:`~.otlp.otlp_readers`).

    Raises:
        ConfigError: ``OTEL_METRICS_EXEMPLAR_FILTER`` names no filter.
    """

    def __init__(self, service: str, *, readers: Sequence[MetricReader] = ()) -> None:
        exemplars = os.environ.get(OTEL_METRICS_EXEMPLAR_FILTER, _EXEMPLAR_FILTERS[0])
        if exemplars not in _EXEMPLAR_FILTERS:
            raise ConfigError(
                f"{exemplars!r} is no filter",
                field=OTEL_METRICS_EXEMPLAR_FILTER,
                remedy=f"leave it out, or use one of {', '.join(_EXEMPLAR_FILTERS)}",
            )
        self._registry = CollectorRegistry()
        self._histograms: dict[str, tuple[Histogram, str]] = {}
        prometheus = PrometheusMetricReader(scope_info_enabled=False, registry=self._registry)
        with _sdk_enabled():
            self._provider = MeterProvider(
                metric_readers=[prometheus, *readers],
                resource=OTELResourceDetector().detect().merge(Resource({"service.name": service})),
                shutdown_on_exit=False,
            )
        self._meter = self._provider.get_meter(service)

    def counter(
        self,
        name: str,
        unit: str,
        description: str,
        attributes: Sequence[Mapping[str, str]] = _ONE_WITHOUT_LABELS,
    ) -> Counter:
        """Declare a counter, at 0 for each of the given label sets."""
        counter = Counter(name, CounterSeries, attributes)
        self._meter.create_observable_counter(name, [counter.observations], unit, description)
        return counter

    def gauge(
        self,
        name: str,
        unit: str,
        description: str,
        attributes: Sequence[Mapping[str, str]] = _ONE_WITHOUT_LABELS,
    ) -> Gauge:
        """Declare a gauge, at 0 for each of the given label sets until it is set or observed."""
        gauge = Gauge(name, GaugeSeries, attributes)
        self._meter.create_observable_gauge(name, [gauge.observations], unit, description)
        return gauge

    def histogram(
        self,
        name: str,
        unit: str,
        description: str,
        *,
        bounds: Sequence[float],
        attributes: Sequence[Mapping[str, str]] = _ONE_WITHOUT_LABELS,
    ) -> Histogram:
        """Declare a histogram whose buckets end at ``bounds`` (in ``unit``, ascending)."""
        instrument = self._meter.create_histogram(
            name, unit, description, explicit_bucket_boundaries_advisory=list(bounds)
        )
        histogram = Histogram(name, instrument, bounds, attributes)
        family = histogram.empty_family(name, description, _EXPOSED_UNITS.get(unit, ""))
        self._histograms[family.name] = (histogram, description)
        return histogram

    def exposition(self) -> bytes:
        """Return every instrument in the Prometheus text format, of :data:`CONTENT_TYPE`."""
        return generate_latest(self)

    def collect(self) -> Iterator[Metric]:
        """Yield every instrument as Prometheus sees it (the ``Collector`` protocol of ``prometheus_client``)."""
        unseen = dict(self._histograms)
        for family in self._registry.collect():
            if isinstance(family, HistogramMetricFamily) and family.name in unseen:
                histogram, _description = unseen.pop(family.name)
                histogram.add_unseen(family)
            yield family
        for name, (histogram, description) in unseen.items():
            family = histogram.empty_family(name, description, "")
            histogram.add_unseen(family)
            yield family

    def close(self) -> None:
        """Push a last time where a collector is named, and stop the readers; the exposition is empty afterwards."""
        try:
            self._provider.shutdown(timeout_millis=_CLOSE_MS)
        except Exception as error:  # noqa: BLE001 - whatever a reader cannot do, the service has done its work
            log.warning("metrics_not_pushed", error=str(error))


@contextmanager
def _sdk_enabled() -> Iterator[None]:
    """Leave ``OTEL_SDK_DISABLED`` aside: it ends the pushing alone, since alerts rest on ``/metrics``."""
    told = os.environ.pop(OTEL_SDK_DISABLED, None)
    try:
        yield
    finally:
        if told is not None:
            os.environ[OTEL_SDK_DISABLED] = told


def _label_keys(name: str, attributes: Sequence[Mapping[str, str]]) -> list[str]:
    keys = {tuple(sorted(labels)) for labels in attributes}
    if len(keys) != 1:
        raise ValueError(f"{name} needs one set of label names, not {sorted(keys)}")
    return list(keys.pop())
