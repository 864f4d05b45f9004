"""Writes Grafana's dashboard: from ``tests``, ``python -m integration.dashboard``, into ``dashboard.json``.

The panels are said here once, a line each; Grafana's JSON is what becomes of them.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

__all__ = ["dashboard"]

_WIDTH, _HEIGHT = 8, 7
_PER_ROW = 24 // _WIDTH
_SOURCE = {"type": "prometheus", "uid": "${source}"}


@dataclass(frozen=True, slots=True)
class Panel:
    """A graph: what it shows, in which of Grafana's units, and its queries with their legends."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    description: str = ""


def _rate(metric: str, *by: str) -> str:
    return f'sum by ({", ".join(("instance", *by))}) (rate({metric}{{job=~"$job"}}[$__rate_interval]))'


def _quantile(quantile: float, metric: str, *by: str) -> str:
    return f"histogram_quantile({quantile}, {_rate(metric + '_bucket', 'le', *by)})"


def _now(metric: str) -> str:
    return f'{metric}{{job=~"$job"}}'


ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "Connector: from the exchange to the stream",
        (
            Panel("Frames received", "cps", ((_rate("ssmd_connector_frames_received_total"), "{{instance}}"),)),
            Panel("Bytes received", "Bps", ((_rate("ssmd_connector_received_bytes_total"), "{{instance}}"),)),
            Panel(
                "Sending to PubAck",
                "s",
                (
                    (_quantile(0.5, "ssmd_connector_puback_latency_seconds"), "{{instance}} p50"),
                    (_quantile(0.99, "ssmd_connector_puback_latency_seconds"), "{{instance}} p99"),
                ),
            ),
            Panel(
                "Held: in flight and waiting",
                "short",
                (
                    (_now("ssmd_connector_window_depth"), "{{instance}} in flight"),
                    (_now("ssmd_connector_waiting"), "{{instance}} waiting"),
                ),
            ),
            Panel(
                "Held: memory and spool",
                "bytes",
                (
                    (_now("ssmd_connector_memory_size_bytes"), "{{instance}} memory"),
                    (_now("ssmd_connector_spool_size_bytes"), "{{instance}} spool"),
                ),
                "A spool above 0 means that JetStream is away. Nothing is lost until both are full.",
            ),
            Panel(
                "Refused and sent again",
                "cps",
                (
                    (_rate("ssmd_connector_publish_refusals_total", "reason"), "{{instance}} {{reason}}"),
                    (_rate("ssmd_connector_publish_retries_total"), "{{instance}} sent again"),
                ),
            ),
            Panel(
                "Connections lost, by cause",
                "cps",
                ((_rate("ssmd_connector_disconnects_total", "cause"), "{{instance}} {{cause}}"),),
            ),
            Panel(
                "The exchange's sequence",
                "cps",
                (
                    (_rate("ssmd_connector_exchange_gaps_total"), "{{instance}} gaps"),
                    (_rate("ssmd_connector_exchange_resyncs_total"), "{{instance}} resynced"),
                    (_rate("ssmd_connector_exchange_repeats_total"), "{{instance}} repeats"),
                ),
            ),
            Panel(
                "Frames out of the ordinary",
                "cps",
                (
                    (_rate("ssmd_connector_frames_unparsed_total"), "{{instance}} not JSON"),
                    (_rate("ssmd_connector_frames_unrouted_total"), "{{instance}} without a type"),
                    (_rate("ssmd_connector_frames_oversize_total"), "{{instance}} too large"),
                ),
            ),
        ),
    ),
    (
        "Archiver: from the stream to the disk",
        (
            Panel(
                "Lag",
                "short",
                ((_now("ssmd_archiver_lag"), "{{instance}}"),),
                "Messages of the stream that are not durable in the archive yet.",
            ),
            Panel(
                "Made durable, by what became of it",
                "cps",
                ((_rate("ssmd_archiver_messages_total", "kind"), "{{instance}} {{kind}}"),),
            ),
            Panel(
                "A block: compress, write, sync",
                "s",
                (
                    (_quantile(0.5, "ssmd_archiver_commit_duration_seconds"), "{{instance}} p50"),
                    (_quantile(0.99, "ssmd_archiver_commit_duration_seconds"), "{{instance}} p99"),
                ),
            ),
            Panel("Open segment spans", "s", ((_now("ssmd_archiver_unsealed_age_seconds"), "{{instance}}"),)),
            Panel(
                "Segments sealed, by reason",
                "cps",
                ((_rate("ssmd_archiver_segments_sealed_total", "reason"), "{{instance}} {{reason}}"),),
            ),
            Panel("Disk free", "bytes", ((_now("ssmd_archiver_disk_free_bytes"), "{{instance}}"),)),
            Panel(
                "Gaps recorded since the start, by layer",
                "short",
                ((_now("ssmd_archiver_gaps_total"), "{{instance}} {{layer}}"),),
                "Something is missing, or was learned to be. The API tells what: /gaps/{feed}",
            ),
            Panel(
                "Consumer made again",
                "cps",
                ((_rate("ssmd_archiver_consumer_restarts_total"), "{{instance}}"),),
            ),
            Panel("Raw bytes archived", "Bps", ((_rate("ssmd_archiver_raw_bytes_total"), "{{instance}}"),)),
        ),
    ),
    (
        "Manifest API",
        (
            Panel(
                "Requests, by status",
                "reqps",
                ((_rate("ssmd_api_requests_total", "status"), "{{instance}} {{status}}"),),
            ),
            Panel(
                "Duration p99, by route",
                "s",
                ((_quantile(0.99, "ssmd_api_request_duration_seconds", "route"), "{{instance}} {{route}}"),),
            ),
        ),
    ),
)


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS:
        panels.append(
            {
                "type": "row",
                "title": title,
                "collapsed": False,
                "panels": [],
                "id": len(panels) + 1,
                "gridPos": {"x": 0, "y": y, "w": 24, "h": 1},
            }
        )
        y += 1
        for index, panel in enumerate(row):
            x = index % _PER_ROW * _WIDTH
            panels.append(_graph(panel, len(panels) + 1, x, y + index // _PER_ROW * _HEIGHT))
        y += -(-len(row) // _PER_ROW) * _HEIGHT
    return {
        "title": "ssmd",
        "uid": "ssmd",
        "tags": ["ssmd"],
        "editable": True,
        "timezone": "utc",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "schemaVersion": 39,
        "templating": {"list": [_source_variable(), _job_variable()]},
        "panels": panels,
    }


def _graph(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    return {
        "type": "timeseries",
        "id": number,
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "gridPos": {"x": x, "y": y, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + index), "expr": query, "legendFormat": legend, "datasource": _SOURCE}
            for index, (query, legend) in enumerate(panel.queries)
        ],
    }


def _source_variable() -> dict[str, Any]:
    return {"name": "source", "label": "Data source", "type": "datasource", "query": "prometheus"}


def _job_variable() -> dict[str, Any]:
    query = "label_values(up, job)"
    return {
        "name": "job",
        "label": "Job",
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": "job"},
        "definition": query,
        "regex": "/ssmd.*/",
        "includeAll": True,
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
        "refresh": 2,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(dashboard(), indent=2) + "\n")
