"""The hot end of the socket: whole frames are cut out of what came, and handed over by the read.

A connection of the ``websockets`` library with a way past its parser. A frame that is plain, text or binary, whole
and not compressed, is cut out here; every other one (control, fragmented, compressed, too large, against the
protocol) goes to the library byte for byte, which answers it as always.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from websockets.asyncio.client import ClientConnection
from websockets.frames import DATA_OPCODES, Frame
from websockets.protocol import State

if TYPE_CHECKING:
    import asyncio

    from websockets.protocol import Event

__all__ = ["FrameConnection"]

_PLAIN = (0x81, 0x82)
_EXTENDED_16, _MASKED = 126, 128
_HEAD_END = b"\r\n\r\n"
_PAUSE_BYTES = 1 << 20
"""Reading stops while so much waits to be taken."""


class FrameConnection(ClientConnection):
    """Keeps the messages of each read together, with the time they came off the socket."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reads: deque[tuple[int, list[bytes]]] = deque()
        self._cut: list[bytes] = []
        self._held = bytearray()
        self._needed = 2
        self._waiting_bytes = 0
        self._is_paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._head_tail = b""
        self._fragments: bytearray | None = None
        self._leaving: asyncio.TimerHandle | None = None

    async def take(self) -> tuple[int, list[bytes]] | None:
        """Return ``(received_ns, messages)`` of the oldest read not taken yet; None once the connection is gone.

        For one task at a time.
        """
        while not self._reads:
            if self.protocol.state is State.CLOSED:
                return None
            self._waiter = self.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        read = self._reads.popleft()
        self._waiting_bytes -= sum(map(len, read[1]))
        if self._is_paused and self._waiting_bytes < _PAUSE_BYTES:
            self._is_paused = False
            self.transport.resume_reading()
        return read

    def data_received(self, data: bytes) -> None:
        """Take what the socket gave."""
        received_ns = time.time_ns()
        if self.protocol.state is State.CONNECTING:
            data = self._after_handshake(data)
        if self._held:
            self._held += data
            if len(self._held) < self._needed:
                return
            data = bytes(self._held)
            self._held.clear()
        used = self._cut_messages(data)
        self._held += data[used:]
        if self._cut:
            self._reads.append((received_ns, self._cut))
            self._waiting_bytes += sum(map(len, self._cut))
            self._cut = []
            if self._waiting_bytes >= _PAUSE_BYTES and not self._is_paused:
                self._is_paused = True
                self.transport.pause_reading()
            self._wake()

    def process_event(self, event: Event) -> None:
        """Put a message the library has read among the others; leave everything else to it."""
        if self.response is None or not isinstance(event, Frame) or event.opcode not in DATA_OPCODES:
            super().process_event(event)
        elif event.fin and self._fragments is None:
            self._cut.append(bytes(event.data))
        else:
            self._fragments = (self._fragments or bytearray()) + event.data
            if event.fin:
                self._cut.append(bytes(self._fragments))
                self._fragments = None

    def connection_lost(self, exc: Exception | None) -> None:
        """End the waiting: what was read can still be taken."""
        super().connection_lost(exc)
        if self._leaving is not None:
            self._leaving.cancel()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _after_handshake(self, data: bytes) -> bytes:
        """Give the library the answer to the handshake; return what came behind it."""
        seen = self._head_tail + data
        end = seen.find(_HEAD_END)
        cut = len(data) if end < 0 else end + len(_HEAD_END) - len(self._head_tail)
        self._head_tail = seen[-len(_HEAD_END) + 1 :]
        super().data_received(data[:cut])
        if self.protocol.state is State.CONNECTING and cut < len(data):
            super().data_received(data[cut:])
            return b""
        return data[cut:]

    def _cut_messages(self, data: bytes) -> int:
        """Cut the whole frames off the beginning of ``data``; return where the first that is not whole begins."""
        protocol, cut = self.protocol, self._cut
        if self._is_over:
            super().data_received(data)
            return len(data)
        limit = protocol.max_message_size or len(data)
        position, size = 0, len(data)
        self._needed = 2
        while size - position >= 2:  # noqa: PLR2004 - the shortest header
            is_plain = data[position] in _PLAIN
            length = data[position + 1]
            start = position + 2
            if length >= _MASKED:
                # Against the protocol, so its length is no matter.
                is_plain, length = False, 0
            elif length >= _EXTENDED_16:
                width = 2 if length == _EXTENDED_16 else 8
                start += width
                if start > size:
                    self._needed = start - position
                    break
                length = int.from_bytes(data[start - width : start], "big")
            end = start + length
            if end > size and length <= limit:
                self._needed = end - position
                break
            if is_plain and length <= limit and protocol.current_size is None:
                cut.append(data[start:end])
            else:
                super().data_received(data[position:end])
                if self._is_over:
                    # The library itself would wait for ever for the peer's end of the socket.
                    self._leaving = self.loop.call_later(self.close_timeout or 0, self.transport.abort)
                    return size
            position = end
        return position

    @property
    def _is_over(self) -> bool:
        """Whether the peer has closed, or broken the protocol: what follows is nothing."""
        return self.protocol.close_rcvd is not None or self.protocol.parser_exc is not None
