"""The exchange's own sequence numbers, followed frame by frame: what never reached us shows here.

Pure: numbers in, findings out. A key is whatever the exchange counts by: a subscription id (Kalshi), a product
(Coinbase), a symbol and message type (Binance). Every frame that carries a number advances it, control frames
too. One tracker lives as long as one connection, since exchanges start again on the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssmd_common.ranges import Range

__all__ = ["SequenceGap", "SequenceRepeat", "SequenceTracker"]


@dataclass(frozen=True, slots=True)
class SequenceGap:
    """Numbers were skipped.

    Attributes:
        key: What the sequence belongs to.
        after_seq: Highest number received before.
        next_seq: The number received instead of ``after_seq + 1``.
        missing_count: How many were skipped; None where the exchange leaves holes of its own.
        after_ns: When ``after_seq`` was received; None where nothing was.
    """

    key: str
    after_seq: int
    next_seq: int
    missing_count: int | None
    after_ns: int | None


@dataclass(frozen=True, slots=True)
class SequenceRepeat:
    """A number at or below the highest came again: a duplicate, or a frame that was overtaken.

    Attributes:
        key: What the sequence belongs to.
        highest_seq: Highest number received before it.
        seq: The number that came.
        was_missing: Whether it fills part of a gap found before.
        healed: The ``after_seq`` of each gap of which nothing is missing any more.
    """

    key: str
    highest_seq: int
    seq: int
    was_missing: bool
    healed: tuple[int, ...] = ()


class SequenceTracker:
    """Follows any number of sequences of one connection.

    Args:
        starts_at: First number of every sequence, where the exchange promises one: a first frame above it is a
            gap. None takes whatever comes first as the beginning.
        leaves_holes: Whether the exchange's sequence skips numbers without loss (a filtered channel); only a number
            that comes again or goes back is found then.
    """

    __slots__ = ("_highest", "_leaves_holes", "_missing", "_starts_at")

    _MAX_GAPS = 1024

    def __init__(self, *, starts_at: int | None = None, leaves_holes: bool = False) -> None:
        self._starts_at = starts_at
        self._leaves_holes = leaves_holes
        self._highest: dict[str, tuple[int, int]] = {}
        # What is missing yet of each gap, by key and the number before the gap.
        self._missing: dict[str, dict[int, list[Range]]] = {}

    def observe(
        self, key: str, first: int, last: int | None = None, *, at_ns: int = 0
    ) -> SequenceGap | SequenceRepeat | None:
        """Take the numbers of one frame.

        Args:
            key: What the sequence belongs to.
            first: The frame's number, or the first of its range.
            last: The last of its range (inclusive); None for a single number. One less than ``first`` is that of a
                frame that only says where the sequence stands.
            at_ns: When the frame was received.

        Returns:
            What is wrong with them, or None when they continue the sequence.
        """
        if last is None or last < first - 1:
            last = first
        known = self._highest.get(key)
        if known is None:
            self._highest[key] = (last, at_ns)
            if self._starts_at is None or self._leaves_holes or first <= self._starts_at:
                return None
            return self._gap(key, self._starts_at - 1, first, None)
        highest, highest_ns = known
        if first == highest + 1 or (self._leaves_holes and first > highest):
            self._highest[key] = (last, at_ns)
            return None
        if first > highest:
            self._highest[key] = (last, at_ns)
            return self._gap(key, highest, first, highest_ns)
        if last > highest:
            # A range that overlaps what is known and goes on: nothing is missing, and some of it may have been.
            self._highest[key] = (last, at_ns)
        was_missing, healed = self._fill(key, first, last) if last >= first else (False, ())
        if last > highest and not was_missing:
            return None
        return SequenceRepeat(key, highest, first, was_missing, healed)

    def highest(self, key: str) -> int | None:
        """Return the highest number of ``key`` so far; None before its first."""
        known = self._highest.get(key)
        return known[0] if known else None

    def missing(self, key: str) -> list[Range]:
        """Return the ranges of ``key`` that never came, half-open, of the latest 1,024 gaps."""
        return [part for ranges in self._missing.get(key, {}).values() for part in ranges]

    def forget(self, key: str) -> None:
        """Forget a sequence that the exchange ended, or begins anew."""
        self._highest.pop(key, None)
        self._missing.pop(key, None)

    def _gap(self, key: str, after: int, following: int, after_ns: int | None) -> SequenceGap:
        gaps = self._missing.setdefault(key, {})
        gaps[after] = [(after + 1, following)]
        if len(gaps) > self._MAX_GAPS:
            del gaps[next(iter(gaps))]
        return SequenceGap(key, after, following, following - after - 1, after_ns)

    def _fill(self, key: str, first: int, last: int) -> tuple[bool, tuple[int, ...]]:
        """Take ``first..last`` out of what is missing; tell whether any of it was, and the gaps this closed."""
        gaps = self._missing.get(key, {})
        was_missing, healed = False, []
        for after, ranges in gaps.items():
            kept: list[Range] = []
            for start, end in ranges:
                pieces = ((start, min(end, first)), (max(start, last + 1), end))
                kept.extend(piece for piece in pieces if piece[0] < piece[1])
            if kept != ranges:
                was_missing = True
                gaps[after] = kept
                if not kept:
                    healed.append(after)
        for after in healed:
            del gaps[after]
        return was_missing, tuple(healed)
