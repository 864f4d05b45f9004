"""Capture files: frames an exchange once sent, to be sent again.

The source of the replayed road. A line is a frame as it was sent, or ``{"received_ms":…,"frame":…}`` with
the time it was received; a file is all of one kind. A frame's bytes are the line's own, never re-serialised.
The file is held in memory whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import msgspec

from ssmd_common.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["Capture", "parse", "read"]

#: Which channel a data frame belongs to, by its type.
_CHANNELS = {
    "orderbook_snapshot": "orderbook_delta",
    "orderbook_delta": "orderbook_delta",
    "ticker": "ticker",
    "trade": "trade",
    "market_lifecycle_v2": "market_lifecycle_v2",
    "event_lifecycle": "market_lifecycle_v2",
    "event_fee_update": "market_lifecycle_v2",
}


class _Timed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line that tells when its frame was received."""

    received_ms: float
    frame: msgspec.Raw


class _Head(msgspec.Struct, frozen=True):
    """As much of a frame as says which sid its channel had."""

    type: str
    sid: int | None = None
    msg: Any = None


@dataclass(frozen=True, slots=True)
class Capture:
    """A recording.

    Attributes:
        frames: The frames' bytes, in order.
        received_ms: When each was received, epoch milliseconds; None where the file does not say.
    """

    frames: tuple[bytes, ...]
    received_ms: tuple[float, ...] | None

    def due_s(self, *, speed: float, rate: float | None) -> tuple[float, ...]:
        """Return how long after the first frame each is due, in seconds; never going back.

        Args:
            speed: How many times faster than recorded.
            rate: Frames a second at speed 1 where the file has no times; None for as fast as possible.
        """
        if self.received_ms is not None:
            first = self.received_ms[0]
            return tuple(accumulate(((ms - first) / 1000 / speed for ms in self.received_ms), max))
        interval_s = 0.0 if rate is None else 1 / (rate * speed)
        return tuple(index * interval_s for index in range(len(self.frames)))

    def sids(self) -> dict[str, int]:
        """Return the sid each channel had when it was recorded; empty for other exchanges' captures."""
        found: dict[str, int] = {}
        for frame in self.frames:
            try:
                head = msgspec.json.decode(frame, type=_Head)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            match head:
                case _Head(type="subscribed", msg={"channel": str(channel), "sid": int(sid)}):
                    found.setdefault(channel, sid)
                case _Head(type=kind, sid=int(sid)) if kind in _CHANNELS:
                    found.setdefault(_CHANNELS[kind], sid)
        return found


def read(path: Path) -> Capture:
    """Read a capture file.

    Raises:
        ConfigError: The file cannot be read, holds no frame, or mixes both kinds of line.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=str(path)) from error
    return parse(content.split(b"\n"), file=str(path))


def parse(lines: Iterable[bytes], *, file: str) -> Capture:
    """Return the recording in a file's lines; blank lines are no frames.

    Raises:
        ConfigError: There is no frame, or both kinds of line are mixed; ``file`` stands in its text.
    """
    frames: list[bytes] = []
    received_ms: list[float] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        timed = _timed(line)
        if frames and (timed is not None) != bool(received_ms):
            raise ConfigError(
                f"line {number} is of another kind than those before it",
                file=file,
                remedy="give every line its received_ms, or none",
            )
        if timed is None:
            frames.append(line)
        else:
            frames.append(bytes(timed.frame))
            received_ms.append(timed.received_ms)
    if not frames:
        raise ConfigError("holds no frame", file=file)
    return Capture(tuple(frames), tuple(received_ms) or None)


def _timed(line: bytes) -> _Timed | None:
    try:
        return msgspec.json.decode(line, type=_Timed)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
