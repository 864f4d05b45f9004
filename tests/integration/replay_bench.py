"""What the tests of replay share: an archive with one of everything in it, and archives of its replays."""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssmd_archiver.run import run_archiver
from ssmd_archiver.testing import SESSION, SUBJECTS, T0, Stream, archive
from ssmd_archiver.verify import verify_feed
from ssmd_common import events
from ssmd_common.archive.index import Reject
from ssmd_common.archive.layout import list_days
from ssmd_common.archive.manifest import GapEntry, Manifest, parse_manifest
from ssmd_common.archive.reader import Record, Segment, day_segments
from ssmd_common.archive.times import SECOND_NS
from ssmd_common.config.archiver import ArchiverConfig
from ssmd_common.config.nats import NatsSettings
from ssmd_common.events import CaptureEvent, encode_event, event_name
from ssmd_common.nats.connection import close, connect
from ssmd_common.nats.streams import stream_info
from ssmd_common.service.lifecycle import Stop
from ssmd_connector.replay import Destination, ReplayRequest, plan_replay
from ssmd_connector.replay_nats import replay_to_nats
from ssmd_connector.replay_pace import MAX, Pace

__all__ = ["AFTER", "Archive", "archived", "command", "everything", "replayed", "request", "run_replay"]

AFTER = "host-01BX5ZZKBKACTAV9WEVGEMMVRZ"
"""The session after the one that crashes."""

_CLI = "from ssmd_connector.cli import main; main()"


@dataclass(frozen=True)
class Archive:
    """An archive, and how it is read."""

    base: Path
    feed: str = "kalshi"

    @property
    def folder(self) -> Path:
        """The feed's folder."""
        return self.base / self.feed

    def segments(self) -> list[Segment]:
        """Its segments in the order of the stream."""
        found = [segment for day in list_days(self.base, self.feed) for segment in day_segments(day)]
        return sorted(found, key=lambda segment: segment.order)

    def records(self) -> list[Record]:
        """Its records in the order of the stream."""
        return [record for segment in self.segments() for record in segment.records()]

    def told(self) -> list[tuple[Any, ...]]:
        """What each record is, whatever stream it lies in."""
        return [
            (r.data, r.type, r.tickers, r.stored_ns if r.received_ns is None else r.received_ns)
            for r in self.records()
        ]

    def rejects(self) -> list[bytes]:
        """The bytes of payloads that are no JSON."""
        lines = (line for segment in self.segments() for line in segment.index.lines())
        return [base64.b64decode(line.data) for line in lines if isinstance(line, Reject)]

    def events(self, kind: type[CaptureEvent] = CaptureEvent) -> list[Any]:
        """Its capture events."""
        payloads = (
            bytes(line.payload)
            for segment in self.segments()
            for line in segment.index.lines()
            if hasattr(line, "payload")
        )
        return [event for payload in payloads if isinstance(event := events.decode_event(payload), kind)]

    def manifests(self) -> list[Manifest]:
        """Its manifests, a day each."""
        days = list_days(self.base, self.feed)
        return [parse_manifest(day.manifest.read_bytes(), where=str(day.manifest)) for day in days]

    def gaps(self) -> list[GapEntry]:
        """The gaps its manifests tell of."""
        found = {gap.gap_id: gap for manifest in self.manifests() for gap in manifest.gaps}
        return list(found.values())

    def whole(self) -> bool:
        """Whether verification finds nothing wrong."""
        return verify_feed(self.base, self.feed).findings == []


