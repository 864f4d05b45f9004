"""Reading the stream: a durable consumer and one continuous pull, all of it on one inbox.

Requests for messages overlap, so the server never waits for us, and what is asked for but not yet archived is
bounded in messages and bytes. The consumer is only a cursor: at the start and at any discontinuity it is deleted
and made again at the archive's position + 1, on a new inbox, so no message of an old cursor is taken for one of
the new.
"""

from __future__ import annotations

import asyncio
import json
import time

import nats.errors
import structlog
from nats.aio.subscription import Subscription

from ssmd_common.errors import TransportError
from ssmd_common.nats.client import NatsClient, RawMessage
from ssmd_common.nats.streams import ApiError, api_request

__all__ = ["PullConsumer"]

log = structlog.get_logger()

PULL_MESSAGES = 5_000
PULL_BYTES = 32 << 20
BUFFERED_MESSAGES = 3 * PULL_MESSAGES
BUFFERED_BYTES = 96 << 20
EXPIRES_S = 30
HEARTBEAT_S = 5
SILENT_S = 3 * HEARTBEAT_S
ACK_WAIT_S = 120
MAX_ACK_PENDING = 100_000
_NS = 1_000_000_000
_CONSUMER_NOT_FOUND = 10014
_FILLED = (b"batch completed", b"message size exceeds maxbytes")
"""A request was answered up to its bound; the next message belongs to the next one."""


class PullConsumer:
    """One cursor over a stream.

    Args:
        client: The connection.
        stream: Name of the stream.
        name: Durable name of the consumer.
        filters: Subjects to take; empty for all of the stream.

    Attributes:
        name: As given.
    """

    def __init__(self, client: NatsClient, stream: str, name: str, filters: list[str]) -> None:
        self._client = client
        self._stream = stream
        self.name = name
        self._filters = filters
        self._buffer: list[RawMessage] = []
        self._buffered_bytes = 0
        self._wanted: dict[bytes, int] = {}
        self._arrived = asyncio.Event()
        self._trouble = ""
        self._inbox = b""
        self._requests = 0
        self._heard_at = 0.0
        self._subscription: Subscription | None = None
        self.buffered_bytes_max = max(BUFFERED_BYTES, 3 * client.max_payload)

    @property
    def trouble(self) -> str:
        """Why the cursor must be made again; empty while it works."""
        if not self._trouble and self._wanted and time.monotonic() - self._heard_at > SILENT_S:
            self._trouble = "silent"
        return self._trouble

    @property
    def buffered(self) -> int:
        """Messages received and not yet taken."""
        return len(self._buffer)

    async def restart(self, next_seq: int) -> None:
        """Make the consumer again so that it delivers ``next_seq`` first.

        Raises:
            TransportError: The server refused or did not answer.
        """
        await self.stop()
        try:
            await api_request(self._client, f"CONSUMER.DELETE.{self._stream}.{self.name}")
        except ApiError as error:
            if error.err_code != _CONSUMER_NOT_FOUND:
                raise
        config = {
            "durable_name": self.name,
            "ack_policy": "all",
            "ack_wait": ACK_WAIT_S * _NS,
            "max_ack_pending": MAX_ACK_PENDING,
            "max_deliver": -1,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": next_seq,
            "replay_policy": "instant",
            "max_waiting": 64,
        }
        subject = f"CONSUMER.CREATE.{self._stream}.{self.name}"
        if len(self._filters) == 1:
            config["filter_subject"] = self._filters[0]
            subject += f".{self._filters[0]}"
        elif self._filters:
            config["filter_subjects"] = self._filters
        await api_request(
            self._client, subject, {"stream_name": self._stream, "config": config, "action": "create"}
        )
        inbox = self._client.new_inbox()
        self._inbox = inbox.encode()
        self._trouble = ""
        self._heard_at = time.monotonic()
        self._subscription = await self._client.subscribe_raw(f"{inbox}.*", self._on_messages)
        log.info("consumer_created", stream=self._stream, consumer=self.name, next_seq=next_seq)
        await self.pull()

    async def stop(self) -> None:
        """Stop reading; what was not taken is dropped (it is delivered again)."""
        if self._subscription is not None:
            await self._client.unsubscribe_raw(self._subscription)
            self._subscription = None
        self._buffer.clear()
        self._buffered_bytes = 0
        self._wanted.clear()
        self._inbox = b""

    def _on_messages(self, messages: list[RawMessage]) -> None:
        self._heard_at = time.monotonic()
        begun = len(self._buffer)
        for message in messages:
            subject, reply, headers, payload = message
            if reply.startswith(b"$JS.ACK."):
                self._buffer.append(message)
                self._buffered_bytes += len(payload) + len(headers or b"")
            elif headers:
                self._answered(len(self._buffer) - begun)
                begun = len(self._buffer)
                self._on_status(subject, headers)
        self._answered(len(self._buffer) - begun)
        self._arrived.set()

    def _answered(self, count: int) -> None:
        """Count messages off the requests they answer, the oldest first."""
        while count and self._wanted:
            request, wanted = next(iter(self._wanted.items()))
            if wanted > count:
                self._wanted[request] = wanted - count
                return
            count -= wanted
            del self._wanted[request]

    def _on_status(self, request: bytes, headers: bytes) -> None:
        """Take in what the server says of a pull request."""
        status_line, _, _ = headers.partition(b"\r\n")
        status = status_line[9:12]
        text = status_line[9:].decode("utf-8", "replace").strip()
        match status:
            case b"100":
                pass
            case b"408" | b"404":
                self._wanted.pop(request, None)
            case b"409" if status_line.lower().endswith(_FILLED):
                self._wanted.pop(request, None)
            case _:
                self._trouble = text

    async def pull(self) -> None:
        """Ask for more while what is under way is below the bound."""
        under_way = len(self._buffer) + sum(self._wanted.values())
        if not self._inbox or under_way > BUFFERED_MESSAGES - PULL_MESSAGES:
            return
        if self._buffered_bytes > self.buffered_bytes_max - PULL_BYTES or len(self._wanted) > 1:
            return
        self._requests += 1
        reply = self._inbox + b".%d" % self._requests
        self._wanted[reply] = PULL_MESSAGES
        body = {
            "batch": PULL_MESSAGES,
            "max_bytes": max(PULL_BYTES, 2 * self._client.max_payload),
            "expires": EXPIRES_S * _NS,
            "idle_heartbeat": HEARTBEAT_S * _NS,
        }
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self.name}"
        await self._publish(subject, json.dumps(body).encode(), reply.decode())

    async def take(self, wait_s: float) -> list[RawMessage]:
        """Return what has arrived, waiting up to ``wait_s`` for something; possibly nothing."""
        if not self._buffer and not self._trouble:
            self._arrived.clear()
            try:
                async with asyncio.timeout(wait_s):
                    await self._arrived.wait()
            except TimeoutError:
                pass
        messages, self._buffer = self._buffer, []
        self._buffered_bytes = 0
        await self.pull()
        return messages

    async def ack(self, reply: str) -> None:
        """Acknowledge a message and all before it: a signal for retention and operators, no proof."""
        await self._publish(reply, b"+ACK", "")

    async def _publish(self, subject: str, payload: bytes, reply: str) -> None:
        try:
            await self._client.publish(subject, payload, reply=reply)
        except nats.errors.ConnectionClosedError:
            raise TransportError("the connection to NATS is closed for good") from None
        except nats.errors.Error as error:
            self._trouble = self._trouble or str(error)
