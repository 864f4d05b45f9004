"""Wires the connector: one exchange's socket on one side, one stream on the other, and what watches over both.

The end has an order: close the socket, take the last frames, wait for their PubAcks, put the closes on record, then
the session's end; whatever is still unacknowledged goes to the spool. A part that dies ends the process.
"""

from __future__ import annotations

import asyncio
import contextlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import structlog

from ssmd_common.errors import SsmdError
from ssmd_common.events import SessionEnded, SessionStarted
from ssmd_common.nats import connection as nats_connection
from ssmd_common.service.health import Health, serve_health
from ssmd_common.service.otlp import otlp_readers
from ssmd_common.service.telemetry import Metrics
from ssmd_connector.capture import Capture
from ssmd_connector.feedloop import FeedLoop
from ssmd_connector.jetstream import connect, wait_for_stream
from ssmd_connector.journal import Journal
from ssmd_connector.ledger import Ledger
from ssmd_connector.metrics import ConnectorMetrics
from ssmd_connector.plan import new_session
from ssmd_connector.publisher import Publisher
from ssmd_connector.spool import Spool

if TYPE_CHECKING:
    from ssmd_common.nats.streams import StreamInfo
    from ssmd_common.service.address import Address
    from ssmd_common.service.lifecycle import Stop
    from ssmd_connector.jetstream import Connected
    from ssmd_connector.plan import Plan

__all__ = ["SERVICE", "connector_version", "run"]

log = structlog.get_logger()

SERVICE = "ssmd-connector"
ACTIVE_BEAT_S = 10.0
IDLE_BEATS = 6
_LAST_WORDS_S = 3.0


async def run(plan: Plan, stop: Stop, *, health_addr: Address | None = None) -> int:
    """Capture until a stop is asked for.

    Args:
        plan: What to capture and how.
        stop: Set when the process is to end.
        health_addr: Where to serve health and metrics; None for nowhere.

    Returns:
        0, or 1 when frames could not be kept.

    Raises:
        SsmdError: Configuration, credentials or NATS do not allow it.
    """
    metrics = Metrics(SERVICE, readers=otlp_readers())
    counted = ConnectorMetrics(metrics)
    health = Health(SERVICE, ready=("nats", "exchange", "subscribed", "flow"))
    spool_dir, spool_bytes = plan.env.limits.spool_dir, plan.env.limits.spool_bytes
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(metrics.close)
        if health_addr is not None:
            await stack.enter_async_context(serve_health(health_addr, health, metrics))
        spool = Spool(spool_dir, max_bytes=spool_bytes) if spool_dir is not None else None
        if spool is not None:
            stack.callback(spool.close)
            if not spool.is_empty:
                log.info("spool_found", bytes=spool.size_bytes)

        def on_waiting(reason: str) -> None:
            health.ready.fail("nats", reason)

        connected = await connect(
            plan.env, plan.environ, stop, name=f"{SERVICE} {plan.env.feed}", on_waiting=on_waiting
        )
        if connected is None:
            return 0
        stack.push_async_callback(nats_connection.close, connected.nc)
        info = await wait_for_stream(plan.env, connected.nc, stop, on_waiting=on_waiting)
        if info is None:
            return 0
        return await _Service(plan, connected, info, spool, counted, health).run(stop)


class _Service:
    """Everything that runs while the connector captures."""

    def __init__(
        self,
        plan: Plan,
        connected: Connected,
        info: StreamInfo,
        spool: Spool | None,
        metrics: ConnectorMetrics,
        health: Health,
    ) -> None:
        limits = plan.env.limits
        ledger = Ledger()
        self._plan = plan
        self._connected = connected
        self._capture = Capture(new_session(plan.instance), plan.env.subjects())
        self._publisher = connected.publisher = Publisher(
            connected.nc,
            stream=plan.env.transport.stream,
            stream_limit=info.max_msg_size,
            window=limits.ack_window,
            ack_timeout_s=limits.ack_timeout_s,
            memory_bytes=limits.memory_bytes,
            spool=spool,
            ledger=ledger,
            substitute=self._capture.substitute,
            metrics=metrics,
        )
        self._journal = Journal(self._capture, self._publisher, ledger)
        self._loop = FeedLoop(
            plan, capture=self._capture, publisher=self._publisher, journal=self._journal, metrics=metrics
        )
        health.ready.check("nats", connected.reason)
        health.ready.check("exchange", self._loop.why_not_open)
        health.ready.check("subscribed", self._loop.why_not_subscribed)
        health.ready.note("subscribed", self._loop.refused)
        health.ready.check("flow", self._loop.why_not_flowing)
        limit, frame_limit = self._publisher.limit, plan.settings.max_frame_bytes
        if frame_limit > limit:
            log.warning(
                "frames_above_limit", max_frame_bytes=frame_limit, nats_limit=limit, become="frame_oversize"
            )

    async def run(self, stop: Stop) -> int:
        """Capture, and save what is held if something dies."""
        try:
            return await self._capture_until(stop)
        except BaseException:
            self._publisher.keep_rest()
            raise

    async def _capture_until(self, stop: Stop) -> int:
        failure: SsmdError | None = None
        async with asyncio.TaskGroup() as tasks:
            watching = [tasks.create_task(self._publisher.run()), tasks.create_task(self._connected.end())]
            log.info("session_started", session=self._capture.session, stream=self._plan.env.transport.stream)
            await self._journal.tell(
                SessionStarted,
                instance=self._plan.instance,
                env=self._plan.env.env,
                feed=self._plan.env.feed,
                version=connector_version(),
            )
            beating = tasks.create_task(self._beat())
            try:
                await self._loop.run(stop)
            except SsmdError as error:
                # Told after the record is closed; the error is the process's last word.
                failure = error
            beating.cancel()
            left = await self._finish(stop.reason)
            for task in watching:
                task.cancel()
        if failure is not None:
            raise failure
        return 1 if left else 0

    async def _finish(self, cause: str) -> int:
        """Close the record; return how many messages could not be kept anywhere."""
        await self._loop.settled(self._plan.drain_s + 1)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_S):
                await self._journal.tell(
                    SessionEnded, cause=cause, connections=self._journal.connections, frames=self._journal.frames
                )
        drained = await self._publisher.drained(_LAST_WORDS_S)
        left = 0 if drained else self._publisher.keep_rest()
        if left:
            log.error("messages_lost", messages=left, reason="NATS is away and the spool is full or not configured")
        elif not drained:
            log.warning("messages_kept_in_spool", remedy="the next start publishes them")
        log.info("session_ended", session=self._capture.session, cause=cause, frames=self._journal.frames)
        return left

    async def _beat(self) -> None:
        """Say that the session lives: often while frames come, seldom while none do."""
        frames, idle = -1, 0
        while True:
            if self._journal.frames != frames or idle + 1 >= IDLE_BEATS:
                if self._journal.beat():
                    frames, idle = self._journal.frames, 0
            else:
                idle += 1
            await asyncio.sleep(ACTIVE_BEAT_S)


def connector_version() -> str:
    """Return this distribution's version; empty where it is not installed."""
    try:
        return version(SERVICE)
    except PackageNotFoundError:
        return ""
