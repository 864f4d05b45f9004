"""Kalshi's signed handshake: headers made afresh for every connection, and what a refusal likely means."""

from __future__ import annotations

import base64
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from ssmd_common.config.credentials import rsa_private_key
from ssmd_common.errors import CredentialError
from ssmd_common.service.redact import redact_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ssmd_common.config.kalshi_key import KalshiCredentials

__all__ = ["explain_refusal", "signed_headers"]

_FORBIDDEN = 403
_MAX_SKEW_S = 5
_MAX_WORDS = 200
_CAUSES: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("timestamp", "expired"),
        "the timestamp was refused: it must be milliseconds of a correct clock, not seconds",
    ),
    (("query", "path"), "the signed text must be the path alone, without the query string"),
    (("pkcs", "salt"), "the signature must be RSA-PSS with SHA-256 and a salt of 32 bytes, not PKCS1v15"),
    (
        ("signature",),
        (
            "the private key does not belong to this API key, or the signature is not RSA-PSS "
            "(PKCS1v15, or a signed query string, look the same to the exchange)"
        ),
    ),
)
"""What an exchange's words point at, the first match decides."""


def signed_headers(credentials: KalshiCredentials, url: str, *, now_ms: int) -> dict[str, str]:
    """Return the headers that authenticate a handshake with ``url``.

    Signed is ``{milliseconds}GET{path}``: the path alone, without host and query. RSA-PSS, SHA-256, the salt as
    long as the digest.

    Raises:
        CredentialError: The private key is none.
    """
    key = rsa_private_key(credentials.private_key, where=credentials.where)
    text = f"{now_ms}GET{urlsplit(url).path}"
    pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=padding.PSS.DIGEST_LENGTH)
    signature = key.sign(text.encode(), pss, hashes.SHA256())
    return {
        "KALSHI-ACCESS-KEY": credentials.api_key.get_secret_value(),
        "KALSHI-ACCESS-SIGNATURE": base64.b64encode(signature).decode("ascii"),
        "KALSHI-ACCESS-TIMESTAMP": str(now_ms),
    }


def explain_refusal(
    status: int, body: str, headers: Mapping[str, str], *, url: str, where: str, now_s: float
) -> CredentialError:
    """Return the error for a handshake the exchange refused with 401 or 403, with the cause that fits best.

    Args:
        status: The HTTP status.
        body: The exchange's words.
        headers: The answer's headers; its date shows a clock that is off.
        url: Where the handshake went.
        where: Where the credentials came from; empty for a feed that needs none.
        now_s: Our clock, in seconds since the epoch.
    """
    words = redact_text(" ".join(body.split()))[:_MAX_WORDS]
    problem = f"the exchange refused the handshake with {status}" + (f": {words}" if words else "")
    remedy = _likely_cause(status, body, headers, url, where, now_s)
    return CredentialError(problem, file=redact_text(url), field=where, remedy=remedy)


def _likely_cause(status: int, body: str, headers: Mapping[str, str], url: str, where: str, now_s: float) -> str:
    skew_s = _skew_s(headers, now_s)
    if not where:
        return (
            "no credentials were sent: if this exchange wants them, name them under keys; "
            "else it may refuse this address or region"
        )
    if skew_s is not None and abs(skew_s) > _MAX_SKEW_S:
        return f"this machine's clock is {abs(skew_s):.0f} s {'ahead' if skew_s > 0 else 'behind'}; synchronise it"
    lowered = body.lower()
    for words, cause in _CAUSES:
        if any(word in lowered for word in words):
            return cause
    place = "demo" if "demo" in (urlsplit(url).hostname or "") else "production"
    mixed = f"most likely the key is not one of the {place} environment: demo and production keys do not mix"
    if status == _FORBIDDEN:
        return f"{mixed}; else the key may lack the permission, or this address is not on its allow list"
    return f"{mixed}; else check that the private key belongs to this API key, and that the key was not deleted"


def _skew_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """Return how far our clock is ahead of the exchange's, where its answer tells the time."""
    date = next((value for name, value in headers.items() if name.lower() == "date"), "")
    try:
        return now_s - parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError):
        return None
