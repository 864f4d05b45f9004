"""Whether the exchange's calendar expects silence now, and what follows: told to the operator at each change."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from ssmd_common.archive.times import SECOND_NS, to_rfc3339
from ssmd_common.calendar import CalendarState, Silence, state_at
from ssmd_connector.causes import in_expected_silence
from ssmd_connector.websocket import Ended

if TYPE_CHECKING:
    from collections.abc import Callable

    from ssmd_common.config.calendar import Calendar
    from ssmd_connector.backoff import Backoff
    from ssmd_connector.metrics import ConnectorMetrics

__all__ = ["CalendarWatch"]

log = structlog.get_logger()


class CalendarWatch:
    """Follows one feed's calendar.

    Args:
        calendar: The calendar; without one data is expected always.
        metrics: Told whether silence is expected.
        clock: Nanoseconds since the epoch.
    """

    def __init__(
        self, calendar: Calendar | None, metrics: ConnectorMetrics, *, clock: Callable[[], int] = time.time_ns
    ) -> None:
        self._calendar = calendar
        self._metrics = metrics
        self._clock = clock
        self._state = CalendarState(None, 0)
        self._looked_ns = 0

    def silence(self) -> Silence | None:
        """Return why no data is expected now; None where it is."""
        if self._calendar is None:
            return None
        now_ns = self._clock()
        # A clock that was put back asks anew.
        if not self._looked_ns <= now_ns < self._state.until_ns:
            before, self._state = self._state, state_at(self._calendar, now_ns)
            if self._state.silence is not before.silence:
                self._tell(self._state)
        self._looked_ns = now_ns
        return self._state.silence

    def explained(self, reason: str) -> str:
        """Return why there is no connection, with the calendar's reason before it."""
        silence = self.silence()
        return reason if silence is None else f"{silence} until {to_rfc3339(self._state.until_ns)}: {reason}"

    def ended(self, ended: Ended) -> Ended:
        """Return how a connection ended, with the calendar as the cause where it expects that."""
        silence = self.silence()
        cause = ended.cause if silence is None else in_expected_silence(ended.cause, silence)
        if cause is ended.cause:
            return ended
        return Ended(cause, ended.code, f"{ended.cause} {ended.reason}".strip())

    def delay_s(self, backoff: Backoff, *, at_least_s: float) -> float:
        """Return how long to wait after an attempt to connect failed: calm while nothing else is expected."""
        calm_for_s = None if self.silence() is None else (self._state.until_ns - self._looked_ns) / SECOND_NS
        return backoff.next_delay_s(at_least_s=at_least_s, calm_for_s=calm_for_s)

    def _tell(self, state: CalendarState) -> None:
        self._metrics.expected_silence.set(int(state.silence is not None))
        if state.silence is None:
            log.info("expected_silence_over")
        else:
            log.info("expected_silence", reason=state.silence.value, until=to_rfc3339(state.until_ns))
