"""Why a connection ended: the words of ``connection_closed`` and of the metrics, defined here alone."""

from __future__ import annotations

from enum import StrEnum

from ssmd_common.calendar import Silence
from ssmd_common.events import STOPPED

__all__ = ["Cause", "in_expected_silence"]


class Cause(StrEnum):
    """The end of a connection, in one word."""

    STOPPED = STOPPED
    """The connector was told to stop."""
    PEER_CLOSED = "peer_closed"
    """The exchange closed it in order."""
    CONNECTION_LOST = "connection_lost"
    """The TCP connection broke."""
    CLOSED = "closed"
    """It was closed from here without another cause."""
    PING_UNANSWERED = "ping_unanswered"
    """The exchange did not answer a ping in time."""
    PROTOCOL_ERROR = "protocol_error"
    """The exchange broke the WebSocket protocol."""
    FRAME_TOO_LARGE = "frame_too_large"
    """A frame was above the feed's ``max_frame_bytes``."""
    SILENT = "silent"
    """No frame came for the feed's ``silence_limit_s``."""
    TERMINAL_ERROR = "terminal_error"
    """The exchange ended a subscription for good."""
    SUBSCRIBE_TIMEOUT = "subscribe_timeout"
    """The exchange did not answer a subscribe command in time."""
    SUBSCRIPTION_REFUSED = "subscription_refused"
    """The exchange refused what was to be subscribed to."""
    MAINTENANCE = "maintenance"
    """The exchange let go of it in a maintenance window of its calendar."""
    EXCHANGE_CLOSED = "exchange_closed"
    """The same outside its trading hours, or on a holiday."""
    BACKLOG_FULL = "backlog_full"
    """Memory and spool were full for too long, so reading stopped."""


_THE_EXCHANGE_LET_GO = frozenset(
    {Cause.PEER_CLOSED, Cause.CONNECTION_LOST, Cause.PING_UNANSWERED, Cause.TERMINAL_ERROR, Cause.SUBSCRIBE_TIMEOUT}
)


def in_expected_silence(cause: Cause, silence: Silence) -> Cause:
    """Return the cause of an end that came while the exchange's calendar expects silence."""
    if cause not in _THE_EXCHANGE_LET_GO:
        return cause
    return Cause.MAINTENANCE if silence is Silence.MAINTENANCE else Cause.EXCHANGE_CLOSED
