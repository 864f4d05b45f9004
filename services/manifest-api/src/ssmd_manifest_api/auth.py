"""Who may read which feeds: tokens, known by their hashes alone; pure.

A token is sent as ``Authorization: Bearer TOKEN``, or as the password of HTTP Basic, whatever the user's name:
so a browser asks for it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from ssmd_manifest_api.config import TokenEntry

__all__ = ["Grant", "Guard", "hash_token", "new_token"]

_PREFIX = "ssmd_"
_RANDOM_BYTES = 32
_LONGEST_BYTES = 1024


def new_token() -> str:
    """Return a token nobody can guess: 256 random bits, so that one round of sha256 hides it."""
    return _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def hash_token(token: str) -> str:
    """Return a token's hash as the configuration holds it."""
    return hashlib.sha256(token.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Grant:
    """What a request may see: some feeds, or all where ``feeds`` is None."""

    feeds: frozenset[str] | None = None

    def allows(self, feed: str) -> bool:
        """Tell whether a feed may be seen."""
        return self.feeds is None or feed in self.feeds


class Guard:
    """Tells what a request may see.

    Args:
        tokens: The known ones; without any, everybody may see everything.
    """

    def __init__(self, tokens: Iterable[TokenEntry] = ()) -> None:
        self._known = [
            (bytes.fromhex(token.sha256), Grant(None if token.feeds == "all" else frozenset(token.feeds)))
            for token in tokens
        ]
        self.open = not self._known
        self.grants = [grant for _, grant in self._known] or [Grant()]

    def grant(self, headers: Iterable[tuple[bytes, bytes]]) -> Grant | None:
        """Return what a request with these headers may see; None where it carries no valid token.

        Args:
            headers: Names in lower case, and values.
        """
        if self.open:
            return self.grants[0]
        values = [value for name, value in headers if name == b"authorization"]
        token = _token(values[0]) if len(values) == 1 else None
        if token is None:
            return None
        digest = hashlib.sha256(token).digest()
        found = None
        # Every hash is compared, each in constant time: how long it takes tells nothing about any of them.
        for known, grant in self._known:
            if hmac.compare_digest(digest, known):
                found = grant
        return found


def _token(value: bytes) -> bytes | None:
    """Return the token an ``Authorization`` header carries."""
    scheme, _, rest = value.strip().partition(b" ")
    rest = rest.strip()
    if len(rest) > _LONGEST_BYTES:
        return None
    match scheme.lower():
        case b"bearer":
            return rest
        case b"basic":
            try:
                return base64.b64decode(rest, validate=True).partition(b":")[2]
            except binascii.Error:
                return None
        case _:
            return None
