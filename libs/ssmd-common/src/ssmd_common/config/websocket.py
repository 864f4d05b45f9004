"""What a feed file says about speaking with an exchange: its ``websocket`` section.

Any exchange that sends JSON over a WebSocket is described by data alone (``venue: generic``): what to send after
connecting, where type, symbol and sequence lie in a frame, which frames are control. Kalshi has a venue of its own,
since its handshake is signed and its subscriptions are numbered.

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

import json
import re
from datetime import time
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from ssmd_common.config.model import ByteCount, ConfigModel, Duration, Seconds, Text, invalid, parse_interval

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "ANY_ELEMENT",
    "BOOK_TYPES",
    "Answer",
    "Control",
    "Discover",
    "FrameMatch",
    "KalshiSettings",
    "KeepAlive",
    "PathText",
    "Place",
    "Reply",
    "Route",
    "SequenceRule",
    "SubscribeFrame",
    "SymbolsOrAll",
    "WebsocketSettings",
    "frame_path",
    "path_segments",
]

ANY_ELEMENT = "*"
"""The segment of a path that stands for every element of an array."""

_INDEX = re.compile(r"0|-?[1-9][0-9]{0,5}")
_OTHER_NOTATION = re.compile(r"\$\.|/|.*\[-?[0-9*]*\]")
_MIB = 1 << 20
BOOK_TYPES = {"orderbook_snapshot": "orderbook", "orderbook_delta": "orderbook"}
"""Message types that share a subject unless a feed says otherwise: full books and their changes."""


def path_segments(path: str) -> tuple[str | int, ...]:
    """Return the segments of a path: names, array indexes, and :data:`ANY_ELEMENT`."""
    return tuple(int(part) if _INDEX.fullmatch(part) else part for part in path.split("."))


def _path(text: str) -> str:
    if not all(text.split(".")) or text != text.strip() or _OTHER_NOTATION.match(text):
        raise invalid(f"{text!r} is no path", remedy="join names and array indexes by dots, such as data.0.symbol")
    return text


def _index_as_text(value: Any) -> Any:
    """Take a bare number for the index it is: the path of a value in an array root is nothing else."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


PathText = Annotated[str, BeforeValidator(_index_as_text), AfterValidator(_path)]
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


class FrameMatch(ConfigModel):
    """A property of a frame. A bare path may stand for "this path is there", even with a null.

    Attributes:
        path: The path.
        equals: The value it must hold; without one (or with null) any will do, null included.
    """

    path: PathText
    equals: Annotated[bool | int | str | None, BeforeValidator(_comparable)] = None

    @model_validator(mode="before")
    @classmethod
    def _from_bare_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str | int) else value


class Route(ConfigModel):
    """Where a frame says what it is, which decides its subject.

    Attributes:
        type: Places of the message type, the first found decides. With ``*`` in it, elements of different types
            make a frame of no known type.
        symbol: Places of the symbol, the first found decides. Several different symbols are all kept beside the
            frame, and its subject names none.
    """

    type: tuple[Place, ...] = Field(min_length=1)
    symbol: tuple[Place, ...] = ()


class SequenceRule(ConfigModel):
    """How some messages of the exchange are numbered, so that a loss before us can be seen.

    Attributes:
        kind: ``contiguous``: each number is the one before plus 1. ``range``: each message covers ``first`` to
            ``last`` and starts right after the one before, or names the last of the one before as ``previous``.
            ``increasing``: each number is above the one before, and
            holes mean nothing (a filtered channel leaves them), so a lost message cannot be seen, only one that is
            repeated or late. One frame may hold several (``*``), of several keys too and in any order; the key is
            then the one in the same element of the array.
        types: Message types that are numbered so; empty means all that hold the value. Each rule counts by itself.
        key: Places whose value names the counter, such as the symbol's; empty means one counter a connection.
        value: Place of the number (``contiguous``, ``increasing``).
        first: Place of a range's first number.
        last: Place of a range's last number.
        previous: Place of the last number of the message before, instead of ``first``. A message without one, or
            with one above its own ``last``, begins the numbers anew, as a full book does.
        restart: Properties of which one means that the numbers begin anew with the message that has it, where an
            exchange sends a full book again and counts from there.
    """

    kind: Literal["contiguous", "increasing", "range"]
    types: tuple[Text, ...] = ()
    key: tuple[Place, ...] = ()
    value: Place | None = None
    first: Place | None = None
    last: Place | None = None
    previous: Place | None = None
    restart: tuple[FrameMatch, ...] = ()

    @model_validator(mode="after")
    def _places_fit_the_kind(self) -> Self:
        given = {name for name in ("value", "first", "last", "previous") if getattr(self, name) is not None}
        if self.kind != "range" and given != {"value"}:
            raise invalid(
                f"kind {self.kind} goes with value alone",
                remedy="give it, and nothing else of value, first, last and previous",
            )
        if self.kind == "range" and given not in ({"first", "last"}, {"previous", "last"}):
            raise invalid(
                "kind range goes with first and last alone, or previous and last",
                remedy="give both, and nothing else of value, first, last and previous",
            )
        return self


