"""The application: one archive, its routes, and what it tells of itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from fastapi import APIRouter, FastAPI, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from ssmd_common.archive.store import LocalStore
from ssmd_common.config.calendar import Calendar
from ssmd_common.service.health import Health
from ssmd_common.service.telemetry import CONTENT_TYPE, Metrics
from ssmd_manifest_api import certificates, downloads, pages, records_routes, routes
from ssmd_manifest_api.auth import Guard
from ssmd_manifest_api.catalog import Catalog
from ssmd_manifest_api.config import ApiConfig
from ssmd_manifest_api.examples import install_examples
from ssmd_manifest_api.express import Express
from ssmd_manifest_api.measure import MeasuredApp, Traffic
from ssmd_manifest_api.openapi_security import install_security
from ssmd_manifest_api.problems import install_problems
from ssmd_manifest_api.readable import ReadableStore
from ssmd_manifest_api.scope import ScopedStore
from ssmd_manifest_api.security import SecuredApp

__all__ = ["SERVICE", "create_app"]

SERVICE = "ssmd-manifest-api"

_EXPOSED = (
    "Accept-Ranges",
    "Content-Disposition",
    "Content-Range",
    "ETag",
    "Last-Modified",
    "Link",
    "Ssmd-Gaps",
    "Ssmd-Next-Epoch",
    "Ssmd-Next-Seq",
)
"""Headers a page of another origin may read."""

_DESCRIPTION = """What an archive of market data holds and what it misses: manifests, files and gaps, read-only.

Times are RFC 3339 UTC, ranges half-open, empty lists `[]`. Problems are documents of RFC 9457.
Where the server knows tokens, send one as `Authorization: Bearer TOKEN`; without, the answer is 401."""


def create_app(
    data: Path,
    *,
    metrics: Metrics,
    config: ApiConfig | None = None,
    calendars: Mapping[str, Calendar] | None = None,
    clock_ns: Callable[[], int] = time.time_ns,
) -> FastAPI:
    """Make the application.

    Args:
        data: The archive's base folder; it may come to be later.
        metrics: Where requests are counted.
        config: Who may read what; everybody everything by default.
        calendars: When silence is expected, by feed.
        clock_ns: The time now, nanoseconds since the epoch.
    """
    config = config or ApiConfig()
    app = FastAPI(
        title="ssmd manifest API",
        summary="What was captured, and what is missing",
        description=_DESCRIPTION,
        version="1",
        docs_url=None,
        redoc_url=None,
    )
    traffic = Traffic(metrics)
    store = ReadableStore(LocalStore(data, on_escape=lambda: traffic.escaped("link")))
    catalog = Catalog(store, clock_ns=clock_ns, calendars=calendars)
    guard = Guard(config.tokens)
    health = Health(SERVICE)
    health.ready.check("archive", catalog.why_not_ready)
    app.state.catalog = catalog
    app.state.catalogs = {
        grant: catalog if grant.feeds is None else catalog.over(ScopedStore(store, grant.feeds))
        for grant in guard.grants
    }
    app.state.express = Express(catalog, guard, traffic, cors=bool(config.cors_origins))
    install_problems(app, page=pages.problem_page)
    service = _service_router(health, metrics)
    for router in (
        routes.router,
        certificates.router,
        downloads.router,
        records_routes.router,
        pages.router,
        service,
    ):
        app.include_router(router)
        app.include_router(_heads(router))
    install_examples(app)
    if not guard.open:
        install_security(app)
    app.add_middleware(SecuredApp, guard=guard, traffic=traffic)
    if config.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=config.cors_origins,
            allow_methods=["GET", "HEAD"],
            allow_headers=["Authorization", "If-None-Match", "If-Range", "Range"],
            expose_headers=_EXPOSED,
        )
    app.add_middleware(MeasuredApp, traffic=traffic)
    return app


def _service_router(health: Health, metrics: Metrics) -> APIRouter:
    router = APIRouter(tags=["service"])

    @router.get("/health")
    async def get_health() -> JSONResponse:
        """Tell whether the process is well; 503 when restarting it is the remedy."""
        status, document = health.health_answer()
        return JSONResponse(document, status)

    @router.get("/ready", responses={503: {"description": "The archive cannot be read; the answer says why"}})
    async def get_ready() -> JSONResponse:
        """Tell whether the archive can be read."""
        status, document = health.ready_answer()
        return JSONResponse(document, status)

    @router.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {CONTENT_TYPE.partition(";")[0]: {"schema": {"type": "string"}}}}},
    )
    async def get_metrics() -> Response:
        """Return the metrics in Prometheus' text format."""
        return Response(metrics.exposition(), media_type=CONTENT_TYPE)

    return router


def _heads(router: APIRouter) -> APIRouter:
    """Answer HEAD wherever GET is answered; the server leaves the body out."""
    heads = APIRouter(include_in_schema=False)
    for route in router.routes:
        if isinstance(route, APIRoute):
            heads.add_api_route(
                route.path,
                route.endpoint,
                methods=["HEAD"],
                response_model=None,
                response_class=route.response_class,
                route_class_override=type(route),
            )
    return heads
