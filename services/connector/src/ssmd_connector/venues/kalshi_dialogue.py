"""The conversation with Kalshi on one connection: subscribe, follow what is wanted, ask for books anew.

Answers come in another order than the commands and are matched by id; either ``subscribed`` or ``ok`` confirms.
Error codes 10 and 25 end a subscription for good; a new connection is the honest remedy, since its boundary is on
record.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ssmd_connector.causes import Cause
from ssmd_connector.effects import Disconnect, Heard, Ready, Send, Warn
from ssmd_connector.venues.kalshi import (
    BOOK_CHANNEL,
    LIFECYCLE_TYPES,
    UNFILTERED_CHANNELS,
    Action,
    read_news,
    read_reply,
    unsubscribe_text,
    update_command,
)
from ssmd_connector.venues.kalshi_books import BookRefresh
from ssmd_connector.venues.kalshi_channel import PASSING_CODES, Channel, ErrorCode, Verdict, refusal_warning, words

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ssmd_common.sequences import SequenceGap
    from ssmd_connector.effects import Effect
    from ssmd_connector.venues.kalshi import Command, Reply
    from ssmd_connector.venues.venue import Route

__all__ = ["KalshiDialogue", "KalshiWishes"]

_NS_PER_S = 1_000_000_000
_IN_FLIGHT = 8
_ANSWER_NS = 15 * _NS_PER_S
_LONGEST_HOLD_S = 32
_TERMINAL_CODES = frozenset({ErrorCode.CHANNEL_ERROR, ErrorCode.BUFFER_OVERFLOW})
_SNAPSHOT = "orderbook_snapshot"


@dataclass(frozen=True, slots=True)
class KalshiWishes:
    """What to subscribe to on one connection.

    Attributes:
        whole: Channels to subscribe to for all markets.
        filtered: Channels to subscribe to for ``tickers`` alone.
        tickers: The markets at first.
        batch_size: Most markets in one command.
        use_yes_price: Whether books are quoted from the yes side throughout.
        commands_per_s: Most commands a second; None without a limit.
    """

    whole: tuple[str, ...] = ()
    filtered: tuple[str, ...] = ()
    tickers: tuple[str, ...] = ()
    batch_size: int = 200
    use_yes_price: bool = True
    commands_per_s: int | None = None


class _Pace:
    """How soon the next command may be sent: so many a second, and none for a while after a refusal for haste."""

    def __init__(self, per_s: int | None) -> None:
        self._per_s = per_s
        self._tokens = float(per_s or 0)
        self._filled_ns = 0
        self._hold_until_ns = 0
        self._hold_s = 1

    def allows(self, now_ns: int) -> bool:
        """Tell whether a command may be sent now; the caller sends it."""
        if now_ns < self._hold_until_ns:
            return False
        if self._per_s is None:
            return True
        grown = (now_ns - self._filled_ns) / _NS_PER_S * self._per_s
        self._tokens, self._filled_ns = min(float(self._per_s), self._tokens + grown), now_ns
        return self._tokens >= 1

    def sent(self) -> None:
        """Take note that a command was sent."""
        self._tokens -= 1

    def hold(self, now_ns: int) -> int:
        """Wait, longer each time; return for how many seconds."""
        waits_s = self._hold_s
        self._hold_until_ns = now_ns + waits_s * _NS_PER_S
        self._hold_s = min(_LONGEST_HOLD_S, waits_s * 2)
        return waits_s

    def accepted(self) -> None:
        """Take note that the exchange keeps up."""
        self._hold_s = 1


class KalshiDialogue:
    """One connection's conversation."""

    def __init__(self, wishes: KalshiWishes) -> None:
        self._wanted: dict[str, None] = dict.fromkeys(wishes.tickers)
        self._channels: dict[str, Channel] = {}
        for name in (*wishes.whole, *wishes.filtered):
            self._channels[name] = Channel(
                name,
                None if name in wishes.whole else self._wanted,
                batch_size=wishes.batch_size,
                use_yes_price=wishes.use_yes_price,
            )
        self._books = BookRefresh(wishes.batch_size)
        self._pace = _Pace(wishes.commands_per_s)
        self._pending: dict[int, tuple[Command, int]] = {}
        self._next_id = 1
        self._ready = False
        self._last_refusal = ""
        self._lifecycle = LIFECYCLE_TYPES if UNFILTERED_CHANNELS & self._channels.keys() else frozenset[str]()

    @property
    def watched(self) -> frozenset[str]:
        """The types of data frames that must be shown to :meth:`data`."""
        return self._lifecycle | {_SNAPSHOT} if self._books.is_active else self._lifecycle

    @property
    def refused(self) -> tuple[str, ...]:
        """What the exchange does not grant, channel by channel; it is asked for again from time to time."""
        return tuple(f"{channel.name}: {channel.lacks}" for channel in self._channels.values() if channel.lacks)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is subscribed to, so that no frame is to be expected."""
        return self._ready and not self._pending and not any(one.is_live for one in self._channels.values())

    def begin(self, now_ns: int) -> list[Effect]:
        """Subscribe, a few commands in flight at a time."""
        return self._go_on(now_ns)

    def control(self, route: Route, frame: bytes, now_ns: int) -> list[Effect]:
        """Take ``subscribed``, ``ok``, ``unsubscribed`` or ``error``."""
        reply = read_reply(route.type, frame)
        is_error = reply.type == "error"
        if is_error and reply.code in _TERMINAL_CODES:
            return [Disconnect(Cause.TERMINAL_ERROR, words(reply))]
        if reply.type == "unsubscribed" and reply.sid in self._sids():
            return [Disconnect(Cause.TERMINAL_ERROR, f"the exchange ended subscription {reply.sid}")]
        command, _ = self._pending.pop(reply.id, (None, 0)) if reply.id is not None else (None, 0)
        if command is None:
            return self._other_refusal(reply, now_ns) if is_error else []
        if is_error and reply.code != ErrorCode.ALREADY_SUBSCRIBED:
            return self._refused(command, reply, now_ns)
        self._pace.accepted()
        effects = self._channels[command.channel].confirmed(command, reply.sid)
        if command.action is Action.DELETE and command.channel == BOOK_CHANNEL:
            effects += self._books.gone(command.tickers)
        return effects + self._go_on(now_ns)

    def data(self, route: Route, frame: bytes, now_ns: int) -> list[Effect]:
        """Take a frame of a watched type: a snapshot that is awaited, or news of a market."""
        if route.type in self._lifecycle:
            news = read_news(route.type, frame)
            return [Heard(news)] if news is not None else []
        book = self._channels.get(BOOK_CHANNEL)
        if route.ticker is None or book is None or _sid(route.seq_key) != book.sid:
            return []
        return self._books.arrived(route.ticker) + self._go_on(now_ns)

    def gap(self, gap_no: int, gap: SequenceGap, now_ns: int) -> list[Effect]:
        """Ask for every book behind the sid; other channels have no way back."""
        book = self._channels.get(BOOK_CHANNEL)
        if book is None or book.sid is None or book.sid != _sid(gap.key) or not (book.held or book.expected):
            return []
        self._books.begin(book.held, book.expected, now_ns, gap=(gap_no, gap.key))
        return self._go_on(now_ns)

    def refresh_books(self, now_ns: int) -> list[Effect]:
        """Ask for every book, so that what follows can be read without what came before."""
        book = self._channels.get(BOOK_CHANNEL)
        if book is None or not book.held:
            return []
        self._books.begin(book.held, (), now_ns)
        return self._go_on(now_ns)

    def change_markets(self, added: Iterable[str], removed: Iterable[str], now_ns: int) -> list[Effect]:
        """Follow what is wanted now."""
        new = list(added)
        old = [ticker for ticker in removed if ticker in self._wanted]
        self._wanted.update(dict.fromkeys(new))
        for ticker in old:
            self._wanted.pop(ticker, None)
        for channel in self._channels.values():
            if not channel.is_whole:
                channel.drop(old)
                channel.want(new)
        return self._go_on(now_ns)

    def tick(self, now_ns: int) -> list[Effect]:
        """Look for answers and snapshots that stay away."""
        late = [command for command, sent_ns in self._pending.values() if now_ns - sent_ns >= _ANSWER_NS]
        if late:
            return [Disconnect(Cause.SUBSCRIBE_TIMEOUT, f"no answer to {len(late)} commands")]
        book = self._channels.get(BOOK_CHANNEL)
        effects = self._books.tick(book.held if book is not None else (), now_ns)
        return effects + self._go_on(now_ns)

    def end(self) -> list[Effect]:
        """Unsubscribe before an orderly close."""
        sids = self._sids()
        return [Send(unsubscribe_text(self._next_id, sids))] if sids else []

    def _sids(self) -> list[int]:
        return sorted(channel.sid for channel in self._channels.values() if channel.sid is not None)

    def _refused(self, command: Command, reply: Reply, now_ns: int) -> list[Effect]:
        if reply.code == ErrorCode.UNKNOWN_SID and command.action is not Action.SUBSCRIBE:
            return [Disconnect(Cause.TERMINAL_ERROR, words(reply))]
        self._last_refusal = words(reply)
        verdict, effects = self._channels[command.channel].refuse(command, reply, now_ns)
        if verdict is Verdict.AGAIN:
            effects.append(self._postponed(reply, now_ns))
        return effects + self._go_on(now_ns)

    def _other_refusal(self, reply: Reply, now_ns: int) -> list[Effect]:
        """Take an error that answers a request for snapshots, or nothing we know."""
        passing = reply.code in PASSING_CODES
        if reply.id is None or not self._books.refused(reply.id, reply.ticker, again=passing):
            return [refusal_warning("", reply)]
        if reply.code == ErrorCode.UNKNOWN_SID:
            return [Disconnect(Cause.TERMINAL_ERROR, words(reply))]
        warning = self._postponed(reply, now_ns) if passing else refusal_warning(BOOK_CHANNEL, reply)
        return [warning, *self._go_on(now_ns)]

    def _postponed(self, reply: Reply, now_ns: int) -> Warn:
        in_s = self._pace.hold(now_ns)
        return Warn("command_postponed", {"code": reply.code, "text": reply.text, "in_s": in_s})

    def _go_on(self, now_ns: int) -> list[Effect]:
        """Say whatever can be said now."""
        effects: list[Effect] = []
        while self._pace.allows(now_ns):
            command = self._next_command(now_ns)
            if command is None:
                break
            self._next_id += 1
            self._pace.sent()
            effects.append(Send(command.text))
        return effects + self._settled()

    def _next_command(self, now_ns: int) -> Command | None:
        if len(self._pending) < _IN_FLIGHT:
            for channel in self._channels.values():
                command = channel.next_command(self._next_id, now_ns)
                if command is not None:
                    self._pending[command.id] = (command, now_ns)
                    return command
        book = self._channels.get(BOOK_CHANNEL)
        if book is None or book.sid is None:
            return None
        batch = self._books.next_batch()
        if not batch:
            return None
        self._books.asked(self._next_id, batch, now_ns)
        return update_command(self._next_id, Action.SNAPSHOT, BOOK_CHANNEL, book.sid, batch)

    def _settled(self) -> list[Effect]:
        """Tell once that everything wanted has its answer; where all of them are refusals, give up."""
        channels = self._channels.values()
        if self._ready or self._pending or any(channel.is_behind for channel in channels):
            return []
        self._ready = True
        refusals = sum(bool(channel.refusal) + len(channel.refused) for channel in channels)
        if refusals and not any(channel.is_live for channel in channels):
            return [Disconnect(Cause.SUBSCRIPTION_REFUSED, self._last_refusal)]
        return [Ready(refusals)]


def _sid(key: str) -> int | None:
    kind, _, number = key.partition(":")
    return int(number) if kind == "sid" and number.lstrip("-").isdecimal() else None
