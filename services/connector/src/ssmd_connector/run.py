"""Wires the connector: one exchange's socket on one side, one stream on the other, and what watches over both.

The capture begins whether NATS is there or not: until it comes frames wait as they do in any of its absences.
The end has an order: close the socket, take the last frames, wait for their PubAcks, put the closes on record, then
the session's end; whatever is still unacknowledged goes to the spool. A part that dies ends the process.
"""

from __future__ import annotations

import asyncio
import contextlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import structlog

from ssmd_common.errors import ConfigError, SsmdError
from ssmd_common.events import SessionEnded, SessionStarted
from ssmd_common.service.health import Health, serve_health
from ssmd_common.service.otlp import otlp_readers
from ssmd_common.service.telemetry import Metrics
from ssmd_connector.arrival import Arrival
from ssmd_connector.capture import Capture
from ssmd_connector.feedloop import FeedLoop
from ssmd_connector.journal import Journal
from ssmd_connector.ledger import Ledger
from ssmd_connector.metrics import ConnectorMetrics
from ssmd_connector.plan import new_session
from ssmd_connector.publisher import Publisher
from ssmd_connector.spool import Spool

if TYPE_CHECKING:
    from ssmd_common.service.address import Address
    from ssmd_common.service.lifecycle import Stop
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
                _refuse_others(spool, plan)

        arrival = Arrival(plan.env, plan.environ, stop, name=f"{SERVICE} {plan.env.feed}")
        health.ready.check("nats", arrival.reason)
        await stack.enter_async_context(arrival)
        # What is refused at once ends the process before the exchange hears of it.
        if not await arrival.at_once():
            if stop.is_set():
                return 0
            log.warning("capturing_without_nats", reason=arrival.reason(), frames=_waiting_place(spool))
        return await _Service(plan, arrival, spool, counted, health).run(stop)


class _Service:
    """Everything that runs while the connector captures."""

    def __init__(
        self,
        plan: Plan,
        arrival: Arrival,
        spool: Spool | None,
        metrics: ConnectorMetrics,
        health: Health,
    ) -> None:
        limits = plan.env.limits
        ledger = Ledger()
        self._plan = plan
        self._arrival = arrival
        self._failure: SsmdError | None = None
        self._capture = Capture(new_session(plan.instance), plan.env.subjects())
        self._publisher = Publisher(
            stream=plan.env.transport.stream,
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
        health.ready.check("exchange", self._loop.why_not_open)
        health.ready.check("subscribed", self._loop.why_not_subscribed)
        health.ready.note("subscribed", self._loop.refused)
        health.ready.check("flow", self._loop.why_not_flowing)

    async def run(self, stop: Stop) -> int:
        """Capture, and save what is held if something dies."""
        try:
            return await self._capture_until(stop)
        except BaseException:
            self._keep_rest()
            raise

    async def _capture_until(self, stop: Stop) -> int:
        async with asyncio.TaskGroup() as tasks:
            watching = [tasks.create_task(self._publisher.run()), tasks.create_task(self._attach(stop))]
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
                self._fail(error, stop)
            beating.cancel()
            left = await self._finish(stop.reason)
            for task in watching:
                task.cancel()
        if self._failure is not None:
            raise self._failure
        return 1 if left else 0

    async def _attach(self, stop: Stop) -> None:
        """Publish from when NATS and the stream are there, and watch over the connection from then on.

        Raises:
            TransportError: The connection ended for good.
        """
        try:
            found = await self._arrival.found()
        except SsmdError as error:
            self._fail(error, stop)
            return
        if found is None:
            return
        connected, info = found
        connected.publisher = self._publisher
        await self._publisher.attach(connected.nc, stream_limit=info.max_msg_size)
        limit, frame_limit = self._publisher.limit, self._plan.settings.max_frame_bytes
        if frame_limit > limit:
            log.warning(
                "frames_above_limit", max_frame_bytes=frame_limit, nats_limit=limit, become="frame_oversize"
            )
        await connected.end()

    def _fail(self, error: SsmdError, stop: Stop) -> None:
        """End in order for an error, which is told after the record is closed, as the process's last word."""
        self._failure = self._failure or error
        if not stop.is_set():
            stop.set("failed")

    async def _finish(self, cause: str) -> int:
        """Close the record; return how many messages could not be kept anywhere."""
        await self._loop.settled(self._plan.drain_s + 1)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_S):
                await self._journal.tell(
                    SessionEnded, cause=cause, connections=self._journal.connections, frames=self._journal.frames
                )
        drained = await self._publisher.drained(_LAST_WORDS_S)
        left = 0 if drained else self._keep_rest()
        if not left and self._publisher.is_spooling:
            log.warning("messages_kept_in_spool", remedy="the next start publishes them")
        log.info("session_ended", session=self._capture.session, cause=cause, frames=self._journal.frames)
        return left

    def _keep_rest(self) -> int:
        """Move what is left in memory to the spool; return how many messages could not be kept."""
        left = self._publisher.keep_rest()
        if not self._journal.connections:
            # The record of a session that never was connected to the exchange: nothing is missing without it.
            return 0
        if left:
            reason = "nothing is stored, and the spool is full or not configured"
            log.error("messages_lost", messages=left, reason=reason)
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


def _refuse_others(spool: Spool, plan: Plan) -> None:
    """Refuse a spool of other subjects: no stream of ours takes them, and ours would wait behind them for ever.

    Raises:
        ConfigError: It is one.
    """
    subject = (spool.oldest_subject() or b"").decode("utf-8", "replace")
    subjects = plan.env.subjects()
    ours = tuple(taken.removesuffix(">") for taken in (subjects.data_filter, subjects.capture_filter))
    if subject and not subject.startswith(ours):
        raise ConfigError(
            f"the spool holds messages of another feed or prefix: {subject}",
            file=str(plan.env.limits.spool_dir),
            field="limits.spool_dir",
            remedy="let the connector they are from publish them, or give this one a folder of its own",
        )


def _waiting_place(spool: Spool | None) -> str:
    return (
        "wait in memory, then in the spool" if spool is not None else "wait in memory; limits.spool_dir is not set"
    )


def connector_version() -> str:
    """Return this distribution's version; empty where it is not installed."""
    try:
        return version(SERVICE)
    except PackageNotFoundError:
        return ""
