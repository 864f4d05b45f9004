"""The base of every configuration model, and the kinds of values they share.

The models live at the edge: YAML goes in, frozen values come out. Whatever a validator refuses it refuses with
:func:`invalid`, so that the line a person reads names what is wrong and what to do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr
from pydantic_core import PydanticCustomError

from ssmd_common.errors import ConfigError, SsmdError
from ssmd_common.service.redact import redact_text

__all__ = [
    "ByteCount",
    "ConfigModel",
    "Duration",
    "Interval",
    "IsoDate",
    "Name",
    "PathName",
    "RotationInterval",
    "Seconds",
    "Text",
    "checked",
    "invalid",
    "parse_bytes",
    "parse_interval",
    "parse_name",
    "parse_rotation_interval",
]


class ConfigModel(BaseModel):
    """A mapping in a configuration file: frozen, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    _file: str = PrivateAttr(default="")

    @property
    def file(self) -> str:
        """The file it was read from, for errors; empty for what was not, and for the parts of one."""
        return self._file

    def read_from(self, file: str) -> Self:
        """Take note of the file it was read from."""
        self._file = file
        return self

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Return what ``repr`` shows: an address may carry credentials that no type hides."""
        for name, value in super().__repr_args__():
            yield name, redact_text(value) if isinstance(value, str) else value


def invalid(problem: str, *, remedy: str = "") -> PydanticCustomError:
    """Return the error a validator raises."""
    return PydanticCustomError("ssmd", "{problem}", {"problem": problem, "remedy": remedy})


_In = TypeVar("_In")
_Out = TypeVar("_Out")


def checked(function: Callable[[_In], _Out]) -> Callable[[_In], _Out]:
    """Return ``function`` as a validator: the errors of ssmd's tree become those of a field."""

    def validate(value: _In) -> _Out:
        try:
            return function(value)
        except SsmdError as error:
            raise invalid(error.problem, remedy=error.remedy) from None

    return validate


@dataclass(frozen=True, slots=True)
class Interval:
    """A length of time as it was written, such as ``15m``.

    Attributes:
        text: The spelling in the file.
        seconds: The same in seconds, at least 1.
    """

    text: str
    seconds: int

    def __str__(self) -> str:
        return self.text


_INTERVAL = re.compile(r"([0-9]{1,9})([smhd])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DAY_S = _UNIT_S["d"]
_INTERVAL_FORMS = "write a whole number above 0 and s, m, h or d, such as 15m"


def parse_interval(text: object) -> Interval:
    """Read ``N{s,m,h,d}``.

    Raises:
        ConfigError: The text has another form, or is 0.
    """
    match = _INTERVAL.fullmatch(text) if isinstance(text, str) else None
    if match is None or int(match[1]) == 0:
        raise ConfigError(f"{_shown(text)} is no length of time", remedy=_INTERVAL_FORMS)
    return Interval(match[0], int(match[1]) * _UNIT_S[match[2]])


def parse_rotation_interval(text: object) -> Interval:
    """Read an interval of at most a day, after which a segment ends.

    Raises:
        ConfigError: The text is no interval, or longer than a day: segments never span two days.
    """
    interval = parse_interval(text)
    if interval.seconds > _DAY_S:
        raise ConfigError(f"{interval} is longer than a day", remedy=f"{_INTERVAL_FORMS}, at most 1d")
    return interval


_BYTES = re.compile(r"([0-9]{1,15}) ?(B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)?")
_UNIT_BYTES: dict[str, int] = {
    **dict.fromkeys(("", "B"), 1),
    **dict.fromkeys(("kB", "KB"), 10**3),
    **{unit: 10 ** (3 * power) for power, unit in enumerate(("MB", "GB", "TB"), start=2)},
    **{unit: 1 << (10 * power) for power, unit in enumerate(("KiB", "MiB", "GiB", "TiB"), start=1)},
}


def parse_bytes(text: object) -> int:
    """Read a number of bytes, such as ``1048576``, ``64MB`` (decimal) or ``64MiB`` (binary).

    Raises:
        ConfigError: The text has another form, or is 0.
    """
    written = str(text) if isinstance(text, int) and not isinstance(text, bool) else text
    match = _BYTES.fullmatch(written) if isinstance(written, str) else None
    if match is None or int(match[1]) == 0:
        raise ConfigError(
            f"{_shown(text)} is no number of bytes",
            remedy="write a whole number above 0, with kB, MB, GB, KiB, MiB or GiB where you like, such as 64MiB",
        )
    return int(match[1]) * _UNIT_BYTES[match[2] or ""]


_ISO_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


def _iso_date(value: object) -> date:
    if isinstance(value, date):
        return value
    try:
        if isinstance(value, str) and _ISO_DATE.fullmatch(value):
            return date.fromisoformat(value)
    except ValueError:
        pass
    raise invalid(f"{_shown(value)} is no date", remedy="write it as YYYY-MM-DD")


def parse_name(value: str) -> str:
    """Return a name that is a subject token and a folder of the archive alike.

    Raises:
        ConfigError: The text cannot be one.
    """
    if not _NAME.fullmatch(value):
        raise ConfigError(
            f"{_shown(value)} cannot be a name",
            remedy="use up to 63 letters, digits, - and _, starting with a letter or digit",
        )
    return value


def _interval(value: object) -> Interval:
    return value if isinstance(value, Interval) else checked(parse_interval)(value)


def _rotation_interval(value: object) -> Interval:
    return value if isinstance(value, Interval) else checked(parse_rotation_interval)(value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"  # noqa: PLR2004 - keeps an error on one line


Text = Annotated[str, Field(min_length=1)]
"""Any text but an empty one."""


def _not_empty(value: Any) -> Any:
    # An empty path is the folder one happens to be in.
    if value == "":
        raise invalid("is empty", remedy="give a path, or remove it")
    return value


PathName = Annotated[Path, BeforeValidator(_not_empty)]
"""The name of a file or folder."""

Name = Annotated[str, AfterValidator(checked(parse_name))]
"""A name that is a subject token and a folder of the archive alike."""

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A number of seconds; fractions are fine."""

Duration = Annotated[Interval, BeforeValidator(_interval)]
"""``N{s,m,h,d}``."""

RotationInterval = Annotated[Interval, BeforeValidator(_rotation_interval)]
"""``N{s,m,h,d}``, at most a day."""

ByteCount = Annotated[int, BeforeValidator(checked(parse_bytes)), Field(gt=0)]
"""A number of bytes, written as :func:`parse_bytes` reads it."""

IsoDate = Annotated[date, BeforeValidator(_iso_date)]
"""``YYYY-MM-DD``, quoted or not."""
