"""One channel's subscription on one connection of Kalshi: what is wanted of it, and what the exchange confirmed.

A market is in one command at a time, so that answers may come in any order: what changes meanwhile waits for its
answer. The first command subscribes; with the answer the sid is known, and markets come and go by
``update_subscription``. A sid is never given up for one market, since that would cost all the others.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from ssmd_connector.effects import Confirmed, Left, Warn
from ssmd_connector.venues.kalshi import Action, subscribe_command, update_command

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from ssmd_connector.effects import Effect
    from ssmd_connector.venues.kalshi import Command, Reply

__all__ = ["PASSING_CODES", "Channel", "ErrorCode", "Verdict", "refusal_warning", "words"]

_FULL_NS = 30_000_000_000
"""How long a subscription that is full is left alone, unless a market leaves it."""
_REFUSED_NS = 300_000_000_000
"""After how long what was refused is asked for again: a market may not have been there yet, and trouble passes."""
_MOST_ALONE = 8
"""Where so many markets, each asked for alone, are invalid before any was granted, it is not the markets."""


class ErrorCode:
    """The codes of errors after which something else than giving up is right."""

    ALREADY_SUBSCRIBED = 6
    UNKNOWN_SID = 7
    CHANNEL_ERROR = 10
    INVALID_PARAMETER = 11
    MARKET_NOT_FOUND = 16
    INTERNAL_ERROR = 17
    COMMAND_TIMEOUT = 18
    BUFFER_OVERFLOW = 25
    MARKET_LIMIT = 26
    COMMAND_RATE = 27


PASSING_CODES = frozenset({ErrorCode.INTERNAL_ERROR, ErrorCode.COMMAND_TIMEOUT, ErrorCode.COMMAND_RATE})
"""The codes of errors that say nothing of the command: the same may be granted a little later."""
_ABOUT_A_MARKET = frozenset({ErrorCode.MARKET_NOT_FOUND, ErrorCode.INVALID_PARAMETER})
"""The codes of errors that one market of a command may be the reason of."""


class Verdict(Enum):
    """What follows from a refusal."""

    AGAIN = "again"
    """Wait, and the same is asked again."""
    SETTLED = "settled"
    """Go on with the next command."""


class Channel:
    """A channel of one connection.

    Args:
        name: Its name.
        wanted: The markets wanted on this connection, kept up to date by the owner; None for a subscription to all.
        batch_size: Most markets in one command.
        use_yes_price: Whether books are quoted from the yes side throughout.

    Attributes:
        sid: The subscription; None before its confirmation.
        held: The markets the exchange confirmed.
        refused: The markets it does not have, or would not add.
        refusal: Why it refused the channel; empty while it did not.
    """

    def __init__(self, name: str, wanted: Collection[str] | None, *, batch_size: int, use_yes_price: bool) -> None:
        self.name = name
        self.sid: int | None = None
        self.held: dict[str, None] = {}
        self.refused: set[str] = set()
        self.refusal = ""
        self._wanted = wanted
        self._batch_size = self._limit = batch_size
        self._use_yes_price = use_yes_price
        self._established = False
        self._subscribing = False
        self._full_until_ns = 0
        self._refused_until_ns = 0
        self._told: set[str] = set()
        self._is_full = False
        self._limited_alone = False
        self._adding: dict[str, None] = {}
        self._removing: set[str] = set()
        self._to_add: dict[str, None] = dict.fromkeys(wanted or ())
        self._to_remove: dict[str, None] = {}

    @property
    def is_whole(self) -> bool:
        """Whether it is a subscription to all markets."""
        return self._wanted is None

    @property
    def is_live(self) -> bool:
        """Whether frames are to be expected of it."""
        return self._established and (self._wanted is None or bool(self.held))

    @property
    def is_behind(self) -> bool:
        """Whether something wanted has no confirmation yet, and none is being waited for in vain."""
        if self.refusal:
            return False
        if self._wanted is None:
            return not self._established
        return bool(self._adding) or (bool(self._to_add) and not self._is_full)

    @property
    def lacks(self) -> str:
        """What the exchange does not grant of it, in words; empty where that is nothing."""
        if self.refusal:
            return self.refusal
        parts = [f"{len(self.refused)} of the markets"] if self.refused else []
        if self._is_full:
            parts.append(f"no room for {self._left_out} of the markets")
        return ", ".join(parts)

    @property
    def _left_out(self) -> int:
        """How many of the markets that could be had are not subscribed to."""
        return max(0, len(self._wanted or ()) - len(self.held) - len(self.refused))

    @property
    def expected(self) -> list[str]:
        """The markets whose confirmation is awaited."""
        return list(self._adding)

    def want(self, tickers: Iterable[str]) -> None:
        """Subscribe to these too, refused before or not; the owner's set holds them already."""
        for ticker in tickers:
            self._to_remove.pop(ticker, None)
            self.refused.discard(ticker)
            if not (ticker in self.held or ticker in self._adding):
                self._to_add[ticker] = None

    def drop(self, tickers: Iterable[str]) -> None:
        """Subscribe to these no longer; the owner's set has lost them already."""
        for ticker in tickers:
            self.refused.discard(ticker)
            self._told.discard(ticker)
            self._to_add.pop(ticker, None)
            if ticker in self.held and ticker not in self._removing:
                self._to_remove[ticker] = None

    def next_command(self, command_id: int, now_ns: int) -> Command | None:
        """Return what to say next, None where there is nothing, or an answer must come first."""
        if self._refused_until_ns and now_ns >= self._refused_until_ns:
            self._ask_again()
        if self.refusal:
            return None
        if self._wanted is None:
            return None if self._established or self._subscribing else self._subscribe(command_id, ())
        if self.sid is not None and self._to_remove:
            gone = self._take(self._to_remove)
            self._removing.update(gone)
            return update_command(command_id, Action.DELETE, self.name, self.sid, gone)
        waits = now_ns < self._full_until_ns or (self.sid is None and self._subscribing)
        if waits or not self._to_add:
            return None
        batch = self._take(self._to_add)
        self._adding.update(dict.fromkeys(batch))
        if self.sid is None:
            return self._subscribe(command_id, batch)
        return update_command(command_id, Action.ADD, self.name, self.sid, batch)

    def confirmed(self, command: Command, sid: int | None) -> list[Effect]:
        """Take the confirmation of a command."""
        self._answered(command)
        self._established = True
        if sid is not None:
            self.sid = sid
        self._limit = min(self._batch_size, self._limit * 2)
        self._is_full = self._limited_alone = False
        if command.action is Action.DELETE:
            self._full_until_ns = 0
            self._gone(command.tickers)
            return [Left(self.name, self.sid, command.tickers)]
        for ticker in command.tickers:
            self.held[ticker] = None
            if self._wanted is not None and ticker not in self._wanted:
                self._to_remove[ticker] = None
        return [Confirmed(self.name, self.sid, command.tickers)]

    def refuse(self, command: Command, reply: Reply, now_ns: int) -> tuple[Verdict, list[Effect]]:
        """Take the refusal of a command; what can be had all the same is asked for again."""
        self._answered(command)
        if reply.code in PASSING_CODES:
            self._requeue(command, command.tickers)
            if reply.code == ErrorCode.INTERNAL_ERROR and command.action is not Action.DELETE:
                self._give_way(command)
            return Verdict.AGAIN, []
        if command.action is Action.DELETE:
            return Verdict.SETTLED, self._delete_refused(command, reply)
        if command.tickers and reply.code in _ABOUT_A_MARKET:
            return Verdict.SETTLED, self._one_refused(command, reply, now_ns)
        if command.tickers and reply.code == ErrorCode.MARKET_LIMIT:
            return Verdict.SETTLED, self._limited(command, now_ns)
        if not self._established:
            self.refusal = words(reply)
            self._wait_to_ask_again(now_ns)
            return Verdict.SETTLED, [refusal_warning(self.name, reply)]
        is_news = self._note_refused(command.tickers, now_ns)
        return Verdict.SETTLED, [refusal_warning(self.name, reply)] if is_news else []

    def _subscribe(self, command_id: int, tickers: tuple[str, ...]) -> Command:
        self._subscribing = True
        return subscribe_command(command_id, self.name, tickers, use_yes_price=self._use_yes_price)

    def _take(self, queue: dict[str, None]) -> tuple[str, ...]:
        batch = tuple(ticker for ticker, _ in zip(queue, range(self._limit), strict=False))
        for ticker in batch:
            del queue[ticker]
        return batch

    def _answered(self, command: Command) -> None:
        if command.action is Action.SUBSCRIBE:
            self._subscribing = False
        if command.action is Action.DELETE:
            self._removing.difference_update(command.tickers)
        else:
            for ticker in command.tickers:
                self._adding.pop(ticker, None)

    def _requeue(self, command: Command, tickers: Iterable[str]) -> None:
        """Ask for these again, before others, as far as that is still wanted."""
        if command.action is Action.DELETE:
            still = {ticker: None for ticker in tickers if ticker not in (self._wanted or ())}
            self._to_remove = still | self._to_remove
        else:
            still = {ticker: None for ticker in tickers if ticker in (self._wanted or ())}
            self._to_add = still | self._to_add

    def _gone(self, tickers: Iterable[str]) -> None:
        """Take note that the subscription does not hold these any more."""
        for ticker in tickers:
            self.held.pop(ticker, None)
            if ticker in (self._wanted or ()):
                self._to_add[ticker] = None

    def _halve(self, command: Command) -> None:
        """Ask for the same in smaller batches, until the one market that cannot be had is alone."""
        self._limit = max(1, len(command.tickers) // 2)
        self._requeue(command, command.tickers)

    def _give_way(self, command: Command) -> None:
        """Ask for the others first, and then for these in smaller batches: the trouble may be with one market."""
        self._limit = max(1, len(command.tickers) // 2)
        for ticker in command.tickers:
            if ticker in self._to_add:
                del self._to_add[ticker]
                self._to_add[ticker] = None

    def _ask_again(self) -> None:
        """Ask for all that was refused once more."""
        self._refused_until_ns = 0
        self.refusal = ""
        self.refused.clear()
        missing = (ticker for ticker in self._wanted or () if ticker not in self.held)
        self._to_add |= {ticker: None for ticker in missing if ticker not in self._adding}

    def _wait_to_ask_again(self, now_ns: int) -> None:
        # From the first refusal on: later ones, of which there may be one a minute, do not put it off.
        self._refused_until_ns = self._refused_until_ns or now_ns + _REFUSED_NS

    def _note_refused(self, tickers: Iterable[str], now_ns: int) -> bool:
        """Do without these until they are asked for again; tell whether any of them is news."""
        wanted = [ticker for ticker in tickers if ticker in (self._wanted or ())]
        if wanted:
            self.refused.update(wanted)
            self._wait_to_ask_again(now_ns)
        known = len(self._told)
        self._told.update(wanted)
        return len(self._told) > known

    def _one_refused(self, command: Command, reply: Reply, now_ns: int) -> list[Effect]:
        """Find the market that was the reason, and do without it alone."""
        if reply.ticker in command.tickers:
            refused = reply.ticker
        elif len(command.tickers) == 1:
            (refused,) = command.tickers
        else:
            self._halve(command)
            return []
        self._requeue(command, [ticker for ticker in command.tickers if ticker != refused])
        is_news = self._note_refused([refused], now_ns)
        is_missing = reply.code == ErrorCode.MARKET_NOT_FOUND
        if not (is_missing or self._established) and len(self.refused) >= _MOST_ALONE:
            self.refusal = words(reply)
        if not is_news:
            return []
        if is_missing:
            return [Warn("market_not_found", {"channel": self.name, "ticker": refused})]
        return [refusal_warning(self.name, reply, ticker=refused)]

    def _limited(self, command: Command, now_ns: int) -> list[Effect]:
        """Take it that the subscription is full, once a single market was refused twice."""
        if len(command.tickers) > 1 or not self._limited_alone:
            self._limited_alone = len(command.tickers) == 1
            self._halve(command)
            return []
        self._requeue(command, command.tickers)
        self._full_until_ns = now_ns + _FULL_NS
        if self._is_full:
            return []
        self._is_full = True
        counts = {"subscribed": len(self.held), "left_out": self._left_out}
        remedy = "raise websocket.kalshi.sockets"
        return [Warn("market_limit_reached", {"channel": self.name, **counts, "remedy": remedy})]

    def _delete_refused(self, command: Command, reply: Reply) -> list[Effect]:
        if reply.code != ErrorCode.MARKET_NOT_FOUND:
            return [refusal_warning(self.name, reply)]
        if reply.ticker in command.tickers:
            self._gone([reply.ticker])
            self._requeue(command, [ticker for ticker in command.tickers if ticker != reply.ticker])
        elif len(command.tickers) == 1:
            self._gone(command.tickers)
        else:
            self._halve(command)
        return []


def words(reply: Reply) -> str:
    """Return an error's code and text in one line."""
    return f"code {reply.code}: {reply.text}"


def refusal_warning(channel: str, reply: Reply, *, ticker: str = "") -> Warn:
    """Return what the operator is told of a refused command."""
    named = {"ticker": ticker} if ticker else {}
    return Warn("command_refused", {"code": reply.code, "text": reply.text, "channel": channel, **named})
