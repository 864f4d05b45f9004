"""NATS goes away under a connector, and comes back: is every frame of the exchange in the stream, once?

    PYTHONPATH=tests .venv/bin/python -m integration.connector_outage --seconds 600 --rate 2000

The exchange is the simulator, which writes down what it sends; the connector is a process of its own, with the
bounds as shipped. The stream is compared with the exchange's own list, frame by frame.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import msgspec
import nats
import nats.errors

from integration.connector_bench import STREAM, Bench, finished, frame_of, running_process, until
from integration.nats_server import NatsServer, running_nats
from ssmd_common.frames import FrameId, parse_msg_id
from ssmd_common.nats.streams import StoredMessage
from ssmd_simulator.records import SentLog
from ssmd_simulator.roads import GeneratedRoad
from ssmd_simulator.server import Simulator

__all__ = ["Outcome", "outage"]

_Place = tuple[int, int]
"""A connection, and a frame's number in it."""

_BATCH = 500
_BEFORE_S = 2.0
_LEAST_OF_RATE = 0.75
#: No message of the exchange takes less in the spool, its header with it.
_LEAST_SPOOLED_BYTES = 200


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an outage came to.

    Attributes:
        sent: Frames the exchange sent up to the stop, by its own list.
        stored: Of those, how many the stream holds, with their bytes.
        doubled: How many it holds more than once.
        out_of_place: Frames of the stream the exchange did not send there.
        away_s: How long NATS was away.
        frames_away: Frames the exchange sent meanwhile.
        spool_bytes: Most that lay in the spool.
        peak_bytes: Most memory the connector held.
        catch_up_s: From NATS's return until the spool was empty.
        exit_code: The connector's.
    """

    sent: int
    stored: int
    doubled: int
    out_of_place: int
    away_s: float
    frames_away: int
    spool_bytes: int
    peak_bytes: int
    catch_up_s: float
    exit_code: int


async def outage(server: NatsServer, folder: Path, *, seconds: float, rate: int) -> Outcome:
    """Capture, take NATS away for so long, bring it back, and compare."""
    bench, sent_path = Bench(server, folder), folder / "sent.jsonl"
    with closing(SentLog(sent_path)) as log:
        async with Simulator(GeneratedRoad(seed=3, markets=8, rate=rate), keys=None, sent_log=log) as simulator:
            with running_process(bench.command(simulator.url), folder / "connector.log") as process:
                await until(lambda: simulator.frames >= rate * _BEFORE_S)
                await asyncio.to_thread(server.kill)
                gone_at, gone_frames = time.monotonic(), simulator.frames
                while time.monotonic() - gone_at < seconds:  # noqa: ASYNC110 - time is what is waited for
                    await asyncio.sleep(min(1.0, seconds / 10))
                # A slow machine sends less in the time.
                await until(lambda: simulator.frames >= gone_frames + rate * seconds * _LEAST_OF_RATE)
                frames_away = simulator.frames - gone_frames
                # What was sent is on the disk once the connector, a process of its own, has come to it.
                await until(lambda: bench.spooled_bytes > frames_away * _LEAST_SPOOLED_BYTES)
                spool_bytes = bench.spooled_bytes
                away_s = time.monotonic() - gone_at
                await asyncio.to_thread(server.start)
                back_at = time.monotonic()
                await until(lambda: bench.spooled_bytes == 0, within_s=120 + 4 * seconds)
                catch_up_s = time.monotonic() - back_at
                peak_bytes, at_stop = _peak_bytes(process.pid), simulator.frames
                code = await finished(process)
    stored = await _stored(server)
    sent = dict(_sent(sent_path))
    times = Counter(place for place, _ in stored)
    # What was under way when the connector was told to stop may or may not have arrived.
    expected = dict(islice(sent.items(), at_stop))
    found = {place for place, digest in stored if expected.get(place) == digest}
    return Outcome(
        sent=len(expected),
        stored=len(found),
        doubled=sum(count > 1 for count in times.values()),
        out_of_place=sum(sent.get(place) != digest for place, digest in stored),
        away_s=away_s,
        frames_away=frames_away,
        spool_bytes=spool_bytes,
        peak_bytes=peak_bytes,
        catch_up_s=catch_up_s,
        exit_code=code,
    )


def _peak_bytes(pid: int) -> int:
    """Return the most memory a process held, where the system tells it."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def _sent(path: Path) -> Iterator[tuple[_Place, int]]:
    """Iterate over the places and digests of the frames the exchange sent, in order."""
    with path.open("rb") as lines:
        for line in lines:
            sent = msgspec.json.decode(line)
            if "n" in sent:
                yield (sent["connection"], sent["n"]), hash(sent["frame"].encode())


async def _stored(server: NatsServer) -> list[tuple[_Place, int]]:
    """Return place and digest of every frame the stream holds."""
    client = await nats.connect(server.url)
    found: list[tuple[_Place, int]] = []
    try:
        stream = client.jetstream()
        reader = await stream.pull_subscribe(">", stream=STREAM)
        left = (await stream.stream_info(STREAM)).state.messages
        while left:
            for message in await reader.fetch(min(left, _BATCH), timeout=20):
                left -= 1
                headers = message.headers or {}
                identity = parse_msg_id(headers["Nats-Msg-Id"])
                if isinstance(identity, FrameId):
                    stored = StoredMessage(0, message.subject, 0, headers, message.data)
                    found.append(((identity.connection, identity.frame_no), hash(frame_of(stored))))
                await message.ack()
    finally:
        await client.close()
    return found


def main() -> int:
    """Run once by hand, and print what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=600.0, help="how long NATS is away")
    parser.add_argument("--rate", type=int, default=2000, help="frames a second")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ssmd-outage-") as name:
        folder = Path(name)
        with running_nats(folder / "nats") as server:
            outcome = asyncio.run(outage(server, folder, seconds=options.seconds, rate=options.rate))
    for field in Outcome.__dataclass_fields__:
        value = getattr(outcome, field)
        sys.stdout.write(f"{field} = {value:,.1f}\n" if isinstance(value, float) else f"{field} = {value:,}\n")
    lost = outcome.sent - outcome.stored
    return 1 if lost or outcome.doubled or outcome.out_of_place or outcome.exit_code else 0


if __name__ == "__main__":
    raise SystemExit(main())
