"""Fills a stream as our connector does: frames with their headers, every message acknowledged by the server."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

from nats.js.api import StorageType, StreamConfig

from bench.frames import START_NS, STEP_NS, frames_of, simulated_frames
from ssmd_common.config.nats import NatsSettings
from ssmd_common.frames import MSG_ID_HEADER, RECEIVED_NS_HEADER, TYPE_HEADER
from ssmd_common.nats.client import RawMessage
from ssmd_common.nats.connection import close, connect
from ssmd_common.subjects import SubjectBuilder
from ssmd_simulator.markets import listing

__all__ = ["FEED", "STREAM", "SUBJECTS", "commands", "fill"]

FEED = "kalshi"
STREAM = "BENCH"
SUBJECTS = SubjectBuilder("bench", FEED)
SESSION = "bench-01ARZ3NDEKTSV4RRFFQ69G5FAV"
WINDOW = 2_000
WINDOW_BYTES = 4 << 20
DISTINCT_FRAMES = 50_000
MAX_BYTES = 8 << 30
ACK_TIMEOUT_S = 60


def commands(count: int, inbox: str, tickers: int, frame_bytes: int | None) -> Iterator[bytes]:
    """Iterate over the ``HPUB`` commands of ``count`` messages; the frames come round after 50,000."""
    frames = list(itertools.islice(simulated_frames(), min(count, DISTINCT_FRAMES)))
    if frame_bytes is not None:
        frames = frames_of(frame_bytes, frames)
    types = [frame[9 : frame.index(b'"', 9)].decode() for frame in frames]  # every frame begins {"type":"…"
    names = [listing(number).ticker for number in range(tickers)]
    for number in range(count):
        frame, kind = frames[number % len(frames)], types[number % len(frames)]
        subject = SUBJECTS.json(kind, names[number % tickers])
        headers = (
            f"NATS/1.0\r\n{MSG_ID_HEADER}: {SESSION}.1.{number + 1}\r\n"
            f"{RECEIVED_NS_HEADER}: {START_NS + number * STEP_NS}\r\n{TYPE_HEADER}: {kind}\r\n\r\n"
        ).encode()
        head = f"HPUB {subject} {inbox} {len(headers)} {len(headers) + len(frame)}\r\n".encode()
        yield b"".join((head, headers, frame, b"\r\n"))


async def fill(url: str, count: int, *, tickers: int = 600, frame_bytes: int | None = None) -> int:
    """Create the stream (one replica, on disk) and store ``count`` messages; return their size in the stream.

    Args:
        url: The server.
        count: How many messages.
        tickers: How many tickers they are about, in turn.
        frame_bytes: Size of every frame; as the simulator makes them where it is None.
    """
    client = await connect(NatsSettings(url=url), name="bench fill")
    try:
        stream = client.jetstream()
        config = StreamConfig(
            name=STREAM,
            subjects=[SUBJECTS.data_filter, SUBJECTS.capture_filter],
            storage=StorageType.FILE,
            num_replicas=1,
            max_bytes=MAX_BYTES,
            allow_direct=True,
        )
        await stream.add_stream(config)
        acked = 0
        arrived = asyncio.Event()

        def on_acks(answers: list[RawMessage]) -> None:
            nonlocal acked
            for _, _, _, payload in answers:
                if b'"error"' in payload:
                    raise RuntimeError(payload.decode())
            acked += len(answers)
            arrived.set()

        inbox = client.new_inbox()
        subscription = await client.subscribe_raw(inbox, on_acks)
        sent = 0
        made = commands(count, inbox, tickers, frame_bytes)
        window = WINDOW if frame_bytes is None else max(1, min(WINDOW, WINDOW_BYTES // frame_bytes))
        while block := list(itertools.islice(made, window)):
            await client.write_block(b"".join(block))
            sent += len(block)
            async with asyncio.timeout(ACK_TIMEOUT_S):
                while acked < sent:
                    arrived.clear()
                    await arrived.wait()
        await client.unsubscribe_raw(subscription)
        state = (await stream.stream_info(STREAM)).state
        if state.messages != count:
            raise RuntimeError(f"the stream holds {state.messages} messages, not {count}")
        return state.bytes
    finally:
        await close(client)
