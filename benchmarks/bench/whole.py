"""The whole pipeline at a fixed rate: an exchange, our connector, nats-server and our archiver, a process each."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

from bench import quiet
from bench.fill import FEED, STREAM, SUBJECTS
from bench.machine import peak_bytes
from bench.publishers import Places, connector
from bench.source import Source
from ssmd_archiver.disk import Disk
from ssmd_archiver.run import run_archiver
from ssmd_archiver.verify import verify_feed
from ssmd_common.archive.index import Block, decode_line
from ssmd_common.archive.layout import INDEX_SUFFIX, list_days
from ssmd_common.archive.manifest import parse_manifest
from ssmd_common.archive.reader import load
from ssmd_common.config.archiver import ArchiverConfig
from ssmd_common.nats.testing import NatsServer
from ssmd_common.service.lifecycle import Stop

__all__ = ["Held", "Usage", "hold"]

START_TIMEOUT_S = 60
PREPARE_TIMEOUT_S = 280
"""The source makes its frames first; the connector calls a longer silence an end."""
SETTLE_TIMEOUT_S = 60
SAMPLE_S = 1.0
MOST_LAG_S = 2.0
"""A pipeline that is further behind than that does not hold the rate."""
_SAMPLED = 16
"""One of so many frames is asked how long it took."""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process used while the frames were sent.

    Attributes:
        cores: Processor seconds a second.
        peak_bytes: Most memory it ever held.
    """

    cores: float
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Held:
    """How a rate was held.

    Attributes:
        frames: Frames the exchange sent, those that answered commands among them.
        archived: Frames the archive's manifests prove.
        rejects: Messages that are none and no capture events.
        gaps: Gaps its manifests list.
        findings: What verification found.
        lags: Frames due and not durable, each second.
        late_s: How much longer than planned it took until all were durable.
        latencies_ms: p50, p99 and the highest time from a frame's receipt until it was durable.
        usage: By process.
    """

    rate: int
    seconds: float
    frames: int
    archived: int
    gaps: int
    findings: int
    lags: list[int]
    late_s: float
    latencies_ms: tuple[float, float, float]
    usage: dict[str, Usage] = field(default_factory=dict)

    @property
    def is_held(self) -> bool:
        """Whether nothing is missing and nothing was ever far behind."""
        behind = max(self.lags, default=0) > MOST_LAG_S * self.rate or self.late_s > MOST_LAG_S
        return not (behind or self.gaps or self.findings) and self.archived == self.frames


class _TimedDisk(Disk):
    """The archiver's own disk, noting when each block became durable."""

    def __init__(self, records: Synchronized[int]) -> None:
        self._records = records
        self._block: Block | None = None
        self.durable: list[tuple[int, int]] = []

    def append(self, fd: int, data: bytes, path: Path) -> None:
        super().append(fd, data, path)
        if path.name.endswith(INDEX_SUFFIX):
            line = decode_line(data[data.rfind(b"\n", 0, -1) + 1 : -1])
            self._block = line if isinstance(line, Block) else None

    def sync(self, fd: int, path: Path) -> None:
        super().sync(fd, path)
        if self._block is not None and path.name.endswith(INDEX_SUFFIX):
            self.durable.append((self._block.last_seq or 0, time.time_ns()))
            self._records.value += self._block.records
            self._block = None


def _run_archiver(pipe: Connection, url: str, folder: Path, records: Synchronized[int]) -> None:
    """Archive until told to stop; send when each block was durable."""
    quiet()
    config = ArchiverConfig.model_validate(
        {
            "nats": {"url": url, "stream": STREAM, "consumer": "bench-archiver", "filter": SUBJECTS.data_filter},
            "storage": {"path": str(folder)},
            "rotation": {"interval": "1m"},
            "flush_interval": "1s",
        }
    )
    disk = _TimedDisk(records)

    async def archive() -> None:
        stop = Stop()
        told = asyncio.get_running_loop().run_in_executor(None, pipe.recv)
        told.add_done_callback(lambda _: stop.set("measured"))
        await run_archiver(config, stop, new_archive=True, health_addr=None, disk=disk)

    asyncio.run(archive())
    pipe.send(disk.durable)


def _run_connector(pipe: Connection, places: Places, sending: Any, total: Any) -> None:
    pipe.send(connector(places, sending, total))


