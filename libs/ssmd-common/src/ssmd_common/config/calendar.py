"""A feed's ``calendar``: when its exchange is expected to be silent. :mod:`ssmd_common.calendar` reads it.

All times are wall-clock times of ``timezone``, so that they follow its daylight saving. An end at or before its
start lies on the next day.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self, get_args
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, model_validator

from ssmd_common.config.model import ConfigModel, IsoDate, Text, invalid

__all__ = ["WEEKDAYS", "Calendar", "ClockTime", "Maintenance"]

Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
WEEKDAYS: tuple[str, ...] = get_args(Weekday)
"""The days' names in the order of :meth:`datetime.date.weekday`."""

_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])|24:00")


def _minutes(value: object) -> int:
    match = _CLOCK.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise invalid(f"{value!r} is no time of day", remedy='write it as HH:MM in quotes, such as "03:00"')
    return int(match[1]) * 60 + int(match[2]) if match[1] else 24 * 60


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise invalid(
            f"{name!r} is no time zone known here",
            remedy="write an IANA name such as America/New_York; the machine needs the tzdata package",
        ) from None
    return name


ClockTime = Annotated[int, BeforeValidator(_minutes)]
"""A time of day, ``HH:MM`` up to ``24:00`` in the file, as minutes after midnight."""

ZoneName = Annotated[Text, AfterValidator(_zone)]
"""IANA name of a time zone this machine knows."""


class Maintenance(ConfigModel):
    """A weekly time in which the exchange is expected to be silent.

    Attributes:
        day: Day of the week on which it starts, in lower case.
        start: When it starts.
        end: When it is over.
    """

    day: Weekday
    start: ClockTime
    end: ClockTime


class Calendar(ConfigModel):
    """When the exchange is open.

    Attributes:
        timezone: The zone all times are in.
        open_time: When it opens every day; without it and ``close_time`` it is open around the clock.
        close_time: When it closes.
        holidays: Days on which it does not open.
        holiday_calendar: Name of a list of holidays; accepted and left alone.
        maintenance: Weekly times of expected silence.
    """

    timezone: ZoneName = "UTC"
    open_time: ClockTime | None = None
    close_time: ClockTime | None = None
    holidays: tuple[IsoDate, ...] = ()
    holiday_calendar: Text | None = None
    maintenance: tuple[Maintenance, ...] = ()

    @model_validator(mode="after")
    def _hours_are_a_pair(self) -> Self:
        if (self.open_time is None) is not (self.close_time is None):
            missing = "open_time" if self.open_time is None else "close_time"
            raise invalid(f"{missing} is missing", remedy="give open_time and close_time, or neither")
        return self
