"""What a feed file says a connection sends, and what answers it: subscriptions, keep-alives, replies to pings."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BeforeValidator, model_validator

from ssmd_common.config.model import ConfigModel, Seconds, Text, invalid
from ssmd_common.config.paths import Comparable, FrameMatch, PathText, check_path, path_segments

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ControlFrame", "KeepAlive", "Reply", "SubscribeFrame", "frame_path"]

_FILLED = ("{symbols}", "{symbol}", "{id}")
_TO_FILL = re.compile(r"\{[A-Za-z_]+\}")


def _subscribe_frame(value: Any) -> Any:
    if not isinstance(value, dict | list | str) or not value:
        raise invalid("is no frame", remedy="write JSON as YAML, or text in quotes")
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise invalid("is no JSON", remedy="keys are text, values are JSON") from None
    if isinstance(value, str):
        if any(name in value for name in _FILLED):
            raise invalid("is text, in which nothing is filled in", remedy="write the JSON as YAML")
        return value
    for text, is_key in _texts(value):
        _check_filled(text, is_key=is_key)
    return value


def _texts(value: Any) -> Iterator[tuple[str, bool]]:
    """Yield every text of a frame, and whether it is a key."""
    if isinstance(value, str):
        yield value, False
    for item in value if isinstance(value, list) else ():
        yield from _texts(item)
    for key, item in value.items() if isinstance(value, dict) else ():
        yield str(key), True
        yield from _texts(item)


def _check_filled(text: str, *, is_key: bool) -> None:
    for name in _TO_FILL.findall(text):
        if name not in _FILLED:
            raise invalid(f"{name} is nothing to fill in", remedy=f"there are {', '.join(_FILLED)}")
        if is_key:
            raise invalid(f"{name} stands in a key, which is not filled in", remedy="put it into a value")
        if name == "{symbols}" and text != name:
            raise invalid("{symbols} stands beside other text", remedy='write {symbol} there, or "{symbols}" alone')


SubscribeFrame = Annotated[dict[str, Any] | list[Any] | str, BeforeValidator(_subscribe_frame)]
"""A frame to send: a mapping or list that becomes JSON, or text sent as it is."""


class ControlFrame(ConfigModel):
    """How a ping of the exchange, or its answer to ours, is known. A bare text may stand for ``text``.

    Attributes:
        text: A whole frame that is not JSON (``PONG``), or a message type as the route finds it.
        path: A path that the frame has, where it names no type.
        equals: The value that path must hold, as a :class:`FrameMatch` has it.
    """

    text: Text | None = None
    path: PathText | None = None
    equals: Comparable = None

    @model_validator(mode="before")
    @classmethod
    def _from_bare_text(cls, value: Any) -> Any:
        return {"text": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _text_or_path(self) -> Self:
        if (self.text is None) == (self.path is None) or (self.text is not None and self.equals is not None):
            raise invalid(
                "is a text alone, or a path", remedy="give the text, or path and, where it matters, equals"
            )
        return self

    @property
    def match(self) -> FrameMatch | None:
        """The property it has, where it is known by one."""
        return None if self.path is None else FrameMatch(path=self.path, equals=self.equals)


class KeepAlive(ConfigModel):
    """What the exchange wants to hear from a quiet client, beside the protocol's own pings.

    Attributes:
        text: The frame to send.
        interval_s: How often.
        answer: The exchange's answer. It is control, and no sign of life: a feed that answers and sends nothing
            else is dead.
    """

    text: Text
    interval_s: Seconds
    answer: ControlFrame | None = None


_FROM_FRAME = re.compile(r"\{frame\.(.+)\}")


def frame_path(text: str) -> tuple[str | int, ...] | None:
    """Return the path that ``{frame.PATH}`` in a reply stands for; None for any other text."""
    match = _FROM_FRAME.fullmatch(text)
    return path_segments(match[1]) if match else None


def _reply_frame(value: Any) -> Any:
    if isinstance(_subscribe_frame(value), str):
        return value
    for text, is_key in _texts(value):
        if "{frame." in text and (is_key or _FROM_FRAME.fullmatch(text) is None):
            raise invalid("{frame.PATH} stands beside other text or in a key", remedy="make it a value alone")
        if any(name in text for name in _FILLED):
            raise invalid("is filled from the frame alone", remedy='write "{frame.PATH}"')
        if (match := _FROM_FRAME.fullmatch(text)) is not None:
            check_path(match[1])
    return value


class Reply(ConfigModel):
    """What an exchange's own ping has to be answered with. Such a frame is control, and a sign of life.

    Attributes:
        to: How the frame is known: a bare text (a whole text, or a type), or a path.
        send: The answer: text sent as it is, or JSON as YAML, in which ``"{frame.PATH}"`` becomes what the frame
            holds at the path.
    """

    to: ControlFrame
    send: Annotated[dict[str, Any] | list[Any] | str, BeforeValidator(_reply_frame)]
