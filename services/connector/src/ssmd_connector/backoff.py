"""How long to wait before the next connection: exponential, full jitter, capped, for ever. Pure."""

from __future__ import annotations

import random
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Backoff", "retry_after_s"]

HEALTHY_S = 60.0
LONGEST_WISH_S = 3600.0


class Backoff:
    """The delays of one feed's reconnects.

    Args:
        base_s: Upper bound of the first delay.
        cap_s: Upper bound of every delay.
        uniform: Draws between two bounds; ``random.uniform`` unless a test brings its own.
    """

    def __init__(
        self, *, base_s: float = 1.0, cap_s: float = 60.0, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._base_s = base_s
        self._cap_s = cap_s
        self._uniform = uniform
        self.attempts = 0

    def next_delay_s(self, *, at_least_s: float = 0.0, calm_for_s: float | None = None) -> float:
        """Return the next delay: anywhere up to ``base * 2^attempt``, but no less than the peer asked for.

        Args:
            at_least_s: What the peer asked for.
            calm_for_s: How long no answer is expected (maintenance): the delay is drawn from the whole cap, counts
                as no attempt, and ends soon after that time.
        """
        if calm_for_s is not None:
            delay_s = self._uniform(0.0, self._cap_s)
            return max(at_least_s, min(delay_s, calm_for_s + self._uniform(0.0, self._base_s)))
        # The exponent is bounded so that years of attempts do not overflow.
        bound = min(self._cap_s, self._base_s * 2 ** min(self.attempts, 30))
        self.attempts += 1
        return max(at_least_s, self._uniform(0.0, bound))

    def connection_ended(self, healthy_s: float) -> None:
        """Begin again from the first delay when the connection streamed for a minute."""
        if healthy_s >= HEALTHY_S:
            self.attempts = 0


def retry_after_s(text: str, *, now_s: float) -> float:
    """Return how long a peer asks to wait: its ``Retry-After``, seconds or an HTTP date, at most an hour.

    Args:
        text: The header's value.
        now_s: Our clock, in seconds since the epoch.

    Returns:
        0 for a date that is past, and for what is neither.
    """
    try:
        wait_s = float(text)
    except ValueError:
        try:
            wait_s = parsedate_to_datetime(text).timestamp() - now_s
        except (ValueError, TypeError, OverflowError):
            return 0.0
    return min(LONGEST_WISH_S, max(0.0, wait_s))
