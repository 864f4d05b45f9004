"""How a listing is asked for, page by page, and what an answer means. Pure: nothing here opens a socket."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import msgspec

from ssmd_connector.markets import read_listing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ssmd_common.config.kalshi import Discover
    from ssmd_connector.markets import Listing

__all__ = ["Answer", "Chain", "Page", "chains", "lookups", "read_page", "verdict"]

PAGE_LIMIT = 1000
LOOKUP_LIMIT = 100
_UNHEALTHY = 500
_PASSING = frozenset({408, 425, 429})


class Answer(Enum):
    """What follows from an HTTP status."""

    TAKE = "take"
    AGAIN = "again"
    """Wait and ask again: too many requests, or a server that is not well."""
    REFUSED = "refused"
    """Asking again does not help."""


def verdict(status: int) -> Answer:
    """Return what follows from an HTTP status."""
    if status == 200:  # noqa: PLR2004 - HTTP's own number
        return Answer.TAKE
    return Answer.AGAIN if status in _PASSING or status >= _UNHEALTHY else Answer.REFUSED


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a listing.

    Attributes:
        listings: Its markets.
        cursor: What asks for the next; empty at the end.
        unread: How many entries name no ticker.
    """

    listings: tuple[Listing, ...]
    cursor: str = ""
    unread: int = 0


class _Body(msgspec.Struct):
    markets: list[msgspec.Raw] | None = None
    cursor: Any = None


def read_page(body: bytes) -> Page:
    """Read a page; any cursor that is not a text with something in it ends the listing.

    Raises:
        ValueError: The body is no list of markets.
    """
    try:
        read = msgspec.json.decode(body, type=_Body)
        if read.markets is None:
            raise ValueError("the answer names no markets")
        listings = [read_listing(bytes(raw)) for raw in read.markets]
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(f"the answer is no list of markets: {error}") from None
    named = tuple(listing for listing in listings if listing is not None)
    cursor = read.cursor if isinstance(read.cursor, str) else ""
    return Page(named, cursor, len(listings) - len(named))


class Chain:
    """One listing, page after page.

    Args:
        query: What is listed.

    Attributes:
        is_over: Whether all pages were taken.
        went_in_a_circle: Whether it is over since a cursor came again; there may have been more.
        pages: How many were taken.
    """

    def __init__(self, query: dict[str, str]) -> None:
        self._query = query
        self._cursor = ""
        self._seen: set[str] = set()
        self.is_over = False
        self.went_in_a_circle = False
        self.pages = 0

    @property
    def scope(self) -> str:
        """The series or event whose markets are listed; empty for all markets."""
        return self._query.get("series_ticker") or self._query.get("event_ticker") or ""

    @property
    def query(self) -> dict[str, str]:
        """The next request's."""
        return self._query | ({"cursor": self._cursor} if self._cursor else {})

    def took(self, page: Page) -> None:
        """Go on behind a page. A cursor that comes again would lead in a circle, and ends the listing."""
        self.pages += 1
        self._cursor = page.cursor
        self.went_in_a_circle = page.cursor in self._seen
        self.is_over = not page.cursor or self.went_in_a_circle
        if page.cursor:
            self._seen.add(page.cursor)


def chains(discover: Discover) -> Iterator[Chain]:
    """Yield the listings that together are what is to be discovered."""
    scopes = [{"series_ticker": series} for series in discover.series]
    scopes += [{"event_ticker": event} for event in discover.events]
    common = {"limit": str(PAGE_LIMIT)}
    if discover.multivariate != "include":
        common["mve_filter"] = discover.multivariate
    for scope in scopes or [{}]:
        for status in discover.status:
            yield Chain(common | {"status": status} | scope)


def lookups(tickers: Sequence[str]) -> Iterator[tuple[tuple[str, ...], Chain]]:
    """Yield the listings of markets by name, with the names each asks for."""
    for start in range(0, len(tickers), LOOKUP_LIMIT):
        asked = tuple(tickers[start : start + LOOKUP_LIMIT])
        yield asked, Chain({"limit": str(PAGE_LIMIT), "tickers": ",".join(asked)})
