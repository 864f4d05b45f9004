"""Whether JetStream lives: what it answered and stored, and for how long it has not. Pure; in monotonic seconds.

The hot path only sets flags; :meth:`Pulse.look`, a few times a second, turns them into times.
"""

from __future__ import annotations

__all__ = ["Pulse"]

_AWAY_S = 1.0
_SILENT_TIMEOUTS = 3


class Pulse:
    """What is known of JetStream's life.

    Args:
        now: The clock.
        ack_timeout_s: How long an answer may take.

    Attributes:
        answered: Set at every answer.
        stored: Set at every acknowledgement.
        stored_at: When one was seen last.
    """

    __slots__ = ("_ack_timeout_s", "_answered_at", "_away_since", "answered", "stored", "stored_at")

    def __init__(self, now: float, *, ack_timeout_s: float) -> None:
        self._ack_timeout_s = ack_timeout_s
        self._answered_at = self.stored_at = now
        self._away_since: float | None = None
        self.answered = self.stored = False

    def look(self, now: float) -> None:
        """Take note of what was set since the last look."""
        if self.answered:
            self._answered_at = now
        if self.stored:
            self.stored_at = now
        self.answered = self.stored = False

    def disconnected(self, now: float) -> None:
        """Take note that the connection is lost."""
        self._away_since = now

    def reconnected(self, now: float) -> None:
        """Begin anew: the connection stands."""
        self._away_since = None
        self._answered_at = self.stored_at = now

    def is_stalled(self, now: float, *, is_overdue: bool) -> bool:
        """Tell whether what is held belongs on disk: the connection is away, or nothing is stored.

        Args:
            now: The clock.
            is_overdue: Whether the oldest message in flight has waited for its answer in vain, or was refused.
        """
        if self._away_since is not None:
            return now - self._away_since >= _AWAY_S
        return is_overdue and now - self.stored_at > self._ack_timeout_s

    def silent_s(self, now: float) -> float | None:
        """Return how long there was no answer at all, once that is long enough to doubt the connection.

        The count begins anew with it.
        """
        silent = now - self._answered_at
        if silent <= _SILENT_TIMEOUTS * self._ack_timeout_s:
            return None
        self._answered_at = now
        return silent
