"""The route of a day's certificate."""

from __future__ import annotations

import datetime as dt
import threading
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response

from ssmd_common.archive.certificate import Certificate, encode_certificate, sha256sum_list
from ssmd_common.archive.certificate_store import day_settled, derive_certificate
from ssmd_common.archive.layout import DayKeys
from ssmd_common.archive.store import Store
from ssmd_manifest_api.catalog import Catalog, ManifestFile
from ssmd_manifest_api.conditional import REVALIDATE, etag_of, not_modified, validators
from ssmd_manifest_api.lookup import CatalogDep, known_manifest
from ssmd_manifest_api.parameters import DatePath, FeedPath, known_parameters
from ssmd_manifest_api.problems import PROBLEM_RESPONSES

__all__ = ["certificate_of", "router"]

router = APIRouter(dependencies=[Depends(known_parameters)])

_KEPT = 64
_TEXT = "text/plain"


class _Certificates:
    """Certificates by their manifest's hash: it covers every index, so the same one gives the same certificate."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, bool], Certificate] = {}
        self._lock = threading.Lock()

    def get(self, store: Store, day: DayKeys, file: ManifestFile, *, settled: bool) -> Certificate:
        """Return a day's certificate, derived where it is not known yet."""
        key = file.etag, settled
        with self._lock:
            known = self._kept.get(key)
        if known is not None:
            return known
        derived = derive_certificate(store, day, file.data)
        with self._lock:
            self._kept[key] = derived
            while len(self._kept) > _KEPT:
                del self._kept[next(iter(self._kept))]
        return derived


_certificates = _Certificates()


def certificate_of(catalog: Catalog, feed: str, date: dt.date, manifest: ManifestFile) -> Certificate:
    """Return the certificate of a day with this manifest; it reads every index of the day unless it is known.

    Raises:
        ArchiveError: The manifest is damaged, or an index is not the one it lists.
    """
    day = DayKeys(feed, date)
    parsed = catalog.manifest(feed, date)
    settled = parsed is not None and day_settled(catalog.store, day, parsed)
    return _certificates.get(catalog.store, day, manifest, settled=settled)


@router.get(
    "/manifests/{feed}/{date}/certificate",
    tags=["manifests"],
    response_model=Certificate,
    responses={
        **PROBLEM_RESPONSES,
        200: {
            "description": "The certificate, or its list of files alone",
            "content": {_TEXT: {"schema": {"type": "string"}}},
        },
        304: {"description": "Unchanged since the given ETag"},
    },
)
def get_certificate(
    request: Request,
    catalog: CatalogDep,
    feed: FeedPath,
    date: DatePath,
    form: Annotated[
        Literal["json", "sha256sum"] | None,
        Query(alias="format", description="`sha256sum` gives the list alone, as `Accept: text/plain` does"),
    ] = None,
) -> Response:
    """Certify a day: the frames received, published and archived, the gaps by layer, and the hash of every file.

    `sha256sum -c` checks the list from the day's folder, `ssmd-archiver verify --certificate` the whole offline.
    `state` is `pending` while the day may still gain segments. Before the first one is sealed the answer is 404 of
    type `urn:ssmd:problem:pending`.
    """
    manifest = known_manifest(catalog, feed, date)
    certificate = certificate_of(catalog, feed, date, manifest)
    as_list = form == "sha256sum" or (form is None and _prefers_text(request.headers.get("accept", "")))
    body = sha256sum_list(certificate.files) if as_list else encode_certificate(certificate)
    etag = etag_of(body)
    headers = {**validators(etag, manifest.modified_ns, REVALIDATE), "Vary": "Accept"}
    if not_modified(request.headers, etag):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=_TEXT if as_list else "application/json")


def _prefers_text(accept: str) -> bool:
    """Tell whether a caller asks for plain text and not for JSON."""
    kinds = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    return _TEXT in kinds and "application/json" not in kinds