class Control(ConfigModel):
    """Which frames steer the connection instead of carrying data. They are recorded as capture events.

    Attributes:
        types: Message types (as the route finds them) that are control.
        present: Properties of which one makes a frame control.
        texts: Whole frames that are not JSON, such as ``PONG``.
        refused: Properties of which one means the exchange refused what we asked; such a frame is control too.
    """

    types: tuple[Text, ...] = ()
    present: tuple[FrameMatch, ...] = ()
    texts: tuple[Text, ...] = ()
    refused: tuple[FrameMatch, ...] = ()


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


class Answer(ConfigModel):
    """A frame of the exchange that keeps the connection, or answers what does. A bare text may stand for ``text``.

    Attributes:
        text: A whole frame that is not JSON (``PONG``), or a message type as the route finds it.
        path: A path that the frame has, where it names no type.
        equals: The value that path must hold, as a :class:`FrameMatch` has it.
    """

    text: Text | None = None
    path: PathText | None = None
    equals: Annotated[bool | int | str | None, BeforeValidator(_comparable)] = None

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
    answer: Answer | None = None


def _or_all(value: Any) -> Any:
    if value == "all":
        return ()
    if isinstance(value, str) or (isinstance(value, list) and not value):
        raise invalid("names nothing to subscribe to", remedy="list symbols, or write `all`")
    return value


SymbolsOrAll = Annotated[tuple[Text, ...], BeforeValidator(_or_all)]
"""A list of symbols, or ``all`` in the file, which is the empty tuple here."""


MarketStatus = Literal["open", "unopened", "paused", "closed", "settled"]
"""The words by which Kalshi's REST interface lists markets; a market's own status has others."""


def _one_or_several(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Discover(ConfigModel):
    """Which markets to look for over REST; all of them where neither series nor events are named.

    Attributes:
        series: Series, such as ``KXBTCD``.
        events: Events, such as ``KXBTCD-26APR2017``.
        status: What state a market must be in to be found. One that is listed later is found by its lifecycle
            frame, whatever this says.
        multivariate: Combinations of other markets, of which there are many: taken too, left out, or alone.
        every: How often to look again, which finds what no lifecycle frame told.
    """

    series: Annotated[tuple[Text, ...], BeforeValidator(_one_or_several)] = ()
    events: Annotated[tuple[Text, ...], BeforeValidator(_one_or_several)] = ()
    status: Annotated[tuple[MarketStatus, ...], BeforeValidator(_one_or_several), Field(min_length=1)] = (
        "open",
        "unopened",
    )
    multivariate: Literal["include", "exclude", "only"] = "include"
    every: Duration = parse_interval("10m")

    def __str__(self) -> str:
        """Say it in a line, for people."""
        named = [*(f"series {name}" for name in self.series), *(f"event {name}" for name in self.events)]
        return f"{', '.join(named) or 'all'} markets, {' or '.join(self.status)}, every {self.every}"

    @property
    def covers_everything(self) -> bool:
        """Whether every market is meant."""
        return not self.series and not self.events and self.multivariate == "include"


_UTC_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9]))?Z")


def _utc_time(value: Any) -> Any:
    # YAML reads a bare `off` as false.
    if value is None or value is False or value == "off":
        return None
    match = _UTC_TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise invalid(
            f"{value!r} is no time of the day in UTC", remedy='write it as "00:00Z", or `off` for no such time'
        )
    return time(int(match[1]), int(match[2]), int(match[3] or 0))


class KalshiSettings(ConfigModel):
    """What only Kalshi has.

    Attributes:
        channels: Channels to subscribe to. ``orderbook_delta`` is to be had by ticker alone: with ``markets: all``
            the tickers are discovered.
        markets: Tickers to subscribe to; empty, or ``all`` in the file: every market, or those of ``discover``.
        discover: Which markets to look for over REST, instead of a list.
        sockets: Connections that share the markets.
        snapshot_at: Time of the day, in UTC, at which full books are asked for, so that a day can be read without
            the one before; ``off`` for none.
        use_yes_price: Ask for the prices of both sides of a book as yes prices. Always sent, since the exchange's
            default is to change.
        rest_endpoint: Where markets are looked for.
        demo_endpoint: Used instead of the version's endpoint when ``KALSHI_USE_DEMO`` is true.
        demo_rest_endpoint: The same for ``rest_endpoint``.
    """

    channels: tuple[Text, ...] = Field(default=("ticker", "trade", "market_lifecycle_v2"), min_length=1)
    markets: SymbolsOrAll = ()
    discover: Discover | None = None
    sockets: int = Field(default=1, ge=1, le=64)
    snapshot_at: Annotated[time | None, BeforeValidator(_utc_time)] = time(0)
    use_yes_price: bool = True
    rest_endpoint: Text = "https://external-api.kalshi.com/trade-api/v2"
    demo_endpoint: Text = "wss://external-api-ws.demo.kalshi.co/trade-api/ws/v2"
    demo_rest_endpoint: Text = "https://external-api.demo.kalshi.co/trade-api/v2"

    @model_validator(mode="after")
    def _listed_or_discovered(self) -> Self:
        if self.markets and self.discover is not None:
            raise invalid("markets are listed and discovered", remedy="remove the list, or discover")
        return self

    @property
    def discovery(self) -> Discover | None:
        """Which markets to look for; None where a list names them, or where none has to be named."""
        if self.discover is None and not self.markets and "orderbook_delta" in self.channels:
            return Discover()
        return self.discover


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
            _path(match[1])
    return value


