"""Sets of numbers kept as half-open ranges: sequences and frame numbers, nearly always one long run."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

__all__ = ["Range", "Ranges", "range_total"]

Range = tuple[int, int]
"""``[first, end)``."""


def range_total(ranges: Iterable[Range]) -> int:
    """Return how many numbers disjoint ranges hold."""
    return sum(end - first for first, end in ranges)


class Ranges:
    """A set of integers; adding the number after the highest one is the fast case.

    Args:
        ranges: Disjoint ranges in ascending order, as :meth:`pairs` gives them.
    """

    __slots__ = ("_ends", "_firsts")

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        pairs = list(ranges)
        self._firsts = [first for first, _ in pairs]
        self._ends = [end for _, end in pairs]

    def __contains__(self, number: int) -> bool:
        place = bisect_right(self._firsts, number) - 1
        return place >= 0 and number < self._ends[place]

    def __len__(self) -> int:
        return range_total(self.pairs())

    def __bool__(self) -> bool:
        return bool(self._firsts)

    @property
    def end(self) -> int:
        """The number after the highest one; 0 where the set is empty."""
        return self._ends[-1] if self._ends else 0

    def pairs(self) -> list[Range]:
        """Return the disjoint ranges, ascending, touching ones merged."""
        return list(zip(self._firsts, self._ends, strict=True))

    def add(self, number: int) -> bool:
        """Add a number; False where it is in the set already."""
        ends = self._ends
        if ends and number == ends[-1]:
            ends[-1] = number + 1
            return True
        if number in self:
            return False
        self.add_range(number, number + 1)
        return True

    def extend(self, numbers: Sequence[int]) -> None:
        """Add numbers that ascend; one long run is the fast case."""
        if numbers and numbers[-1] - numbers[0] == len(numbers) - 1:
            self.add_range(numbers[0], numbers[-1] + 1)
        else:
            for number in numbers:
                self.add(number)

    def add_range(self, first: int, end: int) -> None:
        """Add every number of ``[first, end)``."""
        if first >= end:
            return
        low = bisect_right(self._firsts, first)
        if low and self._ends[low - 1] >= first:
            low -= 1
            first = self._firsts[low]
        high = bisect_right(self._firsts, end)
        if high > low:
            end = max(end, self._ends[high - 1])
        self._firsts[low:high] = [first]
        self._ends[low:high] = [end]

    def missing(self, first: int, end: int) -> list[Range]:
        """Return the ranges of ``[first, end)`` that are not in the set."""
        holes = []
        for known_first, known_end in self.pairs():
            if known_end <= first:
                continue
            if known_first >= end:
                break
            if known_first > first:
                holes.append((first, known_first))
            first = known_end
        if first < end:
            holes.append((first, end))
        return holes
