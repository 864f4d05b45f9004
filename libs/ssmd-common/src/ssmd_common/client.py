"""A client of the manifest API: what an archive holds and misses, and its files and records, over HTTP.

    from ssmd_common.client import Client

    with Client("http://127.0.0.1:8080") as api:
        for day in api.days("kalshi"):
            print(day.date, day.condition, day.records)
        manifest = api.manifest("kalshi", "2026-11-23")

Long lists come page by page, behind one iterator. What the API refuses is an :exc:`~ssmd_common.errors.ApiError`
with its problem document.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx
import msgspec

from ssmd_common.archive.certificate import Certificate, parse_certificate
from ssmd_common.archive.manifest import FileEntry, GapEntry, Manifest, parse_manifest
from ssmd_common.errors import ApiError

__all__ = ["ApiRecord", "Client", "DayInfo", "FeedInfo", "Reason"]

_TRIES = 4
_PARTIAL = 206
_RESTART = 200
_OUT_OF_RANGE = 416
_SHA256 = re.compile(r'"([0-9a-f]{64})"')

Moment = dt.datetime | dt.date | str
"""A time with its zone, a day that stands for its first moment in UTC, or the text of either."""


class FeedInfo(msgspec.Struct, frozen=True):
    """A feed and how it stands; sizes are of all its days.

    Attributes:
        bytes: Uncompressed.
        condition: Of the last day.
        complete_through: Server time before which nothing will be added; None before the first seal.
    """

    feed: str
    days: int
    first_date: dt.date
    last_date: dt.date
    records: int
    bytes: int
    compressed_bytes: int
    gaps: int
    condition: str
    complete_through: str | None


class Reason(msgspec.Struct, frozen=True):
    """Why a day is not ``available``; it points at a gap or at a time where one is meant."""

    code: str
    text: str
    gap_id: str | None
    start: str | None
    end: str | None


class DayInfo(msgspec.Struct, frozen=True):
    """A day of a feed and what it is worth.

    Attributes:
        condition: ``available``, ``degraded``, ``pending``, ``missing`` or ``unverifiable``.
        bytes: Uncompressed.
        last_modified: When its manifest was written; None where it has none.
    """

    date: dt.date
    condition: str
    reasons: tuple[Reason, ...]
    records: int
    bytes: int
    compressed_bytes: int
    files: int
    gaps: int
    complete_through: str | None
    last_modified: str | None


class ApiRecord(msgspec.Struct, frozen=True):
    """One archived message.

    Attributes:
        seq: Its sequence in the stream.
        stored_ns: When the server stored it.
        received_ns: When the connector received it; None for a foreign publisher's.
        type: The payload's own type.
        ticker: The ticker; a list of several; None.
        data: The exchange's bytes.
    """

    seq: int
    stored_ns: int
    received_ns: int | None
    type: str
    ticker: str | list[str] | None
    data: msgspec.Raw


class _GapLine(msgspec.Struct):
    gap: msgspec.Raw


class Client:
    """A client of one manifest API; not for several threads at once.

    Args:
        base_url: Where it is served.
        token: A token it knows; left out where it knows none.
        timeout_s: How long to wait for a connection, and for each part of an answer.
        transport: How requests travel; the network by default.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None = None,
        timeout_s: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        # No proxy of the environment: a token goes to the server named and nowhere else.
        self._http = httpx.Client(
            base_url=base_url, headers=headers, timeout=timeout_s, transport=transport, trust_env=False
        )

    def feeds(self) -> list[FeedInfo]:
        """List the feeds, by name."""
        return msgspec.convert(self._json("/manifests")["feeds"], list[FeedInfo])

    def days(
        self,
        feed: str,
        *,
        conditions: Collection[str] = (),
        from_: Moment | None = None,
        to: Moment | None = None,
    ) -> Iterator[DayInfo]:
        """Iterate over a feed's days, oldest first; ``[from_, to)`` and ``conditions`` narrow them."""
        query = _query(condition=conditions, from_=from_, to=to)
        for entry in self._entries(f"/manifests/{quote(feed, safe='')}", "days", query):
            yield msgspec.convert(entry, DayInfo)

    def manifest(self, feed: str, date: dt.date | str) -> Manifest:
        """Return a day's manifest.

        Raises:
            ApiError: Status 404: there is none, or its first segment is still open.
        """
        path = f"/manifests/{_day(feed, date)}"
        return parse_manifest(self._get(path).content, where=path)

    def certificate(self, feed: str, date: dt.date | str) -> Certificate:
        """Return a day's certificate."""
        path = f"/manifests/{_day(feed, date)}/certificate"
        return parse_certificate(self._get(path).content, where=path)

    def gaps(
        self,
        feed: str,
        *,
        layers: Collection[str] = (),
        statuses: Collection[str] = (),
        from_: Moment | None = None,
        to: Moment | None = None,
        on_unreadable: Callable[[dt.date, str], None] | None = None,
    ) -> Iterator[GapEntry]:
        """Iterate over a feed's gaps by start, each once.

        Args:
            feed: The feed.
            layers: Only those of these layers.
            statuses: Only those that stand so.
            from_: Only from this time on.
            to: Only before this time.
            on_unreadable: Called first with each day that cannot be read, and what is wrong with it: it may know of
                more gaps.

        Raises:
            ApiError: A day cannot be read, and nobody is to be told of it.
        """
        path, told = f"/gaps/{quote(feed, safe='')}", set[dt.date]()
        for page in self._pages(path, _query(layer=layers, status=statuses, from_=from_, to=to)):
            for day in page["unreadable"]:
                date, problem = dt.date.fromisoformat(day["date"]), day["problem"]
                if on_unreadable is None:
                    raise ApiError(
                        f"{date} cannot be read: {problem}",
                        where=path,
                        remedy="see the archiver's log, or run `rebuild`",
                    )
                if date not in told:
                    told.add(date)
                    on_unreadable(date, problem)
            for entry in page["gaps"]:
                yield GapEntry.model_validate(entry)

    def files(
        self,
        feed: str,
        date: dt.date | str,
        *,
        types: Collection[str] = (),
        tickers: Collection[str] = (),
        from_: Moment | None = None,
        to: Moment | None = None,
    ) -> Iterator[FileEntry]:
        """Iterate over a day's sealed segments in the order of the stream; filters keep those that may match."""
        query = _query(type=types, ticker=tickers, from_=from_, to=to)
        for entry in self._entries(f"/files/{_day(feed, date)}", "files", query):
            entry.pop("url")
            yield FileEntry.model_validate(entry)

    def records(
        self,
        feed: str,
        *,
        types: Collection[str] = (),
        tickers: Collection[str] = (),
        from_: Moment | None = None,
        to: Moment | None = None,
        from_seq: int | None = None,
        to_seq: int | None = None,
        epoch: int | None = None,
        clock: str | None = None,
        limit: int | None = None,
        on_gap: Callable[[GapEntry], None] = lambda _gap: None,
    ) -> Iterator[ApiRecord]:
        """Iterate over records in the order of the stream, as they arrive.

        Args:
            feed: The feed.
            types: Only these payload types.
            tickers: Only these tickers.
            from_: Only from this time on.
            to: Only before this time.
            from_seq: Only from this sequence on.
            to_seq: Only before this sequence.
            epoch: Only of this life of the stream.
            clock: Whose time is meant: ``stored``, the server's, by default, or ``received``.
            limit: At most so many.
            on_gap: Called with each gap, where it lies among the records.
        """
        query = _query(type=types, ticker=tickers, from_=from_, to=to)
        numbers = {"from_seq": from_seq, "to_seq": to_seq, "epoch": epoch, "clock": clock, "limit": limit}
        query.update({name: value for name, value in numbers.items() if value is not None})
        record, missing = msgspec.json.Decoder(ApiRecord), msgspec.json.Decoder(_GapLine)
        with self._stream(f"/records/{quote(feed, safe='')}", {**query, "envelope": "true"}) as response:
            for line in _lines(response):
                if line.startswith(b'{"gap"'):
                    on_gap(GapEntry.model_validate_json(bytes(missing.decode(line).gap)))
                else:
                    yield record.decode(line)

    def download(self, feed: str, date: dt.date | str, name: str, to: Path) -> Path:
        """Download a sealed file into a folder, going on where a download broke off, and check its sha256.

        Returns:
            The file's path; it is there whole or not at all.

        Raises:
            ApiError: There is no such file, or what came is not what its hash says.
        """
        if "/" in name or name.startswith("."):
            raise ApiError(f"{name!r} is no name of a file", remedy="take it from files()")
        path = f"/files/{_day(feed, date)}/{quote(name, safe='')}"
        to.mkdir(parents=True, exist_ok=True)
        part = to / f"{name}.part"
        etag = self._get(path, method="HEAD").headers.get("etag", "")
        for left in reversed(range(_TRIES)):
            try:
                self._fetch(path, part, etag)
                break
            except ApiError as error:
                if error.status is not None or not left:
                    raise
        found = _SHA256.fullmatch(etag)
        with part.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if found is None or digest != found[1]:
            part.unlink()
            raise ApiError(
                f"sha256 {digest} is not that of its ETag {etag}", where=path, remedy="download it again"
            )
        return part.rename(to / name)

    def close(self) -> None:
        """Let the connections go."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _fetch(self, path: str, part: Path, etag: str) -> None:
        have = part.stat().st_size if part.exists() else 0
        headers = {"Range": f"bytes={have}-", "If-Range": etag} if have else {}
        with self._stream(path, {}, headers, allowed=_OUT_OF_RANGE) as response:
            if response.status_code == _OUT_OF_RANGE:
                return  # all of it came before, and was not checked any more
            with part.open("ab" if response.status_code == _PARTIAL else "wb") as file:
                for data in response.iter_raw():
                    file.write(data)

    def _entries(self, path: str, name: str, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        for page in self._pages(path, query):
            yield from page[name]

    def _pages(self, path: str, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        cursor: str | None = None
        while True:
            page = self._json(path, query if cursor is None else {**query, "cursor": cursor})
            yield page
            cursor = page["next"]
            if cursor is None:
                return

    def _json(self, path: str, query: Mapping[str, Any] | None = None) -> dict[str, Any]:
        document: dict[str, Any] = self._get(path, query).json()
        return document

    def _get(self, path: str, query: Mapping[str, Any] | None = None, *, method: str = "GET") -> httpx.Response:
        with _told(path):
            response = self._http.request(method, path, params=query)
        return _checked(response, path)

    @contextmanager
    def _stream(
        self,
        path: str,
        query: Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
        *,
        allowed: int = _RESTART,
    ) -> Iterator[httpx.Response]:
        # Bytes as they are stored: a data file is gzip itself.
        sent = {"Accept-Encoding": "identity", **(headers or {})}
        with _told(path), self._http.stream("GET", path, params=query, headers=sent) as response:
            if response.is_error and response.status_code != allowed:
                response.read()
                _checked(response, path)
            yield response


@contextmanager
def _told(path: str) -> Iterator[None]:
    """Turn what goes wrong on the way into our error."""
    try:
        yield
    except httpx.TransportError as error:
        problem = f"no answer: {error}" if str(error) else f"no answer: {type(error).__name__}"
        raise ApiError(problem, where=path, remedy="check that the API runs at this address") from error


def _checked(response: httpx.Response, path: str) -> httpx.Response:
    if not response.is_error:
        return response
    document: Mapping[str, Any] = {}
    if response.headers.get("content-type", "").startswith("application/problem+json"):
        document = response.json()
    problem = document.get("detail") or f"answered {response.status_code} {response.reason_phrase}"
    raise ApiError(problem, where=path, status=response.status_code, document=document)


def _lines(response: httpx.Response) -> Iterator[bytes]:
    """Iterate over lines as they are: text splitting would also cut at separators inside of a frame."""
    rest = b""
    for data in response.iter_bytes():
        *lines, rest = (rest + data).split(b"\n")
        yield from lines
    if rest:
        yield rest


def _day(feed: str, date: dt.date | str) -> str:
    return f"{quote(feed, safe='')}/{quote(str(date), safe='')}"


def _query(*, from_: Moment | None, to: Moment | None, **lists: Collection[str]) -> dict[str, Any]:
    query: dict[str, Any] = {name: list(values) for name, values in lists.items() if values}
    for name, moment in (("from", from_), ("to", to)):
        if moment is not None:
            query[name] = moment if isinstance(moment, str) else moment.isoformat()
    return query
