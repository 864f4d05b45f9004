"""From what a request names to what the archive holds, or a problem that says what there is instead."""

from __future__ import annotations

import datetime as dt
import difflib
from typing import Annotated

from fastapi import Depends, Request

from ssmd_common.archive.times import to_rfc3339
from ssmd_manifest_api.catalog import Catalog, ManifestFile, OpenSegment, SealedFile
from ssmd_manifest_api.problems import ProblemError
from ssmd_manifest_api.security import GRANT

__all__ = ["CatalogDep", "known_day", "known_feed", "known_file", "known_manifest", "open_document"]

_NEAREST = 5


async def _catalog(request: Request) -> Catalog:
    """Return the archive as far as this request may see it."""
    catalog = request.app.state.catalogs[request.scope[GRANT]]
    assert isinstance(catalog, Catalog)  # noqa: S101 - the app is made with one for each grant
    return catalog


CatalogDep = Annotated[Catalog, Depends(_catalog)]


def known_feed(catalog: Catalog, feed: str) -> None:
    """Check that the archive holds a feed.

    Raises:
        ProblemError: 404 with the feeds nearest in spelling.
    """
    if not catalog.has_feed(feed):
        nearest = _alike(feed, catalog.feeds())
        raise ProblemError(404, "not-found", "No such feed", _detail(f"no feed {feed!r}", nearest), nearest=nearest)


def known_day(catalog: Catalog, feed: str, date: dt.date) -> None:
    """Check that the archive holds a feed's day.

    Raises:
        ProblemError: 404 with the nearest feeds or dates.
    """
    known_feed(catalog, feed)
    if not catalog.has_day(feed, date):
        dates = sorted(catalog.dates(feed), key=lambda known: (abs((known - date).days), known))
        nearest = [known.isoformat() for known in dates[:_NEAREST]]
        text = _detail(f"{feed} has no day {date.isoformat()}", nearest)
        raise ProblemError(404, "not-found", "No such day", text, nearest=nearest)


def known_manifest(catalog: Catalog, feed: str, date: dt.date) -> ManifestFile:
    """Return a day's manifest.

    Raises:
        ProblemError: 404: there is no such day, or its first segment is still open; then with what is durable.
    """
    manifest = catalog.manifest_file(feed, date)
    if manifest is None:
        known_day(catalog, feed, date)
        durable = catalog.open_segments(feed, date)
        records = sum(segment.records for segment in durable)
        detail = (
            f"the first segment of {feed} on {date.isoformat()} is still open, {records} records durable so far; "
            f"the manifest comes when it is sealed"
        )
        raise ProblemError(
            404, "pending", "No manifest yet", detail, open=[open_document(segment) for segment in durable]
        )
    return manifest


def known_file(catalog: Catalog, feed: str, date: dt.date, name: str) -> SealedFile:
    """Return a sealed file of a day.

    Raises:
        ProblemError: 404 with the nearest feeds, dates or names.
    """
    known_day(catalog, feed, date)
    file = catalog.sealed_file(feed, date, name)
    if file is None:
        nearest = _alike(name, catalog.file_names(feed, date))
        detail = _detail(f"{feed} has no file {name!r} on {date.isoformat()}", nearest)
        raise ProblemError(404, "not-found", "No such file", detail, nearest=nearest)
    return file


def open_document(segment: OpenSegment) -> dict[str, object]:
    """Return an open segment as the API shows it."""
    return {
        "name": segment.name,
        "records": segment.records,
        "bytes": segment.bytes,
        "nats_start_seq": segment.nats_start_seq,
        "nats_end_seq": segment.nats_end_seq,
        "last_stored_at": None if segment.last_ns is None else to_rfc3339(segment.last_ns),
    }


def _alike(name: str, known: list[str]) -> list[str]:
    """Return the names most like one, whatever their case; where none is, those that come first."""
    folded = {other.casefold(): other for other in known}
    near = difflib.get_close_matches(name.casefold(), folded, n=_NEAREST, cutoff=0.4)
    return [folded[other] for other in near] or known[:_NEAREST]


def _detail(problem: str, nearest: list[str]) -> str:
    return f"{problem}; there is {', '.join(nearest)}" if nearest else f"{problem}; there is none yet"
