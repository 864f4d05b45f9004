"""A manifest's answer as bytes, made once for each version of it: most requests need nothing more.

:class:`~ssmd_manifest_api.protocol.ExpressProtocol` asks here before it starts the application. Whatever is not
plain is left to the application, whose route answers the same.
"""

from __future__ import annotations

import datetime as dt
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ssmd_manifest_api.auth import Guard
from ssmd_manifest_api.catalog import Catalog, ManifestFile
from ssmd_manifest_api.conditional import REVALIDATE, not_modified, validators
from ssmd_manifest_api.measure import Traffic
from ssmd_manifest_api.readable import UnreadableError
from ssmd_manifest_api.security import security_headers

__all__ = ["Express"]

_TARGET = re.compile(rb"/manifests/([A-Za-z0-9][A-Za-z0-9_-]{0,62})/(\d{4}-\d\d-\d\d)")
_ROUTE = "/manifests/{feed}/{date}"
_KEPT = 64
_FRESH_S = 0.2
"""How long a manifest counts as unchanged: a new one is served well within a second of its rename."""

_ANOTHER_ANSWER = frozenset({b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"origin"})
"""Headers of requests that the application answers."""


@dataclass(slots=True)
class _Answer:
    """A manifest's answers: their heads up to the server's own headers."""

    file: ManifestFile
    feed: str
    date: dt.date
    whole_head: bytes
    unchanged_head: bytes
    etag: bytes
    checked_s: float


def _has(known: _Answer, wanted: bytes) -> bool:
    """Tell whether ``If-None-Match`` names this version; nearly always it is the ETag alone."""
    return wanted == known.etag or not_modified({"if-none-match": wanted.decode("latin-1")}, known.file.etag)


class Express:
    """Answers ``GET /manifests/{feed}/{date}`` where the manifest is there and the request is plain.

    Args:
        catalog: The archive.
        guard: Tells who may ask.
        traffic: Where the answers are counted.
        cors: Other sites may ask.
        clock_s: Seconds that never go back.
    """

    def __init__(
        self,
        catalog: Catalog,
        guard: Guard,
        traffic: Traffic,
        *,
        cors: bool = False,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalog = catalog
        self._guard = guard
        self._clock_s = clock_s
        self._whole = traffic.answered_from_memory(_ROUTE, 200)
        self._unchanged = traffic.answered_from_memory(_ROUTE, 304)
        self._headers = security_headers(guard, cors=cors)
        self._answers: dict[bytes, _Answer] = {}

    def answer(
        self, target: bytes, headers: Sequence[tuple[bytes, bytes]], server_headers: Sequence[tuple[bytes, bytes]]
    ) -> bytes | None:
        """Return a whole HTTP/1.1 answer; None where the application has to answer.

        Args:
            target: The request's target as it came.
            headers: Its headers, names in lower case.
            server_headers: Those the server adds, such as the date.
        """
        known = self._fresh(target)
        if known is None:
            return None
        fields = dict(headers)
        if len(fields) < len(headers) or not _ANOTHER_ANSWER.isdisjoint(fields):
            return None
        grant = self._guard.grant(headers)
        if grant is None or not grant.allows(known.feed):
            return None
        lines = b"".join([b"%b: %b\r\n" % pair for pair in server_headers])
        wanted = fields.get(b"if-none-match")
        if wanted is not None and _has(known, wanted):
            self._unchanged.add()
            return b"%b%b\r\n" % (known.unchanged_head, lines)
        self._whole.add()
        return b"%b%b\r\n%b" % (known.whole_head, lines, known.file.data)

    def _fresh(self, target: bytes) -> _Answer | None:
        """Return the answers of a manifest as it is now, or was a moment ago."""
        known = self._answers.get(target)
        now_s = self._clock_s()
        if known is not None and now_s - known.checked_s < _FRESH_S:
            return known
        if known is not None:
            feed, date = known.feed, known.date
        else:
            match = _TARGET.fullmatch(target)
            if match is None:
                return None
            feed = match[1].decode()
            try:
                date = dt.date.fromisoformat(match[2].decode())
            except ValueError:
                return None
        file = None
        with suppress(UnreadableError):  # the application tells of it
            file = self._catalog.manifest_file(feed, date)
        if known is not None and known.file is file:
            known.checked_s = now_s
            return known
        self._answers.pop(target, None)
        if file is None:
            return None
        self._answers[target] = made = self._made(file, feed, date, now_s)
        if len(self._answers) > _KEPT:
            del self._answers[next(iter(self._answers))]
        return made

    def _made(self, file: ManifestFile, feed: str, date: dt.date, now_s: float) -> _Answer:
        fields = validators(file.etag, file.modified_ns, REVALIDATE)
        lines = [b"%b: %b\r\n" % (name.lower().encode(), value.encode()) for name, value in fields.items()]
        lines += [b"%b: %b\r\n" % pair for pair in self._headers]
        common = b"".join(lines)
        content = b"content-length: %d\r\ncontent-type: application/json\r\n" % len(file.data)
        whole, unchanged = b"HTTP/1.1 200 OK\r\n" + content + common, b"HTTP/1.1 304 Not Modified\r\n" + common
        return _Answer(file, feed, date, whole, unchanged, file.etag.encode(), now_s)
