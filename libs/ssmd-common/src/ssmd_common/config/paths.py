"""Where a value lies in a frame, as a feed file says it.

Places in a frame are *paths*: names and array indexes joined by dots, ``*`` for every element of an array, ``-1``
for the last. A frame whose root is an array starts with an index or ``*``::

    product_id                 {"product_id": "BTC-USD"}
    data.0.symbol              {"data": [{"symbol": "BTC/USD"}]}
    price_changes.*.asset_id   every asset of {"price_changes": [{"asset_id": "1"}, {"asset_id": "2"}]}
    *.event_type               [{"event_type": "book"}]

Where a list of paths is asked for, the first that finds a value decides. Found values are text, or whole numbers
(taken by their digits); anything else counts as not found.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, model_validator

from ssmd_common.config.model import ConfigModel, invalid

__all__ = ["ANY_ELEMENT", "Comparable", "FrameMatch", "PathText", "Place", "check_path", "path_segments"]

ANY_ELEMENT = "*"
"""The segment of a path that stands for every element of an array."""

_INDEX = re.compile(r"0|-?[1-9][0-9]{0,5}")
_OTHER_NOTATION = re.compile(r"\$\.|/|.*\[-?[0-9*]*\]")


def path_segments(path: str) -> tuple[str | int, ...]:
    """Return the segments of a path: names, array indexes, and :data:`ANY_ELEMENT`."""
    return tuple(int(part) if _INDEX.fullmatch(part) else part for part in path.split("."))


def check_path(text: str) -> str:
    """Return a path as it is.

    Raises:
        ValueError: It is none.
    """
    if not all(text.split(".")) or text != text.strip() or _OTHER_NOTATION.match(text):
        raise invalid(f"{text!r} is no path", remedy="join names and array indexes by dots, such as data.0.symbol")
    return text


def _index_as_text(value: Any) -> Any:
    """Take a bare number for the index it is: the path of a value in an array root is nothing else."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


PathText = Annotated[str, BeforeValidator(_index_as_text), AfterValidator(check_path)]
"""A path in a frame, as the module's docstring tells; :func:`path_segments` takes it apart."""


class Place(ConfigModel):
    """Where a value lies, and which part of it is meant. A bare path may stand for it.

    Attributes:
        path: The path.
        after: Keep what follows the first of this text (``btcusdt@depth20`` after ``@`` is ``depth20``). A value
            without it counts as not found.
        before: Keep what precedes the first of this text; a value without it counts as not found.
        upper: Change the result to capitals, where an exchange spells one symbol in two ways.
    """

    path: PathText
    after: str = ""
    before: str = ""
    upper: bool = False

    @model_validator(mode="before")
    @classmethod
    def _from_bare_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str | int) else value

    @property
    def segments(self) -> tuple[str | int, ...]:
        """The path, taken apart."""
        return path_segments(self.path)


def _comparable(value: Any) -> Any:
    if value is not None and not isinstance(value, bool | int | str):
        raise invalid("is nothing to compare with", remedy="give text, a whole number, true or false")
    return value


Comparable = Annotated[bool | int | str | None, BeforeValidator(_comparable)]
"""What a value in a frame may be compared with; None for nothing."""


class FrameMatch(ConfigModel):
    """A property of a frame. A bare path may stand for "this path is there", even with a null.

    Attributes:
        path: The path.
        equals: The value it must hold; without one (or with null) any will do, null included.
    """

    path: PathText
    equals: Comparable = None

    @model_validator(mode="before")
    @classmethod
    def _from_bare_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str | int) else value
