"""JetStream's refusals, told to the operator: each kind at once, then at times, and once when they are over."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from ssmd_connector.answers import Verdict

if TYPE_CHECKING:
    from ssmd_connector.metrics import ConnectorMetrics

__all__ = ["Refusals"]

log = structlog.get_logger()

_LOG_EVERY_S = 10.0
_EVENT_OF = {
    Verdict.FULL: "publish_stream_full",
    Verdict.TOO_LARGE: "publish_too_large",
    Verdict.NO_STREAM: "publish_no_stream",
    Verdict.BUSY: "publish_busy",
    Verdict.INVALID: "publish_invalid",
    Verdict.OTHER_STREAM: "publish_other_stream",
    Verdict.OTHER: "publish_refused",
}


class Refusals:
    """Counts and logs error answers.

    Attributes:
        latest: The kind of the latest refusal; None when messages are accepted.
    """

    def __init__(self, metrics: ConnectorMetrics) -> None:
        self.latest: Verdict | None = None
        self._counter = metrics.refusals
        self._said_at: dict[Verdict, float] = {}

    def take(self, verdict: Verdict, text: str, *, unacknowledged: int) -> None:
        """Take one refusal."""
        self._counter.add(reason=verdict.value)
        now = time.monotonic()
        if self.latest is not verdict or now - self._said_at.get(verdict, now) >= _LOG_EVERY_S:
            self._said_at[verdict] = now
            self.latest = verdict
            log.warning(_EVENT_OF[verdict], answer=text, unacknowledged=unacknowledged, retrying=True)

    def end(self) -> None:
        """Take note that a message was accepted again."""
        if self.latest is not None:
            log.info("publish_accepted_again", after=self.latest.value)
            self.latest = None
