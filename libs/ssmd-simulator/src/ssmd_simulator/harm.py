"""What the faults of one connection do to its frames and commands. Pure.

Between a road and the socket: `peer` shows every frame that is to leave to :meth:`Harm.leaving` and sends what
comes back, but for what is marked as withheld on purpose, which goes on record as such.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from ssmd_simulator import frames
from ssmd_simulator.commands import Command, ErrorCode, decode

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ssmd_simulator.faults import Fault

__all__ = ["MALFORMED", "Harm", "Leaving", "refusal"]

MALFORMED: tuple[bytes, ...] = (
    b'{"type":"ticker","sid":1,"msg":{"market_ticker":"KXHIGHCHI-26APR20-B55.5","price_doll',
    b"upstream connect error or disconnect/reset before headers",
    b'{"type":"trade","sid":2,"seq":NaN}',
    b"",
    b'{"type":"ticker","msg":{"market_ticker":"\xff\xfe"}}',
    b"[" * 600,
    b'{"type":"ticker","sid":1,"msg":{}}{"type":"ticker","sid":1,"msg":{}}',
    b"<html><body>502 Bad Gateway</body></html>",
    b'\xef\xbb\xbf{"type":"ticker"',
    b"{'type':'ticker'}",
)
"""Frames that are no JSON, as exchanges have sent them, sent in turn."""

_CONTROL = frozenset({"subscribed", "unsubscribed", "ok", "error"})
_REFUSALS = {
    "error-18": ErrorCode.COMMAND_TIMEOUT,
    "error-26": ErrorCode.MARKET_LIMIT,
    "error-27": ErrorCode.COMMAND_RATE,
}


class _Head(msgspec.Struct):
    type: str = ""
    sid: int | None = None
    seq: int | None = None

    @property
    def is_sequenced_data(self) -> bool:
        return self.sid is not None and self.seq is not None and self.type not in _CONTROL


_decode_head = msgspec.json.Decoder(_Head).decode


@dataclass(frozen=True, slots=True)
class Leaving:
    """A frame on its way out.

    Attributes:
        frame: Its bytes.
        fault: The fault that made it what it is, that put it here or that keeps it back; empty for none.
        withheld: Whether it is not sent.
    """

    frame: bytes
    fault: str = ""
    withheld: bool = False


class Harm:
    """The faults of one connection's frames.

    Args:
        number: The connection's number, from which the first malformed frame follows.
    """

    def __init__(self, number: int = 0) -> None:
        self._armed: dict[str, int] = {}
        self._malformed = number
        self._late: tuple[bytes, int | None] | None = None
        self._acks: list[bytes] = []
        self.holds_acks = False

    @property
    def is_idle(self) -> bool:
        """Whether every frame leaves as it is."""
        return not (self._armed or self._late is not None or self._acks or self.holds_acks)

    def arm(self, fault: Fault) -> None:
        """Do this to the next frames that will do."""
        self._armed[fault.kind.name] = int(fault.value) or 1

    def leaving(self, group: Iterable[bytes]) -> list[Leaving]:
        """Return what becomes of frames that are to leave, in the order in which they do."""
        left: list[Leaving] = []
        for frame in group:
            if self.is_idle:
                left.append(Leaving(frame))
                continue
            head = _read_head(frame)
            if self.holds_acks and head.type == "subscribed":
                self._acks.append(frame)
            elif head.is_sequenced_data:
                left += self._sequenced(frame, head)
                left += self.released()
            else:
                left += self._padded(frame, head)
                left += self.released()
        return left

    def released(self) -> list[Leaving]:
        """Return what waited for a frame to pass it, and a malformed frame that is due."""
        out = [Leaving(frame, "late-acks") for frame in reversed(self._acks)]
        self._acks = []
        if self._take("malformed-json"):
            out.append(Leaving(MALFORMED[self._malformed % len(MALFORMED)], "malformed-json"))
            self._malformed += 1
        return out

    def end(self) -> list[Leaving]:
        """Return the frames that were held and now never leave: the connection is gone."""
        held = [Leaving(frame, "late-acks", withheld=True) for frame in self._acks]
        if self._late is not None:
            held.append(Leaving(self._late[0], "reordered-seq", withheld=True))
        self._acks, self._late = [], None
        return held

    def _sequenced(self, frame: bytes, head: _Head) -> list[Leaving]:
        """Return what becomes of a data frame with a seq, one fault at a time."""
        if self._take("missing-seq"):
            return [Leaving(frame, "missing-seq", withheld=True)]
        if self._late is not None:
            late, late_sid = self._late
            if head.sid != late_sid:
                return [Leaving(frame)]
            self._late = None
            return [Leaving(frame), Leaving(late, "reordered-seq")]
        if self._take("reordered-seq"):
            self._late = (frame, head.sid)
            return []
        if self._take("duplicate-seq"):
            return [Leaving(frame), Leaving(frame, "duplicate-seq")]
        return self._padded(frame, head)

    def _padded(self, frame: bytes, head: _Head) -> list[Leaving]:
        size = self._armed.get("huge-frame", 0)
        # Only data: a reply is read more strictly.
        if not size or not head.type or head.type in _CONTROL or not frame.endswith(b"}"):
            return [Leaving(frame)]
        del self._armed["huge-frame"]
        around = b',"padding":""}'
        return [
            Leaving(frame[:-1] + around[:-2] + b"x" * (size - len(frame) + 1 - len(around)) + b'"}', "huge-frame")
        ]

    def _take(self, name: str) -> bool:
        """Tell whether a fault is armed, and count it down."""
        left = self._armed.get(name, 0)
        if left > 1:
            self._armed[name] = left - 1
        elif left:
            del self._armed[name]
        return left > 0


def refusal(message: bytes, names: Sequence[str]) -> tuple[str, bytes] | None:
    """Return which of these faults refuses a client's message, and the answer; None where none of them does."""
    command = decode(message)
    if not isinstance(command, Command):
        return None
    action = command.params.action if command.params is not None else None
    adds = command.cmd == "subscribe" or (command.cmd == "update_subscription" and action == "add_markets")
    for name in names:
        if name != "error-26" or adds:
            return name, frames.error(command.id, _REFUSALS[name])
    return None


def _read_head(frame: bytes) -> _Head:
    try:
        return _decode_head(frame)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Head()