def hold(source: Source, rate: int, seconds: int) -> Held:
    """Send at ``rate`` frames a second for so long, and tell what came of it.

    Raises:
        RuntimeError: A process failed; its error stands on stderr.
    """
    context = multiprocessing.get_context("spawn")
    source.marks.clear()
    records = context.Value("q", 0)
    with tempfile.TemporaryDirectory(prefix="ssmd-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        server = NatsServer(folder / "nats")
        server.start()
        stack.callback(server.kill)
        places = Places(source.url(rate * seconds, rate), server.url, server.pid, source.pid, folder)
        from_connector, theirs = context.Pipe()
        reading = context.Process(
            target=_run_connector, args=(theirs, places, source.marks.sending, source.marks.total), daemon=True
        )
        from_archiver, its = context.Pipe()
        writing = context.Process(
            target=_run_archiver, args=(its, server.url, folder / "archive", records), daemon=True
        )
        for process in (reading, writing):
            process.start()
            stack.callback(process.join)
            stack.callback(process.kill)
        pids = {
            "exchange (the source)": source.pid,
            "connector": reading.pid or 0,
            "nats-server": server.pid,
            "archiver": writing.pid or 0,
        }
        _until(lambda: source.marks.sending.value > 0, PREPARE_TIMEOUT_S, reading, writing)
        before = {who: _cpu_seconds(pid) for who, pid in pids.items()}
        lags = _watch(source, rate, seconds, records)
        usage = {
            who: Usage((_cpu_seconds(pid) - before[who]) / seconds, peak_bytes(pid)) for who, pid in pids.items()
        }
        # Control frames become capture events, so what is to be durable are the data frames alone.
        with contextlib.suppress(TimeoutError):
            _until(lambda: records.value >= rate * seconds, SETTLE_TIMEOUT_S, writing)
        late_s = time.monotonic() - source.marks.sending.value - seconds
        if not from_connector.poll(SETTLE_TIMEOUT_S):
            raise RuntimeError("the connector did not end")
        frames = from_connector.recv().frames
        from_archiver.send("stop")
        if not from_archiver.poll(SETTLE_TIMEOUT_S):
            raise RuntimeError("the archiver did not end")
        durable = from_archiver.recv()
        return _judge(folder / "archive", rate, seconds, frames, lags, late_s, durable, usage)


def _until(done: Any, timeout_s: float, *processes: Any) -> None:
    deadline = time.monotonic() + timeout_s
    while not done():
        if any(process.exitcode for process in processes):
            raise RuntimeError("a process failed; its error stands above")
        if time.monotonic() > deadline:
            raise TimeoutError("nothing happened for too long")
        time.sleep(0.01)


def _watch(source: Source, rate: int, seconds: int, records: Synchronized[int]) -> list[int]:
    """Sample, while frames are sent, how many are due and not durable."""
    lags = []
    begun = source.marks.sending.value
    while (passed := time.monotonic() - begun) < seconds:
        lags.append(max(0, int(passed * rate) - records.value))
        time.sleep(min(SAMPLE_S, max(0.0, seconds - passed)))
    return lags


def _judge(
    base: Path,
    rate: int,
    seconds: int,
    frames: int,
    lags: list[int],
    late_s: float,
    durable: list[tuple[int, int]],
    usage: dict[str, Usage],
) -> Held:
    manifests = [
        parse_manifest(day.manifest.read_bytes(), where=str(day.manifest)) for day in list_days(base, FEED)
    ]
    latencies = _latencies_ms(base, durable)
    return Held(
        rate=rate,
        seconds=seconds,
        frames=frames,
        archived=sum(entry.received for manifest in manifests for entry in manifest.sessions),
        gaps=len({gap.gap_id for manifest in manifests for gap in manifest.gaps}),
        findings=len(verify_feed(base, FEED).findings),
        lags=lags,
        late_s=late_s,
        latencies_ms=latencies,
        usage=usage,
    )


def _latencies_ms(base: Path, durable: list[tuple[int, int]]) -> tuple[float, float, float]:
    """Return p50, p99 and the highest of what lies between a frame's receipt and its block's last sync."""
    latencies: list[float] = []
    blocks = iter(durable)
    last_seq, durable_ns = next(blocks)
    for day in list_days(base, FEED):
        for record in load(FEED, day.date, data=base):
            while record.seq > last_seq:
                last_seq, durable_ns = next(blocks)
            if record.received_ns is not None and not record.seq % _SAMPLED:
                latencies.append((durable_ns - record.received_ns) / 1e6)
    cuts = statistics.quantiles(latencies, n=100)
    return cuts[49], cuts[98], max(latencies)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
