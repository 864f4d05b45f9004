"""Kills an archiver again and again while a stream fills, then compares archive and stream.

The truth is the stream as the server holds it: every message, once by message id, at its first sequence. One run
takes a seed, a number of messages and a number of kills; ``python -m integration.archive_harness`` runs it at any
size.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import unittest.mock
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import nats
from nats.aio.client import Client
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import Error as JetStreamError

from integration.killed_archiver import POINTS
from integration.nats_server import NatsServer, running_nats
from ssmd_archiver import consumer
from ssmd_archiver.run import run_archiver
from ssmd_archiver.verify import FeedReport, verify_feed
from ssmd_common.archive.layout import list_days
from ssmd_common.archive.manifest import parse_manifest
from ssmd_common.archive.reader import day_segments
from ssmd_common.config.archiver import ArchiverConfig
from ssmd_common.config.loading import parse_model
from ssmd_common.frames import MSG_ID_HEADER, RECEIVED_NS_HEADER, TYPE_HEADER
from ssmd_common.service import logs
from ssmd_common.service.lifecycle import Stop

__all__ = ["Comparison", "Harness", "Plan"]

STREAM = "PROD_KALSHI"
CONSUMER = "archiver-kalshi"
SESSION = "harness-01ARZ3NDEKTSV4RRFFQ69G5FAV"
_SUBJECTS = ["prod.kalshi.json.>", "prod.kalshi.capture.>"]
_BATCH = 500
#: How long an archiver may take to a point it is to die at, and to what else it has to come to.
_POINT_S = 180.0


@dataclass(frozen=True, slots=True)
class Plan:
    """The size of one run.

    Attributes:
        messages: How many to publish.
        kills: How often the archiver is killed.
        seed: Decides everything random.
        rotation: The archiver's interval.
        faults: Other faults to mix in with the kills.
        points: Points to kill at in turn; none for kills at random moments and points.
    """

    messages: int
    kills: int
    seed: int
    rotation: str = "2s"
    faults: tuple[str, ...] = ()
    points: tuple[str, ...] = ()


@dataclass(slots=True)
class Comparison:
    """What the comparison found."""

    expected: int
    archived: int
    lost: list[str]
    duplicated: list[str]
    out_of_order: int
    differing: list[str]
    moved_boundaries: list[str] = field(default_factory=list)
    kills: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    report: FeedReport | None = None

    @property
    def clean(self) -> bool:
        """Whether archive and stream agree."""
        findings = self.report.findings if self.report else []
        wrong = self.lost or self.duplicated or self.out_of_order or self.differing or self.moved_boundaries
        return not (wrong or findings)

    def __str__(self) -> str:
        findings = len(self.report.findings) if self.report else 0
        return ", ".join(
            (
                f"{self.archived} of {self.expected} messages archived",
                f"{len(self.lost)} lost",
                f"{len(self.duplicated)} duplicated",
                f"{self.out_of_order} out of order",
                f"{len(self.differing)} differing",
                f"{len(self.moved_boundaries)} boundaries unlike those of an archiver left in peace",
                f"{findings} findings",
                f"{sum(self.kills.values())} kills at {len(self.kills)} points",
                *(f"{count} x {name}" for name, count in sorted(self.faults.items())),
            )
        )


async def _expected_errors(_error: Exception) -> None:
    """Say nothing: the server is restarted on purpose."""


class Harness:
    """One run over one server.

    Args:
        server: The server; it is restarted by some faults.
        folder: Where configuration, log and archive lie.
        plan: The size.
    """

    def __init__(self, server: NatsServer, folder: Path, plan: Plan) -> None:
        self._server = server
        self._plan = plan
        self._random = random.Random(plan.seed)
        self._folder = folder
        self.data = folder / "archive"
        self.log = folder / "archiver.log"
        self._config = folder / "archiver.yaml"
        self._config.write_text(
            f'nats: {{url: "{server.url}", stream: {STREAM}, consumer: {CONSUMER}, filter: "prod.kalshi.json.>"}}\n'
            f"storage: {{path: {self.data}}}\n"
            f"rotation: {{interval: {plan.rotation}, seal_on_exit: false, grace: 1s}}\n"
            "flush_interval: 1s\n"
        )
        self._kills: dict[str, int] = {}
        self._faults: dict[str, int] = {}
        self._published = 0

    async def run(self) -> Comparison:
        """Publish, kill, recover, compare.

        Raises:
            RuntimeError: An archiver ended by itself where it should not.
        """
        client = await nats.connect(
            self._server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.2, error_cb=_expected_errors
        )
        try:
            await client.jetstream().add_stream(name=STREAM, subjects=_SUBJECTS)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._publish(client))
                tasks.create_task(self._rounds(client))
            await self._finish(client)
            result = await asyncio.wait_for(self._compare(client), 300)
            result.moved_boundaries = await self._archive_again(client)
            return result
        finally:
            await client.close()

    async def _publish(self, client: Client) -> None:
        """Publish all messages, each until it is acknowledged, spread over the kills."""
        jetstream = client.jetstream()
        number = 0
        while number < self._plan.messages:
            count = min(_BATCH, self._plan.messages - number)
            batch = list(range(number + 1, number + count + 1))
            while batch:
                batch = await self._publish_once(jetstream, batch)
            number += count
            self._published = number
            # Stay beside the kills: each should fall into a stream that grows.
            while number / self._plan.messages > (sum(self._kills.values()) + 1) / self._plan.kills:  # noqa: ASYNC110 - paced
                await asyncio.sleep(0.02)

    async def _publish_once(self, jetstream: nats.js.JetStreamContext, batch: list[int]) -> list[int]:
        """Publish once; return the numbers that were not acknowledged."""
        answers = await asyncio.gather(
            *(
                jetstream.publish(
                    f"prod.kalshi.json.trade.KX-{number % 97}",
                    self._payload(number),
                    headers={
                        MSG_ID_HEADER: f"{SESSION}.1.{number}",
                        RECEIVED_NS_HEADER: str(time.time_ns()),
                        TYPE_HEADER: "trade",
                    },
                    timeout=2,
                )
                for number in batch
            ),
            return_exceptions=True,
        )
        return [number for number, answer in zip(batch, answers, strict=True) if isinstance(answer, BaseException)]

    def _payload(self, number: int) -> bytes:
        pad = "x" * (number * 7919 % 240)
        return b'{"type":"trade","sid":1,"seq":%d,"msg":{"market_ticker":"KX-%d","pad":"%s"}}' % (
            number,
            number % 97,
            pad.encode(),
        )

    async def _rounds(self, client: Client) -> None:
        points = list(self._plan.points)
        while sum(self._kills.values()) < self._plan.kills:
            if points:
                await self._round(points.pop(0), 1, _POINT_S)
            elif self._random.random() < 0.5:
                await self._round(self._random.choice(POINTS), self._random.randint(1, 12), 3.0)
            else:
                await self._round("", 0, self._random.uniform(0.8, 2.5))
            if self._plan.faults and self._random.random() < 0.3:
                await self._fault(client, self._random.choice(self._plan.faults))

    async def _round(self, point: str, count: int, seconds: float) -> None:
        """Run an archiver until its bomb goes off, or kill it after ``seconds``."""
        process = self._start(point or "none", count)
        try:
            await asyncio.wait_for(asyncio.to_thread(process.wait), seconds)
        except TimeoutError:
            process.kill()
            await asyncio.to_thread(process.wait)
            point = "any moment"
        if process.returncode != -signal.SIGKILL:
            raise RuntimeError(f"the archiver ended with {process.returncode}:\n{self.log.read_text()[-3000:]}")
        self._kills[point] = self._kills.get(point, 0) + 1

    def _start(self, point: str, count: int) -> subprocess.Popen[bytes]:
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
        with self.log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", "integration.killed_archiver", str(self._config), point, str(count)],
                stdout=log,
                stderr=log,
                env=environment,
            )

    async def _fault(self, client: Client, name: str) -> None:
        """Inject a fault beside a running archiver, which must get over it by itself."""
        process = self._start("none", 0)
        await asyncio.sleep(self._random.uniform(0.8, 1.5))
        async with asyncio.timeout(_POINT_S):
            # Before its first block an archive is empty; acknowledged messages are then refused as another's.
            while not self._position() and process.poll() is None:  # noqa: ASYNC110 - files
                await asyncio.sleep(0.1)
        await FAULTS[name](self, client)
        await asyncio.sleep(self._random.uniform(0.5, 1.5))
        if process.poll() is not None:
            raise RuntimeError(f"{name} ended the archiver:\n{self.log.read_text()[-3000:]}")
        process.kill()
        await asyncio.to_thread(process.wait)
        self._faults[name] = self._faults.get(name, 0) + 1

    async def restart_server(self, _client: Client) -> None:
        """Stop the server in order and start it again."""
        await asyncio.to_thread(self._server.stop)
        await asyncio.sleep(self._random.uniform(0, 1))
        await asyncio.to_thread(self._server.start)

    async def kill_server(self, _client: Client) -> None:
        """Kill the server and start it again."""
        await asyncio.to_thread(self._server.kill)
        await asyncio.sleep(self._random.uniform(0, 1))
        await asyncio.to_thread(self._server.start)

    async def delete_consumer(self, client: Client) -> None:
        """Delete the archiver's consumer."""
        try:
            await client.jetstream().delete_consumer(STREAM, CONSUMER)
        except (JetStreamError, NatsTimeoutError):
            return

    async def steal_messages(self, client: Client) -> None:
        """Take and acknowledge what another process should have got."""
        try:
            subscription = await client.jetstream().pull_subscribe_bind(CONSUMER, STREAM)
            messages = await subscription.fetch(50, timeout=0.5)
            await messages[-1].ack()
            await subscription.unsubscribe()
        except (JetStreamError, NatsTimeoutError, TimeoutError):
            # There was nothing to take: the client says so in one of three ways.
            return

    async def _finish(self, client: Client) -> None:
        """Let an archiver reach the end of the stream and stop it in order."""
        last_seq = (await client.jetstream().stream_info(STREAM)).state.last_seq
        said_before = self.log.stat().st_size
        process = self._start("none", 0)
        deadline = time.monotonic() + _POINT_S
        # It takes signals only once it runs, and has perhaps nothing left to archive.
        while not self._reads(said_before) and time.monotonic() < deadline and process.poll() is None:  # noqa: ASYNC110 - files
            await asyncio.sleep(0.2)
        while self._position() < last_seq and time.monotonic() < deadline and process.poll() is None:  # noqa: ASYNC110 - files
            await asyncio.sleep(0.2)
        process.terminate()
        code = await asyncio.to_thread(process.wait)
        if code or self._position() < last_seq:
            raise RuntimeError(f"the last archiver ended with {code}:\n{self.log.read_text()[-3000:]}")

    def _reads(self, said_before: int) -> bool:
        """Tell whether the archiver whose log begins there reads the stream."""
        return b'"event": "reading"' in self.log.read_bytes()[said_before:]

    def _position(self, base: Path | None = None) -> int:
        days = list_days(base or self.data, "kalshi")
        # Of two days: the folder of a new one is there before its first block.
        segments = [segment for day in days[-2:] for segment in day_segments(day)]
        return max((segment.index.last_seq or 0 for segment in segments), default=0)

    async def _compare(self, client: Client) -> Comparison:
        expected = await self._stream_messages(client)
        lost, duplicated, differing = [], [], []
        seen: set[str] = set()
        out_of_order = last_seq = 0
        for day in list_days(self.data, "kalshi"):
            for segment in day_segments(day):
                for record in segment.records():
                    identity = f"{record.connection}.{record.frame_no}"
                    if identity in seen:
                        duplicated.append(identity)
                    seen.add(identity)
                    out_of_order += record.seq <= last_seq
                    last_seq = record.seq
                    if expected.get(identity) != (record.seq, record.data):
                        differing.append(identity)
        lost = [identity for identity in expected if identity not in seen]
        report = verify_feed(self.data, "kalshi")
        return Comparison(
            expected=len(expected),
            archived=len(seen),
            lost=lost,
            duplicated=duplicated,
            out_of_order=out_of_order,
            differing=differing,
            kills=self._kills,
            faults=self._faults,
            report=report,
        )

    async def _archive_again(self, client: Client) -> list[str]:
        """Archive the same stream once more, at once, in other batches; return the segments that differ."""
        last_seq = (await client.jetstream().stream_info(STREAM)).state.last_seq
        again = self._folder / "again"
        document = self._config.read_text().replace(str(self.data), str(again)).replace(CONSUMER, "again")
        settings = parse_model(document, ArchiverConfig, file="again")
        stop = Stop()
        with unittest.mock.patch.object(consumer, "PULL_MESSAGES", 333):
            task = asyncio.create_task(run_archiver(settings, stop, new_archive=True, health_addr=None))
            async with asyncio.timeout(300):
                while self._position(again) < last_seq:  # noqa: ASYNC110 - files tell it
                    await asyncio.sleep(0.2)
            stop.set("archived again")
            await task
        killed, quiet = _sealed(self.data), _sealed(again)
        return [name for name in killed.keys() & quiet.keys() if killed[name] != quiet[name]]

    async def _stream_messages(self, client: Client) -> dict[str, tuple[int, bytes]]:
        """Read the whole stream by a consumer of our own: the first message of each id."""
        config = ConsumerConfig(ack_policy=AckPolicy.NONE, deliver_policy=DeliverPolicy.ALL)
        jetstream = client.jetstream()
        last_seq = (await jetstream.stream_info(STREAM)).state.last_seq
        subscription = await jetstream.pull_subscribe(">", stream=STREAM, config=config)
        found: dict[str, tuple[int, bytes]] = {}
        while True:
            for message in await subscription.fetch(1000, timeout=60):
                seq = message.metadata.sequence.stream
                found.setdefault((message.headers or {})[MSG_ID_HEADER], (seq, message.data))
                if seq == last_seq:
                    await subscription.unsubscribe()
                    return found


