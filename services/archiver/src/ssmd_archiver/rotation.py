"""Where a message belongs in time (pure): boundaries are a function of the stream, never of our clock.

The window of the last message decides about the next one: a later window closes it; a server timestamp that went
back by up to an interval stays in it (``late``); a larger step back opens a segment in its true window
(``clock``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ssmd_common.archive.layout import Window, window_of

__all__ = ["Place", "Reason", "Rotation", "idle_seal_due"]


class Reason(StrEnum):
    """Why a segment was sealed."""

    WINDOW = "window"
    IDLE = "idle"
    SIZE = "size"
    EXIT = "exit"
    EPOCH = "epoch"
    CLOCK = "clock"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message goes.

    Attributes:
        window: The window it belongs to.
        seal: Why the segment before it is closed; None where it goes on.
        late: It was stored with an earlier time than its window.
    """

    window: Window
    seal: Reason | None = None
    late: bool = False


@dataclass(frozen=True, slots=True)
class Rotation:
    """The rule of one configuration.

    Attributes:
        interval_ns: Length of a window.
        max_bytes: Raw bytes after which a segment is closed; None for no bound.
    """

    interval_ns: int
    max_bytes: int | None = None

    def place(self, window: Window | None, raw_bytes: int, stored_ns: int, line_bytes: int) -> Place:
        """Place a message.

        Args:
            window: The window of the message before it; None for the very first.
            raw_bytes: Size of the current segment.
            stored_ns: Server time of the message.
            line_bytes: What the message would add to the segment.
        """
        if window is None:
            return Place(window_of(stored_ns, self.interval_ns))
        if stored_ns >= window.end_ns:
            return Place(window_of(stored_ns, self.interval_ns), Reason.WINDOW)
        if stored_ns < window.start_ns - self.interval_ns:
            return Place(window_of(stored_ns, self.interval_ns), Reason.CLOCK)
        late = stored_ns < window.start_ns
        full = self.max_bytes is not None and raw_bytes > 0 and raw_bytes + line_bytes > self.max_bytes
        return Place(window, Reason.SIZE if full else None, late)


def idle_seal_due(window: Window, server_ns: int, grace_ns: int, *, drained: bool) -> bool:
    """Tell whether a quiet feed's open segment can be closed.

    Args:
        window: The open segment's window.
        server_ns: The server's clock.
        grace_ns: How long after the window's end to wait.
        drained: Whether the archive has every message of the stream.
    """
    return drained and server_ns >= window.end_ns + grace_ns
