"""Any exchange whose frames can be described as data: the rules come from the feed's YAML, the code is here once.

The feed's places are taken apart once, at the start; a frame is decoded once and looked at from there. What the
places mean stands in :mod:`ssmd_common.config.paths`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ssmd_common.config.paths import ANY_ELEMENT, path_segments
from ssmd_connector.venues.venue import UNTYPED, Kind, Route, decode_json, unparsed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ssmd_common.config.paths import FrameMatch, Place
    from ssmd_common.config.websocket import SequenceRule as SequenceSettings
    from ssmd_common.config.websocket import WebsocketSettings
    from ssmd_connector.venues.venue import Numbers

__all__ = ["FrameTest", "GenericVenue", "values_at"]

_TEXT_PREVIEW = 64
_MAX_DIGITS = 19


class _Missing:
    """Stands for a value that is not there, which a null is not."""


_MISSING = _Missing()
_Elements = tuple[int, ...]
"""The array elements a path went through, one index for each ``*``."""
_Located = list[tuple[_Elements, int]]
_NO_KEY: list[tuple[_Elements, str]] = [((), "")]


def values_at(root: object, segments: Iterable[str | int]) -> list[object]:
    """Return everything a path leads to; nothing where it leads nowhere."""
    values = [root]
    for part in segments:
        following: list[object] = []
        for value in values:
            if part == ANY_ELEMENT and isinstance(value, list):
                following.extend(value)
            else:
                found = _step(value, part)
                if not isinstance(found, _Missing):
                    following.append(found)
        if not following:
            return []
        values = following
    return values


def _located(root: object, segments: Iterable[str | int]) -> list[tuple[_Elements, object]]:
    """Return everything a path leads to, each with the elements its ``*`` went through."""
    found: list[tuple[_Elements, object]] = [((), root)]
    for part in segments:
        following: list[tuple[_Elements, object]] = []
        for elements, value in found:
            if part == ANY_ELEMENT and isinstance(value, list):
                following.extend(((*elements, index), item) for index, item in enumerate(value))
            else:
                step = _step(value, part)
                if not isinstance(step, _Missing):
                    following.append((elements, step))
        found = following
    return found


def _step(value: object, part: str | int) -> object:
    if isinstance(value, dict):
        return value.get(str(part), _MISSING)
    if isinstance(part, int) and isinstance(value, list) and -len(value) <= part < len(value):
        return value[part]
    return _MISSING


@dataclass(frozen=True, slots=True)
class _Finder:
    """One place of the feed, taken apart."""

    segments: tuple[str | int, ...]
    after: str
    before: str
    upper: bool

    @classmethod
    def of(cls, place: Place) -> _Finder:
        return cls(place.segments, place.after, place.before, place.upper)

    def texts(self, root: object) -> list[str]:
        """Return the different texts found, in order."""
        return list(dict.fromkeys(text for text in map(self._text, values_at(root, self.segments)) if text))

    def located_texts(self, root: object) -> list[tuple[_Elements, str]]:
        """Return the texts found, each with the elements it lies in."""
        return [(at, text) for at, value in _located(root, self.segments) if (text := self._text(value))]

    def integers(self, root: object) -> list[tuple[_Elements, int]]:
        """Return the whole numbers found, those written as text among them, each with the elements it lies in."""
        located = _located(root, self.segments)
        return [(at, number) for at, value in located if (number := _whole(value)) is not None]

    def _text(self, value: object) -> str:
        if isinstance(value, bool) or not isinstance(value, str | int):
            return ""
        text = str(value)
        if self.after:
            text = text.partition(self.after)[2]
        if self.before:
            head, separator, _ = text.partition(self.before)
            text = head if separator else ""
        return text.upper() if self.upper else text


def _whole(value: object) -> int | None:
    if isinstance(value, str) and len(value) <= _MAX_DIGITS and value.isascii() and value.isdecimal():
        value = int(value)
    # A number beyond 64 bits is none that an exchange counts by.
    return value if type(value) is int and 0 <= value < 1 << 63 else None


def _first_found(finders: Sequence[_Finder], root: object) -> list[str]:
    for finder in finders:
        texts = finder.texts(root)
        if texts:
            return texts
    return []


class _Numbers:
    """One sequence rule of the feed."""

    def __init__(self, rule: SequenceSettings) -> None:
        places = [place for place in (rule.value, rule.first, rule.previous) if place is not None]
        self._first = _Finder.of(places[0])
        self._last = _Finder.of(rule.last) if rule.last is not None else None
        self._is_chain = rule.previous is not None
        self._restart = [FrameTest(match) for match in rule.restart]
        self._key = [_Finder.of(place) for place in rule.key]
        self._label = "+".join(rule.types) or "all"
        self.types = frozenset(rule.types)
        self.leaves_holes = rule.kind == "increasing"

    def read(self, root: object) -> tuple[list[Numbers], bool]:
        """Return the numbers of a frame by counter, and whether they begin anew.

        There are none where it has none, or one of them has no key of its own. Where an array holds messages of
        several symbols, each number counts for the key of its own element.
        """
        firsts = self._first.integers(root)
        lasts = self._last.integers(root) if self._last is not None else firsts
        begins = any(match.fits(root) for match in self._restart)
        if self._is_chain:
            firsts, begins = self._behind(firsts, lasts, begins=begins)
        return self._by_key(root, firsts, lasts), begins

    @staticmethod
    def _behind(previous: _Located, lasts: _Located, *, begins: bool) -> tuple[_Located, bool]:
        """Return the first number of each, right behind the one before that it names, or that they begin anew."""
        goes_back = len(previous) == len(lasts) and any(
            last < before for (_, before), (_, last) in zip(previous, lasts, strict=True)
        )
        if begins or goes_back or not previous:
            return lasts, True
        return [(elements, before + 1) for elements, before in previous], False

    def _by_key(self, root: object, firsts: _Located, lasts: _Located) -> list[Numbers]:
        keys = next((found for place in self._key if (found := place.located_texts(root))), _NO_KEY)
        if not firsts or len(firsts) != len(lasts) or (self._key and keys is _NO_KEY):
            return []
        depth = min(len(firsts[0][0]), len(keys[0][0]))
        named: dict[_Elements, set[str]] = {}
        for elements, key in keys:
            named.setdefault(elements[:depth], set()).add(key)
        ranges: dict[str, list[tuple[int, int]]] = {}
        for (elements, first), (_, last) in zip(firsts, lasts, strict=True):
            names = named.get(elements[:depth], set())
            if len(names) != 1:
                return []
            # A link of a chain may hold nothing new: its range ends right before it starts.
            lowest = first - 1 if self._is_chain else first
            ranges.setdefault(next(iter(names)), []).append((first, max(lowest, last)))
        return [
            (f"{self._label}:{key}" if key else self._label, first, last)
            for key, found in ranges.items()
            for first, last in self._joined(found)
        ]

    def _joined(self, ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Return what one frame holds of a counter, in whatever order it stands there: one range between holes."""
        joined: list[tuple[int, int]] = []
        for first, last in sorted(ranges):
            if joined and (self.leaves_holes or first <= joined[-1][1] + 1):
                joined[-1] = joined[-1][0], max(joined[-1][1], last)
            else:
                joined.append((first, last))
        return joined


