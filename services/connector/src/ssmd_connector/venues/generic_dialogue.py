"""The conversation a feed's YAML describes: frames to send when the socket opens, and a keep-alive."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from ssmd_connector.causes import Cause
from ssmd_connector.effects import Disconnect, Ready, Send, Warn
from ssmd_connector.venues.generic_refusals import PATIENCE
from ssmd_connector.venues.generic_replies import Replies

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ssmd_common.config.outgoing import Reply
    from ssmd_common.config.websocket import WebsocketSettings
    from ssmd_common.sequences import SequenceGap
    from ssmd_connector.effects import Effect
    from ssmd_connector.venues.generic_refusals import Refusals
    from ssmd_connector.venues.venue import Route

__all__ = ["GenericDialogue", "GenericWishes"]

_NS_PER_S = 1_000_000_000
_PREVIEW = 200
_GATHER_NS = 2 * _NS_PER_S
"""An exchange that refuses symbols one by one has said so of all of them by then."""
_SETTLED_NS = 60 * _NS_PER_S
_SYMBOL, _ID = "{symbol}", "{id}"


@dataclass(frozen=True, slots=True)
class GenericWishes:
    """What to say.

    Attributes:
        subscribe: Exact frames to send when the socket is open.
        keep_alive: Exact frame to send at times; empty for none.
        keep_alive_ns: How often.
        replies: What to answer the exchange's own pings with.
    """

    subscribe: tuple[str, ...]
    keep_alive: str = ""
    keep_alive_ns: int = 0
    replies: tuple[Reply, ...] = ()

    @classmethod
    def of(cls, settings: WebsocketSettings) -> GenericWishes:
        """Fill the feed's symbols into its subscribe frames, a batch at a time."""
        keep = settings.keep_alive
        return cls(
            tuple(_frames(settings)),
            keep.text if keep else "",
            int(keep.interval_s * _NS_PER_S) if keep else 0,
            settings.replies,
        )


def _frames(settings: WebsocketSettings) -> Iterator[str]:
    ids = count(1)
    for template in settings.subscribe:
        if isinstance(template, str):
            yield template
        elif "{symbol" not in json.dumps(template):
            yield _text(template, (), ids)
        else:
            size = 1 if _names_one(template) else settings.subscribe_batch_size
            for start in range(0, len(settings.symbols), size):
                yield _text(template, settings.symbols[start : start + size], ids)


def _names_one(value: Any) -> bool:
    """Tell whether a value has room for a single symbol: ``{symbol}`` in it, and not in a list it holds."""
    if isinstance(value, dict):
        return any(_names_one(item) for item in value.values())
    return isinstance(value, str) and _SYMBOL in value


def _text(template: Any, batch: tuple[str, ...], ids: Iterator[int]) -> str:
    return json.dumps(_filled(template, batch, ids), separators=(",", ":"), ensure_ascii=False)


def _filled(value: Any, batch: tuple[str, ...], ids: Iterator[int]) -> Any:
    if isinstance(value, dict):
        return {name: _filled(item, batch, ids) for name, item in value.items()}
    if isinstance(value, list):
        items: list[Any] = []
        for item in value:
            parts = [(symbol,) for symbol in batch] if _names_one(item) else [batch]
            items.extend(_filled(item, part, ids) for part in parts)
        return items
    if value == "{symbols}":
        return list(batch)
    if value == _ID:
        return next(ids)
    if not isinstance(value, str):
        return value
    text = value.replace(_SYMBOL, batch[0]) if _names_one(value) else value
    return text.replace(_ID, str(next(ids))) if _ID in value else text


class GenericDialogue:
    """One connection's conversation.

    Args:
        wishes: What to say.
        refusals: What the exchange refused on this connection's forerunners.
    """

    watched: frozenset[str] = frozenset()
    is_idle = False

    def __init__(self, wishes: GenericWishes, refusals: Refusals) -> None:
        self._wishes = wishes
        self._refusals = refusals
        self._replies = Replies(wishes.replies)
        self._kept_alive_ns = 0
        self._settles_ns: int | None = None
        self._judged_at_ns: int | None = None
        self._is_told = False

    @property
    def refused(self) -> tuple[str, ...]:
        """What the exchange refused, in its words."""
        return self._refusals.heard

    def begin(self, now_ns: int) -> list[Effect]:
        """Send the subscribe frames; the exchange is taken to agree unless it refuses."""
        self._kept_alive_ns = now_ns
        self._settles_ns = now_ns + _SETTLED_NS
        self._refusals.begin()
        return [*(Send(text) for text in self._wishes.subscribe), Ready()]

    def control(self, route: Route, frame: bytes, now_ns: int) -> list[Effect]:
        """Take a refusal, on which :meth:`tick` acts, or answer a ping; other control frames ask for nothing."""
        is_new = route.refused and self._refusals.take(frame[:_PREVIEW].decode("utf-8", "replace"))
        if is_new and self._judged_at_ns is None:
            self._judged_at_ns = now_ns + _GATHER_NS
        reply = self._replies.to(route.type, frame)
        return [Send(reply)] if reply is not None else []

    def data(self, _route: Route, _frame: bytes, _now_ns: int) -> list[Effect]:
        """Do nothing: no frame is waited for."""
        return []

    def change_markets(self, _added: Iterable[str], _removed: Iterable[str], _now_ns: int) -> list[Effect]:
        """Do nothing: the symbols of a feed described as data are those of its file."""
        return []

    def refresh_books(self, _now_ns: int) -> list[Effect]:
        """Do nothing: there is no way to ask again."""
        return []

    def gap(self, _gap_no: int, _gap: SequenceGap, _now_ns: int) -> list[Effect]:
        """Do nothing: a feed described as data has no way to ask again."""
        return []

    def tick(self, now_ns: int) -> list[Effect]:
        """Act on refusals, and keep the connection alive."""
        if self._settles_ns is not None and now_ns >= self._settles_ns:
            self._settles_ns = None
            self._refusals.forget_unheard()
        effects: list[Effect] = []
        if self._judged_at_ns is not None and now_ns >= self._judged_at_ns:
            self._judged_at_ns = None
            effects += self._judged()
        wishes = self._wishes
        if wishes.keep_alive and now_ns - self._kept_alive_ns >= wishes.keep_alive_ns:
            self._kept_alive_ns = now_ns
            effects.append(Send(wishes.keep_alive))
        return effects

    def _judged(self) -> list[Effect]:
        """Connect anew because of what was refused, or say once that the connection goes on without it."""
        first, *others = self._refusals.heard
        if not self._refusals.are_to_stay:
            return [Disconnect(Cause.SUBSCRIPTION_REFUSED, first)]
        if self._is_told:
            return []
        self._is_told = True
        fields = {"answer": first, "more": len(others), "connections_in_a_row": PATIENCE, "capturing": "the rest"}
        return [Warn("refusal_stays", fields)]

    def end(self) -> list[Effect]:
        """Say nothing: closing the socket ends its subscriptions."""
        return []
