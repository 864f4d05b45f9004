"""The pages for people: rendered on the server, without scripts and without anything from outside."""

from __future__ import annotations

import calendar
import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlencode

import structlog
from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from ssmd_common.archive.times import from_rfc3339
from ssmd_common.errors import ArchiveError
from ssmd_manifest_api import pages_assets
from ssmd_manifest_api.catalog import Catalog, Day, OpenSegment
from ssmd_manifest_api.certificates import certificate_of
from ssmd_manifest_api.explanations import ANOMALIES
from ssmd_manifest_api.filters import GapFilter
from ssmd_manifest_api.gaps import gaps_of_day
from ssmd_manifest_api.lookup import CatalogDep, known_day, known_feed
from ssmd_manifest_api.pages_render import render
from ssmd_manifest_api.parameters import DatePath, FeedPath
from ssmd_manifest_api.view_calendar import ADVICE, MEANINGS, calendar_of, trouble
from ssmd_manifest_api.view_certificate import CertificateView, certificate_view
from ssmd_manifest_api.view_day import day_view
from ssmd_manifest_api.view_docs import sections
from ssmd_manifest_api.view_feed import FeedView, feed_view
from ssmd_manifest_api.view_problem import nearest_links

__all__ = ["problem_page", "router"]

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
router.include_router(pages_assets.router)

log = structlog.get_logger()

_MOST_TROUBLE = 30
_CERTIFIED_FILES = 288
_WEEKDAYS = [(name, name[:2]) for name in calendar.day_name]

PageQuery = Annotated[int, Query(ge=1, le=1_000_000)]


@router.get("/")
def feeds(catalog: CatalogDep) -> Response:
    """Show the feeds and how fresh they are."""
    views = [_feed(catalog, feed, catalog.days(feed, fill=True)) for feed in catalog.feeds()]
    return render("feeds.html", here="archive", feeds=views, not_ready=catalog.why_not_ready(), meanings=MEANINGS)


@router.get("/feeds")
def feeds_folder() -> Response:
    """Lead who shortens an address to the feeds."""
    return RedirectResponse("/")


@router.get("/feeds/{feed}")
def feed(
    catalog: CatalogDep, feed: FeedPath, year: Annotated[int | None, Query(ge=1970, le=9999)] = None
) -> Response:
    """Show a feed's days as a calendar."""
    known_feed(catalog, feed)
    days = catalog.days(feed, fill=True)
    return render(
        "feed.html",
        here="archive",
        feed=_feed(catalog, feed, days),
        calendar=calendar_of(feed, days, year),
        trouble=trouble(feed, days),
        most=_MOST_TROUBLE,
        meanings=MEANINGS,
        weekdays=_WEEKDAYS,
    )


@router.get("/feeds/{feed}/{date}")
def day(
    request: Request,
    catalog: CatalogDep,
    feed: FeedPath,
    date: DatePath,
    *,
    view: Literal["day"] | None = None,
    gaps: PageQuery = 1,
    files: PageQuery = 1,
    live: Annotated[bool, Query()] = False,
) -> Response:
    """Show a day: to scale, its gaps explained, its files to download."""
    known_feed(catalog, feed)
    days = {day.date: day for day in catalog.days(feed, fill=True)}
    if date not in days:
        known_day(catalog, feed, date)
    found = days[date]
    manifest, slices, certificate, remedy = None, [], None, ""
    try:
        manifest, slices = catalog.manifest(feed, date), catalog.slices(feed, date)
        certificate = _certificate(catalog, feed, date)
    except ArchiveError as error:
        # The verdict says what is damaged; the page shows what can be read without it.
        remedy = error.remedy
    found_gaps = gaps_of_day(catalog, feed, date, GapFilter())
    shown = day_view(
        feed,
        date,
        found.verdict,
        manifest=manifest,
        gaps=found_gaps.gaps,
        opened=_opened(catalog, feed, date),
        slices=slices,
        now_ns=catalog.now_ns(),
        whole=view == "day",
        gaps_page=gaps,
        files_page=files,
    )
    path = f"/feeds/{quote(feed)}/{date.isoformat()}"
    one = dt.timedelta(days=1)

    def here_url(**changes: object) -> str:
        query = {**request.query_params, **changes}
        kept = urlencode({name: str(value) for name, value in query.items() if value is not None})
        return f"{path}?{kept}" if kept else path

    return render(
        "day.html",
        here="archive",
        day=shown,
        live=live and shown.live,
        meaning=MEANINGS[found.verdict.condition],
        advice=ADVICE[found.verdict.condition],
        reasons=[reason for reason in found.verdict.reasons if reason.gap_id is None],
        before=date - one if date - one in days else None,
        after=date + one if date + one in days else None,
        feed_url=f"/feeds/{quote(feed)}",
        json_url=f"/manifests/{quote(feed)}/{date.isoformat()}",
        here_url=here_url,
        gaps_url=lambda page: here_url(gaps=page),
        files_url=lambda page: here_url(files=page),
        base_url=str(request.base_url).rstrip("/"),
        certificate=certificate,
        has_manifest=manifest is not None,
        complete_through=found.complete_through,
        anomalies=ANOMALIES,
        unreadable=found_gaps.unreadable,
        remedy=remedy,
    )


@router.get("/docs")
def docs(request: Request, catalog: CatalogDep) -> Response:
    """Show the routes, from the OpenAPI document, with requests that work on this archive."""
    document: dict[str, Any] = request.app.openapi()
    return render(
        "docs.html",
        here="docs",
        info=document["info"],
        sections=sections(document, base_url=str(request.base_url).rstrip("/"), known=_known_values(catalog)),
    )


def problem_page(problem: Mapping[str, Any]) -> HTMLResponse:
    """Return a problem document as a page."""
    nearest = nearest_links(problem["instance"], problem.get("nearest") or [])
    return render(
        "problem.html", status=problem["status"], here="", problem={"errors": [], **problem}, nearest=nearest
    )


def _feed(catalog: Catalog, name: str, days: list[Day]) -> FeedView:
    newest = [part.last_ns for part in _opened(catalog, name, days[-1].date) if part.last_ns is not None]
    sealed = next((day.complete_through for day in reversed(days) if day.complete_through), None)
    if sealed is not None:
        newest.append(from_rfc3339(sealed))
    return feed_view(name, days, newest_ns=max(newest, default=None), now_ns=catalog.now_ns())


def _certificate(catalog: Catalog, feed: str, date: dt.date) -> CertificateView | None:
    """Return a day's certificate; None for a day without files, or with so many that a page should not wait for it.

    Raises:
        ArchiveError: The manifest is damaged, or an index is not the one it lists.
    """
    manifest, file = catalog.manifest(feed, date), catalog.manifest_file(feed, date)
    if manifest is None or file is None or not 0 < len(manifest.files) <= _CERTIFIED_FILES:
        return None
    return certificate_view(certificate_of(catalog, feed, date, file))


def _opened(catalog: Catalog, feed: str, date: dt.date) -> list[OpenSegment]:
    """Return a day's open segments; none where a journal is damaged, for a page tells what can be read."""
    try:
        return catalog.open_segments(feed, date)
    except ArchiveError as error:
        log.warning("archive_damaged", where=error.where, problem=error.problem)
        return []


def _known_values(catalog: Catalog) -> dict[str, str]:
    """Return a feed, a day and a file of the archive, for examples that work."""
    for feed in catalog.feeds():
        for date in reversed(catalog.dates(feed)):
            names = catalog.file_names(feed, date)
            if names:
                return {"feed": feed, "date": date.isoformat(), "name": names[0]}
    return {}
