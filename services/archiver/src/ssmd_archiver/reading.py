"""The reader's side of the loop: where to start, when to start again, what a jump of the stream means."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import structlog

from ssmd_archiver.archiver import Archiver, Jump
from ssmd_archiver.consumer import PullConsumer
from ssmd_archiver.epoch import Position, same_message, stream_verdict
from ssmd_archiver.plan import jump_gaps
from ssmd_archiver.records import subject_matches
from ssmd_common.archive.gaps import Gap, GapLayer, GapStatus
from ssmd_common.archive.index import read_index
from ssmd_common.archive.layout import list_days
from ssmd_common.errors import ConfigError, TransportError
from ssmd_common.nats.connection import NatsClient
from ssmd_common.nats.streams import ApiError, StreamInfo, api_request, direct_get, parse_time_ns, stream_info
from ssmd_common.service.telemetry import Counter
from ssmd_common.subjects import SubjectBuilder

__all__ = ["StreamReader", "check_stream", "consumer_ack_floor", "is_shared"]

log = structlog.get_logger()

RESTARTS_ALLOWED = 3
RESTARTS_WITHIN_S = 60.0
_CONSUMER_NOT_FOUND = 10014


def is_shared(info: StreamInfo, subjects: SubjectBuilder) -> bool:
    """Tell whether a stream holds more than this feed's two kinds of subject."""
    ours = (subjects.data_filter, subjects.capture_filter)
    return not all(any(subject_matches(taken, own) for own in ours) for taken in info.subjects)


def check_stream(info: StreamInfo, subjects: SubjectBuilder) -> None:
    """Refuse a stream that cannot hold the feed: a filter that matches nothing archives nothing, silently.

    Raises:
        ConfigError: No subject of the stream lets the feed's data in.
    """
    probe = subjects.json("trade", "X").split(".")
    for taken in info.subjects:
        if subject_matches(".".join(probe), taken) or subject_matches(taken, subjects.data_filter):
            return
    raise ConfigError(
        f"stream {info.name!r} takes {', '.join(info.subjects) or 'nothing'}, never {subjects.data_filter}",
        field="nats.filter",
        remedy="name the stream's environment and feed in nats.filter, or the right stream in nats.stream",
    )


async def consumer_ack_floor(client: NatsClient, stream: str, name: str) -> int:
    """Return the stream sequence a durable consumer has acknowledged; 0 where there is no such consumer."""
    try:
        answer = await api_request(client, f"CONSUMER.INFO.{stream}.{name}")
    except ApiError as error:
        if error.err_code == _CONSUMER_NOT_FOUND:
            return 0
        raise
    return int(answer["ack_floor"]["stream_seq"])


