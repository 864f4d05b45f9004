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

    What is about a message alone is no state that ends: it is told at times. All else lasts until every message
    refused is stored.

    Attributes:
        latest: The kind of the latest refusal that lasts; None when messages are accepted.
    """

    def __init__(self, metrics: ConnectorMetrics) -> None:
        self.latest: Verdict | None = None
        self._counter = metrics.refusals
        self._said_at: dict[Verdict, float] = {}
        self._refused: set[int] = set()

    def take(self, token: int, verdict: Verdict, text: str, *, unacknowledged: int) -> None:
        """Take one refusal, of the message with this token."""
        self._counter.add(reason=verdict.value)
        if not verdict.is_about_the_message:
            self.latest = verdict
            self._refused.add(token)
        now = time.monotonic()
        said_at = self._said_at.get(verdict)
        if said_at is None or now - said_at >= _LOG_EVERY_S:
            self._said_at[verdict] = now
            log.warning(_EVENT_OF[verdict], answer=text, unacknowledged=unacknowledged, retrying=True)

    def settled(self, token: int) -> None:
        """Take note that a message was accepted, or given up."""
        self._refused.discard(token)
        if self.latest is not None and not self._refused:
            log.info("publish_accepted_again", after=self.latest.value)
            # All that lasted is over, whatever else was refused before: each is news again.
            self._said_at = {verdict: at for verdict, at in self._said_at.items() if verdict.is_about_the_message}
            self.latest = None

    def recalled(self) -> None:
        """Take note that what was refused is sent again under other tokens."""
        self._refused.clear()
