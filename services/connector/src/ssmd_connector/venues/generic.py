"""Any exchange whose frames can be described as data: the rules come from the feed's YAML, the code is here once.

A rule is a :class:`Pick`: a path into the JSON, array positions among it (``data.0.symbol``). A position in a
symbol's path stands for the whole array: where its elements name several symbols, so does the frame.
"""

from __future__ import annotations

from dataclasses import dataclass

from ssmd_connector.venues.venue import UNTYPED, Kind, Route, decode_json, unparsed

__all__ = ["GenericRules", "GenericVenue", "Pick", "SequenceRule"]

_TEXT_PREVIEW = 64


@dataclass(frozen=True, slots=True)
class Pick:
    """Where a value lies in a frame.

    Attributes:
        path: Keys, and positions in arrays; empty for the whole frame.
        after: Take what follows the last of this separator (``btcusdt@trade`` → ``trade``).
        before: Take what precedes the first of this separator (``btcusdt@trade`` → ``btcusdt``).
    """

    path: tuple[str | int, ...]
    after: str = ""
    before: str = ""

    @classmethod
    def parse(cls, text: str, *, after: str = "", before: str = "") -> Pick:
        """Read a dotted path; parts made of digits are positions."""
        return cls(tuple(int(part) if part.isdecimal() else part for part in text.split(".")), after, before)

    def value(self, root: object) -> object:
        """Return what lies there, or None."""
        for part in self.path:
            root = _step(root, part)
            if root is None:
                return None
        return root

    def text(self, root: object) -> str:
        """Return what lies there as text; empty where there is nothing that names anything."""
        return self._cut(self.value(root))

    def texts(self, root: object) -> list[str]:
        """Return what lies there in every element of the arrays on the way, each once, in order."""
        values = [root]
        for part in self.path:
            following: list[object] = []
            for value in values:
                if isinstance(part, int) and isinstance(value, list):
                    following.extend(value)
                else:
                    following.append(_step(value, part))
            values = following
        return list(dict.fromkeys(text for text in map(self._cut, values) if text))

    def _cut(self, value: object) -> str:
        if isinstance(value, bool) or not isinstance(value, str | int):
            return ""
        text = str(value)
        if self.after:
            text = text.rpartition(self.after)[2] if self.after in text else ""
        if self.before:
            text = text.partition(self.before)[0]
        return text


def _step(value: object, part: str | int) -> object:
    if isinstance(value, dict):
        return value.get(str(part))
    if isinstance(part, int) and isinstance(value, list) and part < len(value):
        return value[part]
    return None


@dataclass(frozen=True, slots=True)
class SequenceRule:
    """Where the exchange's sequence number lies.

    Attributes:
        first: The number, or the first of a range.
        last: The last of the range.
        types: Message types it holds for, each counted apart; empty for all types, counted together.
        per_symbol: Whether every symbol has a sequence of its own.
        leaves_holes: Whether numbers are skipped without loss, as where the exchange filters channels.
    """

    first: Pick
    last: Pick | None = None
    types: frozenset[str] = frozenset()
    per_symbol: bool = True
    leaves_holes: bool = False


@dataclass(frozen=True, slots=True)
class GenericRules:
    """Everything a feed says about its frames.

    Attributes:
        types: Where the type lies; the first that is there counts.
        symbols: Where the symbol lies; the first that is there counts.
        control_types: Types that are no market data.
        control_fields: Fields that only frames without market data have.
        control_texts: Exact frames that are not JSON and mean control (``PONG``).
        subject_types: Types that share another subject type.
        known_types: Types that are expected; empty: any.
        sequences: Where sequence numbers lie; the first whose types fit counts.
    """

    types: tuple[Pick, ...]
    symbols: tuple[Pick, ...]
    control_types: frozenset[str] = frozenset()
    control_fields: tuple[Pick, ...] = ()
    control_texts: frozenset[bytes] = frozenset()
    subject_types: tuple[tuple[str, str], ...] = ()
    known_types: frozenset[str] = frozenset()
    sequences: tuple[SequenceRule, ...] = ()


class GenericVenue:
    """Routes frames by :class:`GenericRules`."""

    def __init__(self, rules: GenericRules) -> None:
        self._rules = rules
        self._subject_types = dict(rules.subject_types)

    @property
    def known_types(self) -> frozenset[str]:
        """Types that are expected; empty where the feed names none."""
        return self._rules.known_types | self._rules.control_types if self._rules.known_types else frozenset()

    def route(self, frame: bytes) -> Route:
        """Decide where a frame goes. Never raises, whatever the bytes."""
        rules = self._rules
        if frame.strip() in rules.control_texts:
            text = frame.strip().decode("utf-8", "replace")[:_TEXT_PREVIEW]
            return Route(Kind.CONTROL, text.lower(), text.lower())
        try:
            root = decode_json(frame)
        except ValueError as error:
            return unparsed(str(error))
        parts = root if isinstance(root, list) and root and isinstance(root[0], dict) else [root]
        kind = next((text for pick in rules.types if (text := pick.text(parts[0]))), "")
        if kind in rules.control_types or (
            not kind and any(pick.value(parts[0]) is not None for pick in rules.control_fields)
        ):
            return Route(Kind.CONTROL, kind or "reply", kind or "reply")
        symbols = self._symbols(parts)
        ticker = symbols[0] if len(symbols) == 1 else None
        several = tuple(symbols) if len(symbols) > 1 else ()
        if not kind:
            return Route(Kind.DATA, UNTYPED, UNTYPED, ticker, several, routed=False, reason="no type in it")
        key, first, last, holes = self._sequence(kind, ticker, parts)
        return Route(
            Kind.DATA,
            kind,
            self._subject_types.get(kind, kind),
            ticker,
            several,
            key,
            first,
            last,
            leaves_holes=holes,
        )

    def _symbols(self, parts: list[object]) -> list[str]:
        found: dict[str, None] = {}
        for part in parts:
            for pick in self._rules.symbols:
                texts = pick.texts(part)
                if texts:
                    found.update(dict.fromkeys(texts))
                    break
        return list(found)

    def _sequence(self, kind: str, ticker: str | None, parts: list[object]) -> tuple[str, int, int | None, bool]:
        for rule in self._rules.sequences:
            if rule.types and kind not in rule.types:
                continue
            first = rule.first.value(parts[0])
            last = rule.last.value(parts[-1]) if rule.last is not None else None
            if type(first) is not int or (rule.per_symbol and ticker is None):
                return "", 0, None, False
            key = ":".join(part for part in (kind if rule.types else "", ticker if rule.per_symbol else "") if part)
            return key or "all", first, last if type(last) is int else None, rule.leaves_holes
        return "", 0, None, False