class StreamReader:
    """Keeps an archiver fed from a stream.

    Args:
        client: The connection.
        consumer: The cursor.
        archiver: What it feeds.
        restarts: Told each time the consumer is made again.
    """

    def __init__(
        self,
        client: NatsClient,
        consumer: PullConsumer,
        archiver: Archiver,
        *,
        stream: str,
        base: Path,
        feed: str,
        restarts: Counter,
    ) -> None:
        self._client = client
        self._consumer = consumer
        self._archiver = archiver
        self._stream = stream
        self._base = base
        self._feed = feed
        self._counted = restarts
        self._restarts: deque[tuple[float, int]] = deque()
        self._started = False
        self._expected = 1
        self._acked = ""

    async def start(self, cause: str) -> None:
        """Read from the archive's position on: at the start and after any discontinuity.

        Raises:
            TransportError: The server did not answer, or another process keeps taking the consumer.
        """
        archiver = self._archiver
        await archiver.commit()
        self._refuse_a_fight(cause)
        info = await stream_info(self._client, self._stream)
        await self._follow_epoch(info)
        log.info("reading", cause=cause, next_seq=archiver.next_seq, last_seq=info.last_seq)
        await self._consumer.restart(archiver.next_seq)
        self._restarts.append((time.monotonic(), archiver.next_seq))
        # Every process makes it once: what tells of trouble is that it is made again.
        if self._started:
            self._counted.add()
        self._started = True
        self._expected = 1

    def _refuse_a_fight(self, cause: str) -> None:
        """Give up when the consumer is taken away again and again: another process reads through it."""
        now, next_seq = time.monotonic(), self._archiver.next_seq
        while self._restarts and (
            now - self._restarts[0][0] > RESTARTS_WITHIN_S or self._restarts[0][1] != next_seq
        ):
            self._restarts.popleft()
        if len(self._restarts) > RESTARTS_ALLOWED:
            raise TransportError(
                f"consumer is shared: made again {RESTARTS_ALLOWED} times in a minute without progress ({cause})",
                where=self._stream,
                remedy="give each archiver its own nats.consumer, and run one per feed",
            )

    async def _follow_epoch(self, info: StreamInfo) -> None:
        position = self._archiver.position
        stored = None
        if position.message_seq is not None and info.first_seq <= position.message_seq <= info.last_seq:
            stored = await direct_get(self._client, self._stream, seq=position.message_seq)
        cause = stream_verdict(position, info, stored).new_epoch
        if cause is None:
            return
        common = 0
        if cause == "stream_rolled_back":
            common = await self._common_point(position.epoch, info)
        seq = position.seq or 0
        start_ns = position.stored_ns or info.server_ns
        gap = Gap(
            gap_id=f"{position.epoch}:{seq + 1}",
            layer=GapLayer.STREAM,
            cause=cause,
            status=GapStatus.PERMANENT,
            epoch=position.epoch,
            start_seq=seq + 1,
            start_ns=start_ns,
            detected_ns=info.server_ns,
        )
        await self._archiver.begin_epoch(Position(position.epoch + 1, info.created, common), gap)
        log.warning("epoch_opened", epoch=position.epoch + 1, cause=cause, next_seq=common + 1)

    async def _common_point(self, epoch: int, info: StreamInfo) -> int:
        """Return the last sequence at which archive and rolled-back stream hold the same message; 0 for none."""
        for point in _block_ends(self._base, self._feed, epoch):
            seq = point.message_seq or 0
            if seq > info.last_seq:
                continue
            if seq < info.first_seq:
                return seq
            stored = await direct_get(self._client, self._stream, seq=seq)
            if stored is not None and same_message(point, stored):
                return seq
        return 0

    async def backlog(self) -> tuple[int, int]:
        """Return how many messages of the stream are not taken in yet, and the server's clock at that moment."""
        answer = await api_request(self._client, f"CONSUMER.INFO.{self._stream}.{self._consumer.name}")
        delivered = answer["delivered"]["consumer_seq"] - (self._expected - 1)
        return answer["num_pending"] + max(0, delivered), parse_time_ns(answer["ts"])

    async def step(self, wait_s: float) -> None:
        """Move what has arrived into the archive, and acknowledge what became durable."""
        if self._consumer.trouble:
            await self.start(self._consumer.trouble)
        batch = await self._consumer.take(wait_s)
        quiet = not batch
        while batch:
            self._expected, jump = await self._archiver.take_in(batch, self._expected)
            batch = []
            if jump is not None:
                await self._explain_jump(jump)
                batch = jump.rest
            elif self._expected < 0:
                await self.start("delivery out of order")
        if self._archiver.flush_due:
            await self._archiver.commit()
        await self._archiver.settle(wait=quiet)
        await self.acknowledge()

    async def acknowledge(self) -> None:
        """Tell the server how far the archive is durable."""
        reply = self._archiver.last_reply
        if reply is not None and reply != self._acked:
            await self._consumer.ack(reply)
            self._acked = reply

    async def _explain_jump(self, jump: Jump) -> None:
        info = await stream_info(self._client, self._stream, deleted_details=True)
        position = self._archiver.position
        gaps = jump_gaps(
            info,
            epoch=position.epoch,
            start_seq=jump.expected_seq,
            end_seq=jump.message.seq,
            start_ns=position.stored_ns or jump.message.stored_ns,
            end_ns=jump.message.stored_ns,
        )
        self._archiver.explain(gaps, jump.message.seq)


def _block_ends(base: Path, feed: str, epoch: int) -> Iterator[Position]:
    """Iterate over the last messages of an epoch's blocks, newest first."""
    for day in reversed(list_days(base, feed)):
        stems = [(day.sealed(stem).index, stem) for stem in day.sealed_stems()]
        stems += [(day.open(stem).index, stem) for stem in day.open_stems()]
        indexes = [index for path, _ in stems if (index := read_index(path.read_bytes(), where=str(path)))]
        for index in sorted(indexes, key=lambda index: (index.header.epoch, index.last_seq or 0), reverse=True):
            if index.header.epoch != epoch:
                continue
            for block in reversed(index.blocks):
                if block.first_seq is not None:
                    yield Position(
                        epoch=epoch,
                        created=index.header.created,
                        seq=block.last_seq,
                        stored_ns=block.last_ns,
                        msg_id=block.last_msg_id,
                        message_seq=block.last_seq,
                    )