def _sealed(base: Path) -> dict[str, tuple[int, int, str]]:
    """Return each sealed segment's bounds and the hash of its lines."""
    manifests = [parse_manifest(day.manifest.read_bytes(), where="") for day in list_days(base, "kalshi")]
    return {
        f"{manifest.date}/{entry.name}": (entry.nats_start_seq, entry.nats_end_seq, entry.sha256_raw)
        for manifest in manifests
        for entry in manifest.files
    }


FAULTS: dict[str, Callable[[Harness, Client], Awaitable[None]]] = {
    "server restarted": Harness.restart_server,
    "server killed": Harness.kill_server,
    "consumer deleted": Harness.delete_consumer,
    "consumer moved by another process": Harness.steal_messages,
}


def main() -> None:
    """Run the harness from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=500_000)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32))
    options = parser.parse_args()
    logs.configure("archive-harness", level="error")
    plan = Plan(options.messages, options.kills, options.seed, faults=tuple(FAULTS))
    print(f"seed {plan.seed}: {plan.messages} messages, {plan.kills} kills")  # noqa: T201 - a command
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, running_nats(Path(folder) / "nats") as server:
        result = asyncio.run(Harness(server, Path(folder), plan).run())
    print(f"{result}, {time.monotonic() - started:.0f} s")  # noqa: T201 - a command
    sys.exit(0 if result.clean else 1)


if __name__ == "__main__":
    main()
