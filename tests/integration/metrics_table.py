"""Writes ``docs/metrics.md``: ``python -m integration.metrics_table > ../docs/metrics.md``, from ``tests``.

The table is made of what the services declare; a test holds the file to it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from prometheus_client import Metric

from ssmd_archiver.metrics import ArchiverMetrics
from ssmd_common.service.telemetry import Metrics
from ssmd_connector.metrics import ConnectorMetrics
from ssmd_manifest_api.measure import Traffic

__all__ = ["exposed_names", "families", "table"]

_DECLARE: dict[str, Callable[[Metrics], object]] = {
    "ssmd-connector": ConnectorMetrics,
    "ssmd-archiver": ArchiverMetrics,
    "ssmd-manifest-api": Traffic,
}
_HEAD = """# Metrics

Every series of every service, at `/metrics` and by OTLP where `OTEL_EXPORTER_OTLP_ENDPOINT` names a collector
(OTLP over HTTP; OpenTelemetry's other variables apply). All are there at 0 from the start, so that what never
happened can be told from what is not measured; by OTLP a histogram appears with its first value. OTLP names leave
out what Prometheus adds: the unit and `_total`.

This page is made of the code: `python -m integration.metrics_table > ../docs/metrics.md`, from `tests`. What to
alert on is in [deploy/grafana/alerts.yaml](../deploy/grafana/alerts.yaml), what to do then in
[operations.md](operations.md).
"""


def families() -> dict[str, list[Metric]]:
    """Return what each service exposes before anything has happened, by name."""
    found: dict[str, list[Metric]] = {}
    for service, declare in _DECLARE.items():
        metrics = Metrics(service)
        declare(metrics)
        own = [family for family in metrics.collect() if family.name.startswith("ssmd_")]
        found[service] = sorted(own, key=lambda family: family.name)
    return found


def exposed_names(family: Metric) -> set[str]:
    """Return the names under which Prometheus finds a metric's series."""
    return {sample.name for sample in family.samples}


def table() -> str:
    """Return the page."""
    parts = [_HEAD]
    for service, own in families().items():
        parts.append(f"\n## {service}\n\n| metric | kind | labels | |\n|---|---|---|---|\n")
        for family in own:
            name = family.name + ("_total" if family.type == "counter" else "")
            parts.append(f"| `{name}` | {family.type} | {_labels(family)} | {family.documentation} |\n")
    return "".join(parts)


def _labels(family: Metric) -> str:
    values: dict[str, set[str]] = {}
    for sample in family.samples:
        for label, value in sample.labels.items():
            if label != "le":
                values.setdefault(label, set()).add(value)
    # A label with one value known beforehand takes others as they come.
    told = [
        f"`{label}`" + (f": {', '.join(sorted(known))}" if len(known) > 1 else "")
        for label, known in values.items()
    ]
    return "; ".join(told)


if __name__ == "__main__":
    sys.stdout.write(table())
