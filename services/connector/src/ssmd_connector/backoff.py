"""How long to wait before the next connection: exponential, full jitter, capped, for ever. Pure."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Backoff"]

HEALTHY_S = 60.0


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

    def next_delay_s(self, *, at_least_s: float = 0.0) -> float:
        """Return the next delay: anywhere up to ``base * 2^attempt``, but no less than the peer asked for."""
        # The exponent is bounded so that years of attempts do not overflow.
        bound = min(self._cap_s, self._base_s * 2 ** min(self.attempts, 30))
        self.attempts += 1
        return max(at_least_s, self._uniform(0.0, bound))

    def connection_ended(self, healthy_s: float) -> None:
        """Begin again from the first delay when the connection streamed for a minute."""
        if healthy_s >= HEALTHY_S:
            self.attempts = 0
