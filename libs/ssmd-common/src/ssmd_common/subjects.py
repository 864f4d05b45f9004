"""The names a message travels under: the first step of the data path after the frame itself.

Data goes to ``{prefix}.json.{type}.{ticker}``, capture events to ``{prefix}.capture.{event}``; the prefix is
``{env}.{feed}`` unless the environment says otherwise. Type and ticker are one subject token each, so whatever
would split or widen a token is percent-encoded, reversibly (``B55.5`` becomes ``B55%2E5``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from ssmd_common.errors import WireError

__all__ = [
    "MAX_TOKEN_BYTES",
    "NO_TICKER",
    "CaptureSubject",
    "DataSubject",
    "SubjectBuilder",
    "decode_token",
    "encode_token",
    "escape",
    "parse_filter",
    "unescape",
]

NO_TICKER = "_"
"""The ticker token of a frame that names no ticker, or several. Never listed as a ticker."""

MAX_TOKEN_BYTES = 512
"""Longest encoded token: the server closes a connection whose control line passes 4 KiB."""

_TOKEN_CACHE_SIZE = 1 << 17
_UNSAFE = re.compile(r"[^!-~]|[.*>%]")
_PREFIX_TOKEN = re.compile(r"[!-)+\-/-=?-~]+")


@lru_cache(maxsize=_TOKEN_CACHE_SIZE)
def encode_token(text: str) -> str:
    """Return ``text`` as one subject token; :func:`decode_token` restores it.

    ``. * > %``, white space, control and non-ASCII characters become ``%XX`` of their UTF-8 bytes. A text equal
    to :data:`NO_TICKER` is encoded too, so that the token stays unambiguous.

    Raises:
        WireError: The text is empty or its token would pass :data:`MAX_TOKEN_BYTES`.
    """
    if not text:
        raise WireError("a subject token cannot be empty", remedy=f"use {NO_TICKER!r} for no ticker")
    if text == NO_TICKER:
        return "%5F"
    token = escape(text)
    if len(token) > MAX_TOKEN_BYTES:
        raise WireError(f"subject token of {len(token)} bytes, limit {MAX_TOKEN_BYTES}", where=token[:40])
    return token


def escape(text: str) -> str:
    """Return ``text`` with what would split or widen a token percent-encoded, whatever its length."""
    return _UNSAFE.sub(_percent, text)


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match.group().encode("utf-8", "surrogatepass"))


@lru_cache(maxsize=_TOKEN_CACHE_SIZE)
def decode_token(token: str) -> str:
    """Return the text :func:`encode_token` made ``token`` from; foreign tokens decode as far as they can."""
    return unescape(token)


def unescape(token: str) -> str:
    """Return the text :func:`escape` made ``token`` from; foreign tokens decode as far as they can."""
    if "%" not in token:
        return token
    raw = unquote_to_bytes(token)
    try:
        return raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return token


@dataclass(frozen=True, slots=True)
class DataSubject:
    """A data message's subject, decoded; ``ticker`` is None for :data:`NO_TICKER`."""

    type: str
    ticker: str | None


@dataclass(frozen=True, slots=True)
class CaptureSubject:
    """A capture event's subject."""

    event: str


class SubjectBuilder:
    """Builds and reads the subjects of one feed.

    Args:
        env: Environment token, such as ``prod``.
        feed: Feed token, such as ``kalshi``.
        prefix: Replaces ``{env}.{feed}``; one or more literal tokens.

    Raises:
        WireError: A token is empty, or holds a wildcard or white space.
    """

    def __init__(self, env: str, feed: str, *, prefix: str | None = None) -> None:
        self.env = env
        self.feed = feed
        self.prefix = prefix or f"{env}.{feed}"
        if not all(_PREFIX_TOKEN.fullmatch(token) for token in self.prefix.split(".")):
            raise WireError(
                f"subject prefix {self.prefix!r} has an empty or unsafe token",
                remedy="use letters, digits, - and _ separated by single dots",
            )
        self._json = f"{self.prefix}.json."
        self._capture = f"{self.prefix}.capture."

    @property
    def data_filter(self) -> str:
        """The filter that takes every data message of the feed."""
        return f"{self._json}>"

    @property
    def capture_filter(self) -> str:
        """The filter that takes every capture event of the feed."""
        return f"{self._capture}>"

    def json(self, message_type: str, ticker: str | None) -> str:
        """Return the subject of a data message of this type and ticker (None: none, or several)."""
        return f"{self._json}{encode_token(message_type)}.{encode_token(ticker) if ticker else NO_TICKER}"

    def json_trade(self, ticker: str) -> str:
        """Return the subject of a trade."""
        return self.json("trade", ticker)

    def json_ticker(self, ticker: str) -> str:
        """Return the subject of a ticker update."""
        return self.json("ticker", ticker)

    def json_orderbook(self, ticker: str) -> str:
        """Return the subject of an order book snapshot or delta."""
        return self.json("orderbook", ticker)

    def capture(self, event: str) -> str:
        """Return the subject of a capture event."""
        return f"{self._capture}{encode_token(event)}"

    def parse(self, subject: str) -> DataSubject | CaptureSubject | None:
        """Read a subject of this feed back; None for any other subject.

        A foreign publisher's extra tokens after the type are one ticker with dots.
        """
        if subject.startswith(self._json):
            kind, _, ticker = subject[len(self._json) :].partition(".")
            return DataSubject(decode_token(kind), None if ticker in ("", NO_TICKER) else decode_token(ticker))
        if subject.startswith(self._capture):
            return CaptureSubject(decode_token(subject[len(self._capture) :]))
        return None


def parse_filter(subject_filter: str) -> tuple[str, str]:
    """Return ``(env, feed)`` from the literal tokens of a filter such as ``prod.kalshi.json.>``.

    Raises:
        WireError: The filter does not start with two literal tokens followed by ``json``.
    """
    tokens = subject_filter.split(".")
    literal = all(_PREFIX_TOKEN.fullmatch(token) for token in tokens[:2])
    if len(tokens) < 4 or not literal or tokens[2] != "json":  # noqa: PLR2004 - env, feed, json, rest
        raise WireError(
            f"filter {subject_filter!r} does not name one environment and feed",
            remedy="write it as {env}.{feed}.json.> without wildcards before json, or set env and feed",
        )
    return tokens[0], tokens[1]
