"""The route that streams records."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote, urlencode

import structlog
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from pydantic import AfterValidator, WithJsonSchema

from ssmd_common.archive.manifest import GapEntry
from ssmd_common.archive.selection import Clock, Position, Selection
from ssmd_common.archive.times import to_rfc3339
from ssmd_common.errors import ArchiveError
from ssmd_manifest_api.conditional import REVALIDATE
from ssmd_manifest_api.lookup import CatalogDep, known_feed
from ssmd_manifest_api.parameters import FeedPath, FromQuery, TickerQuery, ToQuery, TypeQuery, known_parameters
from ssmd_manifest_api.problems import PROBLEM_RESPONSES
from ssmd_manifest_api.records import MOST_RECORDS, envelope_lines, first_page, picks, raw_lines
from ssmd_manifest_api.records_plan import FeedRecords, GapRange

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

__all__ = ["router"]

log = structlog.get_logger()

router = APIRouter(dependencies=[Depends(known_parameters)])

_MOST = 2**63 - 1
_MEDIA_TYPE = "application/x-ndjson"


_Sequence = Annotated[int | None, Query(ge=0, le=_MOST)]
_CURSOR = r"^[0-9]{1,18}\.[0-9]{1,18}$"


def _cursor(text: str) -> str:
    if not re.fullmatch(_CURSOR, text, re.ASCII) or text.endswith("\n"):
        raise ValueError("not a cursor of records: take it from the `next` link of the page before")
    return text


_Cursor = Annotated[
    Annotated[str, AfterValidator(_cursor), WithJsonSchema({"type": "string", "pattern": _CURSOR})] | None,
    Query(
        description="Only from this place on, epoch and sequence, as the `next` link of the page before has it",
        examples=["1.4711"],
    ),
]


class NdjsonResponse(StreamingResponse):
    """Sends lines as they are made, in the thread pool; when the caller goes away, the work ends."""

    media_type = _MEDIA_TYPE

    def __init__(self, lines: Iterator[bytes], headers: dict[str, str]) -> None:
        super().__init__(lines, headers=headers)
        self._lines = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them, and let the files go whatever happens."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            close = getattr(self._lines, "close", None)
            if close is not None:
                await run_in_threadpool(close)


@dataclass(frozen=True, slots=True)
class _Answer:
    lines: Iterator[bytes]
    gaps: list[GapEntry]
    within: GapRange
    next: Position | None


@router.get(
    "/records/{feed}",
    tags=["records"],
    status_code=200,
    response_class=NdjsonResponse,
    responses={
        **PROBLEM_RESPONSES,
        200: {
            "description": "The records, one a line, in the order of the stream",
            "content": {_MEDIA_TYPE: {"schema": {"type": "string"}}},
            "headers": {
                "Ssmd-Gaps": {
                    "description": "How many gaps touch the range: what the lines do not hold",
                    "schema": {"type": "integer"},
                },
                "Ssmd-Next-Seq": {
                    "description": "Sequence of the first record `limit` left out; absent where it left out none",
                    "schema": {"type": "integer"},
                },
                "Link": {
                    "description": '`rel="next"`: where it goes on; `rel="related"`: the gaps of the range',
                    "schema": {"type": "string"},
                },
            },
        },
    },
)
def stream_records(
    request: Request,
    catalog: CatalogDep,
    feed: FeedPath,
    from_seq: Annotated[_Sequence, Query(description="Only from this stream sequence on")] = None,
    to_seq: Annotated[_Sequence, Query(description="Only before this stream sequence")] = None,
    epoch: Annotated[int | None, Query(ge=1, le=_MOST, description="Only of this life of the stream")] = None,
    from_ns: FromQuery = None,
    to_ns: ToQuery = None,
    clock: Annotated[
        Clock, Query(description="Whose time `from` and `to` mean: the server's or the connector's")
    ] = Clock.STORED,
    types: TypeQuery = [],  # noqa: B006 - never changed; a query default must be a value
    tickers: TickerQuery = [],  # noqa: B006 - as above
    limit: Annotated[int | None, Query(ge=1, le=MOST_RECORDS, description="At most so many records")] = None,
    cursor: _Cursor = None,
    *,
    envelope: Annotated[
        bool, Query(description="Each record with its sequence, times, type and ticker, and each gap in a line")
    ] = False,
) -> Response:
    """Stream records as lines of JSON, in the order of the stream; only the blocks they lie in are read.

    Ranges are half-open and all conditions compose. Without `envelope` a line is the archive's own, byte for byte:
    the exchange's frame. With it, a line is `{"seq", "stored_ns", "received_ns", "type", "ticker", "data"}`, `data`
    being that frame, and what is missing is a line `{"gap": {…}}` where it lies. The header `Ssmd-Gaps` counts the
    gaps of the range in either form. With `limit` the answer says where it goes on: `Ssmd-Next-Seq` and a `Link`.
    The durable part of the open segment is read as well.
    """
    known_feed(catalog, feed)
    records = FeedRecords(catalog, feed)
    if epoch is None and (from_seq is not None or to_seq is not None):
        epoch = _only_epoch(records.epochs())
    selection = Selection(
        since=None if cursor is None else _position(cursor),
        epoch=epoch,
        from_seq=from_seq,
        to_seq=to_seq,
        from_ns=from_ns,
        to_ns=to_ns,
        clock=clock,
        types=frozenset(types) or None,
        tickers=frozenset(tickers) or None,
    )
    answer = _answer(records, selection, limit, envelope=envelope, head=request.method == "HEAD")
    headers = {"Cache-Control": REVALIDATE, "Ssmd-Gaps": str(len(answer.gaps))}
    links = []
    if answer.next is not None:
        headers["Ssmd-Next-Epoch"], headers["Ssmd-Next-Seq"] = map(str, answer.next)
        query = [pair for pair in request.query_params.multi_items() if pair[0] != "cursor"]
        query.append(("cursor", f"{answer.next[0]}.{answer.next[1]}"))
        links.append(f'<{request.url.path}?{urlencode(query)}>; rel="next"')
    if answer.gaps:
        links.append(f'<{_gaps_url(feed, answer.within)}>; rel="related"; title="gaps"')
    if links:
        headers["Link"] = ", ".join(links)
    return NdjsonResponse(answer.lines, headers)


def _position(cursor: str) -> Position:
    epoch, _, seq = cursor.partition(".")
    return int(epoch), int(seq)


def _only_epoch(epochs: list[int]) -> int | None:
    if len(epochs) > 1:
        names = ", ".join(map(str, epochs))
        raise _invalid("epoch", f"sequences began anew in this feed: name one of the epochs {names}")
    return epochs[0] if epochs else None


def _invalid(parameter: str, message: str) -> RequestValidationError:
    return RequestValidationError([{"loc": ("query", parameter), "msg": message, "type": "value_error"}])


def _answer(
    records: FeedRecords, selection: Selection, limit: int | None, *, envelope: bool, head: bool
) -> _Answer:
    found = picks(records.segments(selection), selection, columns=envelope or limit is not None)
    after: Position | None = None
    after_ns: int | None = None
    if limit is not None:
        page = first_page(found, limit)
        found, after, after_ns = iter(page.picks), page.next, page.next_ns
    within = _gap_range(records, selection, after_ns)
    gaps = records.gaps(selection, within, before=after)
    if head:
        return _Answer(iter(()), gaps, within, after)
    lines = envelope_lines(found, gaps) if envelope else raw_lines(found)
    # What is wrong with the first block is still told by a problem document.
    return _Answer(_lines_after(next(lines, b""), lines), gaps, within, after)


def _lines_after(first: bytes, lines: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield first
        yield from lines
    except ArchiveError as error:
        log.error("records_broken_off", where=error.where, problem=error.problem)  # noqa: TRY400 - told in full
        raise


def _gap_range(records: FeedRecords, selection: Selection, after_ns: int | None) -> GapRange:
    """Return the times between which a gap touches what is asked for, as far as sequences do not tell."""
    from_ns = selection.from_ns
    to_ns = None if selection.to_ns is None else selection.to_ns - 1
    if selection.timed and selection.clock is Clock.RECEIVED:
        return GapRange(from_ns, to_ns)
    if selection.since is not None or selection.epoch is not None:
        first_ns, last_ns = records.bounds(selection)
        if first_ns is None or last_ns is None:
            return GapRange(_MOST, None)  # nothing is there, so nothing but sequences can tell
        from_ns = max(first_ns, from_ns or first_ns)
        newest = records.epochs()[-1:] == [selection.epoch]
        if selection.to_seq is not None or not (newest or selection.epoch is None):
            to_ns = min(last_ns, to_ns or last_ns)
    if after_ns is not None:
        to_ns = min(after_ns, to_ns or after_ns)
    return GapRange(from_ns, to_ns)


def _gaps_url(feed: str, within: GapRange) -> str:
    query = {}
    if within.from_ns is not None:
        query["from"] = to_rfc3339(within.from_ns)
    if within.to_ns is not None:
        query["to"] = to_rfc3339(within.to_ns + 1)
    return f"/gaps/{quote(feed)}" + (f"?{urlencode(query)}" if query else "")
