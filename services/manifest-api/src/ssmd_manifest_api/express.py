"""A manifest's answer as bytes, made once for each version of it: most requests need nothing more.

:class:`~ssmd_manifest_api.protocol.ExpressProtocol` asks here before it starts the application. Whatever is not
plain is left to the application, whose route answers the same.
"""

from __future__ import annotations

import datetime as dt
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ssmd_manifest_api.auth import Guard
from ssmd_manifest_api.catalog import Catalog, ManifestFile
from ssmd_manifest_api.conditional import REVALIDATE, not_modified, validators
from ssmd_manifest_api.measure import Traffic
from ssmd_manifest_api.security import security_headers

__all__ = ["Express"]

_TARGET = re.compile(rb"/manifests/([A-Za-z0-9][A-Za-z0-9_-]{0,62})/(\d{4}-\d\d-\d\d)")
_ROUTE = "/manifests/{feed}/{date}"
_KEPT = 512

_ANOTHER_ANSWER = frozenset({b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"origin"})
"""Headers of requests that the application answers."""


@dataclass(frozen=True, slots=True)
class _Rendered:
    file: ManifestFile
    feed: str
    date: dt.date
    whole_head: bytes
    unchanged_head: bytes


class Express:
    """Answers ``GET /manifests/{feed}/{date}`` where the manifest is there and the request is plain.

    Args:
        catalog: The archive.
        guard: Tells who may ask.
        traffic: Where the answers are measured.
    """

    def __init__(self, catalog: Catalog, guard: Guard, traffic: Traffic) -> None:
        self._catalog = catalog
        self._guard = guard
        self._traffic = traffic
        self._rendered: dict[bytes, _Rendered] = {}
        self._headers = security_headers(guard)

    def answer(
        self, target: bytes, headers: Sequence[tuple[bytes, bytes]], server_headers: Sequence[tuple[bytes, bytes]]
    ) -> bytes | None:
        """Return a whole HTTP/1.1 answer; None where the application has to answer.

        Args:
            target: The request's target as it came.
            headers: Its headers, names in lower case.
            server_headers: Those the server adds, such as the date.
        """
        started = time.perf_counter()
        known = self._rendered.get(target)
        if known is None:
            match = _TARGET.fullmatch(target)
            if match is None:
                return None
            feed, text = match[1].decode(), match[2].decode()
            try:
                date = dt.date.fromisoformat(text)
            except ValueError:
                return None
        else:
            feed, date = known.feed, known.date
        fields = dict(headers)
        if not _ANOTHER_ANSWER.isdisjoint(fields):
            return None
        grant = self._guard.grant(headers)
        if grant is None or not grant.allows(feed):
            return None
        file = self._catalog.manifest_file(feed, date)
        if file is None:
            return None
        if known is None or known.file is not file:
            known = self._keep(target, feed, date, file)
        wanted = fields.get(b"if-none-match")
        unchanged = wanted is not None and not_modified({"if-none-match": wanted.decode("latin-1")}, file.etag)
        head = known.unchanged_head if unchanged else known.whole_head
        lines = b"".join(b"%b: %b\r\n" % pair for pair in server_headers)
        answer = b"%b%b\r\n%b" % (head, lines, b"" if unchanged else file.data)
        self._traffic.record(_ROUTE, 304 if unchanged else 200, time.perf_counter() - started)
        return answer

    def _keep(self, target: bytes, feed: str, date: dt.date, file: ManifestFile) -> _Rendered:
        fields = validators(file.etag, file.modified_ns, REVALIDATE)
        common = b"".join(b"%b: %b\r\n" % (name.lower().encode(), value.encode()) for name, value in fields.items())
        common += b"".join(b"%b: %b\r\n" % pair for pair in self._headers)
        whole = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\ncontent-type: application/json\r\n%b" % (
            len(file.data),
            common,
        )
        rendered = _Rendered(file, feed, date, whole, b"HTTP/1.1 304 Not Modified\r\n" + common)
        self._rendered.pop(target, None)
        self._rendered[target] = rendered
        if len(self._rendered) > _KEPT:
            del self._rendered[next(iter(self._rendered))]
        return rendered
