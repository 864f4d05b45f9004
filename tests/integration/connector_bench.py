"""An exchange, a connector and the stream between them: what the connector's integration tests share."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import yaml

from integration.accounting import read_sent
from integration.nats_server import NatsServer
from ssmd_archiver.proof import FrameLedger
from ssmd_common.archive.gaps import Gap
from ssmd_common.config.loading import load_environment, load_feed
from ssmd_common.config.nats import NatsSettings
from ssmd_common.errors import TransportError
from ssmd_common.events import CaptureEvent, Control, FrameUnparsed, decode_event
from ssmd_common.frames import FrameId, parse_msg_id
from ssmd_common.nats.connection import close, connect
from ssmd_common.nats.streams import StoredMessage, direct_get, stream_info
from ssmd_common.service.lifecycle import Stop
from ssmd_connector.plan import Plan
from ssmd_connector.run import run
from ssmd_connector.spool import Spool
from ssmd_simulator.keys import KEY_ID_FILE, PRIVATE_KEY_FILE
from ssmd_simulator.markets import listing

__all__ = [
    "MARKETS",
    "STREAM",
    "Bench",
    "Recorded",
    "finished",
    "frame_of",
    "killed",
    "proven",
    "running_process",
    "sent_frames",
    "spooled_ids",
    "until",
]

STREAM = "DEV_KALSHI"
FEED = Path(__file__).parents[2] / "exchanges/feeds/kalshi.yaml"
MARKETS = 8
_CLI = "from ssmd_connector.cli import main; main()"
_BATCH = 256

_EventT = TypeVar("_EventT", bound=CaptureEvent)


async def until(condition: Callable[[], bool], *, within_s: float = 120.0) -> None:
    """Wait until something is so.

    Raises:
        TimeoutError: It never was.
    """
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.02)


def sent_frames(path: Path) -> dict[int, list[bytes]]:
    """Read a simulator's sent log: each connection's frames, in order."""
    return {number: connection.frames for number, connection in read_sent(path).items()}


@dataclass(frozen=True)
class Recorded:
    """What the stream holds, in its order."""

    messages: list[StoredMessage]

    @property
    def data(self) -> list[bytes]:
        """The payloads of the data messages."""
        return [message.data for message in self.messages if ".json." in message.subject]

    def events(self, kind: type[_EventT]) -> list[_EventT]:
        """The capture events of a kind."""
        decoded = (decode_event(m.data) for m in self.messages if ".capture." in m.subject)
        return [event for event in decoded if isinstance(event, kind)]

    def frames(self) -> dict[FrameId, bytes]:
        """Every frame's bytes by identity, in the order of the stream; each may be there once."""
        found: dict[FrameId, bytes] = {}
        for message in self.messages:
            identity = parse_msg_id(message.headers["Nats-Msg-Id"])
            if isinstance(identity, FrameId):
                assert identity not in found
                found[identity] = frame_of(message)
        return found

    def connections(self) -> dict[tuple[str, int], list[bytes]]:
        """The frames of each session's connections by frame number, which may leave no hole."""
        found: dict[tuple[str, int], list[bytes]] = {}
        by_number = sorted(self.frames().items(), key=lambda item: item[0].frame_no)
        for identity, frame in by_number:
            frames = found.setdefault((identity.session, identity.connection), [])
            frames.append(frame)
            assert identity.frame_no == len(frames)
        return found


def frame_of(message: StoredMessage) -> bytes:
    """Return the bytes of the frame a message carries, as data or inside an event."""
    if ".json." in message.subject:
        return message.data
    event = decode_event(message.data)
    if isinstance(event, FrameUnparsed):
        return base64.b64decode(event.data)
    assert isinstance(event, Control)
    return base64.b64decode(event.frame) if event.base64 else event.frame.encode()


def _size(path: Path) -> int:
    """Return a file's size; the connector may just have deleted it."""
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


