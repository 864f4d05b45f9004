"""Pushing metrics by OTLP, where the environment names a collector.

OpenTelemetry's own variables say where and how: ``OTEL_EXPORTER_OTLP_ENDPOINT`` (or ``…_METRICS_ENDPOINT``),
``…_HEADERS``, ``…_CERTIFICATE``, ``…_TIMEOUT``, ``OTEL_METRIC_EXPORT_INTERVAL``, ``OTEL_RESOURCE_ATTRIBUTES``.
``OTEL_SDK_DISABLED=true`` ends the pushing.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from ssmd_common.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.sdk.metrics.export import MetricReader

__all__ = ["otlp_readers"]

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"
_DISABLED = "OTEL_SDK_DISABLED"
_HEADERS = ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
_HEADER = re.compile(r"[!#-'*+.0-9A-Z^-z|~-]+[ \t]*=[ \t!#-+\--:<-\[\]-~]*")
"""What OpenTelemetry takes; anything else it writes to the log, with the secret that is in it."""


def otlp_readers(environ: Mapping[str, str] = os.environ) -> list[MetricReader]:
    """Return what pushes a service's metrics: one reader where a collector is named and not disabled.

    A collector that is away costs lines in the log at each attempt, and the service nothing but up to three seconds
    at its end.

    Raises:
        ConfigError: The endpoint is no HTTP address, another protocol is asked for, a header is none, or an
            interval of nothing.
    """
    named = [(name, environ[name]) for name in _ENDPOINTS if environ.get(name)]
    if not named or environ.get(_DISABLED, "").strip().lower() == "true":
        return []
    name, endpoint = named[0]
    if not endpoint.startswith(("http://", "https://")):
        raise ConfigError(
            "is no address of a collector", field=name, remedy="write it as http://host:4318 (OTLP over HTTP)"
        )
    # As for the endpoint, the variable for metrics stands before the general one, and an empty one counts as none.
    protocol = next((name for name in _PROTOCOLS if environ.get(name)), None)
    if protocol is not None and environ[protocol] != _PROTOCOL:
        raise ConfigError(
            f"{environ[protocol]!r} is not spoken here", field=protocol, remedy=f"leave it out, or say {_PROTOCOL}"
        )
    for name in _HEADERS:
        headers = [header.strip() for header in environ.get(name, "").split(",")]
        if not all(_HEADER.fullmatch(header) for header in headers if header):
            raise ConfigError(
                "is no list of headers", field=name, remedy="write NAME=VALUE, several separated by commas"
            )
    # Here, since a service that pushes nothing should not wait for these to load.
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415 - see above
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415 - see above

    try:
        return [PeriodicExportingMetricReader(OTLPMetricExporter())]
    except ValueError as error:
        raise ConfigError(
            "is no time to wait", field="OTEL_METRIC_EXPORT_INTERVAL", remedy="give milliseconds, such as 60000"
        ) from error
