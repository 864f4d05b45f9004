"""Paths that try to leave the archive; pure.

Nothing of a request's path ever becomes a path of the file system (:mod:`ssmd_manifest_api.catalog`), so such a
request could reach nothing. It is told apart to be counted: somebody is trying.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import unquote_to_bytes

__all__ = ["tries_to_leave"]

_ROUNDS = 3
"""As often as anybody encodes a path: ``%25252e`` is a dot after three."""

_OVERLONG = {
    b".": re.compile(rb"\xc0\xae|\xe0\x80\xae|\xf0\x80\x80\xae"),
    b"/": re.compile(rb"\xc0\xaf|\xe0\x80\xaf|\xf0\x80\x80\xaf|\xc1\x9c"),
}
"""Encodings of dot and slash that UTF-8 forbids and careless decoders read."""

_SLASHES = str.maketrans(dict.fromkeys("\\\u2044\u2215\u29f8\ufe68", "/"))


def tries_to_leave(raw_path: bytes) -> bool:
    """Tell whether a path, as it came over the wire, tries to reach outside of what the routes name.

    That is a segment ``.`` or ``..``, a slash or backslash inside of a segment, or a NUL: plain, percent-encoded up
    to three times, in overlong UTF-8, or in letters that a normalisation turns into them.
    """
    slashes = raw_path.count(b"/")
    for _ in range(_ROUNDS):
        if _leaves(raw_path, slashes):
            return True
        raw_path = unquote_to_bytes(raw_path)
    return _leaves(raw_path, slashes)


def _leaves(path: bytes, slashes: int) -> bool:
    text = _plain(path)
    return "\0" in text or text.count("/") != slashes or any(_climbs(part) for part in text.split("/"))


def _plain(path: bytes) -> str:
    for plain, forms in _OVERLONG.items():
        path = forms.sub(plain, path)
    return unicodedata.normalize("NFKC", path.decode(errors="replace")).translate(_SLASHES)


def _climbs(segment: str) -> bool:
    """Tell whether a segment is one or two dots, also with a parameter behind (``..;x``)."""
    return segment.partition(";")[0].strip() in (".", "..")