class Reply(ConfigModel):
    """What an exchange's own ping has to be answered with. Such a frame is control, and a sign of life.

    Attributes:
        to: How the frame is known: a bare text (a whole text, or a type), or a path.
        send: The answer: text sent as it is, or JSON as YAML, in which ``"{frame.PATH}"`` becomes what the frame
            holds at the path.
    """

    to: Answer
    send: Annotated[dict[str, Any] | list[Any] | str, BeforeValidator(_reply_frame)]


class WebsocketSettings(ConfigModel):
    """The ``websocket`` section of a feed.

    Attributes:
        venue: Which protocol the exchange speaks: ``generic`` is described by this section alone.
        symbols: What to subscribe to (generic), unless the environment says otherwise.
        subscribe: Frames to send after connecting (generic): JSON as YAML, or text sent as it is. In JSON, the text
            ``"{symbols}"`` becomes the list of a batch's symbols, a list item holding ``{symbol}`` becomes one item
            for each of them, and ``"{id}"`` a number that no other frame of the connection has (its digits, within
            other text). A frame with symbols in it is sent once a batch, with ``{symbol}`` outside a list once a
            symbol, any other once.
        subscribe_batch_size: Symbols in one subscribe frame.
        route: Where type and symbol lie (generic).
        sequences: How messages are numbered (generic); empty when they are not, and then a loss at the exchange
            cannot be seen.
        control: Which frames are not data (generic).
        subject_types: Message types that travel under another type's subject; the archive keeps the frame's own.
        keep_alive: What to send to a quiet exchange.
        replies: What to answer the exchange's own pings with (generic).
        silence_limit_s: No frame for this long means the connection is dead. Every received frame counts as life,
            control frames among them; answers to pings do not, neither the protocol's nor those of ``keep_alive``.
        max_frame_bytes: Largest frame to take. It must fit NATS's ``max_payload`` (8 MiB) beside our headers. At a
            larger one the socket closes, with ``frame_too_large`` as the cause on record, and a new one is opened.
        kalshi: What only Kalshi has.
    """

    venue: Literal["generic", "kalshi"] = "generic"
    symbols: tuple[Text, ...] = ()
    subscribe: tuple[SubscribeFrame, ...] = ()
    subscribe_batch_size: int = Field(default=200, ge=1, le=10_000)
    route: Route | None = None
    sequences: tuple[SequenceRule, ...] = ()
    control: Control = Control()
    subject_types: dict[Text, Text] = BOOK_TYPES
    keep_alive: KeepAlive | None = None
    replies: tuple[Reply, ...] = ()
    silence_limit_s: Seconds = 300
    max_frame_bytes: ByteCount = 7 * _MIB
    kalshi: KalshiSettings | None = None

    @model_validator(mode="after")
    def _settings_fit_the_venue(self) -> Self:
        generic = {"symbols", "subscribe", "route", "sequences", "control", "replies"}
        other = self.model_fields_set & (generic if self.venue == "kalshi" else {"kalshi"})
        if other:
            *most, last = sorted(other)
            names, several = f"{', '.join(most)} and {last}" if most else last, bool(most)
            raise invalid(
                f"{names} {'mean' if several else 'means'} nothing with venue: {self.venue}",
                remedy=f"remove {'them' if several else 'it'}, or set venue: "
                + ("generic" if self.venue == "kalshi" else "kalshi"),
            )
        if self.venue == "generic" and self.route is None:
            raise invalid("venue: generic needs route", remedy="say under route.type where a frame names its type")
        return self

    @property
    def names_symbols(self) -> bool:
        """Whether a subscribe frame has symbols in it."""
        return "{symbol" in json.dumps(self.subscribe)

    @property
    def kalshi_settings(self) -> KalshiSettings:
        """Kalshi's settings, or their defaults."""
        return self.kalshi or KalshiSettings()
