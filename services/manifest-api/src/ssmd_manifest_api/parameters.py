"""What a request may say: dates, moments and names, checked before anything is looked up; pure."""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from typing import Annotated, Any, get_origin

from fastapi import Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from ssmd_common.archive.gaps import GapLayer, GapStatus
from ssmd_common.archive.times import day_start_ns, from_rfc3339
from ssmd_common.errors import WireError
from ssmd_manifest_api.condition import Condition
from ssmd_manifest_api.paging import DAYS, FILES, GAPS, Paging

__all__ = [
    "DEFAULT_LIMIT",
    "ConditionQuery",
    "DatePath",
    "DaysCursor",
    "FeedPath",
    "FilesCursor",
    "FromQuery",
    "GapsCursor",
    "LayerQuery",
    "LimitQuery",
    "NamePath",
    "StatusQuery",
    "TickerQuery",
    "ToQuery",
    "TypeQuery",
    "known_parameters",
    "parse_date",
    "parse_moment",
]

_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def parse_date(text: object) -> dt.date:
    """Read ``2026-11-23``.

    Raises:
        ValueError: It is no such date.
    """
    if isinstance(text, str) and _DATE.fullmatch(text):
        try:
            return dt.date.fromisoformat(text)
        except ValueError:
            pass
    raise ValueError("not a date: write it as 2026-11-23")


def parse_moment(text: object) -> int:
    """Read an RFC 3339 time, or a date that stands for its first moment in UTC; in nanoseconds.

    Raises:
        ValueError: It is neither.
    """
    if isinstance(text, str):
        # `+` of an offset is a space once a query is decoded.
        written = text.replace(" ", "+") if "T" in text.upper() else text
        try:
            return day_start_ns(parse_date(text)) if _DATE.fullmatch(text) else from_rfc3339(written)
        except WireError:
            pass
    raise ValueError("not a time: write it as 2026-11-23T06:15:00Z or 2026-11-23")


_MOMENT = {
    "anyOf": [{"type": "string", "format": "date-time"}, {"type": "string", "format": "date"}],
    "examples": ["2026-11-23T06:15:00Z", "2026-11-23"],
}

FeedPath = Annotated[str, Path(description="Name of a feed", examples=["kalshi"])]
DatePath = Annotated[
    dt.date,
    BeforeValidator(parse_date),
    WithJsonSchema({"type": "string", "format": "date", "examples": ["2026-11-23"]}),
    Path(description="UTC day"),
]
NamePath = Annotated[str, Path(description="Name of a file, as the listing has it", examples=["0615.jsonl.gz"])]
_Moment = Annotated[int, BeforeValidator(parse_moment), WithJsonSchema(_MOMENT)]
FromQuery = Annotated[
    _Moment | None, Query(alias="from", description="Only from this time on (server time): RFC 3339 or a date")
]
ToQuery = Annotated[_Moment | None, Query(alias="to", description="Only before this time: RFC 3339 or a date")]
TypeQuery = Annotated[list[str], Query(alias="type", description="Payload type; repeat it for several")]
TickerQuery = Annotated[list[str], Query(alias="ticker", description="Ticker; repeat it for several")]
LayerQuery = Annotated[
    list[GapLayer],
    Query(alias="layer", description="Layer that lost the data; repeat it for several"),
]
StatusQuery = Annotated[
    list[GapStatus],
    Query(alias="status", description="How the gap stands; repeat it for several"),
]
ConditionQuery = Annotated[
    list[Condition],
    Query(alias="condition", description="Condition of the day; repeat it for several"),
]
DEFAULT_LIMIT = 1_000
LimitQuery = Annotated[
    int, Query(ge=1, le=10_000, description="At most so many entries; `next` tells whether more follow")
]


def _cursor(paging: Paging[Any]) -> Any:
    """Return the parameter of a list's cursor."""
    schema = WithJsonSchema({"type": "string", "pattern": paging.pattern})
    query = Query(alias="cursor", description="Only what comes behind: the `next` of the page before")
    return Annotated[Annotated[str, AfterValidator(paging.check), schema] | None, query]


DaysCursor = _cursor(DAYS)
GapsCursor = _cursor(GAPS)
FilesCursor = _cursor(FILES)


async def known_parameters(request: Request) -> None:
    """Refuse a query parameter that the route does not have, or not so often: what is left out would seem to count.

    Raises:
        RequestValidationError: It names each of them.
    """
    route = request.scope["route"]
    assert isinstance(route, APIRoute)  # noqa: S101 - a dependency of no other
    lists = {field.alias: get_origin(field.field_info.annotation) is list for field in route.dependant.query_params}
    errors: list[dict[str, object]] = []
    for name, times in Counter(name for name, _ in request.query_params.multi_items()).items():
        if name not in lists:
            message = f"no such parameter; there is {', '.join(lists) or 'none'}"
            errors.append({"loc": ("query", name), "msg": message, "type": "unknown"})
        elif times > 1 and not lists[name]:
            errors.append({"loc": ("query", name), "msg": "say it once", "type": "repeated"})
    if errors:
        raise RequestValidationError(errors)
