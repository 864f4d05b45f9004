"""The readers compared: our archiver, two loops on the client's ``fetch``, and one that only counts bytes.

Each function is run in a process of its own, reads ``count`` messages of the filled stream, and returns what that
took. The clock starts before it connects and stops when the last of them is written.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
import time
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import nats
import nats.errors
from nats.js.api import AckPolicy, ConsumerConfig

from bench import quiet
from bench.fill import FEED, STREAM, SUBJECTS
from bench.machine import peak_bytes
from ssmd_archiver.disk import Disk
from ssmd_archiver.run import run_archiver
from ssmd_archiver.verify import verify_feed
from ssmd_common.archive.index import Block, decode_line
from ssmd_common.archive.layout import INDEX_SUFFIX
from ssmd_common.config.archiver import ArchiverConfig
from ssmd_common.service.lifecycle import Stop

__all__ = ["Took", "archiver", "count_bytes", "fetch_loop"]

FETCH_TIMEOUT_S = 5.0
PLAIN_GZIP_LEVEL = 6
COUNTING_PULL = 10_000
RUN_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Took:
    """What one run took.

    Attributes:
        messages: Messages read.
        seconds: From before connecting to the last of them written.
        cpu_seconds: Processor time of the reader's process meanwhile, all threads.
        stored_bytes: What it wrote.
        syncs: Files made durable.
        blocks: Blocks written.
        peak_bytes: Most memory the process ever held, its seal included.
    """

    messages: int
    seconds: float
    cpu_seconds: float
    stored_bytes: int = 0
    syncs: int = 0
    blocks: int = 0
    peak_bytes: int = 0


class _WatchedDisk(Disk):
    """The archiver's own disk, noting when a block that reaches ``count`` messages is durable."""

    def __init__(self, count: int, stop: Stop) -> None:
        self._count = count
        self._stop = stop
        self._loop = asyncio.get_running_loop()
        self._position = 0
        self._stored = self._syncs = self._blocks = 0
        self._started = time.monotonic(), time.process_time()
        self.took: Took | None = None

    def append(self, fd: int, data: bytes, path: Path) -> None:
        super().append(fd, data, path)
        self._stored += len(data)
        if path.name.endswith(INDEX_SUFFIX):
            line = decode_line(data[data.rfind(b"\n", 0, -1) + 1 : -1])
            if isinstance(line, Block):
                self._position = line.last_seq or 0
                self._blocks += 1

    def sync(self, fd: int, path: Path) -> None:
        super().sync(fd, path)
        self._syncs += 1
        if self.took is None and self._position >= self._count and path.name.endswith(INDEX_SUFFIX):
            seconds, cpu_seconds = time.monotonic() - self._started[0], time.process_time() - self._started[1]
            self.took = Took(self._position, seconds, cpu_seconds, self._stored, self._syncs, self._blocks)
            self._loop.call_soon_threadsafe(self._stop.set, "measured")


async def _archive(config: ArchiverConfig, count: int) -> Took:
    stop = Stop()
    disk = _WatchedDisk(count, stop)
    async with asyncio.timeout(RUN_TIMEOUT_S):
        await run_archiver(config, stop, new_archive=True, health_addr=None, disk=disk)
    if disk.took is None:
        raise RuntimeError("the archiver ended before it had read the stream")
    return disk.took


def archiver(url: str, count: int, folder: Path, interval: str = "1h") -> Took:
    """Run the whole archiver, fsync, meta and index included; what it wrote is verified after the clock stopped.

    Its last block is full, so a few messages more than ``count`` count.

    Args:
        url: The server.
        count: How many messages are to be durable.
        folder: Where to.
        interval: How often segments end, by the times the server stored the messages at.
    """
    quiet()
    config = ArchiverConfig.model_validate(
        {
            "nats": {"url": url, "stream": STREAM, "consumer": "bench-archiver", "filter": SUBJECTS.data_filter},
            "storage": {"path": str(folder)},
            "rotation": {"interval": interval, "seal_on_exit": True},
        }
    )
    took = asyncio.run(_archive(config, count))
    took = replace(took, peak_bytes=peak_bytes())
    report = verify_feed(folder, FEED)
    if report.findings:
        raise RuntimeError(f"the archive does not verify: {report.findings[0]}")
    return took