async def everything(base: Path) -> Archive:
    """Write an archive with one of everything: 30 windows of 10 s, made by the archiver itself."""
    stream = _Telling()
    stream.tell(events.SessionStarted(session=SESSION, at_ns=T0, instance="host", env="prod", feed="kalshi"))
    stream.tell(events.ConnectionOpened(session=SESSION, connection=1, at_ns=T0, url="wss://exchange/ws"))
    stream.control('{"type":"subscribed","id":1,"note":"Ünïcode \\"quoted\\""}')
    stream.tell(events.Subscribed(session=SESSION, connection=1, at_ns=T0, channel="trade", sid=1))
    stream.tell(events.Market(session=SESSION, at_ns=T0, ticker="KX-B5.5", document={"strike": 5.5, "big": 2**63}))
    for _ in range(20):
        stream.trade()
    stream.trade(b'{"type":"trade",\n "n":\n1}')
    stream.trade('{"type":"trade","text":"naïve ☃"}'.encode())
    stream.data(b'{"type":"ticker","n":2}', "ticker", tickers="KX-A,KX-B%2E5")
    stream.data(b'{"type":"orderbook_delta","n":3}', "orderbook_delta", subject=SUBJECTS.json_orderbook("KX-A"))
    stream.data(b"\xff not JSON", "trade")
    stream.unparsed(b"\x00\x01 binary")
    for gap_no in (1, 2):
        stream.trade()
        stream.tell(
            events.ExchangeGap(
                session=SESSION,
                connection=1,
                at_ns=stream.now_ns,
                gap_no=gap_no,
                key="sid:1",
                after_seq=10 * gap_no,
                next_seq=10 * gap_no + 4,
                missing_count=3,
                frame_no=stream.frames,
                after_ns=stream.now_ns - 5,
            )
        )
    stream.tell(events.ExchangeResynced(session=SESSION, connection=1, at_ns=stream.now_ns, gap_no=1, key="sid:1"))
    stream.frames += 3  # received, acknowledged by the server, and never seen again
    stream.trade()
    state = events.ConnectionState(
        connection=1, frames=stream.frames, acked_through=stream.frames, unverifiable=["ticker"]
    )
    stream.tell(events.Heartbeat(session=SESSION, at_ns=stream.now_ns, connections=[state]))
    stream.frames += 2
    stream.tell(
        events.ConnectionClosed(
            session=SESSION,
            connection=1,
            at_ns=stream.now_ns,
            cause="silent",
            code=1006,
            reason="nothing came",
            frames=stream.frames,
            acked_through=stream.frames - 2,
            lost=[(stream.frames - 1, stream.frames + 1)],
        )
    )
    for _ in range(5):
        stream.add(SUBJECTS.json("trade", "FOREIGN.1"), b'{"foreign":true}', None)
    stream.open(SESSION, 2)
    for _ in range(10):
        stream.trade()
    stream.skip(7)  # retention took them before the archiver came
    for _ in range(3):
        stream.trade()
    stream.tell(
        events.SessionStarted(session=AFTER, at_ns=stream.now_ns, instance="host", env="prod", feed="kalshi")
    )
    stream.open(AFTER, 1)
    for _ in range(5):
        stream.trade()
    await archive(base, stream, interval_s=10, commit_every=4)
    return Archive(base)


