"""The route that downloads a sealed file as it is stored, whole or a range of it."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse

from ssmd_common.archive.store import Source
from ssmd_manifest_api.conditional import (
    IMMUTABLE,
    ByteRange,
    Unsatisfiable,
    not_modified,
    validators,
    wanted_range,
)
from ssmd_manifest_api.lookup import CatalogDep, known_file
from ssmd_manifest_api.parameters import DatePath, FeedPath, NamePath, known_parameters
from ssmd_manifest_api.problems import PROBLEM_RESPONSES, ProblemError

__all__ = ["router"]

router = APIRouter(dependencies=[Depends(known_parameters)])

_PART_BYTES = 1 << 18


@router.get(
    "/files/{feed}/{date}/{name}",
    tags=["files"],
    response_class=StreamingResponse,
    responses={
        **PROBLEM_RESPONSES,
        200: {"description": "The file as it is stored", "content": {"application/gzip": {}}},
        206: {"description": "The asked range of it", "content": {"application/gzip": {}}},
        304: {"description": "Unchanged since the given ETag"},
        416: {"description": "The range lies outside the file"},
    },
)
def download(request: Request, catalog: CatalogDep, feed: FeedPath, date: DatePath, name: NamePath) -> Response:
    """Download a sealed file as it is stored: a segment, or its evidence (`….meta.jsonl.gz`, `….index.jsonl`).

    The ETag is the file's sha256; a sealed file never changes. `Range` and `If-Range` give one part of it; several
    ranges at once give the whole file.
    """
    file = known_file(catalog, feed, date, name)
    etag = f'"{file.sha256}"'
    headers = {**validators(etag, file.stat.modified_ns, IMMUTABLE), "Accept-Ranges": "bytes"}
    if not_modified(request.headers, etag):
        return Response(status_code=304, headers=headers)
    size = file.stat.size
    try:
        # RFC 9110 defines ranges for GET alone.
        part = wanted_range(request.headers, etag, size) if request.method == "GET" else None
    except Unsatisfiable:
        raise ProblemError(
            416,
            "range-not-satisfiable",
            "Range not satisfiable",
            f"{name} has {size} bytes",
            headers={"Content-Range": f"bytes */{size}"},
        ) from None
    headers["Content-Disposition"] = f'attachment; filename="{name}"'
    if part is not None:
        headers["Content-Range"] = f"bytes {part.first}-{part.end - 1}/{size}"
    first, end = part or ByteRange(0, size)
    headers["Content-Length"] = str(end - first)
    media_type = "application/gzip" if name.endswith(".gz") else "application/jsonl"
    status = 206 if part else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=media_type)
    source = catalog.store.open(file.key)
    if source is None:
        raise ProblemError(404, "not-found", "No such file", f"{name} was removed from the archive meanwhile")
    return StreamingResponse(_parts(source, first, end), status_code=status, headers=headers, media_type=media_type)


def _parts(source: Source, first: int, end: int) -> Iterator[bytes]:
    with source:
        while first < end:
            data = source.read(first, min(_PART_BYTES, end - first))
            if not data:
                return  # cut while it was read: the length announced does not come, so the client sees it
            first += len(data)
            yield data
