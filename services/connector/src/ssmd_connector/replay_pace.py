"""When the next message of a replay is due. Pure: the caller brings the clock."""

from __future__ import annotations

from dataclasses import dataclass

from ssmd_common.config.model import parse_interval
from ssmd_common.errors import ConfigError

__all__ = ["MAX", "Pace", "parse_speed", "parse_wait"]

MAX = 0.0
"""The speed that waits for nothing."""

_SECOND_NS = 1_000_000_000
_SLOWEST = 1e-6
"""Slower than this nobody waits, and pauses outgrow what can be counted."""


def parse_speed(text: str) -> float:
    """Read ``1`` (as it was), ``10`` (ten times as fast), ``0.5``; ``max`` or ``0`` for as fast as it goes.

    Raises:
        ConfigError: It is none.
    """
    if text.strip().lower() == "max":
        return MAX
    try:
        speed = float(text)
    except ValueError:
        speed = -1.0
    if speed != MAX and not _SLOWEST <= speed < float("inf"):
        raise ConfigError(
            f"{text!r} is no speed", field="--speed", remedy="1 is the original pace, 10 ten times it, max no pause"
        )
    return speed


def parse_wait(text: str) -> float:
    """Read the longest pause, such as ``30s``, in seconds.

    Raises:
        ConfigError: It is none.
    """
    try:
        return parse_interval(text).seconds
    except ConfigError as error:
        raise ConfigError(error.problem, field="--max-wait", remedy=error.remedy) from None


@dataclass(slots=True)
class Pace:
    """Keeps the distances in time of a record, at a speed.

    A clock that stepped back in the record is waited for no longer than it is ahead again. Who is late catches up.

    Attributes:
        speed: How much faster than the record; :data:`MAX` for no pause at all.
        max_wait_s: Longest pause; None for as long as the record's.
    """

    speed: float
    max_wait_s: float | None = None
    _latest_ns: int | None = None
    _due_ns: int = 0

    def wait_ns(self, at_ns: int, now_ns: int) -> int:
        """Return how long what happened at ``at_ns`` has to wait; 0 where it is due.

        Args:
            at_ns: When it happened, by the record.
            now_ns: The monotonic clock.
        """
        if self.speed == MAX:
            return 0
        if self._latest_ns is None:
            self._latest_ns, self._due_ns = at_ns, now_ns
        elif at_ns > self._latest_ns:
            self._due_ns += self.scaled_ns(at_ns - self._latest_ns)
            self._latest_ns = at_ns
        return max(0, self._due_ns - now_ns)

    def scaled_ns(self, length_ns: int) -> int:
        """Return how long something lasts in the replay."""
        if self.speed == MAX:
            return 0
        scaled = int(length_ns / self.speed)
        return scaled if self.max_wait_s is None else min(scaled, int(self.max_wait_s * _SECOND_NS))
