"""Numbers, sizes, times and spans as a person reads them; pure."""

from __future__ import annotations

import datetime as dt

from ssmd_common.archive.times import DAY_NS, SECOND_NS

__all__ = ["clock", "compact", "count", "day_name", "moment", "number", "share", "size", "span"]

_THOUSAND = 1000
_SIZES = ("B", "kB", "MB", "GB", "TB", "PB")
_COUNTS = ("", "k", "M", "bn", "tn")
_MINUTE_NS = 60 * SECOND_NS
_HOUR_NS = 60 * _MINUTE_NS
_SPANS = ((DAY_NS, "d"), (_HOUR_NS, "h"), (_MINUTE_NS, "min"), (SECOND_NS, "s"))


def number(value: int) -> str:
    """Return a number with its thousands apart: ``1,234,567``."""
    return f"{value:,}"


def size(value: int) -> str:
    """Return bytes with three digits and a unit: ``1.23 MB``."""
    return _scaled(value, _SIZES, separator="\N{NO-BREAK SPACE}")


def compact(value: int) -> str:
    """Return a count with three digits: ``1.23M``."""
    return _scaled(value, _COUNTS, separator="")


def count(value: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: ``1 gap``, ``2 gaps``."""
    return f"{number(value)} {noun if value == 1 else plural or noun + 's'}"


def share(part: int, whole: int) -> str:
    """Return a part of a whole: ``12.3%``, ``<0.1%``."""
    percent = 100 * part / whole if whole else 0.0
    return "<0.1%" if part and percent < 0.1 else f"{percent:.3g}%"  # noqa: PLR2004 - the least that is shown


def span(ns: int) -> str:
    """Return a length of time in its two largest units: ``3 h 20 min``, ``1.25 s``, ``40 ms``."""
    if ns < SECOND_NS:
        return f"{ns / 1_000_000:.3g} ms"
    if ns < _MINUTE_NS:
        return f"{ns / SECOND_NS:.3g} s"
    parts: list[str] = []
    rest = ns
    for unit_ns, name in _SPANS:
        whole, rest = divmod(rest, unit_ns)
        if whole or parts:
            parts.append(f"{whole} {name}" if whole else "")
    return " ".join(part for part in parts[:2] if part)


def clock(ns: int) -> str:
    """Return the time of day, UTC: ``07:36:49``."""
    return _moment(ns).strftime("%H:%M:%S")


def moment(ns: int) -> str:
    """Return a moment, UTC: ``23 Nov 2026 07:36:49``."""
    at = _moment(ns)
    return f"{at.day} {at:%b %Y %H:%M:%S}"


def day_name(date: dt.date) -> str:
    """Return a day: ``Monday 23 November 2026``."""
    return f"{date:%A} {date.day} {date:%B %Y}"


def _moment(ns: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(ns // SECOND_NS, dt.UTC)


def _scaled(value: int, units: tuple[str, ...], *, separator: str) -> str:
    scaled, unit = float(value), 0
    while float(f"{scaled:.3g}") >= _THOUSAND and unit < len(units) - 1:
        scaled, unit = scaled / _THOUSAND, unit + 1
    return f"{scaled:.3g}{separator}{units[unit]}" if unit else f"{value}{separator}{units[0]}"
