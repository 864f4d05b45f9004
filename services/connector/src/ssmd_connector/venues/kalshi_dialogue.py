"""The conversation with Kalshi on one connection: subscribe, match answers by id, ask for books after a gap.

Answers come in another order than the commands, and either ``subscribed`` or ``ok`` confirms. Error codes 10 and
25 end a subscription for good; a new connection is the honest remedy, since its boundary is on record.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ssmd_connector.causes import Cause
from ssmd_connector.effects import Confirmed, Disconnect, Ready, Resynced, Send, Warn
from ssmd_connector.venues.kalshi import (
    BOOK_CHANNEL,
    read_reply,
    snapshot_command,
    subscribe_commands,
    unsubscribe_text,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ssmd_common.sequences import SequenceGap
    from ssmd_connector.effects import Effect
    from ssmd_connector.venues.kalshi import Command, Reply
    from ssmd_connector.venues.venue import Route

__all__ = ["KalshiDialogue", "KalshiWishes"]

_NS_PER_S = 1_000_000_000
_IN_FLIGHT = 8
_ANSWER_NS = 15 * _NS_PER_S
_RECOVERY_NS = 20 * _NS_PER_S
_RECOVERY_ATTEMPTS = 3
_ALREADY_SUBSCRIBED = 6
_TERMINAL_CODES = frozenset({10, 25})


@dataclass(frozen=True, slots=True)
class KalshiWishes:
    """What to subscribe to.

    Attributes:
        channels: Names of channels.
        tickers: Markets; empty for all of them, which the book channel does not offer.
        batch_size: Most markets in one command.
        use_yes_price: Whether books are quoted from the yes side throughout.
    """

    channels: tuple[str, ...]
    tickers: tuple[str, ...] = ()
    batch_size: int = 200
    use_yes_price: bool = True


@dataclass(slots=True)
class _Recovery:
    """Gaps of one sid that wait for snapshots of these markets."""

    gaps: list[int]
    awaited: set[str]
    asked_ns: int
    attempts: int = 1


@dataclass(slots=True)
class _Pending:
    command: Command
    sent_ns: int
    subscribes: bool = field(default=True)


class KalshiDialogue:
    """One connection's conversation."""

    def __init__(self, wishes: KalshiWishes) -> None:
        self._wishes = wishes
        self._waiting: deque[Command] = deque()
        self._pending: dict[int, _Pending] = {}
        self._next_id = 1
        self._confirmed = 0
        self._refusals: list[str] = []
        self._ready = False
        self._sids: dict[int, str] = {}
        self._book_markets: dict[str, None] = {}
        self._recoveries: dict[int, _Recovery] = {}

    @property
    def recovering(self) -> bool:
        """Whether a recovery waits for snapshots."""
        return bool(self._recoveries)

    def begin(self, now_ns: int) -> list[Effect]:
        """Subscribe, a few commands in flight at a time."""
        wishes = self._wishes
        self._waiting.extend(
            subscribe_commands(
                wishes.channels, wishes.tickers, batch_size=wishes.batch_size, use_yes_price=wishes.use_yes_price
            )
        )
        self._next_id = len(self._waiting) + 1
        return self._send_more(now_ns) if self._waiting else [Ready()]

    def control(self, route: Route, frame: bytes, now_ns: int) -> list[Effect]:
        """Take ``subscribed``, ``ok``, ``unsubscribed`` or ``error``."""
        reply = read_reply(route.type, frame)
        if reply.type == "error" and reply.code in _TERMINAL_CODES:
            return [Disconnect(Cause.TERMINAL_ERROR, f"code {reply.code}: {reply.text}")]
        if reply.sid is not None and reply.channel:
            self._sids[reply.sid] = reply.channel
        pending = self._pending.pop(reply.id, None) if reply.id is not None else None
        if reply.type == "error" and reply.code != _ALREADY_SUBSCRIBED:
            return self._refused(reply, pending, now_ns)
        if pending is None or reply.type == "unsubscribed" or not pending.subscribes:
            return []
        return self._confirm(reply, pending.command, now_ns)

    def data(self, route: Route, _now_ns: int) -> list[Effect]:
        """Take the snapshots a recovery waits for."""
        if route.type != "orderbook_snapshot" or route.ticker is None:
            return []
        sid = _sid(route.seq_key)
        recovery = self._recoveries.get(sid) if sid is not None else None
        if recovery is None or sid is None:
            return []
        recovery.awaited.discard(route.ticker)
        if recovery.awaited:
            return []
        del self._recoveries[sid]
        return [Resynced(number, route.seq_key) for number in recovery.gaps]

    def gap(self, gap_no: int, gap: SequenceGap, now_ns: int) -> list[Effect]:
        """Ask for every book behind the sid; other channels have no way back."""
        sid = _sid(gap.key)
        if sid is None or self._sids.get(sid) != BOOK_CHANNEL or not self._book_markets:
            return []
        earlier = self._recoveries.get(sid)
        gaps = [*(earlier.gaps if earlier else []), gap_no]
        self._recoveries[sid] = _Recovery(gaps, set(self._book_markets), now_ns)
        return self._ask_snapshots(sid, tuple(self._book_markets), now_ns)

    def tick(self, now_ns: int) -> list[Effect]:
        """Look for answers and snapshots that stay away."""
        late = [pending for pending in self._pending.values() if now_ns - pending.sent_ns >= _ANSWER_NS]
        if any(pending.subscribes for pending in late):
            return [Disconnect(Cause.SUBSCRIBE_TIMEOUT, f"no answer to {len(late)} commands")]
        for pending in late:
            del self._pending[pending.command.id]
        effects: list[Effect] = []
        for sid, recovery in list(self._recoveries.items()):
            if now_ns - recovery.asked_ns < _RECOVERY_NS:
                continue
            if recovery.attempts >= _RECOVERY_ATTEMPTS:
                del self._recoveries[sid]
                effects.append(
                    Warn("resync_given_up", {"sid": sid, "markets_without_snapshot": len(recovery.awaited)})
                )
                continue
            recovery.attempts += 1
            recovery.asked_ns = now_ns
            effects += self._ask_snapshots(sid, tuple(sorted(recovery.awaited)), now_ns)
        return effects

    def end(self) -> list[Effect]:
        """Unsubscribe before an orderly close."""
        return [Send(unsubscribe_text(self._next_id, sorted(self._sids)))] if self._sids else []

    def _confirm(self, reply: Reply, command: Command, now_ns: int) -> list[Effect]:
        self._confirmed += 1
        if command.channel == BOOK_CHANNEL:
            self._book_markets.update(dict.fromkeys(command.tickers))
        if reply.sid is not None:
            self._sids.setdefault(reply.sid, command.channel)
        confirmed = Confirmed(reply.channel or command.channel, reply.sid, command.tickers)
        return [confirmed, *self._send_more(now_ns)]

    def _refused(self, reply: Reply, pending: _Pending | None, now_ns: int) -> list[Effect]:
        words = f"code {reply.code}: {reply.text}"
        channel = pending.command.channel if pending else ""
        warning = Warn("command_refused", {"code": reply.code, "text": reply.text, "channel": channel})
        if pending is None or not pending.subscribes:
            return [warning]
        self._refusals.append(words)
        return [warning, *self._send_more(now_ns)]

    def _send_more(self, now_ns: int) -> list[Effect]:
        effects: list[Effect] = []
        while self._waiting and len(self._pending) < _IN_FLIGHT:
            command = self._waiting.popleft()
            self._pending[command.id] = _Pending(command, now_ns)
            effects.append(Send(command.text))
        if not self._ready and not any(pending.subscribes for pending in self._pending.values()):
            self._ready = True
            if self._confirmed:
                effects.append(Ready(len(self._refusals)))
            else:
                effects.append(Disconnect(Cause.SUBSCRIPTION_REFUSED, self._refusals[-1]))
        return effects

    def _ask_snapshots(self, sid: int, tickers: Sequence[str], now_ns: int) -> list[Effect]:
        effects: list[Effect] = []
        size = self._wishes.batch_size
        for start in range(0, len(tickers), size):
            command = snapshot_command(self._next_id, sid, tickers[start : start + size])
            self._next_id += 1
            self._pending[command.id] = _Pending(command, now_ns, subscribes=False)
            effects.append(Send(command.text))
        return effects


def _sid(key: str) -> int | None:
    kind, _, number = key.partition(":")
    return int(number) if kind == "sid" and number.lstrip("-").isdecimal() else None
