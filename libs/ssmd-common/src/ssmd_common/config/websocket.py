"""What a feed file says about speaking with an exchange: its ``websocket`` section.

Any exchange that sends JSON over a WebSocket is described by data alone (``venue: generic``): what to send after
connecting, where type, symbol and sequence lie in a frame, which frames are control. Kalshi has a venue of its own,
since its handshake is signed and its subscriptions are numbered. What a *path* is tells
:mod:`ssmd_common.config.paths`.
"""

from __future__ import annotations

import json
from typing import Literal, Self

from pydantic import Field, model_validator

from ssmd_common.config.kalshi import KalshiSettings
from ssmd_common.config.model import ByteCount, ConfigModel, Seconds, Text, invalid
from ssmd_common.config.outgoing import KeepAlive, Reply, SubscribeFrame
from ssmd_common.config.paths import FrameMatch, Place

__all__ = ["BOOK_TYPES", "Control", "Route", "SequenceRule", "WebsocketSettings"]

_MIB = 1 << 20
BOOK_TYPES = {"orderbook_snapshot": "orderbook", "orderbook_delta": "orderbook"}
"""Message types that share a subject unless a feed says otherwise: full books and their changes."""


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
            ``increasing``: each number is above the one before, and holes mean nothing (a filtered channel leaves
            them), so a lost message cannot be seen, only one that is repeated or late. One frame may hold several
            (``*``), of several keys too and in any order; the key is then the one in the same element of the array.
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