class GenericVenue:
    """Routes frames as a feed's ``websocket`` section says.

    Args:
        settings: That section; its ``route`` is given.
    """

    def __init__(self, settings: WebsocketSettings) -> None:
        route = settings.route
        self._types = [_Finder.of(place) for place in route.type] if route else []
        self._symbols = [_Finder.of(place) for place in route.symbol] if route else []
        answer = settings.keep_alive.answer if settings.keep_alive else None
        self._pong = {answer.text} if answer and answer.text else set()
        self._answer = FrameTest(answer.match) if answer and answer.match else None
        pings = [reply.to for reply in settings.replies]
        answered = {ping.text for ping in pings if ping.text}
        self._control_types = self._pong | answered | set(settings.control.types)
        self._texts = {text.encode(): text for text in (*settings.control.texts, *answered, *self._pong)}
        present = (*settings.control.present, *(ping.match for ping in pings if ping.match))
        self._present = [FrameTest(match) for match in present]
        self._refused = [FrameTest(match) for match in settings.control.refused]
        self._subject_types = settings.subject_types
        self._numbers = [_Numbers(rule) for rule in settings.sequences]

    @property
    def known_types(self) -> frozenset[str]:
        """Nothing: a feed's types are whatever its frames say."""
        return frozenset()

    def command(self, _frame: bytes) -> str:
        """Return nothing: a feed's file tells no command from a message."""
        return ""

    def route(self, frame: bytes) -> Route:
        """Decide where a frame goes. Never raises, whatever the bytes."""
        text = self._texts.get(frame.strip()) if self._texts else None
        if text is not None:
            name = text[:_TEXT_PREVIEW].lower()
            return Route(Kind.CONTROL, name, name, is_pong=text in self._pong)
        try:
            root = decode_json(frame)
        except ValueError as error:
            return unparsed(str(error))
        types = _first_found(self._types, root)
        kind = types[0] if len(types) == 1 else ""
        refused = any(match.fits(root) for match in self._refused)
        is_pong = kind in self._pong or (self._answer is not None and self._answer.fits(root))
        if refused or is_pong or kind in self._control_types or any(match.fits(root) for match in self._present):
            name = kind or "reply"
            numbers = self._numbers_of(kind, root)
            return Route(Kind.CONTROL, name, name, None, (), *numbers, refused=refused, is_pong=is_pong)
        symbols = _first_found(self._symbols, root)
        ticker = symbols[0] if len(symbols) == 1 else None
        several = tuple(symbols) if len(symbols) > 1 else ()
        if not kind:
            reason = f"several types: {', '.join(types)[:_TEXT_PREVIEW]}" if types else "no type in it"
            numbers = self._numbers_of("", root)
            return Route(Kind.DATA, UNTYPED, UNTYPED, ticker, several, *numbers, routed=False, reason=reason)
        subject_type = self._subject_types.get(kind, kind)
        return Route(Kind.DATA, kind, subject_type, ticker, several, *self._numbers_of(kind, root))

    def _numbers_of(self, kind: str, root: object) -> tuple[str, int, int | None, tuple[Numbers, ...], bool, bool]:
        """Return the numbers of a frame as a route has them; exchanges count control frames too."""
        for numbers in self._numbers:
            if not numbers.types or kind in numbers.types:
                found, begins = numbers.read(root)
                if found:
                    return *found[0], tuple(found[1:]), numbers.leaves_holes, begins
        return "", 0, None, (), False, False


class FrameTest:
    """A property some frames have."""

    def __init__(self, match: FrameMatch) -> None:
        self._segments = path_segments(match.path)
        self._equals = match.equals

    def fits(self, root: object) -> bool:
        """Tell whether a frame has it."""
        found = values_at(root, self._segments)
        if self._equals is None:
            return bool(found)
        return any(type(value) is type(self._equals) and value == self._equals for value in found)
