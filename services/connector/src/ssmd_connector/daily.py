"""The next moment of a time of the day, in UTC. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import time

__all__ = ["next_time_ns"]

_NS_PER_S = 1_000_000_000


def next_time_ns(at: time, now_ns: int) -> int:
    """Return when it is ``at`` the next time: after ``now_ns``, in nanoseconds since the epoch."""
    now = datetime.fromtimestamp(now_ns // _NS_PER_S, UTC)
    moment = datetime.combine(now.date(), at, UTC)
    if int(moment.timestamp()) * _NS_PER_S <= now_ns:
        moment += timedelta(days=1)
    return int(moment.timestamp()) * _NS_PER_S