async def _fetch(url: str, count: int, batch: int, every_s: float, path: Path) -> Took:
    started = time.monotonic(), time.process_time()
    client = await nats.connect(url)
    config = ConsumerConfig(ack_policy=AckPolicy.ALL, max_ack_pending=50_000)
    durable = f"bench-fetch-{batch}"
    pull = await client.jetstream().pull_subscribe(SUBJECTS.data_filter, durable, stream=STREAM, config=config)
    messages = 0
    with gzip.open(path, "wb", compresslevel=PLAIN_GZIP_LEVEL) as file:
        due = time.monotonic()
        while messages < count:
            fetched = await pull.fetch(min(batch, count - messages), timeout=FETCH_TIMEOUT_S)
            file.write(b"".join([message.data + b"\n" for message in fetched]))
            await fetched[-1].ack()
            messages += len(fetched)
            due += every_s
            await asyncio.sleep(max(0.0, due - time.monotonic()) if every_s else 0.0)
    seconds, cpu_seconds = time.monotonic() - started[0], time.process_time() - started[1]
    await client.jetstream().delete_consumer(STREAM, durable)
    await client.close()
    return Took(messages, seconds, cpu_seconds)


def fetch_loop(url: str, count: int, folder: Path, batch: int, every_s: float) -> Took:
    """Fetch, write gzip lines, acknowledge, each once a batch: no meta, no index, no fsync, no position."""
    folder.mkdir(parents=True)
    path = folder / "plain.jsonl.gz"
    return replace(asyncio.run(_fetch(url, count, batch, every_s, path)), stored_bytes=path.stat().st_size)


def _until(sock: socket.socket, end: bytes) -> None:
    data = b""
    while end not in data:
        data = data[-len(end) :] + sock.recv(1 << 16)


def count_bytes(url: str, count: int) -> Took:
    """Read the stream off a socket and do nothing with it: what the server can give."""
    address = urlsplit(url)
    started = time.monotonic(), time.process_time()
    with socket.create_connection((address.hostname or "", address.port or 4222), timeout=30) as sock:
        create = f"$JS.API.CONSUMER.CREATE.{STREAM}.bench-bytes"
        consumer = {"name": "bench-bytes", "ack_policy": "none", "deliver_policy": "all", "mem_storage": True}
        body = json.dumps({"stream_name": STREAM, "config": consumer}).encode()
        request = json.dumps({"batch": COUNTING_PULL, "expires": 30_000_000_000}).encode()
        pull = b"PUB $JS.API.CONSUMER.MSG.NEXT.%s.bench-bytes bench.in %d\r\n%s\r\n"
        ask = pull % (STREAM.encode(), len(request), request)
        sock.sendall(b'CONNECT {"verbose":false,"headers":true}\r\nSUB bench.made 1\r\nSUB bench.in 2\r\nPING\r\n')
        _until(sock, b"PONG\r\n")
        sock.sendall(f"PUB {create} bench.made {len(body)}\r\n".encode() + body + b"\r\n")
        _until(sock, b'"num_pending"')
        sock.sendall(ask)
        asked, messages, total = COUNTING_PULL, 0, 0
        mark = b"\nHMSG "
        tail = b"\n"
        while messages < count:
            if asked - messages < 2 * COUNTING_PULL and asked < count:
                sock.sendall(ask)
                asked += COUNTING_PULL
            data = sock.recv(1 << 20)
            if not data:
                raise RuntimeError("the server closed the connection")
            total += len(data)
            messages += (tail + data).count(mark)
            tail = data[-len(mark) + 1 :]
        seconds, cpu_seconds = time.monotonic() - started[0], time.process_time() - started[1]
        delete = f"$JS.API.CONSUMER.DELETE.{STREAM}.bench-bytes"
        with contextlib.suppress(OSError):
            sock.sendall(f"PUB {delete} 0\r\n\r\nPING\r\n".encode())
            _until(sock, b"PONG\r\n")
    return Took(messages, seconds, cpu_seconds, total)
