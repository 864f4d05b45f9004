"""Asking for all books of a connection anew: after a gap in their sequence, and once a day.

Books are asked for in batches, few at a time, since each answer is large. Whatever snapshot of a market comes after
the beginning counts: it shows the book as of its place in the sequence, behind the gap.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ssmd_connector.effects import Refreshed, Resynced, Warn

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from ssmd_connector.effects import Effect

__all__ = ["BookRefresh"]

_IN_FLIGHT = 2
_ANSWER_NS = 20_000_000_000
_ROUNDS = 3


@dataclass(slots=True)
class _Asked:
    """A batch on its way: what of it has not come."""

    tickers: set[str]
    asked_ns: int


class BookRefresh:
    """The books of one connection that are being asked for anew.

    Args:
        batch_size: Most books in one command.
    """

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._key = ""
        self._gaps: list[int] = []
        self._scheduled = False
        self._books = 0
        self._awaited: set[str] = set()
        self._unasked: deque[str] = deque()
        self._asked: dict[int, _Asked] = {}
        self._round = 0
        self._latest_ns = 0

    @property
    def is_active(self) -> bool:
        """Whether snapshots are awaited."""
        return bool(self._awaited)

    def begin(
        self, books: Iterable[str], expected: Iterable[str], now_ns: int, *, gap: tuple[int, str] | None = None
    ) -> None:
        """Ask for all of them, from the beginning where that was going on already.

        Args:
            books: The markets subscribed to.
            expected: Those whose subscription is not confirmed yet: their snapshot comes by itself, unless it fell
                into the gap, and is asked for when it stays away.
            now_ns: The monotonic clock.
            gap: Number and key of the gap that made it necessary; none where it is time for a refresh.
        """
        if gap is None:
            self._scheduled = True
        else:
            number, self._key = gap
            self._gaps.append(number)
        self._unasked = deque(books)
        self._awaited = {*self._unasked, *expected}
        self._books = len(self._awaited)
        self._asked.clear()
        self._round, self._latest_ns = 1, now_ns

    def next_batch(self) -> tuple[str, ...]:
        """Return the books to ask for now; none while enough are on their way."""
        batch: list[str] = []
        if len(self._asked) >= _IN_FLIGHT:
            return ()
        while self._unasked and len(batch) < self._batch_size:
            ticker = self._unasked.popleft()
            if ticker in self._awaited:
                batch.append(ticker)
        return tuple(batch)

    def asked(self, command_id: int, tickers: Collection[str], now_ns: int) -> None:
        """Take note that a batch was asked for."""
        self._asked[command_id] = _Asked(set(tickers), now_ns)
        self._latest_ns = now_ns

    def arrived(self, ticker: str) -> list[Effect]:
        """Take a snapshot."""
        self._awaited.discard(ticker)
        for command_id, asked in list(self._asked.items()):
            asked.tickers.discard(ticker)
            if not asked.tickers:
                del self._asked[command_id]
        return self._finished()

    def gone(self, tickers: Iterable[str]) -> list[Effect]:
        """Wait no longer for markets that are not subscribed to any more."""
        if not self._awaited:
            return []
        self._awaited.difference_update(tickers)
        return self._finished()

    def refused(self, command_id: int, ticker: str = "", *, again: bool) -> bool:
        """Take the refusal of a batch; return whether it was one of ours.

        Args:
            command_id: The command.
            ticker: The market the exchange does not have; the others can be asked for at once.
            again: Whether the same batch is worth another try.
        """
        asked = self._asked.pop(command_id, None)
        if asked is None:
            return False
        if again or ticker:
            self._unasked.extendleft(sorted(asked.tickers - {ticker}))
        return True

    def tick(self, held: Collection[str], now_ns: int) -> list[Effect]:
        """Ask again for what stays away, and give up after some rounds."""
        if not self._awaited:
            return []
        for command_id, asked in list(self._asked.items()):
            if now_ns - asked.asked_ns >= _ANSWER_NS:
                del self._asked[command_id]
        if self._asked or self._unasked or now_ns - self._latest_ns < _ANSWER_NS:
            return []
        if self._round < _ROUNDS:
            self._round += 1
            self._latest_ns = now_ns
            self._unasked = deque(sorted(ticker for ticker in self._awaited if ticker in held))
            return []
        event = "resync_given_up" if self._gaps else "refresh_given_up"
        without = len(self._awaited)
        self._clear()
        return [Warn(event, {"markets_without_snapshot": without})]

    def _finished(self) -> list[Effect]:
        if self._awaited or not self._round:
            return []
        effects: list[Effect] = [Resynced(number, self._key) for number in self._gaps]
        if self._scheduled:
            effects.append(Refreshed(self._books))
        self._clear()
        return effects

    def _clear(self) -> None:
        self._gaps = []
        self._scheduled = False
        self._awaited.clear()
        self._unasked.clear()
        self._asked.clear()
        self._round = 0
