"""Times of the archive: nanoseconds inside, RFC 3339 UTC where a person or a manifest reads them."""

from __future__ import annotations

import datetime as dt
import re
from functools import lru_cache

from ssmd_common.errors import WireError

__all__ = ["DAY_NS", "SECOND_NS", "date_of", "day_start_ns", "from_rfc3339", "to_rfc3339"]

SECOND_NS = 1_000_000_000
DAY_NS = 86_400 * SECOND_NS

_EPOCH = dt.date(1970, 1, 1)
_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt]([01]\d|2[0-3]):([0-5]\d):([0-5]\d|60)(?:\.(\d{1,9})\d*)?"
    r"([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)


def date_of(ns: int) -> dt.date:
    """Return the UTC day that holds ``ns``."""
    return _EPOCH + dt.timedelta(days=ns // DAY_NS)


def day_start_ns(date: dt.date) -> int:
    """Return the first nanosecond of a UTC day."""
    return (date - _EPOCH).days * DAY_NS


def to_rfc3339(ns: int) -> str:
    """Return ``2026-11-23T06:16:18.123456789Z``; the fraction is left out when it is zero."""
    seconds, fraction = divmod(ns, SECOND_NS)
    moment = dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{moment}.{fraction:09d}Z" if fraction else f"{moment}Z"


@lru_cache(1024)  # what is made of a manifest reads each of its times more than once
def from_rfc3339(text: str) -> int:
    """Return nanoseconds since the epoch of an RFC 3339 time; digits below a nanosecond are cut.

    A leap second is the first one of the next minute.

    Raises:
        WireError: It is no such time.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise WireError(f"{text!r} is not an RFC 3339 time", remedy="write it as 2026-11-23T06:16:18.5Z")
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    try:
        day_ns = _day_ns(year, month, day)
    except ValueError as error:
        raise WireError(f"{text!r} is not an RFC 3339 time: {error}") from None
    second_of_day = int(hour) * 3600 + int(minute) * 60 + int(second)
    if zone not in ("Z", "z"):
        offset_s = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
        second_of_day += offset_s if zone[0] == "-" else -offset_s
    return day_ns + second_of_day * SECOND_NS + (int(fraction.ljust(9, "0")) if fraction else 0)


@lru_cache(1024)
def _day_ns(year: str, month: str, day: str) -> int:
    return day_start_ns(dt.date(int(year), int(month), int(day)))
