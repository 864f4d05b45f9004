"""A stream, an archive, and hands on both: what the archiver's integration tests share."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nats
from nats.aio.client import Client
from nats.js.api import StreamConfig, StreamState

from ssmd_archiver.run import run_archiver
from ssmd_archiver.verify import FeedReport, verify_feed
from ssmd_common import load
from ssmd_common.archive.layout import list_days
from ssmd_common.archive.reader import day_segments
from ssmd_common.config.archiver import ArchiverConfig
from ssmd_common.service.lifecycle import Stop

__all__ = ["SESSION", "STREAM", "SUBJECTS", "Bench", "bench_at"]

STREAM = "PROD_KALSHI"
SESSION = "host-01ARZ3NDEKTSV4RRFFQ69G5FAV"
SUBJECTS = ["prod.kalshi.json.>", "prod.kalshi.capture.>"]


@dataclass
class Bench:
    """One stream and its archive; ``url`` is what the archiver connects to."""

    url: str
    client: Client
    data: Path
    frames: int = 0
    last_seq: int = 0
    settings: dict[str, Any] = field(default_factory=dict)

    async def create(self, **config: Any) -> None:
        await self.client.jetstream().add_stream(StreamConfig(name=STREAM, subjects=SUBJECTS, **config))

    async def change(self, **config: Any) -> None:
        """Let the stream have these settings in place of those it has."""
        await self.client.jetstream().update_stream(StreamConfig(name=STREAM, subjects=SUBJECTS, **config))

    async def state(self) -> StreamState:
        return (await self.client.jetstream().stream_info(STREAM)).state

    async def publish(
        self, count: int, *, subject: str = "prod.kalshi.json.trade.KX", identified: bool = True
    ) -> None:
        for _ in range(count):
            self.frames += 1
            headers = {"Nats-Msg-Id": f"{SESSION}.1.{self.frames}"} if identified else None
            ack = await self.client.jetstream().publish(subject, b'{"n":%d}' % self.frames, headers=headers)
            self.last_seq = ack.seq

    async def event(self, number: int, **body: Any) -> None:
        payload = json.dumps({"session": SESSION, "connection": 1, "at_ns": time.time_ns(), **body}).encode()
        headers = {"Nats-Msg-Id": f"{SESSION}.1.e{number}"}
        subject = f"prod.kalshi.capture.{body['event']}"
        self.last_seq = (await self.client.jetstream().publish(subject, payload, headers=headers)).seq

    def config(self) -> ArchiverConfig:
        nats_settings = {"url": self.url, "stream": STREAM, "consumer": "arch", "filter": "prod.kalshi.json.>"}
        return ArchiverConfig.model_validate(
            {
                "nats": nats_settings | self.settings,
                "storage": {"path": str(self.data)},
                "rotation": {"interval": "1h", "seal_on_exit": True},
                "flush_interval": "1s",
            }
        )

    async def archive(self) -> FeedReport:
        """Archive to the end of the stream, stop in order, verify."""
        async with self.archiving():
            await self.reach(self.last_seq)
        report = verify_feed(self.data, "kalshi")
        assert report.findings == []
        return report

    @contextlib.asynccontextmanager
    async def archiving(self) -> AsyncIterator[None]:
        stop = Stop()
        task = asyncio.create_task(run_archiver(self.config(), stop, new_archive=False, health_addr=None))
        try:
            yield
        finally:
            if not task.done():
                await asyncio.sleep(0.3)
            stop.set("the test is done")
            await asyncio.wait_for(task, 120)

    async def reach(self, seq: int) -> None:
        async with asyncio.timeout(120):
            while self.position() < seq:  # noqa: ASYNC110 - files tell it
                await asyncio.sleep(0.1)

    def position(self) -> int:
        segments = [segment for day in list_days(self.data, "kalshi") for segment in day_segments(day)]
        newest = max(segments, key=lambda segment: segment.order, default=None)
        return (newest.index.last_seq or 0) if newest else 0

    def gaps(self) -> list[dict[str, Any]]:
        """The gaps the manifests tell of; that of one from a day into the next stands in both, and is one."""
        told = {gap["gap_id"]: gap for manifest in self.manifests() for gap in manifest["gaps"]}
        return list(told.values())

    def files(self) -> list[dict[str, Any]]:
        """The sealed files of all days, in their order: those of a test that midnight comes upon are of two."""
        return [entry for manifest in self.manifests() for entry in manifest["files"]]

    def manifests(self) -> list[dict[str, Any]]:
        found = (day.manifest for day in list_days(self.data, "kalshi"))
        return [json.loads(manifest.read_bytes()) for manifest in found if manifest.is_file()]

    def numbers(self) -> list[int]:
        days = list_days(self.data, "kalshi")
        return [json.loads(record.data)["n"] for day in days for record in load("kalshi", day.date, data=self.data)]


@contextlib.asynccontextmanager
async def bench_at(url: str, folder: Path) -> AsyncIterator[Bench]:
    client = await nats.connect(url)
    try:
        yield Bench(url, client, folder / "archive")
    finally:
        await client.close()
