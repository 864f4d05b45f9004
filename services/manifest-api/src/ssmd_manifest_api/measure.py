"""Counts requests and how long they took, by route and status."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ssmd_common.service.telemetry import CounterSeries, Metrics

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["MeasuredApp", "Traffic"]

_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_NO_ROUTE = "none"


class Traffic:
    """The instruments that requests are measured with.

    Args:
        metrics: Where to declare them.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._requests = metrics.counter(
            "ssmd_api_requests",
            "1",
            "Requests answered, by route and status",
            [{"route": "/manifests", "status": "200"}],
        )
        self._escapes = metrics.counter(
            "ssmd_api_traversal_attempts",
            "1",
            "Attempts to leave the archive: a request's path, or a link in the archive that leads outside",
            [{"kind": "path"}, {"kind": "link"}],
        )
        self._seconds = metrics.histogram(
            "ssmd_api_request_duration",
            "s",
            "Time until the last byte of an answer was handed over, by route; not of those answered from memory",
            bounds=_BOUNDS_S,
            attributes=[{"route": "/manifests"}],
        )

    def escaped(self, kind: str) -> None:
        """Count an attempt to leave the archive: a ``path``, or a ``link`` inside of it."""
        self._escapes.add(kind=kind)

    def answered_from_memory(self, route: str, status: int) -> CounterSeries:
        """Return the count of such answers: to time each would take longer than to make it."""
        return self._requests.labelled(route=route, status=str(status))

    def record(self, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self._requests.add(route=route, status=str(status))
        self._seconds.record(seconds, route=route)


class MeasuredApp:
    """An ASGI application around another that measures it.

    Args:
        app: The application inside.
        traffic: What to measure with.
    """

    def __init__(self, app: ASGIApp, *, traffic: Traffic) -> None:
        self._app = app
        self._traffic = traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, observed)
        finally:
            # The router leaves the route it took in the scope; an unknown path counts as one, whatever it is.
            route = getattr(scope.get("route"), "path", _NO_ROUTE)
            self._traffic.record(route, status, time.perf_counter() - started)
