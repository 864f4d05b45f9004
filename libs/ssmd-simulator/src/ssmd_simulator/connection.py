"""The socket of one client, as fast as it can be made, and as bad as a fault makes it.

The last step of the data path: below `peer`, above the operating system.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
from typing import TYPE_CHECKING, Any

from websockets.asyncio.server import ServerConnection

if TYPE_CHECKING:
    from ssmd_simulator.faults import Fault

__all__ = ["FaultyConnection"]

#: Frames wait while so many bytes lie in crumbs.
_CRUMBS_WAITING = 64 * 1024
_CRUMB_EVERY_S = 0.001
_MOST_IN_A_CRUMB = 64
#: An empty text frame with all three reserved bits set, which no WebSocket may hold.
_BAD_FRAME = b"\xf1\x00"
#: SO_LINGER, on and zero: closing resets.
_NO_LINGER = struct.pack("ii", 1, 0)


class FaultyConnection(ServerConnection):
    """A connection that hands all frames waiting to be written to the operating system at once.

    One system call a group in place of one a frame is six times cheaper, which decides how fast the simulator
    can be.

    Attributes:
        is_half_open: Whether nothing leaves and nothing is read any more; the other end can still let go of it.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.is_half_open = False
        self._unread: bytearray | None = None
        self._crumbs: bytearray | None = None

    def send_data(self) -> None:
        """Write what the protocol has ready; an empty part at the end asks to end the connection."""
        waiting = self.protocol.data_to_send()
        if self.is_half_open:
            return
        written = b"".join(waiting)
        if written:
            self._write(written)
        if waiting and not waiting[-1]:
            self._flush()
            if self.transport.can_write_eof():
                # The other side may have ended it first.
                with contextlib.suppress(OSError, RuntimeError):
                    self.transport.write_eof()
            else:
                self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Take what the client sent."""
        if self.is_half_open:
            return
        if self._unread is not None:
            self._unread += data
        else:
            super().data_received(data)

    def eof_received(self) -> None:
        """Take the end of what the client sends."""
        self._read_again()
        super().eof_received()

    @property
    def is_choked(self) -> bool:
        """Whether so much lies in crumbs that more has to wait."""
        return self._crumbs is not None and len(self._crumbs) > _CRUMBS_WAITING

    def suffer(self, fault: Fault) -> None:
        """Let a fault happen that is the socket's own."""
        match fault.kind.name:
            case "reset":
                self.reset()
            case "eof":
                self._flush()
                self.transport.close()
            case "half-open":
                self._go_half_open(fault.value)
            case "slow-reads":
                self._read_nothing(fault.value)
            case "slow-writes":
                self._write_crumbs(fault.value)
            case "bad-frame":
                self._write(_BAD_FRAME)
            case name:
                raise ValueError(f"{name} is no fault of a socket")

    def _go_half_open(self, for_s: float) -> None:
        """Let nothing out and take nothing in from now on; reset it after a while, 0 for never."""
        self._flush()
        self.is_half_open = True
        if for_s:
            self.loop.call_later(for_s, self.reset)

    def reset(self) -> None:
        """End it as a crashed machine would that is asked again: with a TCP reset."""
        own = self.transport.get_extra_info("socket")
        with contextlib.suppress(OSError):  # it is closed already
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.transport.abort()

    def _read_nothing(self, for_s: float) -> None:
        """Leave what the client sends in its hands for a while."""
        if self._unread is None:
            self._unread = bytearray()
            with contextlib.suppress(RuntimeError):  # it does not read already
                self.transport.pause_reading()
        self.loop.call_later(for_s, self._read_again)

    def _write_crumbs(self, for_s: float) -> None:
        """Write a few bytes at a time for a while."""
        if self._crumbs is None:
            self._crumbs = bytearray()
            # The same sizes in every run.
            self._crumb(random.Random(0))  # noqa: S311 - sizes of writes, no secret
        self.loop.call_later(for_s, self._flush)

    def _write(self, data: bytes) -> None:
        if self._crumbs is not None:
            self._crumbs += data
        else:
            self.transport.write(data)

    def _crumb(self, chance: random.Random) -> None:
        if self._crumbs is None or self.transport.is_closing():
            return
        size = chance.randint(1, _MOST_IN_A_CRUMB)
        if self._crumbs:
            self.transport.write(bytes(self._crumbs[:size]))
            del self._crumbs[:size]
        self.loop.call_later(_CRUMB_EVERY_S, self._crumb, chance)

    def _flush(self) -> None:
        crumbs, self._crumbs = self._crumbs, None
        if crumbs and not self.is_half_open and not self.transport.is_closing():
            self.transport.write(bytes(crumbs))

    def _read_again(self) -> None:
        unread, self._unread = self._unread, None
        if unread is None or self.transport.is_closing():
            return
        with contextlib.suppress(RuntimeError):  # it reads already
            self.transport.resume_reading()
        if unread:
            self.data_received(bytes(unread))
