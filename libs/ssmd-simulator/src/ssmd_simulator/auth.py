"""The handshake's check: who signed it, and if it is refused, which known mistake was made.

At the door of the data path: no socket is opened before :func:`check` returns None. A real exchange answers
every bad handshake with the same 401; this one says which of the usual mistakes it was, so that a client's
tests can tell them apart. Pure, given the time. Source of the rules: the exchange's API key documentation
(RSA-PSS, SHA-256, MGF1 of SHA-256, salt of 32 bytes, over ``{ts_ms}GET{path}``).
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

__all__ = ["KEY_HEADER", "PATH", "SIGNATURE_HEADER", "TIMESTAMP_HEADER", "Handshake", "Refusal", "check"]

PATH = "/trade-api/ws/v2"
KEY_HEADER = "KALSHI-ACCESS-KEY"
SIGNATURE_HEADER = "KALSHI-ACCESS-SIGNATURE"
TIMESTAMP_HEADER = "KALSHI-ACCESS-TIMESTAMP"

#: How far a client's clock may be off, either way, in milliseconds.
_TOLERANCE_MS = 30_000
#: Below this a number of milliseconds would lie in 1973: it is seconds.
_LEAST_MS = 100_000_000_000

_SHA256 = hashes.SHA256()
_SALT_BYTES = 32


class Refusal(StrEnum):
    """Why a handshake is answered 401."""

    HEADERS_MISSING = "headers_missing"
    UNKNOWN_KEY = "unknown_key"
    TIMESTAMP_MALFORMED = "timestamp_malformed"
    TIMESTAMP_IN_SECONDS = "timestamp_in_seconds"
    TIMESTAMP_STALE = "timestamp_stale"
    SIGNATURE_NOT_BASE64 = "signature_not_base64"
    SIGNATURE_PKCS1V15 = "signature_pkcs1v15"
    SIGNATURE_SALT_LENGTH = "signature_salt_length"
    SIGNATURE_COVERS_QUERY = "signature_covers_query"
    SIGNATURE_WRONG = "signature_wrong"

    @property
    def text(self) -> str:
        """What a person should look at."""
        return _TEXTS[self]


_TEXTS = {
    Refusal.HEADERS_MISSING: f"each of {KEY_HEADER}, {SIGNATURE_HEADER} and {TIMESTAMP_HEADER} is required once",
    Refusal.UNKNOWN_KEY: "this key id is not known here; demo and production keys differ",
    Refusal.TIMESTAMP_MALFORMED: f"{TIMESTAMP_HEADER} must be an epoch in milliseconds",
    Refusal.TIMESTAMP_IN_SECONDS: f"{TIMESTAMP_HEADER} looks like seconds; it must be milliseconds",
    Refusal.TIMESTAMP_STALE: f"{TIMESTAMP_HEADER} is more than {_TOLERANCE_MS} ms from the exchange's clock",
    Refusal.SIGNATURE_NOT_BASE64: f"{SIGNATURE_HEADER} must be standard base64",
    Refusal.SIGNATURE_PKCS1V15: "the signature is PKCS #1 v1.5; it must be RSA-PSS",
    Refusal.SIGNATURE_SALT_LENGTH: f"the signature's salt must be {_SALT_BYTES} bytes, the digest's length",
    Refusal.SIGNATURE_COVERS_QUERY: "the signed text must end with the path, without the query string",
    Refusal.SIGNATURE_WRONG: f"the signature does not match the key and the text {{ts_ms}}GET{PATH}",
}


@dataclass(frozen=True, slots=True)
class Handshake:
    """What the check needs of the opening request; a header that is absent or repeated is None.

    Attributes:
        target: The request's path with its query string, as sent.
        key_id: The key's id.
        signature: The signature in base64.
        timestamp: The client's time, in milliseconds when it is right.
    """

    target: str
    key_id: str | None
    signature: str | None
    timestamp: str | None


def check(handshake: Handshake, keys: Mapping[str, RSAPublicKey], now_ms: int) -> Refusal | None:
    """Return why a handshake is refused, or None where it is good.

    Args:
        handshake: The opening request.
        keys: The public keys that may connect, by key id.
        now_ms: The exchange's time, epoch milliseconds.
    """
    if not (handshake.key_id and handshake.signature and handshake.timestamp):
        return Refusal.HEADERS_MISSING
    key = keys.get(handshake.key_id)
    if key is None:
        return Refusal.UNKNOWN_KEY
    return _check_timestamp(handshake.timestamp, now_ms) or _check_signature(
        handshake.target, handshake.timestamp, handshake.signature, key
    )


def _check_timestamp(timestamp: str, now_ms: int) -> Refusal | None:
    # Twenty digits are enough for anybody's clock, and int() has a limit.
    if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= 20):  # noqa: PLR2004 - see above
        return Refusal.TIMESTAMP_MALFORMED
    if int(timestamp) < _LEAST_MS:
        return Refusal.TIMESTAMP_IN_SECONDS
    if abs(int(timestamp) - now_ms) > _TOLERANCE_MS:
        return Refusal.TIMESTAMP_STALE
    return None


def _check_signature(target: str, timestamp: str, encoded: str, key: RSAPublicKey) -> Refusal | None:
    try:
        signature = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return Refusal.SIGNATURE_NOT_BASE64
    text = f"{timestamp}GET{PATH}".encode()
    pss = padding.PSS(mgf=padding.MGF1(_SHA256), salt_length=_SALT_BYTES)
    if _verifies(key, signature, text, pss):
        return None
    any_salt = padding.PSS(mgf=padding.MGF1(_SHA256), salt_length=padding.PSS.AUTO)
    mistakes = (
        (Refusal.SIGNATURE_PKCS1V15, text, padding.PKCS1v15()),
        (Refusal.SIGNATURE_SALT_LENGTH, text, any_salt),
        (Refusal.SIGNATURE_COVERS_QUERY, f"{timestamp}GET{target}".encode(), any_salt),
    )
    return next(
        (mistake for mistake, signed, scheme in mistakes if _verifies(key, signature, signed, scheme)),
        Refusal.SIGNATURE_WRONG,
    )


def _verifies(key: RSAPublicKey, signature: bytes, text: bytes, scheme: padding.PSS | padding.PKCS1v15) -> bool:
    try:
        key.verify(signature, text, scheme, _SHA256)
    except InvalidSignature:
        return False
    return True
