"""Keep secrets out of logs and error lines: the last thing any text passes before it leaves the process."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

__all__ = ["REDACTED", "looks_secret", "redact_text", "redact_value", "url_secrets", "without"]

REDACTED = "[redacted]"

_SECRET_WORDS = {
    *("apikey", "authorization", "cookie", "credential", "credentials", "key", "keys", "nkey", "passphrase"),
    *(
        "passwd",
        "password",
        "passwords",
        "pem",
        "private",
        "secret",
        "secrets",
        "seed",
        "signature",
        "token",
        "tokens",
    ),
}
_HARMLESS_LAST_WORDS = {"count", "env", "field", "fields", "file", "name", "names", "path", "source", "type"}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

# The second form is a password with / ? or # in it, which no URL may hold and people write all the same.
_URL_USERINFO = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)(?:[^/?#\s\"'<>]*@|[^/?#\s\"'<>,@]*:[^\s\"'<>,@]*@)")
_URL_QUERY = re.compile(
    r"(?i)([?&;][\w.-]*(?:token|key|secret|signature|password|passwd|auth|credential)[\w.-]*=)[^&;#\s\"'<>]+",
)
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----.*?(?:-----END \1-----|\Z)", re.DOTALL)
_NKEY_SEED = re.compile(r"\bS[UAONCX][A-Z2-7]{56}\b")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}")


def looks_secret(name: str) -> bool:
    """Tell whether a value under this name is likely a secret.

    The name is read word by word (``KALSHI-ACCESS-KEY``, ``nkey_seed``, ``apiKey``), so ``monkey`` is none. A name
    that ends in a word such as ``file``, ``path`` or ``source`` tells where a secret lies, not what it is.
    """
    words = [word.lower() for word in _WORD.findall(name)]
    return bool(words) and words[-1] not in _HARMLESS_LAST_WORDS and not _SECRET_WORDS.isdisjoint(words)


def redact_text(text: str) -> str:
    """Return ``text`` without URL credentials, secret query values, private keys, nkey seeds and bearer tokens."""
    text = _URL_USERINFO.sub(rf"\1{REDACTED}@", text)
    text = _URL_QUERY.sub(rf"\1{REDACTED}", text)
    text = _PEM.sub(rf"-----BEGIN \1----- {REDACTED}", text)
    text = _NKEY_SEED.sub(REDACTED, text)
    return _BEARER.sub(rf"\1 {REDACTED}", text)


def without(text: str, secrets: Iterable[str]) -> str:
    """Return a stranger's text without what was told to it, which it may have repeated."""
    for secret in filter(None, secrets):
        text = text.replace(secret, REDACTED)
    return text


def url_secrets(url: str) -> list[str]:
    """Return the secrets an address holds: its password, or a user without one, and query values named like one."""
    try:
        parts = urlsplit(url)
        told = unquote(parts.password or parts.username or "")
        values = [value for name, value in parse_qsl(parts.query) if looks_secret(name)]
    except ValueError:
        return []
    return [text for text in (told, *values) if text]


def redact_value(name: str, value: Any) -> Any:
    """Return ``value`` fit to be shown under ``name``; containers are walked, numbers and flags stay.

    Numbers stay because no secret here is one, while counts (``tokens=3``) and seeds of generators are useful.
    """
    match value:
        case None | bool() | int() | float():
            return value
        case Mapping():
            return {key: redact_value(str(key), item) for key, item in value.items()}
        case _ if looks_secret(name):
            return REDACTED
        case list() | tuple() | set() | frozenset():
            return [redact_value(name, item) for item in value]
        case bytes():
            return redact_text(value.decode("utf-8", "backslashreplace"))
        case _:
            return redact_text(str(value))