class _Telling(Stream):
    """A stream under construction, one message a second."""

    session, connection = SESSION, 1

    @property
    def now_ns(self) -> int:
        return T0 + len(self.messages) * SECOND_NS

    def open(self, session: str, connection: int) -> None:
        self.session, self.connection, self.frames = session, connection, 0
        self.tell(
            events.ConnectionOpened(
                session=session, connection=connection, at_ns=self.now_ns, url="wss://exchange/ws"
            )
        )

    def skip(self, count: int) -> None:
        """Leave sequences out, and a frame for each."""
        self._skipped = count
        self.frames += count

    _skipped = 0

    def add(self, subject: str, payload: bytes, msg_id: str | None, at_ns: int | None = None) -> None:
        super().add(subject, payload, msg_id, at_ns)
        if self._skipped:
            seq, name, headers, data, stored_ns = self.messages[-1]
            self.messages[-1] = (seq + self._skipped, name, headers, data, stored_ns)
            self._skipped = 0

    def tell(self, event: CaptureEvent) -> None:
        self.events += 1
        msg_id = f"{event.session}.{event.connection}.e{self.events}"
        self.add(SUBJECTS.capture(event_name(event)), encode_event(event), msg_id)

    def trade(self, payload: bytes | None = None, at_ns: int | None = None) -> None:  # noqa: ARG002 - as its base has it
        body = payload if payload is not None else b'{"type":"trade","n":%d}' % len(self.messages)
        self.data(body, "trade")

    def data(self, payload: bytes, kind: str, *, subject: str = "", tickers: str = "") -> None:
        self.frames += 1
        self.add(subject or SUBJECTS.json(kind, None if tickers else "KX-B5.5"), payload, self._frame_id)
        seq, subject_bytes, headers, body, stored_ns = self.messages[-1]
        assert headers is not None
        more = f"Ssmd-Type: {kind}\r\n" + (f"Ssmd-Tickers: {tickers}\r\n" if tickers else "")
        self.messages[-1] = (seq, subject_bytes, headers[:-2] + more.encode() + b"\r\n", body, stored_ns)

    def control(self, text: str) -> None:
        self.frames += 1
        event = events.Control(
            session=self.session, connection=self.connection, at_ns=self.now_ns, frame_no=self.frames, frame=text
        )
        self.add(SUBJECTS.capture("control"), encode_event(event), self._frame_id)

    def unparsed(self, frame: bytes) -> None:
        self.frames += 1
        event = events.FrameUnparsed(
            session=self.session,
            connection=self.connection,
            at_ns=self.now_ns,
            frame_no=self.frames,
            data=base64.b64encode(frame).decode(),
            reason="not UTF-8",
        )
        self.add(SUBJECTS.capture("frame_unparsed"), encode_event(event), self._frame_id)

    @property
    def _frame_id(self) -> str:
        return f"{self.session}.{self.connection}.{self.frames}"


def command(*arguments: object) -> list[str]:
    """Return the words that replay as a process of its own."""
    return [sys.executable, "-c", _CLI, "replay", *map(str, arguments)]


def run_replay(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    """Replay and wait for it."""
    return subprocess.run(  # noqa: S603 - our own program
        command(*arguments), env=environment(), capture_output=True, timeout=120, check=False, cwd=cwd
    )


def environment() -> dict[str, str]:
    """Return the variables of a process that finds our packages."""
    path = os.pathsep.join(str(Path(part).absolute()) for part in sys.path if part)
    return {name: value for name, value in os.environ.items() if not name.startswith("KALSHI_")} | {
        "PYTHONPATH": path
    }


def request(*files: Path, **options: Any) -> ReplayRequest:
    """Return a request to replay to NATS as fast as it goes."""
    return ReplayRequest(**{"files": files, "to": Destination.NATS, "pace": Pace(MAX), **options})


async def replayed(url: str, base: Path, *files: Path, **options: Any) -> Archive:
    """Replay files to NATS as fast as it goes, and archive what came."""
    planned = plan_replay(request(*files, url=url, **options), {})
    assert await replay_to_nats(planned, Stop()) == 0
    target = planned.target
    return await archived(url, base, stream=target.transport.stream, prefix=target.subjects().prefix)


async def archived(url: str, base: Path, *, stream: str, prefix: str, consumer: str = "arch") -> Archive:
    """Archive a stream to its end, in segments of an hour."""
    client = await connect(NatsSettings(url=url), name="test")
    try:
        last_seq = (await stream_info(client, stream)).last_seq
    finally:
        await close(client)
    config = ArchiverConfig.model_validate(
        {
            "nats": {"url": url, "stream": stream, "consumer": consumer, "filter": f"{prefix}.json.>"},
            "storage": {"path": str(base)},
            "rotation": {"interval": "1h"},
            "flush_interval": "1s",
        }
    )
    stop = Stop()
    task = asyncio.create_task(run_archiver(config, stop, new_archive=False, health_addr=None))
    found = Archive(base)
    try:
        async with asyncio.timeout(120):
            while not task.done() and _position(found) < last_seq:  # noqa: ASYNC110 - files tell it
                await asyncio.sleep(0.1)
    finally:
        stop.set("the test is done")
        await asyncio.wait_for(task, 120)
    return found


def _position(archive: Archive) -> int:
    return max((segment.index.last_seq or 0 for segment in archive.segments()), default=0)
