"""The exchange's REST interface, as far as it tells which markets there are.

Beside the WebSocket on the same port: `server` hands over the target of a GET, and sends what comes back. Documents
have the exchange's fields and spelling; prices and volumes are left out, since every connection has a market of its
own. Pure.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from ssmd_simulator.markets import RULES

if TYPE_CHECKING:
    from collections.abc import Callable

    from ssmd_simulator.directory import Directory, Entry

__all__ = ["PREFIX", "Reply", "answer", "problem"]

PREFIX = "/trade-api/v2/"
"""Where the interface begins."""

_MARKETS = f"{PREFIX}markets"
_DEFAULT_LIMIT, _MOST = 100, 1000
_CURSOR = "from:"
#: The filter's words are not those of a market's own status. No market here is ever unopened, paused or closed.
_STATUSES: dict[str, Callable[[Entry], bool]] = {
    "open": lambda entry: entry.is_open,
    "settled": lambda entry: not entry.is_open,
    "unopened": lambda _: False,
    "paused": lambda _: False,
    "closed": lambda _: False,
}


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: its status and its JSON, and after how many seconds to ask again (0: not said)."""

    status: HTTPStatus
    body: bytes
    retry_after_s: int = 0


class _BadRequestError(Exception):
    """The query cannot be meant; the text says which parameter."""


def answer(target: str, directory: Directory) -> Reply:
    """Answer a GET.

    Args:
        target: The request's path with its query string, as sent; it begins with :data:`PREFIX`.
        directory: The exchange's markets.
    """
    parts = urlsplit(target)
    path = parts.path.rstrip("/")
    if path == _MARKETS:
        try:
            return _ok(_page({name: values[-1] for name, values in parse_qs(parts.query).items()}, directory))
        except _BadRequestError as error:
            return problem(HTTPStatus.BAD_REQUEST, "bad_request", str(error))
    before, _, ticker = path.rpartition("/")
    entry = directory.find(unquote(ticker)) if before == _MARKETS else None
    if entry is None:
        return problem(HTTPStatus.NOT_FOUND, "not_found", "not found")
    return _ok({"market": _document(entry)})


def problem(status: HTTPStatus, code: str, message: str) -> Reply:
    """Return an error in the exchange's form."""
    return Reply(status, msgspec.json.encode({"error": {"code": code, "message": message}}))


def _ok(value: dict[str, Any]) -> Reply:
    return Reply(HTTPStatus.OK, msgspec.json.encode(value))


def _page(query: dict[str, str], directory: Directory) -> dict[str, Any]:
    limit, first = _limit(query.get("limit", "")), _position(query.get("cursor", ""))
    wanted = _filter(query)
    found: list[Entry] = []
    for position in range(first, len(directory.entries)):
        if not wanted(directory.entries[position]):
            continue
        if len(found) == limit:
            return {"markets": [_document(entry) for entry in found], "cursor": _cursor(position)}
        found.append(directory.entries[position])
    return {"markets": [_document(entry) for entry in found], "cursor": ""}


def _limit(text: str) -> int:
    if not text:
        return _DEFAULT_LIMIT
    # Four digits say it all, and int() takes more than digits.
    if not (text.isascii() and text.isdecimal() and len(text) <= 4 and 1 <= int(text) <= _MOST):  # noqa: PLR2004 - see above
        raise _BadRequestError(f"limit must be between 1 and {_MOST}")
    return int(text)


def _cursor(position: int) -> str:
    return base64.urlsafe_b64encode(f"{_CURSOR}{position}".encode()).decode()


def _position(cursor: str) -> int:
    """Return the place in the listing a cursor stands for: markets are only ever added behind it."""
    if not cursor:
        return 0
    try:
        text = base64.b64decode(cursor, altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        text = ""
    number = text.removeprefix(_CURSOR)
    if number == text or not (number.isdecimal() and len(number) <= 9):  # noqa: PLR2004 - no listing is longer
        raise _BadRequestError("cursor is none of ours")
    return int(number)


def _filter(query: dict[str, str]) -> Callable[[Entry], bool]:
    tests: list[Callable[[Entry], bool]] = []
    if status := query.get("status"):
        if status not in _STATUSES:
            raise _BadRequestError(f"status must be one of {', '.join(_STATUSES)}")
        tests.append(_STATUSES[status])
    if series := query.get("series_ticker"):
        tests.append(lambda entry: entry.listing.series_ticker == series)
    if event := query.get("event_ticker"):
        tests.append(lambda entry: entry.listing.event_ticker == event)
    if tickers := query.get("tickers"):
        named = frozenset(tickers.split(","))
        tests.append(lambda entry: entry.listing.ticker in named)
    match query.get("mve_filter"):
        case None | "exclude":
            pass
        case "only":  # No market of this exchange is a combination of others.
            tests.append(lambda _: False)
        case _:
            raise _BadRequestError("mve_filter must be only or exclude")
    return lambda entry: all(test(entry) for test in tests)


def _document(entry: Entry) -> dict[str, Any]:
    listing = entry.listing
    closes = _time(entry.closes_ts)
    document = {
        "ticker": listing.ticker,
        "event_ticker": listing.event_ticker,
        "series_ticker": listing.series_ticker,
        "market_type": "binary",
        "title": listing.title,
        "subtitle": "",
        "yes_sub_title": listing.yes_sub_title,
        "no_sub_title": listing.no_sub_title,
        "created_time": _time(entry.opens_ts),
        "updated_time": _time(entry.updated_ts),
        "open_time": _time(entry.opens_ts),
        "close_time": closes,
        "expected_expiration_time": closes,
        "latest_expiration_time": closes,
        "settlement_timer_seconds": 0,
        "status": "active" if entry.is_open else "finalized",
        "notional_value_dollars": "1.0000",
        "price_level_structure": "linear_cent",
        "price_ranges": [{"start": "0.0000", "end": "1.0000", "step": "0.0100"}],
        "can_close_early": True,
        "strike_type": "greater",
        "floor_strike": float(listing.strike),
        "rules_primary": RULES,
        "rules_secondary": "",
        "result": entry.result,
        "expiration_value": "",
    }
    if entry.settled_ts is not None:
        document |= {
            "settlement_ts": _time(entry.settled_ts),
            "settlement_value_dollars": "1.0000" if entry.result == "yes" else "0.0000",
        }
    return document


def _time(ts: int) -> str:
    return datetime.fromtimestamp(ts, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
