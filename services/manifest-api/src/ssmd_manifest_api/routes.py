"""The routes for programs: manifests, files, gaps and conditions."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from ssmd_common.archive.manifest import FileEntry, Manifest
from ssmd_common.archive.times import to_rfc3339
from ssmd_manifest_api import models
from ssmd_manifest_api.catalog import Catalog, Day
from ssmd_manifest_api.condition import Reason
from ssmd_manifest_api.conditional import REVALIDATE, not_modified, validators
from ssmd_manifest_api.conditional_route import ConditionalRoute
from ssmd_manifest_api.filters import DayFilter, GapFilter, SegmentFilter
from ssmd_manifest_api.gaps import FoundGaps, gaps_of_day, gaps_of_feed
from ssmd_manifest_api.lookup import CatalogDep, known_day, known_feed, known_manifest, open_document
from ssmd_manifest_api.paging import DAYS, FILES, GAPS
from ssmd_manifest_api.parameters import (
    DEFAULT_LIMIT,
    ConditionQuery,
    DatePath,
    DaysCursor,
    FeedPath,
    FilesCursor,
    FromQuery,
    GapsCursor,
    LayerQuery,
    LimitQuery,
    StatusQuery,
    TickerQuery,
    ToQuery,
    TypeQuery,
    known_parameters,
)
from ssmd_manifest_api.problems import PROBLEM_RESPONSES

__all__ = ["feed_entries", "router"]

router = APIRouter(route_class=ConditionalRoute, dependencies=[Depends(known_parameters)])

_NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "Unchanged since the given ETag"}}


def _time(ns: int | None) -> str | None:
    return None if ns is None else to_rfc3339(ns)


def _reasons(reasons: tuple[Reason, ...]) -> list[models.ReasonEntry]:
    return [
        models.ReasonEntry(
            code=reason.code,
            text=reason.text,
            gap_id=reason.gap_id,
            start=_time(reason.start_ns),
            end=_time(reason.end_ns),
        )
        for reason in reasons
    ]


def feed_entries(catalog: Catalog) -> list[models.FeedEntry]:
    """Return every feed and how it stands, by name."""
    entries: list[models.FeedEntry] = []
    for feed in catalog.feeds():
        days = catalog.days(feed)
        if days:
            entries.append(_feed_entry(feed, days))
    return entries


def _feed_entry(feed: str, days: list[Day]) -> models.FeedEntry:
    return models.FeedEntry(
        feed=feed,
        days=len(days),
        first_date=days[0].date,
        last_date=days[-1].date,
        records=sum(day.records for day in days),
        bytes=sum(day.bytes for day in days),
        compressed_bytes=sum(day.compressed_bytes for day in days),
        gaps=sum(day.gaps for day in days),
        condition=days[-1].verdict.condition,
        complete_through=days[-1].complete_through,
        url=f"/manifests/{quote(feed)}",
    )


@router.get("/manifests", tags=["manifests"], response_model=models.FeedList)
def list_manifests(catalog: CatalogDep) -> Response:
    """List the feeds of the archive."""
    return _json(models.FeedList(feeds=feed_entries(catalog)))


@router.get("/manifests/{feed}", tags=["manifests"], response_model=models.FeedDays, responses=PROBLEM_RESPONSES)
def list_days(
    catalog: CatalogDep,
    feed: FeedPath,
    conditions: ConditionQuery = [],  # noqa: B006 - never changed; a query default must be a value
    from_ns: FromQuery = None,
    to_ns: ToQuery = None,
    limit: LimitQuery = DEFAULT_LIMIT,
    cursor: DaysCursor = None,
) -> Response:
    """List a feed's days, oldest first: size and condition."""
    known_feed(catalog, feed)
    wanted = DayFilter(conditions=conditions, from_ns=from_ns, to_ns=to_ns)
    found = (day for day in catalog.days(feed) if wanted.wants(day.date, day.verdict.condition))
    days, following = DAYS.page(found, cursor=cursor, limit=limit)
    return _json(models.FeedDays(feed=feed, days=[_day_entry(feed, day) for day in days], next=following))


def _day_entry(feed: str, day: Day) -> models.DayEntry:
    return models.DayEntry(
        date=day.date,
        condition=day.verdict.condition,
        reasons=_reasons(day.verdict.reasons),
        records=day.records,
        bytes=day.bytes,
        compressed_bytes=day.compressed_bytes,
        files=day.files,
        gaps=day.gaps,
        complete_through=day.complete_through,
        last_modified=_time(day.modified_ns),
        url=f"/manifests/{quote(feed)}/{day.date.isoformat()}",
    )


@router.get(
    "/manifests/{feed}/{date}",
    tags=["manifests"],
    response_model=Manifest,
    responses={**PROBLEM_RESPONSES, **_NOT_MODIFIED},
)
def get_manifest(request: Request, catalog: CatalogDep, feed: FeedPath, date: DatePath) -> Response:
    """Return a day's manifest: the bytes of the archive's file.

    Answers 304 where `If-None-Match` names its ETag. Before the day's first segment is sealed there is none: 404
    of type `urn:ssmd:problem:pending`, with what is durable so far.
    """
    manifest = known_manifest(catalog, feed, date)
    headers = validators(manifest.etag, manifest.modified_ns, REVALIDATE)
    if not_modified(request.headers, manifest.etag):
        return Response(status_code=304, headers=headers)
    return Response(manifest.data, headers=headers, media_type="application/json")


