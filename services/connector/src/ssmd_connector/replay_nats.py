"""A replay to NATS: the messages of :mod:`ssmd_connector.replay_retell`, published as a capture publishes its own.

The publisher is the connector's, without a spool: while NATS is away the files wait, and nothing can be lost.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from ssmd_common.archive.gaps import Gap
from ssmd_common.archive.reader import Record
from ssmd_common.errors import SsmdError
from ssmd_common.nats import connection as nats_connection
from ssmd_common.service.telemetry import Metrics
from ssmd_connector.capture import Capture
from ssmd_connector.jetstream import connect, wait_for_stream
from ssmd_connector.ledger import Ledger
from ssmd_connector.metrics import ConnectorMetrics
from ssmd_connector.plan import new_session
from ssmd_connector.publisher import Publisher
from ssmd_connector.replay_retell import INSTANCE, Retelling
from ssmd_connector.replay_source import moment_ns
from ssmd_connector.run import SERVICE, connector_version

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ssmd_common.config.environment import Environment
    from ssmd_common.nats.streams import StreamInfo
    from ssmd_common.service.lifecycle import Stop
    from ssmd_connector.capture import Message
    from ssmd_connector.jetstream import Connected
    from ssmd_connector.replay_pace import Pace
    from ssmd_connector.replay_progress import ReplayProgress
    from ssmd_connector.replay_source import Item, Source, SourceSegment

__all__ = ["Replay", "replay_to_nats"]

log = structlog.get_logger()

_SECOND_NS = 1_000_000_000
_MEMORY_BYTES = 8 << 20
_BEAT_S = 10.0
_TURN = 256
_LAST_ACKS_S = 10.0
_LOOK_S = 1.0
_REPLAYED = "replayed"
_FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Replay:
    """What is replayed, where to, and how.

    Attributes:
        source: The segments.
        target: The environment whose stream is filled.
        subject_types: Message types that travel under another type's subject.
        pace: When what is due.
        progress: Told how far it is.
        environ: The environment variables.
    """

    source: Source
    target: Environment
    subject_types: Mapping[str, str]
    pace: Pace
    progress: ReplayProgress
    environ: Mapping[str, str]


async def replay_to_nats(replay: Replay, stop: Stop) -> int:
    """Publish everything, or as much as there was until a stop.

    Returns:
        0, or 1 where not everything was published and acknowledged.

    Raises:
        SsmdError: NATS or a file does not allow it; what came before is published and on record.
    """
    connected = await connect(replay.target, replay.environ, stop, name=f"{SERVICE} replay")
    if connected is None:
        return 1
    try:
        info = await wait_for_stream(replay.target, connected.nc, stop)
        return 1 if info is None else await _Replayer(replay, connected, info, stop).run()
    finally:
        await nats_connection.close(connected.nc)


class _Replayer:
    """One replay at work."""

    def __init__(self, replay: Replay, connected: Connected, info: StreamInfo, stop: Stop) -> None:
        self._replay = replay
        self._stop = stop
        self._connected = connected
        self._stream_limit = info.max_msg_size
        self._last_acks_until: float | None = None
        self._metrics = ConnectorMetrics(Metrics(SERVICE))
        target, ledger = replay.target, Ledger()
        capture = Capture(new_session(INSTANCE), target.subjects())
        self._session = capture.session
        self._publisher = connected.publisher = Publisher(
            stream=info.name,
            window=target.limits.ack_window,
            ack_timeout_s=target.limits.ack_timeout_s,
            memory_bytes=_MEMORY_BYTES,
            spool=None,
            ledger=ledger,
            substitute=capture.substitute,
            metrics=self._metrics,
        )
        self._retelling = Retelling(
            capture,
            ledger,
            source_prefix=replay.source.header.prefix,
            target_prefix=target.subjects().prefix,
            subject_types=replay.subject_types,
        )

    async def run(self) -> int:
        """Publish, and close the record whatever happens."""
        failure: SsmdError | None = None
        begun = time.monotonic()
        await self._publisher.attach(self._connected.nc, stream_limit=self._stream_limit)
        async with asyncio.TaskGroup() as tasks:
            watching = [tasks.create_task(self._publisher.run()), tasks.create_task(self._connected.end())]
            target = self._replay.target
            log.info("replay_started", session=self._session, stream=target.transport.stream)
            await self._put(
                self._retelling.started(
                    time.time_ns(), env=target.env, feed=target.feed, version=connector_version()
                )
            )
            beating = tasks.create_task(self._beat())
            try:
                await self._replay_all()
            except SsmdError as error:
                failure = error
            beating.cancel()
            left = await self._finish(failed=failure is not None)
            for task in watching:
                task.cancel()
        done, records = self._replay.progress.done, self._replay.source.records
        seconds = time.monotonic() - begun
        log.info("replay_ended", session=self._session, records=done, of=records, seconds=round(seconds, 3))
        if failure is not None:
            raise failure
        if left:
            log.error(
                "replay_unacknowledged", messages=left, remedy="see NATS's log, and replay into another stream"
            )
        oversize = self._metrics.oversize.value
        if oversize:
            log.error(
                "replay_oversize",
                frames=int(oversize),
                limit=self._publisher.limit,
                become="frame_oversize",
                remedy="replay into a stream with a larger max_msg_size, or raise the server's max_payload",
            )
        return 1 if left or oversize or self._stop.is_set() else 0

    async def _replay_all(self) -> None:
        groups = self._replay.source.groups()
        ahead = asyncio.create_task(asyncio.to_thread(next, groups, None))
        try:
            while not self._stop.is_set() and (found := await ahead) is not None:
                # The next block is read and unpacked while this one is published.
                ahead = asyncio.create_task(asyncio.to_thread(next, groups, None))
                await self._replay_items(*found)
        finally:
            await asyncio.gather(ahead, return_exceptions=True)

    async def _replay_items(self, segment: SourceSegment, items: list[Item]) -> None:
        pace, progress, retelling = self._replay.pace, self._replay.progress, self._retelling
        epoch, records, at_ns = segment.header.epoch, 0, 0
        for number, item in enumerate(items, 1):
            moment = moment_ns(item)
            if moment is not None:
                at_ns = moment
                wait_ns = pace.wait_ns(moment, time.monotonic_ns())
                if wait_ns:
                    records = progress.move(records, at_ns)
                    progress.pause(wait_ns, at_ns)
                    await self._stop.wait_for(wait_ns / _SECOND_NS)
            if self._stop.is_set():
                break
            if retelling.closes(item):
                await self._acknowledged()
            now_ns = time.time_ns()
            began_ns = now_ns - pace.scaled_ns(_length_ns(item)) if isinstance(item, Gap) else now_ns
            for message in retelling.tell(
                item, now_ns, epoch=epoch, limit=self._publisher.limit, began_ns=began_ns
            ):
                if message.is_oversize:
                    self._metrics.oversize.add()
                if not self._publisher.try_put(message):
                    await self._put(message)
            records += isinstance(item, Record)
            if number % _TURN == 0:
                await asyncio.sleep(0)
        progress.move(records, at_ns)

    async def _put(self, message: Message) -> None:
        """Wait for room; after a stop only so long."""
        putting: asyncio.Future[Any] = asyncio.ensure_future(self._publisher.put(message))
        stopping: asyncio.Future[Any] = asyncio.ensure_future(self._give_up())
        await asyncio.wait({putting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in (putting, stopping):
            task.cancel()
        await asyncio.gather(putting, stopping, return_exceptions=True)

    async def _give_up(self) -> None:
        """Return once a stop has waited long enough for NATS."""
        await self._stop.wait()
        await asyncio.sleep(self._last_acks_s())

    async def _acknowledged(self) -> None:
        """Wait until everything so far is acknowledged; a stop waits only so long."""
        while not await self._publisher.drained(_LOOK_S):
            if self._stop.is_set():
                await self._publisher.drained(self._last_acks_s())
                return

    def _last_acks_s(self) -> float:
        """Return how long a stop still waits for NATS: however many waits there are, no longer in all."""
        now = time.monotonic()
        if self._last_acks_until is None:
            self._last_acks_until = now + _LAST_ACKS_S
        return max(0.0, self._last_acks_until - now)

    async def _finish(self, *, failed: bool) -> int:
        """Close the record; return how many messages have no acknowledgement."""
        await self._acknowledged()
        cause = _FAILED if failed else self._stop.reason or _REPLAYED
        reason = "the record goes on" if failed or self._stop.is_set() else "end of what is replayed"
        for message in self._retelling.ended(time.time_ns(), cause=cause, reason=reason):
            self._publisher.try_put(message)
        await self._acknowledged()
        return self._publisher.unacknowledged + self._retelling.lost

    async def _beat(self) -> None:
        """Say that the session lives; a beat for which there is no room is left out."""
        while True:
            await asyncio.sleep(_BEAT_S)
            self._publisher.try_put(self._retelling.beat(time.time_ns()))


def _length_ns(gap: Gap) -> int:
    return 0 if gap.end_ns is None else gap.end_ns - gap.start_ns
