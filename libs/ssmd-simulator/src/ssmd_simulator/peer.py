"""One client's connection, as the two roads see it: messages in, frames out, each frame counted.

The only way out of the simulator: every frame leaves through :meth:`Peer.send`, so this is where frames are
counted and logged, and where something that harms them would stand.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import msgspec
from websockets.asyncio.server import ServerConnection

from ssmd_common.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["GroupingConnection", "Peer", "SentLog"]

#: Commands waiting to be read; beyond this the client has to wait.
_WAITING_COMMANDS = 1024


class SentLog:
    """Every frame sent in this run, a JSON line each: ``{"connection","n","frame"}``.

    ``connection`` counts from 1 in the run, ``n`` from 1 in the connection. A frame that is not UTF-8 stands
    in base64 under ``frame_base64``. A line is written before its frame is handed to the socket: whatever a
    client received is in the log, and the log may hold a tail that a broken connection swallowed.

    Raises:
        ConfigError: The file exists already, or cannot be made.
    """

    def __init__(self, path: Path) -> None:
        try:
            # Unbuffered: a reader that has a frame finds it here, whatever becomes of this process.
            self._file = path.open("xb", buffering=0)
        except FileExistsError as error:
            raise ConfigError(
                "exists already", file=str(path), remedy="a sent log is of one run; name another file"
            ) from error
        except OSError as error:
            raise ConfigError(f"cannot be written: {error.strerror}", file=str(path)) from error

    def write(self, connection: int, first_number: int, frames: Sequence[bytes]) -> None:
        """Append frames that follow each other in a connection."""
        lines = bytearray()
        for number, frame in enumerate(frames, start=first_number):
            line: dict[str, object] = {"connection": connection, "n": number}
            try:
                line["frame"] = frame.decode()
            except UnicodeDecodeError:
                line["frame_base64"] = frame
            lines += msgspec.json.encode(line)
            lines += b"\n"
        self._file.write(lines)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class GroupingConnection(ServerConnection):
    """A connection that hands all frames waiting to be written to the operating system at once.

    One system call a group in place of one a frame is six times cheaper, which decides how fast the simulator
    can be.
    """

    def send_data(self) -> None:
        """Write what the protocol has ready; an empty part at the end asks to end the connection."""
        waiting = self.protocol.data_to_send()
        written = b"".join(waiting)
        if written:
            self.transport.write(written)
        if waiting and not waiting[-1]:
            if self.transport.can_write_eof():
                # The other side may have ended it first.
                with contextlib.suppress(OSError, RuntimeError):
                    self.transport.write_eof()
            else:
                self.transport.close()


class Peer:
    """A client.

    Args:
        socket: The open connection.
        number: Its number in this run, from 1.
        sent_log: Where its frames are noted, if anywhere.

    Attributes:
        number: As given.
        frames: How many frames were handed to the socket so far.
    """

    def __init__(self, socket: GroupingConnection, number: int, sent_log: SentLog | None) -> None:
        self.number = number
        self.frames = 0
        self._socket = socket
        self._sent_log = sent_log
        self._messages: asyncio.Queue[bytes] = asyncio.Queue(_WAITING_COMMANDS)

    async def send(self, frames: Sequence[bytes]) -> None:
        """Send frames; waits while the client's buffer is full. Frames leave in the order of the calls.

        Raises:
            ConnectionClosed: The client is gone.
        """
        if not frames:
            return
        # Nothing between here and the end of the block waits, and what is in it is written when it ends.
        async with self._socket.send_context():
            if self._sent_log is not None:
                self._sent_log.write(self.number, self.frames + 1, frames)
            self.frames += len(frames)
            for frame in frames:
                if _is_text(frame):
                    self._socket.protocol.send_text(frame)
                else:
                    self._socket.protocol.send_binary(frame)

    async def receive(self, timeout_s: float | None = None) -> bytes | None:
        """Return the client's next message, or None when none came in time (None: wait for ever)."""
        if not self._messages.empty():
            return self._messages.get_nowait()
        if timeout_s == 0:
            return None
        try:
            async with asyncio.timeout(timeout_s):
                return await self._messages.get()
        except TimeoutError:
            return None

    async def listen(self) -> None:
        """Take in the client's messages until it is gone.

        Raises:
            ConnectionClosedError: It went without a closing handshake.
        """
        async for message in self._socket:
            await self._messages.put(message.encode() if isinstance(message, str) else message)

    async def ping(self, interval_s: float, body: bytes) -> None:
        """Send a ping each interval, for ever, as long as the one before was answered.

        Raises:
            ConnectionClosed: The client is gone.
        """
        while True:
            await asyncio.sleep(interval_s)
            # A client that is slow to answer is not cut off: it may be reading what lies before the ping.
            await (await self._socket.ping(body))


def _is_text(frame: bytes) -> bool:
    if frame.isascii():
        return True
    try:
        frame.decode()
    except UnicodeDecodeError:
        return False
    return True
