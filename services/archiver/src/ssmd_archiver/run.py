"""Wires the archiver: lock → recover → connect → read → seal, and what happens beside it."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import time
from contextlib import AsyncExitStack
from pathlib import Path

import structlog

from ssmd_archiver.archiver import Archiver, FeedSettings
from ssmd_archiver.catalog import Catalog
from ssmd_archiver.compression import compressor
from ssmd_archiver.consumer import PullConsumer
from ssmd_archiver.disk import Disk, FolderLock, low_space
from ssmd_archiver.epoch import Position
from ssmd_archiver.metrics import ArchiverMetrics
from ssmd_archiver.reading import StreamReader, check_stream, consumer_ack_floor, is_shared
from ssmd_archiver.recovery import Recovered, recover
from ssmd_archiver.rotation import Reason, Rotation, idle_seal_due
from ssmd_common.archive.layout import LOCK_NAME, feed_folder
from ssmd_common.archive.times import SECOND_NS
from ssmd_common.config.archiver import ArchiverConfig
from ssmd_common.errors import ConfigError, TransportError
from ssmd_common.nats.connection import NatsClient, close, connect
from ssmd_common.nats.streams import StreamInfo, wait_for_stream
from ssmd_common.service.health import Health, parse_addr, serve_health
from ssmd_common.service.lifecycle import Stop
from ssmd_common.service.otlp import otlp_readers
from ssmd_common.service.telemetry import Metrics
from ssmd_common.subjects import SubjectBuilder

__all__ = ["run_archiver", "writer_lock"]

log = structlog.get_logger()

LOOK_EVERY_S = 1.0
STEP_WAIT_S = 0.2
DRAIN_TIMEOUT_S = 20.0
INBOX_PREFIX = "_INBOX_arch"


def writer_lock(base: Path, feed: str, disk: Disk) -> FolderLock:
    """Take the right to write a feed's folder, made if it is missing."""
    folder = feed_folder(base, feed)
    disk.make_folder(folder)
    return FolderLock(folder / LOCK_NAME, {"pid": os.getpid(), "host": socket.gethostname()})


async def run_archiver(
    config: ArchiverConfig, stop: Stop, *, new_archive: bool, health_addr: str | None, disk: Disk | None = None
) -> None:
    """Archive a feed until ``stop``.

    Args:
        config: The configuration.
        stop: Asks for an orderly end.
        new_archive: Begin in an empty folder although the consumer has acknowledged messages before.
        health_addr: Address of the health server, before that of the configuration.
        disk: What to write with, where a test stands in for the disk.
    """
    names = config.subjects()
    subjects = SubjectBuilder(names.env, names.feed, prefix=names.prefix)
    base = config.storage.path
    disk = disk or Disk()
    metrics = Metrics("ssmd-archiver", readers=otlp_readers())
    counts = ArchiverMetrics(metrics)
    health = Health("ssmd-archiver", ready=["archive", "nats", "stream"])
    address = health_addr or config.health_addr
    async with AsyncExitStack() as stack:
        stack.callback(metrics.close)
        if address is not None:
            await stack.enter_async_context(serve_health(parse_addr(address), health, metrics))
        lock = writer_lock(base, names.feed, disk)
        stack.callback(lock.release)
        recovered = await asyncio.to_thread(recover, base, names.feed, disk)
        _check_identity(recovered, subjects, config.nats.stream, base)
        health.ready.ok("archive")
        health.ready.check("disk", lambda: _disk_problem(base))
        counts.disk_free.observe(lambda: float(shutil.disk_usage(base).free))
        connection = _Connection(health)
        try:
            client = await connect(
                config.nats,
                name=f"ssmd-archiver {names.feed}",
                inbox_prefix=INBOX_PREFIX,
                on_closed=connection.closed,
                on_disconnected=connection.lost,
                on_reconnected=connection.back,
                on_unreachable=connection.unreachable,
                stop=stop,
            )
            stack.push_async_callback(close, client)
            connection.up()
            info = await wait_for_stream(client, config.nats.stream, stop=stop)
        except ConfigError as error:
            raise error.within(config.file, "nats") from None
        except TransportError:
            if stop.is_set():
                # Nothing was read yet, so nothing is left undone.
                return
            raise
        check_stream(info, subjects)
        shared = is_shared(info, subjects)
        if recovered.last is None and not new_archive:
            await _refuse_lost_archive(client, config, base)
        archiver = _archiver(config, subjects, recovered, info, counts, disk, shared=shared)
        filters = [subjects.data_filter, subjects.capture_filter] if shared else []
        consumer = PullConsumer(client, config.nats.stream, config.nats.consumer, filters)
        counts.buffered.observe(lambda: float(consumer.buffered))
        reader = StreamReader(
            client,
            consumer,
            archiver,
            stream=config.nats.stream,
            base=base,
            feed=names.feed,
            restarts=counts.restarts,
        )
        loop = _Loop(config, client, connection, archiver, consumer, reader, counts, health)
        await loop.run(stop)


def _archiver(
    config: ArchiverConfig,
    subjects: SubjectBuilder,
    recovered: Recovered,
    info: StreamInfo,
    counts: ArchiverMetrics,
    disk: Disk,
    *,
    shared: bool,
) -> Archiver:
    rotation = Rotation(config.rotation.interval.seconds * SECOND_NS, config.rotation.max_bytes)
    settings = FeedSettings(
        base=config.storage.path,
        subjects=subjects,
        stream=config.nats.stream,
        shared=shared,
        data_filter=config.nats.filter,
        interval=str(config.rotation.interval),
        rotation=rotation,
        flush_s=config.flush_interval.seconds,
        compress=compressor(config.storage.compression),
    )
    catalog = Catalog(config.storage.path, subjects.feed, disk)
    catalog.check_all()
    position = recovered.position or Position(epoch=1, created=info.created, seq=None)
    return Archiver(settings, recovered, position, catalog, disk, counts, time.time_ns)


