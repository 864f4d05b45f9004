"""Times of the archive: nanoseconds inside, RFC 3339 UTC where a person or a manifest reads them."""

from __future__ import annotations

import datetime as dt
import re

from ssmd_common.errors import WireError

__all__ = ["DAY_NS", "SECOND_NS", "date_of", "day_start_ns", "from_rfc3339", "to_rfc3339"]

SECOND_NS = 1_000_000_000
DAY_NS = 86_400 * SECOND_NS

_EPOCH = dt.date(1970, 1, 1)
_RFC3339 = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d\d:\d\d)")


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


def from_rfc3339(text: str) -> int:
    """Return nanoseconds since the epoch of an RFC 3339 time; digits below a nanosecond are cut.

    Raises:
        WireError: It is no such time.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise WireError(f"{text!r} is not an RFC 3339 time", remedy="write it as 2026-11-23T06:16:18.5Z")
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    try:
        moment = dt.datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), tzinfo=dt.UTC)
    except ValueError as error:
        raise WireError(f"{text!r} is not an RFC 3339 time: {error}") from None
    offset_s = 0
    if zone not in ("Z", "z"):
        sign = -1 if zone[0] == "-" else 1
        offset_s = sign * (int(zone[1:3]) * 3600 + int(zone[4:6]) * 60)
    whole_s = int(moment.timestamp()) - offset_s
    return whole_s * SECOND_NS + int((fraction or "").ljust(9, "0"))