@router.get("/files/{feed}/{date}", tags=["files"], response_model=models.FileList, responses=PROBLEM_RESPONSES)
def list_files(
    catalog: CatalogDep,
    feed: FeedPath,
    date: DatePath,
    types: TypeQuery = [],  # noqa: B006 - never changed; a query default must be a value
    tickers: TickerQuery = [],  # noqa: B006 - as above
    from_ns: FromQuery = None,
    to_ns: ToQuery = None,
    limit: LimitQuery = DEFAULT_LIMIT,
    cursor: FilesCursor = None,
) -> Response:
    """List a day's segments in the order of the stream; filters keep those that may hold what is asked for."""
    known_day(catalog, feed, date)
    wanted = SegmentFilter(types=types, tickers=tickers, from_ns=from_ns, to_ns=to_ns)
    files, following = FILES.page(catalog.segments(feed, date, wanted), cursor=cursor, limit=limit)
    opened = [
        models.OpenEntry.model_validate(open_document(part))
        for part in catalog.open_segments(feed, date)
        if wanted.may_cover(part.first_ns)
    ]
    listed = [_listed(entry, feed, date.isoformat()) for entry in files]
    return _json(models.FileList(feed=feed, date=date, files=listed, open=opened, next=following))


def _listed(entry: FileEntry, feed: str, date: str) -> models.ListedFile:
    return models.ListedFile.model_construct(**dict(entry), url=f"/files/{quote(feed)}/{date}/{quote(entry.name)}")


@router.get("/gaps/{feed}", tags=["gaps"], response_model=models.FeedGaps, responses=PROBLEM_RESPONSES)
def list_gaps(
    catalog: CatalogDep,
    feed: FeedPath,
    layers: LayerQuery = [],  # noqa: B006 - never changed; a query default must be a value
    statuses: StatusQuery = [],  # noqa: B006 - as above
    from_ns: FromQuery = None,
    to_ns: ToQuery = None,
    limit: LimitQuery = DEFAULT_LIMIT,
    cursor: GapsCursor = None,
) -> Response:
    """List a feed's gaps by start, each once; those the open segments' journals know of among them.

    A day whose manifest or index is damaged is named in `unreadable`: it may know of more.
    """
    known_feed(catalog, feed)
    wanted = GapFilter(layers=layers, statuses=statuses, from_ns=from_ns, to_ns=to_ns)
    found = gaps_of_feed(catalog, feed, wanted)
    gaps, following = GAPS.page(found.gaps, cursor=cursor, limit=limit)
    return _json(models.FeedGaps(feed=feed, gaps=list(gaps), unreadable=_unreadable(found), next=following))


def _unreadable(found: FoundGaps) -> list[models.UnreadableDay]:
    return [models.UnreadableDay(date=date, problem=problem) for date, problem in found.unreadable.items()]


@router.get("/gaps/{feed}/{date}", tags=["gaps"], response_model=models.DayGaps, responses=PROBLEM_RESPONSES)
def list_day_gaps(
    catalog: CatalogDep,
    feed: FeedPath,
    date: DatePath,
    layers: LayerQuery = [],  # noqa: B006 - never changed; a query default must be a value
    statuses: StatusQuery = [],  # noqa: B006 - as above
    from_ns: FromQuery = None,
    to_ns: ToQuery = None,
    limit: LimitQuery = DEFAULT_LIMIT,
    cursor: GapsCursor = None,
) -> Response:
    """List the gaps that touch a day, by start; those the open segments' journals know of among them."""
    known_day(catalog, feed, date)
    catalog.overview(feed, date)  # the day's own manifest can be read, or there is nothing to answer
    wanted = GapFilter(layers=layers, statuses=statuses, from_ns=from_ns, to_ns=to_ns)
    found = gaps_of_day(catalog, feed, date, wanted)
    gaps, following = GAPS.page(found.gaps, cursor=cursor, limit=limit)
    return _json(
        models.DayGaps(feed=feed, date=date, gaps=list(gaps), unreadable=_unreadable(found), next=following)
    )


@router.get(
    "/conditions/{feed}", tags=["conditions"], response_model=models.FeedConditions, responses=PROBLEM_RESPONSES
)
def list_conditions(
    catalog: CatalogDep,
    feed: FeedPath,
    conditions: ConditionQuery = [],  # noqa: B006 - never changed; a query default must be a value
    from_ns: FromQuery = None,
    to_ns: ToQuery = None,
    limit: LimitQuery = DEFAULT_LIMIT,
    cursor: DaysCursor = None,
) -> Response:
    """Judge every day from a feed's first to its last, those without a folder among them.

    Where the feed has a calendar, the last is today: data is expected for as long as nobody ends the capture.
    """
    known_feed(catalog, feed)
    wanted = DayFilter(conditions=conditions, from_ns=from_ns, to_ns=to_ns)
    found = (day for day in catalog.days(feed, fill=True) if wanted.wants(day.date, day.verdict.condition))
    days, following = DAYS.page(found, cursor=cursor, limit=limit)
    return _json(
        models.FeedConditions(
            feed=feed,
            conditions=[
                models.DayConditions(
                    date=day.date,
                    condition=day.verdict.condition,
                    reasons=_reasons(day.verdict.reasons),
                    last_modified=_time(day.modified_ns),
                )
                for day in days
            ],
            next=following,
        )
    )


def _json(answer: BaseModel) -> Response:
    """Return a model as it is: the framework would take it apart and check it again, entry by entry."""
    return Response(answer.model_dump_json(), media_type="application/json")