def _check_identity(recovered: Recovered, subjects: SubjectBuilder, stream: str, base: Path) -> None:
    """Refuse a folder that holds another environment's or stream's archive."""
    last = recovered.last
    if last is None:
        return
    for field, held, configured in (
        ("env", last.env, subjects.env),
        ("nats.stream", last.stream, stream),
        ("nats.filter", last.prefix, subjects.prefix),
    ):
        if held != configured:
            raise ConfigError(
                f"{base / subjects.feed} holds the archive of {held!r}, the configuration says {configured!r}",
                field=field,
                remedy="give this archiver another storage.path",
            )


async def _refuse_lost_archive(client: NatsClient, config: ArchiverConfig, base: Path) -> None:
    floor = await consumer_ack_floor(client, config.nats.stream, config.nats.consumer)
    if floor:
        raise ConfigError(
            f"{base} is empty, yet consumer {config.nats.consumer!r} has acknowledged up to sequence {floor}",
            field="storage.path",
            remedy="mount the archive's volume, or begin a new archive with --new-archive",
        )


def _disk_problem(base: Path) -> str | None:
    usage = shutil.disk_usage(base)
    return low_space(usage.free, usage.total)


class _Connection:
    """What became of the connection since it was last asked."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self.ended = False
        self.reconnected = False
        self.connected = False

    def up(self) -> None:
        self.connected = True
        self._health.ready.ok("nats")

    def unreachable(self, reason: str) -> None:
        self._health.ready.fail("nats", reason)

    async def lost(self) -> None:
        self.connected = False
        self._health.ready.fail("nats", "disconnected, reconnecting")

    async def back(self) -> None:
        self.up()
        self.reconnected = True

    async def closed(self) -> None:
        self.ended = True


class _Loop:
    def __init__(
        self,
        config: ArchiverConfig,
        client: NatsClient,
        connection: _Connection,
        archiver: Archiver,
        consumer: PullConsumer,
        reader: StreamReader,
        counts: ArchiverMetrics,
        health: Health,
    ) -> None:
        self._config = config
        self._client = client
        self._connection = connection
        self._archiver = archiver
        self._consumer = consumer
        self._reader = reader
        self._counts = counts
        self._health = health
        self._looked_at = 0.0
        self._due = "start"
        self._said = ""

    async def run(self, stop: Stop) -> None:
        """Archive until asked to stop, then archive what the stream still holds, and close."""
        await self._archiver.write_manifests(now=True)
        while not stop.is_set():
            await self._turn()
        await self._drain()
        await self._archiver.close(seal=self._config.rotation.seal_on_exit)
        if self._connection.connected:
            await self._reader.acknowledge()
        await self._consumer.stop()
        log.info("archiver_stopped", seq=self._archiver.position.seq)

    async def _turn(self) -> bool:
        """Do what is to be done now; return whether the archive has every message of the stream."""
        if self._connection.ended:
            raise TransportError("the connection to NATS is closed for good", remedy="start the archiver again")
        if self._connection.reconnected:
            self._connection.reconnected = False
            self._due = "reconnected"
        drained = False
        try:
            if self._due and self._connection.connected:
                await self._reader.start(self._due)
                self._due = self._said = ""
                self._health.ready.ok("stream")
            if self._due:
                await self._idle()
                return False
            await self._reader.step(STEP_WAIT_S)
            if time.monotonic() - self._looked_at >= LOOK_EVERY_S:
                self._looked_at = time.monotonic()
                drained = await self._look()
        except TransportError as error:
            if self._client.is_closed or "consumer is shared" in error.problem:
                raise
            # The server is away or starting: what was received stays received, the rest is read again.
            if str(error) != self._said:
                self._said = str(error)
                log.warning("stream_unavailable", problem=self._said, retrying=True)
            self._health.ready.fail("stream", str(error))
            self._due = self._due or "stream unavailable"
            await self._idle()
        await self._archiver.write_manifests()
        return drained

    async def _idle(self) -> None:
        """Wait without a stream; what is pending becomes durable all the same."""
        if self._archiver.flush_due:
            await self._archiver.commit()
        await self._archiver.settle(wait=True)
        await asyncio.sleep(STEP_WAIT_S)

    async def _look(self) -> bool:
        """Compare with the stream: lag for operators, and the server's clock for a quiet feed's open segment."""
        lag, server_ns = await self._reader.backlog()
        self._counts.lag.set(lag)
        drained = lag == 0
        window = self._archiver.window
        grace_ns = self._config.rotation.grace.seconds * SECOND_NS
        if window is not None and idle_seal_due(window, server_ns, grace_ns, drained=drained):
            await self._archiver.seal(Reason.IDLE)
            await self._reader.acknowledge()
        return drained

    async def _drain(self) -> None:
        """Archive what the stream holds at the stop, as long as that makes progress."""
        deadline = time.monotonic() + DRAIN_TIMEOUT_S
        self._looked_at = 0.0
        while time.monotonic() < deadline and self._connection.connected:
            before = self._archiver.next_seq
            if await self._turn():
                return
            if self._archiver.next_seq != before:
                deadline = time.monotonic() + DRAIN_TIMEOUT_S
        log.warning("stopped_before_the_end_of_the_stream", next_seq=self._archiver.next_seq)
