"""nats-py's client with two doors for the hot paths: many messages in as one piece, messages out unwrapped.

The client of every service; :func:`ssmd_common.nats.connection.connect` makes it. Messages of a raw subscription
are cut out of what the socket gave in one pass and handed to a plain function, all of a pass at once; all others go
nats-py's own way, as do TLS, authentication, reconnecting and everything the server says beside messages.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import nats.aio.client
import nats.errors
from nats.aio.client import Client
from nats.protocol.parser import AWAITING_MSG_PAYLOAD, CRLF_SIZE, ERR_RE, PERMISSIONS_ERR, Parser

if TYPE_CHECKING:
    from collections.abc import Callable

    from nats.aio.subscription import Subscription

    RawHandler = Callable[[list["RawMessage"]], None]
    """Takes messages in the order of arrival; must neither block nor raise."""

__all__ = ["NatsClient", "RawHandler", "RawMessage"]

RawMessage = tuple[bytes, bytes, bytes | None, bytes]
"""Subject, reply (empty where there is none), header block, payload."""

_READ_BYTES = 1 << 18
nats.aio.client.DEFAULT_BUFFER_SIZE = _READ_BYTES
"""nats-py reads 32 KiB at a time, a few dozen messages; what is done once a read is shared by more of them."""

_TOO_LARGE = "maximum payload violation"

_WORDS_OF_MOST = 6
"""``HMSG <subject> <sid> <reply> <headers' size> <total size>``, and no other command."""


class NatsClient(Client):
    """nats-py's client with a batched way in and an unwrapped way out.

    Attributes:
        violation: The latest permission violation the server told, which a request sees only as a timeout.
    """

    def __init__(self) -> None:
        super().__init__()
        self._raw: dict[int, RawHandler] = {}
        self._ps = _Parser(self, self._raw)
        self.violation = ""

    async def subscribe_raw(self, subject: str, handler: RawHandler, *, queue: str = "") -> Subscription:
        """Subscribe with a plain function, called from the read loop with the messages that one read brought.

        No message object is made, no header is parsed and nothing is queued, so the handler must be quick and
        must not raise. End it with :meth:`unsubscribe_raw`.
        """
        sub = await self.subscribe(subject, queue)
        self._raw[sub._id] = handler  # noqa: SLF001 - nats-py names a subscription only there
        return sub

    async def unsubscribe_raw(self, sub: Subscription) -> None:
        """End a subscription of :meth:`subscribe_raw`; harmless when the connection is gone."""
        self._raw.pop(sub._id, None)  # noqa: SLF001 - nats-py names a subscription only there
        with contextlib.suppress(nats.errors.Error):
            await sub.unsubscribe()

    async def write_block(self, block: bytes) -> None:
        """Send ready-made protocol bytes (one or many PUB/HPUB commands), waiting while the socket is full.

        Whoever builds them guarantees their form and that no message passes ``max_payload``. While the
        connection is away the block stays in the client's buffer and goes out after the reconnect.
        """
        await self._send_command(block)
        await self._flush_pending()

    async def _process_err(self, err_msg: str) -> None:
        if _TOO_LARGE in err_msg:
            # The server's limit was lowered under way; the next connection begins with its new one.
            error = nats.errors.Error("nats: " + err_msg.strip("'"))
            await self._error_cb(error)
            await self._process_op_err(error)
            return
        if PERMISSIONS_ERR not in err_msg:
            await super()._process_err(err_msg)
            return
        # The parser hands texts over in small letters, but a subject's case is part of its name.
        told = ERR_RE.match(self._ps.buf)
        text = told[1].decode("utf-8", "replace") if told else err_msg
        self._err = nats.errors.Error("nats: " + text.strip("'"))
        await self._error_cb(self._err)

    async def _attempt_reconnect(self) -> None:
        """Reconnect until it stands, also past what nats-py does not expect there: a port taken by another program.

        Its own task would end without a word and leave the client reconnecting for ever. What the connection before
        has not taken by now is left: nats-py would wait until it has, on a path that is cut for many minutes.
        """
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()
        while not self.is_closed:
            try:
                await super()._attempt_reconnect()
            except (AttributeError, LookupError, TypeError, ValueError):
                await self._error_cb(nats.errors.Error("what answers there is no NATS server"))
                await asyncio.sleep(self.options["reconnect_time_wait"])
            else:
                return

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any) -> None:
        handler = self._raw.get(sid)
        if handler is None:
            await super()._process_msg(sid, subject, reply, data, headers)
        else:
            handler([(bytes(subject), bytes(reply), headers, data)])


class _Parser(Parser):
    """Takes whole raw messages first; nats-py's parser gets the rest, at most a message's beginning or another's.

    Args:
        client: The client, as nats-py's parser wants it.
        raw: The handlers of raw subscriptions by id.
    """

    def __init__(self, client: Client, raw: dict[int, RawHandler]) -> None:
        super().__init__(client)
        self._raw = raw

    async def parse(self, data: bytes = b"") -> None:
        """Take what the socket gave."""
        if self.state == AWAITING_MSG_PAYLOAD:
            missing = self.needed + CRLF_SIZE - len(self.buf)
            await super().parse(data[:missing])
            data = data[missing:]
        if self._raw and data:
            # A control line that was cut, and its end: the parser holds nothing else between two calls.
            data = bytes(self.buf) + data
            self.buf.clear()
            data = data[self._take(data) :]
        if data:
            await super().parse(data)

    def _take(self, data: bytes) -> int:
        """Hand over the whole raw messages ``data`` begins with; return where they end.

        The server writes single spaces and capitals; what deviates is left to nats-py's parser.
        """
        position, size = 0, len(data)
        messages: list[RawMessage] = []
        current, handler = b"", None
        find = data.find
        while (line_end := find(b"\r\n", position)) >= 0:
            words = data[position:line_end].split(b" ")
            start = line_end + CRLF_SIZE
            try:
                if len(words) == _WORDS_OF_MOST:
                    _, subject, sid, reply, headers_size, total = words
                else:
                    subject, sid, reply, headers_size, total = _rarer_words(words)
                end = start + int(total)
                body = start + int(headers_size)
            except ValueError:
                break
            if end + CRLF_SIZE > size:
                break
            if sid != current:
                if handler is not None:
                    handler(messages)
                messages, current, handler = [], sid, self._raw.get(int(sid))
            if handler is None:
                break
            messages.append((subject, reply, data[start:body] or None, data[body:end]))
            position = end + CRLF_SIZE
        if messages and handler is not None:
            handler(messages)
        return position


def _rarer_words(words: list[bytes]) -> tuple[bytes, bytes, bytes, bytes, bytes]:
    """Return subject, sid, reply, headers' and total size of a control line that is no HMSG with a reply.

    Raises:
        ValueError: It is no message.
    """
    match words:
        case [b"MSG", subject, sid, total]:
            return subject, sid, b"", b"0", total
        case [b"MSG", subject, sid, reply, total]:
            return subject, sid, reply, b"0", total
        case [b"HMSG", subject, sid, headers_size, total]:
            return subject, sid, b"", headers_size, total
    raise ValueError("no message")
