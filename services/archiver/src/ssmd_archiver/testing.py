"""What the archiver's tests share: a stream made by hand, and the archiver run over it on real files."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from ssmd_archiver.archiver import Archiver, FeedSettings
from ssmd_archiver.catalog import Catalog
from ssmd_archiver.compression import DEFAULT, Compress
from ssmd_archiver.disk import Disk
from ssmd_archiver.epoch import Position
from ssmd_archiver.metrics import ArchiverMetrics
from ssmd_archiver.plan import jump_gaps
from ssmd_archiver.recovery import recover
from ssmd_archiver.rotation import Rotation
from ssmd_archiver.verify import FeedReport, verify_feed
from ssmd_common import events
from ssmd_common.archive.manifest import Manifest, parse_manifest
from ssmd_common.archive.times import SECOND_NS, from_rfc3339
from ssmd_common.events import CaptureEvent
from ssmd_common.nats.client import RawMessage
from ssmd_common.nats.streams import StreamInfo
from ssmd_common.service.telemetry import Metrics
from ssmd_common.subjects import SubjectBuilder

T0 = from_rfc3339("2026-11-23T12:00:00Z")
DATE = "2026-11-23"
SESSION = "host-01ARZ3NDEKTSV4RRFFQ69G5FAV"
SUBJECTS = SubjectBuilder("prod", "kalshi")
METRICS = ArchiverMetrics(Metrics("test"))


@dataclass
class Stream:
    """A stream's messages, one a second of server time unless told otherwise."""

    messages: list[tuple[int, bytes, bytes | None, bytes, int]] = field(default_factory=list)
    frames: int = 0
    events: int = 0

    def add(self, subject: str, payload: bytes, msg_id: str | None, at_ns: int | None = None) -> None:
        seq = self.messages[-1][0] + 1 if self.messages else 1
        headers = None
        if msg_id is not None:
            kind = f"Ssmd-Type: {subject.split('.')[3]}\r\n" if ".json." in subject else ""
            headers = f"NATS/1.0\r\nNats-Msg-Id: {msg_id}\r\nSsmd-Received-Ns: {T0 + seq}\r\n{kind}\r\n".encode()
        stored_ns = T0 + (seq - 1) * SECOND_NS if at_ns is None else at_ns
        self.messages.append((seq, subject.encode(), headers, payload, stored_ns))

    def trade(self, payload: bytes | None = None, at_ns: int | None = None) -> None:
        self.frames += 1
        body = payload if payload is not None else b'{"n":%d}' % self.frames
        self.add(SUBJECTS.json_trade("KX-B5.5"), body, f"{SESSION}.1.{self.frames}", at_ns)

    def event(self, event: CaptureEvent, at_ns: int | None = None) -> None:
        self.events += 1
        msg_id = f"{SESSION}.{event.connection}.e{self.events}"
        self.add(SUBJECTS.capture(events.event_name(event)), events.encode_event(event), msg_id, at_ns)

    def close(self, cause: str = "stopped") -> None:
        self.event(
            events.ConnectionClosed(
                session=SESSION, connection=1, at_ns=T0, cause=cause, frames=self.frames, acked_through=self.frames
            )
        )

    def deliver(self, after_seq: int) -> list[RawMessage]:
        rest = [message for message in self.messages if message[0] > after_seq]
        return [
            (subject, b"$JS.ACK.PROD_KALSHI.arch.1.%d.%d.%d.0" % (seq, number, stored_ns), headers, payload)
            for number, (seq, subject, headers, payload, stored_ns) in enumerate(rest, 1)
        ]


def feed_settings(
    base: Path, interval_s: int, max_bytes: int | None, *, shared: bool, compress: Compress = DEFAULT
) -> FeedSettings:
    return FeedSettings(
        base=base,
        subjects=SUBJECTS,
        stream="PROD_KALSHI",
        shared=shared,
        data_filter="prod.kalshi.json.>",
        interval=f"{interval_s}s",
        rotation=Rotation(interval_s * SECOND_NS, max_bytes),
        flush_s=5,
        compress=compress,
    )


def start(
    base: Path,
    interval_s: int = 10,
    max_bytes: int | None = None,
    *,
    shared: bool = False,
    disk: Disk | None = None,
    compress: Compress = DEFAULT,
) -> Archiver:
    disk = disk or Disk()
    disk.make_folder(base / "kalshi")
    recovered = recover(base, "kalshi", disk)
    catalog = Catalog(base, "kalshi", disk)
    catalog.check_all()
    position = recovered.position or Position(epoch=1, created="c", seq=None)
    settings = feed_settings(base, interval_s, max_bytes, shared=shared, compress=compress)
    return Archiver(settings, recovered, position, catalog, disk, METRICS, lambda: 1)


async def archive(
    base: Path,
    stream: Stream,
    *,
    batch: int = 1000,
    commit_every: int | None = None,
    seal: bool = True,
    interval_s: int = 10,
    max_bytes: int | None = None,
    stop_after: int | None = None,
    shared: bool = False,
    disk: Disk | None = None,
    compress: Compress = DEFAULT,
) -> None:
    """Archive what the stream holds past the archive's position, in batches; ``stop_after`` kills it there."""
    archiver = start(base, interval_s, max_bytes, shared=shared, disk=disk, compress=compress)
    await archiver.write_manifests(now=True)
    rest = stream.deliver(archiver.next_seq - 1)
    if stop_after is not None:
        rest = rest[:stop_after]
    expected = 1
    while rest:
        part, rest = rest[:batch], rest[batch:]
        expected, jump = await archiver.take_in(part, expected)
        assert expected > 0
        if jump is not None:
            info = StreamInfo("S", (), "c", 0, jump.message.seq, 10**6, 0, 0, 0)
            position = archiver.position
            gaps = jump_gaps(
                info,
                epoch=1,
                start_seq=jump.expected_seq,
                end_seq=jump.message.seq,
                start_ns=position.stored_ns or 0,
                end_ns=jump.message.stored_ns,
            )
            archiver.explain(gaps, jump.message.seq)
            rest = jump.rest + rest
        if commit_every and archiver.next_seq % commit_every == 0:
            await archiver.commit()
    if stop_after is None:
        await archiver.close(seal=seal)
    else:
        await archiver.commit()


def manifest_of(base: Path, date: str = DATE) -> Manifest:
    path = base / "kalshi" / date / "manifest.json"
    return parse_manifest(path.read_bytes(), where=str(path))


def verified(base: Path) -> FeedReport:
    """Return the verification's report; it must be clean."""
    report = verify_feed(base, "kalshi")
    assert report.findings == []
    return report


def boundaries(base: Path) -> list[tuple[str, int, int, str]]:
    files = manifest_of(base).files
    return [(entry.name, entry.nats_start_seq, entry.nats_end_seq, entry.sha256_raw) for entry in files]


def trades(count: int) -> Stream:
    stream = Stream()
    stream.event(events.ConnectionOpened(session=SESSION, connection=1, at_ns=T0, url="ws://x"))
    for _ in range(count):
        stream.trade()
    return stream


def run_cli(*arguments: str, stderr: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """Run the command as its users do: a process, its output and its exit code."""
    code = "from ssmd_archiver.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env=environment,
        timeout=60,
        check=False,
    )
