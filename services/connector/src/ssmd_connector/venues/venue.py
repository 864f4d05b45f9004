"""What every venue answers about a frame: the first decision on the data path, made from the bytes alone.

A venue parses only what routing needs and tolerates everything else: a field of an unexpected type never costs a
frame. What is JSON is data or control; what is not is *unparsed*, and kept too.
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol

import msgspec

__all__ = ["UNTYPED", "Kind", "Numbers", "Route", "Venue", "decode_json", "is_utf8", "unparsed"]

UNTYPED = "untyped"
"""The type of a JSON frame that names none."""


Numbers = tuple[str, int, int | None]
"""What sequence numbers belong to, the first of them, and the last; None for a single number."""


class Kind(Enum):
    """What a frame is to the capture."""

    DATA = "data"
    CONTROL = "control"
    UNPARSED = "unparsed"


class Route(msgspec.Struct, frozen=True, gc=False):
    """Where a frame goes. A msgspec struct, since one is made for every frame.

    Attributes:
        kind: Data, control, or not readable.
        type: The payload's own type.
        subject_type: The type in the subject, under which types that belong together meet.
        ticker: The one ticker it names; None for none or several.
        tickers: All of them where it names several.
        seq_key: What its sequence number belongs to; empty where it carries none.
        seq: Its sequence number, or the first of its range.
        seq_last: The last of its range; None for a single number.
        more_numbers: Further numbers of a frame that holds several, as key, first and last.
        leaves_holes: Whether the exchange skips numbers of its sequences without loss.
        begins: Whether its sequences begin anew with its numbers, whatever came before.
        routed: Whether the frame said where it belongs; a data frame that did not is published all the same.
        refused: Whether it is a control frame by which the exchange refuses what was asked.
        is_pong: Whether it answers our keep-alive, which is no sign that the feed lives.
        reason: Why it is unparsed or not routed.
    """

    kind: Kind
    type: str
    subject_type: str
    ticker: str | None = None
    tickers: tuple[str, ...] = ()
    seq_key: str = ""
    seq: int = 0
    seq_last: int | None = None
    more_numbers: tuple[Numbers, ...] = ()
    leaves_holes: bool = False
    begins: bool = False
    routed: bool = True
    refused: bool = False
    is_pong: bool = False
    reason: str = ""

    @property
    def numbers(self) -> tuple[Numbers, ...]:
        """All its sequence numbers, in the order to follow them."""
        return ((self.seq_key, self.seq, self.seq_last), *self.more_numbers) if self.seq_key else ()


class Venue(Protocol):
    """One exchange's way of marking its frames."""

    @property
    def known_types(self) -> frozenset[str]:
        """Types that are expected; another is published too, with a warning once."""
        ...

    def route(self, frame: bytes) -> Route:
        """Decide where a frame goes. Never raises, whatever the bytes."""
        ...

    def command(self, frame: bytes) -> str:
        """Return the name of a command to the exchange, which some recordings hold too; empty for none."""
        ...


def unparsed(reason: str) -> Route:
    """Return the route of a frame that cannot be read."""
    return Route(Kind.UNPARSED, "", "", routed=False, reason=reason)


def is_utf8(frame: bytes) -> bool:
    """Tell whether ``frame`` is text; the JSON decoder does not look inside the strings it skips."""
    if frame.isascii():
        return True
    try:
        frame.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def decode_json(frame: bytes) -> object:
    """Return the JSON value of ``frame``.

    Raises:
        ValueError: It is no JSON, with the reason as text.
    """
    if not is_utf8(frame):
        raise ValueError("not UTF-8")
    try:
        return msgspec.json.decode(frame)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from None
