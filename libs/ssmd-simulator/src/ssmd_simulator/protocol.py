"""The state of one connection: commands in, frames out.

In the middle of the generated road: `market` says what happens, this decides which client hears of it under
which sid and seq, `frames` writes it. Sans-IO and without a clock; the server calls :meth:`Session.handle`
for each message of the client, :meth:`Session.next_frames` whenever data frames are due and :meth:`Session.news` a
few times a second, and must send what they return in the order of the calls.

The rules of sequence, which a client's gap check rests on:

* a sid is given to a channel at its first subscription and never used again in this connection;
* its seq starts at 1 and is shared by all its markets;
* every frame with a sid and a seq consumes one: snapshots, deltas, trades, and also `ok`, `error` and
  `unsubscribed`. `subscribed` has none; tickers and lifecycle frames have none.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ssmd_simulator import frames
from ssmd_simulator.commands import Command, ErrorCode, Params, decode
from ssmd_simulator.frames import Instant
from ssmd_simulator.market import (
    BookChange,
    Channel,
    Event,
    Exchange,
    Interest,
    LifecycleChange,
    Market,
    Quote,
    Trade,
)
from ssmd_simulator.subscriptions import ACTIONS, CHANNELS, PRIVATE_CHANNELS, Subscription

__all__ = ["Session"]

#: In which channel each event is told.
_CHANNEL_OF: dict[type[Event], Channel] = {
    BookChange: Channel.ORDERBOOK,
    Trade: Channel.TRADE,
    Quote: Channel.TICKER,
    LifecycleChange: Channel.LIFECYCLE,
}


@dataclass(frozen=True, slots=True)
class _Refused:
    """Why an update of a subscription cannot be done."""

    code: ErrorCode
    market_ticker: str = ""


class Session:
    """One client's connection to the exchange.

    Args:
        exchange: The markets this connection looks at; nobody else may move them.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._subscriptions: dict[Channel, Subscription] = {}
        self._sids_given = 0
        self._interest = Interest(())
        # What has happened in the market and was not told yet.
        self._pending: deque[Event] = deque()

    @property
    def streaming(self) -> bool:
        """Whether any data frame can come: something with markets is subscribed."""
        return bool(self._interest)

    @property
    def subscribed(self) -> bool:
        """Whether anything is subscribed, so that news may have to be told."""
        return bool(self._subscriptions)

    def news(self, now_ns: int) -> list[bytes]:
        """Return what became of the exchange's markets since the last call, as far as this client listens.

        Markets that are new join the subscriptions to all of them; those that are settled trade no more. What had
        happened before is told first.
        """
        changes = self._exchange.news()
        if not changes:
            return []
        now = Instant.at(now_ns)
        told = self._flush(now)
        for change in changes:
            frame = self._tell(change, now)
            if frame is not None:
                told.append(frame)
            if change.kind == "settled":
                self._dismiss(change.market)
        self._renew_interest()
        return told

    def handle(self, text: bytes, now_ns: int) -> list[bytes]:
        """Answer one message of the client.

        Returns:
            The frames to send, in order. What had already happened is told first: a snapshot must not
            hold a change whose delta follows it.
        """
        now = Instant.at(now_ns)
        answer = [*self.news(now_ns), *self._flush(now)]
        command = decode(text)
        if not isinstance(command, Command):
            return [*answer, frames.error(command.id, ErrorCode.MALFORMED)]
        match command.cmd:
            case "subscribe":
                answer += self._subscribe(command, now)
            case "unsubscribe":
                answer += self._unsubscribe(command)
            case "update_subscription":
                answer += self._update(command)
            case "list_subscriptions":
                answer.append(self._list(command))
            case _:
                answer.append(frames.error(command.id, ErrorCode.UNKNOWN_COMMAND))
        self._renew_interest()
        return answer

    def fail(self, code: ErrorCode) -> list[bytes]:
        """End a subscription with an error, the one with most frames where there are several; none says nothing.

        The error is the last frame of its sid. The client may subscribe again, under another sid.
        """
        failing = max(self._subscriptions.values(), key=lambda held: held.seq, default=None)
        if failing is None:
            return []
        del self._subscriptions[failing.channel]
        self._renew_interest()
        return [frames.error(0, code, sid=failing.sid, seq=failing.next_seq() if failing.seq else None)]

    def next_frames(self, count: int, now_ns: int) -> list[bytes]:
        """Return the next ``count`` data frames, all of one moment; none while nothing is subscribed."""
        now = Instant.at(now_ns)
        told: list[bytes] = []
        while len(told) < count:
            if not self._pending:
                if not self._interest:
                    break
                self._pending.extend(self._exchange.advance(self._interest))
            frame = self._tell(self._pending.popleft(), now)
            if frame is not None:
                told.append(frame)
        return told

    def _flush(self, now: Instant) -> list[bytes]:
        """Return the frames of what has happened and was not told yet."""
        told = [frame for event in self._pending if (frame := self._tell(event, now)) is not None]
        self._pending.clear()
        return told

    def _tell(self, event: Event, now: Instant) -> bytes | None:
        """Return the frame of an event, or None where this client does not listen to it."""
        if isinstance(event, LifecycleChange) and event.kind == "created":
            self._admit(event.market)
        heard = self._listening(_CHANNEL_OF[type(event)], event.market)
        if heard is None:
            return None
        match event:
            case BookChange():
                seq = heard.next_seq()
                return frames.orderbook_delta(heard.sid, seq, event, now, use_yes_price=heard.use_yes_price)
            case Trade():
                return frames.trade(heard.sid, heard.next_seq(), event, now)
            case Quote():
                return frames.ticker(heard.sid, event, now)
            case LifecycleChange():
                return frames.lifecycle(heard.sid, event)

    def _listening(self, channel: Channel, market: Market) -> Subscription | None:
        subscription = self._subscriptions.get(channel)
        if subscription is None or market.listing.ticker not in subscription.markets:
            return None
        return subscription

    def _admit(self, market: Market) -> None:
        """Let a newly listed market into the subscriptions that asked for all of them."""
        for subscription in self._subscriptions.values():
            if subscription.all_markets:
                subscription.markets[market.listing.ticker] = market

    def _dismiss(self, market: Market) -> None:
        """Take a settled market out of the subscriptions to all; those that named it hold it until they drop it."""
        for subscription in self._subscriptions.values():
            if subscription.all_markets:
                subscription.markets.pop(market.listing.ticker, None)

    def _renew_interest(self) -> None:
        self._interest = Interest(
            (channel, tuple(market for market in subscription.markets.values() if market.entry.is_open))
            for channel, subscription in sorted(self._subscriptions.items())
        )

    def _subscribe(self, command: Command, now: Instant) -> list[bytes]:
        params = command.params
        if params is None:
            return [frames.error(command.id, ErrorCode.PARAMS_REQUIRED)]
        if not params.channels:
            return [frames.error(command.id, ErrorCode.CHANNELS_REQUIRED)]
        if params.market_ticker is not None and params.market_tickers is not None:
            return [frames.error(command.id, ErrorCode.INVALID_PARAMETER)]
        return [
            frame for name in params.channels for frame in self._subscribe_channel(command.id, name, params, now)
        ]

    def _subscribe_channel(self, command_id: int, name: str, params: Params, now: Instant) -> list[bytes]:
        if name in PRIVATE_CHANNELS:
            return [frames.error(command_id, ErrorCode.AUTHENTICATION_REQUIRED)]
        channel = CHANNELS.get(name)
        if channel is None:
            return [frames.error(command_id, ErrorCode.UNKNOWN_CHANNEL)]
        # The lifecycle channel cannot be filtered: names of markets beside it are for the other channels.
        tickers = None if channel is Channel.LIFECYCLE else params.tickers
        if tickers is None and channel is Channel.ORDERBOOK:
            return [frames.error(command_id, ErrorCode.MARKET_REQUIRED)]
        markets = self._find(tickers)
        if isinstance(markets, str):
            return [frames.error(command_id, ErrorCode.MARKET_NOT_FOUND, market_ticker=markets)]
        subscription = self._subscriptions.get(channel)
        if subscription is None:
            self._sids_given += 1
            subscription = Subscription(self._sids_given, channel, use_yes_price=params.use_yes_price)
            self._subscriptions[channel] = subscription
            added = subscription.add(markets, all_markets=tickers is None)
            confirmation = frames.subscribed(command_id, channel, subscription.sid)
        elif subscription.all_markets:
            return [frames.error(command_id, ErrorCode.ALREADY_SUBSCRIBED)]
        else:
            added = subscription.add(markets, all_markets=tickers is None)
            confirmation = self._ok(command_id, subscription, params)
        quotes_at = now if params.send_initial_snapshot else None
        return [confirmation, *self._first_frames(subscription, added, quotes_at)]

    def _find(self, tickers: tuple[str, ...] | None) -> list[Market] | str:
        """Return the named markets (None: all that trade), or the first name that is not listed."""
        if tickers is None:
            return self._exchange.markets
        found = []
        for name in tickers:
            market = self._exchange.find(name)
            if market is None:
                return name
            found.append(market)
        return found

    def _first_frames(
        self, subscription: Subscription, added: list[Market], quotes_at: Instant | None = None
    ) -> list[bytes]:
        """Return what a market's first subscriber is told of it: its book, or (if asked for) its quote."""
        if subscription.channel is Channel.ORDERBOOK:
            return subscription.snapshots(added)
        if subscription.channel is Channel.TICKER and quotes_at is not None:
            return [frames.ticker(subscription.sid, self._exchange.quote(market), quotes_at) for market in added]
        return []

    @staticmethod
    def _ok(command_id: int, subscription: Subscription, params: Params) -> bytes:
        msg = {} if params.skip_ticker_ack else {"market_tickers": sorted(subscription.markets)}
        return frames.ok(command_id, sid=subscription.sid, seq=subscription.next_seq(), msg=msg)

    def _unsubscribe(self, command: Command) -> list[bytes]:
        if command.params is None:
            return [frames.error(command.id, ErrorCode.PARAMS_REQUIRED)]
        if not command.params.sids:
            return [frames.error(command.id, ErrorCode.SIDS_REQUIRED)]
        answer = []
        for sid in command.params.sids:
            subscription = self._by_sid(sid)
            if subscription is None:
                answer.append(frames.error(command.id, ErrorCode.UNKNOWN_SID))
            else:
                del self._subscriptions[subscription.channel]
                answer.append(frames.unsubscribed(command.id, sid=sid, seq=subscription.next_seq()))
        return answer

    def _by_sid(self, sid: int) -> Subscription | None:
        return next((held for held in self._subscriptions.values() if held.sid == sid), None)

    def _update(self, command: Command) -> list[bytes]:
        params = command.params
        if params is None:
            return [frames.error(command.id, ErrorCode.PARAMS_REQUIRED)]
        sids = params.sids if params.sid is None else (*params.sids, params.sid)
        if len(sids) != 1:
            return [frames.error(command.id, ErrorCode.ONE_SID_REQUIRED)]
        subscription = self._by_sid(sids[0])
        if subscription is None:
            return [frames.error(command.id, ErrorCode.UNKNOWN_SID)]

        return self._change(command.id, subscription, params)

    def _change(self, command_id: int, subscription: Subscription, params: Params) -> list[bytes]:
        """Do what an update asks of a subscription, or refuse it."""
        target = self._target(subscription, params)
        if isinstance(target, _Refused):
            # About a sid, so it carries that sid's seq, and consumes it.
            sid, seq = subscription.sid, subscription.next_seq()
            return [frames.error(command_id, target.code, sid=sid, seq=seq, market_ticker=target.market_ticker)]
        if params.action == "get_snapshot":
            return subscription.snapshots(target)
        if params.action == "delete_markets":
            for market in target:
                subscription.markets.pop(market.listing.ticker, None)
            subscription.all_markets = False
            return [self._ok(command_id, subscription, params)]
        added = subscription.add(target, all_markets=False)
        confirmation = self._ok(command_id, subscription, params)
        return [confirmation, *self._first_frames(subscription, added)]

    def _target(self, subscription: Subscription, params: Params) -> list[Market] | _Refused:
        """Return the markets an update is about, or why it cannot be done."""
        if not params.action:
            return _Refused(ErrorCode.ACTION_REQUIRED)
        if params.action not in ACTIONS[subscription.channel]:
            return _Refused(ErrorCode.UNSUPPORTED_ACTION)
        if params.tickers is None:
            return _Refused(ErrorCode.MARKET_REQUIRED)
        markets = self._find(params.tickers)
        if isinstance(markets, str):
            return _Refused(ErrorCode.MARKET_NOT_FOUND, markets)
        if params.action == "get_snapshot":
            # A snapshot of a book this sid does not follow would have no deltas after it.
            for market in markets:
                if market.listing.ticker not in subscription.markets:
                    return _Refused(ErrorCode.MARKET_NOT_FOUND, market.listing.ticker)
        return markets

    def _list(self, command: Command) -> bytes:
        held = sorted(self._subscriptions.values(), key=lambda subscription: subscription.sid)
        return frames.ok(command.id, msg=[{"channel": one.channel.value, "sid": one.sid} for one in held])
