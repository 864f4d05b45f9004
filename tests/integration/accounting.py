"""What a simulator says it sent, held against what was captured: each frame is there once, or in a recorded gap."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

__all__ = ["SentConnection", "matched", "read_sent"]


class _Ended(msgspec.Struct):
    frames: int
    code: int | None
    by: str
    whole: bool


class _Line(msgspec.Struct):
    connection: int
    n: int = 0
    withheld: str = ""
    frame: str | None = None
    frame_base64: str | None = None
    ended: _Ended | None = None

    @property
    def bytes(self) -> bytes:
        return self.frame.encode() if self.frame is not None else base64.b64decode(self.frame_base64 or "")


@dataclass
class SentConnection:
    """One connection, as the simulator saw it.

    Attributes:
        frames: What was sent on it, in order.
        withheld: What a fault kept back: its name and the frame.
        whole: Whether its client is known to have read every frame.
    """

    frames: list[bytes] = field(default_factory=list)
    withheld: list[tuple[str, bytes]] = field(default_factory=list)
    whole: bool = False


def read_sent(path: Path) -> dict[int, SentConnection]:
    """Read a simulator's sent log: its connections by number."""
    found: dict[int, SentConnection] = {}
    for text in path.read_bytes().splitlines():
        line = msgspec.json.decode(text, type=_Line)
        connection = found.setdefault(line.connection, SentConnection())
        if line.ended is not None:
            connection.whole = line.ended.whole
            assert line.ended.frames == len(connection.frames)
        elif line.withheld:
            connection.withheld.append((line.withheld, line.bytes))
        else:
            connection.frames.append(line.bytes)
            assert line.n == len(connection.frames)
    return found


def matched(
    captured: Sequence[Sequence[bytes]], sent: dict[int, SentConnection]
) -> list[tuple[SentConnection, int]]:
    """Hold the frames captured on each connection against those sent on it.

    Args:
        captured: The frames, one at least, of each captured connection in the order received; the connections in
            their order.
        sent: What the simulator sent. Connections of which nothing was captured may come between.

    Returns:
        For each captured connection the one it is, and how many of its last frames never arrived: they were on
        their way when it ended. Everything before them is captured, once, in its order, with its bytes.

    Raises:
        AssertionError: It is otherwise: a frame is missing in the middle, twice there, changed, or was never sent.
    """
    numbers = iter(sorted(sent))
    found: list[tuple[SentConnection, int]] = []
    for place, frames in enumerate(captured, start=1):
        for number in numbers:
            connection = sent[number]
            if list(frames) == connection.frames[: len(frames)]:
                lost = len(connection.frames) - len(frames)
                assert not (connection.whole and lost), f"connection {place} was read whole, and {lost} are missing"
                found.append((connection, lost))
                break
            same = sum(one == other for one, other in zip(frames, connection.frames, strict=False))
            assert same == 0, (
                f"captured connection {place} is the simulator's {number}, but only {same} of its {len(frames)} "
                f"frames are in their place"
            )
        else:
            raise AssertionError(f"captured connection {place}, of {len(frames)} frames, was never sent")
    return found