@dataclass
class Bench:
    """One environment of one feed.

    Attributes:
        server: Where the frames go.
        folder: Holds the environment's file, the exchange's keys and the spool.
        keys: The folder with the connector's key; None for an exchange open to all.
        administrator: What reads the stream; anybody may unless the server says otherwise.
    """

    server: NatsServer
    folder: Path
    keys: Path | None = None
    administrator: dict[str, str] = field(default_factory=dict)

    @property
    def spool(self) -> Path:
        """The spool's folder."""
        return self.folder / "spool"

    @property
    def spooled_bytes(self) -> int:
        """How much lies in the spool."""
        return sum(map(_size, self.spool.glob("*.spool")))

    def write(self, exchange_url: str, **more: Any) -> Path:
        """Write the environment's file for an exchange, and return its path."""
        key_id, private_key = self.folder / "key-id", self.folder / "key.pem"
        source = self.keys or self._throwaway_keys()
        shutil.copy(source / KEY_ID_FILE, key_id)
        shutil.copy(source / PRIVATE_KEY_FILE, private_key)
        environment = {
            "name": "kalshi-test",
            "feed": "kalshi",
            "instance": "test",
            "endpoint": exchange_url,
            "capture": {
                "channels": ["ticker", "trade", "orderbook_delta"],
                "symbols": [listing(index).ticker for index in range(MARKETS)],
            },
            "keys": {"kalshi": {"fields": ["api_key", "private_key"], "source": f"file:{key_id},{private_key}"}},
            "transport": {"type": "nats", "url": self.server.url, "stream": STREAM},
            "limits": {"spool_dir": str(self.spool), "ack_timeout_s": 1},
            **more,
        }
        path = self.folder / "environment.yaml"
        path.write_text(yaml.safe_dump(environment), "utf-8")
        return path

    def _throwaway_keys(self) -> Path:
        from ssmd_simulator.keys import own_key  # noqa: PLC0415 - only where the exchange checks none

        own_key(self.folder / "keys")
        return self.folder / "keys"

    def plan(self, exchange_url: str, **more: Any) -> Plan:
        """Return the plan of a connector to that exchange."""
        return Plan.of(load_feed(FEED), load_environment(self.write(exchange_url, **more)), {})

    @contextlib.asynccontextmanager
    async def capturing(self, exchange_url: str, *, drain_s: float = 10.0, **more: Any) -> AsyncIterator[Stop]:
        """Run a connector in this process; it is stopped in order at the end, and has to end well."""
        stop = Stop()
        task = asyncio.create_task(run(replace(self.plan(exchange_url, **more), drain_s=drain_s), stop))
        try:
            yield stop
        finally:
            stop.set("SIGTERM")
            async with asyncio.timeout(drain_s + 60):
                code = await task
        assert code == 0

    def command(self, exchange_url: str, *, prelude: str = "") -> list[str]:
        """Return the command of a connector as a process of its own; ``prelude`` runs before it."""
        environment = self.write(exchange_url)
        return [sys.executable, "-c", prelude + _CLI, "--feed", str(FEED), "--env", str(environment)]

    async def seen(self, condition: Callable[[Recorded], bool], *, within_s: float = 120.0) -> Recorded:
        """Return the stream once something is true of it.

        Raises:
            TimeoutError: It never was.
        """
        async with asyncio.timeout(within_s):
            while True:
                # The stream may not be there yet, or the server.
                with contextlib.suppress(TransportError):
                    recorded = await self.recorded()
                    if condition(recorded):
                        return recorded
                await asyncio.sleep(0.2)

    async def recorded(self) -> Recorded:
        """Read the whole stream."""
        settings = NatsSettings.model_validate({"url": self.server.url, **self.administrator})
        client = await connect(settings, name="reader")
        try:
            info = await stream_info(client, STREAM)
            found: list[StoredMessage | None] = []
            for first in range(1, info.last_seq + 1, _BATCH):
                sequences = range(first, min(first + _BATCH, info.last_seq + 1))
                found += await asyncio.gather(*(direct_get(client, STREAM, seq=seq) for seq in sequences))
        finally:
            await close(client)
        messages = [message for message in found if message is not None]
        assert len(messages) == info.messages
        return Recorded(messages)


def proven(recorded: Recorded) -> list[Gap]:
    """The gaps an archive of this stream would record, each as it was known last."""
    ledger, found = FrameLedger(), dict[str, Gap]()
    for message in recorded.messages:
        track, identity = ledger.identify(message.headers["Nats-Msg-Id"])
        gaps: list[Gap] = []
        if track is not None and isinstance(identity, FrameId):
            received_ns = int(message.headers["Ssmd-Received-Ns"])
            gaps += ledger.frame(track, identity.frame_no, received_ns, message.stored_ns)
        event = decode_event(message.data) if ".capture." in message.subject else None
        if event is not None:
            gaps += ledger.event(event, message.stored_ns)
        found |= {gap.gap_id: gap for gap in gaps}
    return list(found.values())


def spooled_ids(folder: Path, copy: Path) -> list[str]:
    """Return the message ids in a spool, in order, read from a copy."""
    shutil.copytree(folder, copy)
    with contextlib.closing(Spool(copy, max_bytes=1 << 30)) as spool:
        blocks = [message.headers.decode() for message, _ in spool.read(1_000_000)]
    ids = [line.partition(": ")[2] for block in blocks for line in block.split("\r\n") if "Nats-Msg-Id" in line]
    assert all(parse_msg_id(text) for text in ids)
    return ids


@contextlib.contextmanager
def running_process(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a connector whose log goes to a file; it is killed if it still runs at the end."""
    path = os.pathsep.join(str(Path(part).absolute()) for part in sys.path if part)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KALSHI_")}
    with log.open("ab") as errors:
        process = subprocess.Popen(command, env=kept | {"PYTHONPATH": path}, stderr=errors)  # noqa: S603 - our own program
    try:
        yield process
    finally:
        process.kill()
        process.wait(60)
    assert b"Traceback" not in log.read_bytes()


def killed(process: subprocess.Popen[bytes]) -> None:
    """Kill a connector as the kernel would."""
    process.send_signal(signal.SIGKILL)
    process.wait(60)


async def finished(process: subprocess.Popen[bytes], *, within_s: float = 120.0) -> int:
    """Ask a connector to end, and return its exit code.

    Raises:
        TimeoutExpired: It did not end.
    """
    process.send_signal(signal.SIGTERM)
    return await asyncio.to_thread(process.wait, within_s)
