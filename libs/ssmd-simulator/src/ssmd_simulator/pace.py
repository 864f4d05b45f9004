"""When the next generated frame is due: steady from one a second to as fast as the reader takes them.

Between the clock and the generated road. Pure, given the time.
"""

from __future__ import annotations

__all__ = ["Pace"]

#: The shortest wait worth asking the event loop for; above 1,000 frames a second they go in small groups.
_SHORTEST_WAIT_S = 0.001
#: A schedule further behind than this (a slow reader, nothing subscribed) starts anew, without a burst.
_LONGEST_LAG_S = 1.0


class Pace:
    """A schedule of frames at a fixed rate.

    Args:
        rate: Frames a second; None for as fast as possible.
    """

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._next_s: float | None = None

    def wait_s(self, now_s: float) -> float:
        """Return how long until the next frame is due; 0 when it is."""
        if self._rate is None or self._next_s is None or self._next_s <= now_s:
            return 0.0
        return max(self._next_s - now_s, _SHORTEST_WAIT_S)

    def take(self, now_s: float, most: int) -> int:
        """Return how many frames are due now, ``most`` at the utmost, and count them as sent."""
        if self._rate is None:
            return most
        if self._next_s is None or now_s - self._next_s > _LONGEST_LAG_S:
            self._next_s = now_s
        if now_s < self._next_s:
            return 0
        due = min(most, int((now_s - self._next_s) * self._rate) + 1)
        self._next_s += due / self._rate
        return due
