"""The exchange's clock, which a fault can set wrong. Beside the data path: every time told to a client is its."""

from __future__ import annotations

import time

__all__ = ["Clock"]


class Clock:
    """Epoch time as the exchange believes it to be.

    Attributes:
        skew_ns: How far it is ahead of this machine's clock.
    """

    def __init__(self) -> None:
        self.skew_ns = 0

    def now_ns(self) -> int:
        """Return the exchange's time, epoch nanoseconds."""
        return time.time_ns() + self.skew_ns
