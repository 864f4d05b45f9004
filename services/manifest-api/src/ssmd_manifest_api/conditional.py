"""Conditional requests of RFC 9110: the one place that compares ETags and cuts ranges; pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from email.utils import formatdate
from typing import NamedTuple

from ssmd_common.archive.times import SECOND_NS

__all__ = [
    "IMMUTABLE",
    "REVALIDATE",
    "ByteRange",
    "Unsatisfiable",
    "etag_of",
    "not_modified",
    "validators",
    "wanted_range",
]

REVALIDATE = "no-cache"
"""Kept by caches, and asked for again each time."""

IMMUTABLE = "public, max-age=31536000, immutable"
"""What is sealed never changes."""

_RANGE = re.compile(r"bytes=(\d{0,4300})-(\d{0,4300})", re.ASCII | re.IGNORECASE)
"""Of numbers with more digits Python makes none."""

_TAG = re.compile(r'(?:W/)?("[^"]*")')


class ByteRange(NamedTuple):
    """Bytes ``[first, end)`` of a file."""

    first: int
    end: int


class Unsatisfiable(Exception):  # noqa: N818 - the word of RFC 9110
    """A range lies outside of the file: 416."""


def etag_of(data: bytes) -> str:
    """Return the strong ETag of an answer's bytes."""
    return f'"{hashlib.sha256(data).hexdigest()}"'


def validators(etag: str, modified_ns: int, cache: str) -> dict[str, str]:
    """Return the headers by which a client knows an answer again; ``cache`` is one of this module's policies."""
    modified = formatdate(modified_ns // SECOND_NS, usegmt=True)
    return {"ETag": etag, "Last-Modified": modified, "Cache-Control": cache}


def not_modified(headers: Mapping[str, str], etag: str) -> bool:
    """Tell whether a request has what ``etag`` names: compared weakly, as RFC 9110 asks for If-None-Match."""
    # A list may come in several lines, and `get` would give one of them.
    known = ", ".join(value for name, value in headers.items() if name == "if-none-match")
    return known.strip() == "*" or etag in _TAG.findall(known)


def wanted_range(headers: Mapping[str, str], etag: str, size: int) -> ByteRange | None:
    """Return the range of a file that is asked for; None where the whole file is to be sent.

    So it is for several ranges at once, and for a malformed header, which RFC 9110 lets a server leave aside; also
    where ``If-Range`` names another version. A date in it is no strong validator, so it never matches.

    Raises:
        Unsatisfiable: The range holds no byte of the file.
    """
    text = headers.get("range")
    if text is None or headers.get("if-range", etag).strip() != etag:
        return None
    match = _RANGE.fullmatch(text.strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        found = ByteRange(max(0, size - int(last)), size)
    elif last and int(last) < int(first):
        return None
    else:
        found = ByteRange(int(first), min(int(last) + 1, size) if last else size)
    if found.first >= found.end:
        raise Unsatisfiable
    return found
