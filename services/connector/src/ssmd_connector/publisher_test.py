from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from ssmd_common.config.nats import NatsSettings
from ssmd_common.events import FrameOversize, Heartbeat, decode_event
from ssmd_common.frames import FrameId, parse_msg_id
from ssmd_common.nats.connection import NatsClient, close, connect
from ssmd_common.nats.streams import StreamLimits, direct_get, ensure_stream, stream_info
from ssmd_common.service.telemetry import Metrics
from ssmd_common.subjects import SubjectBuilder
from ssmd_connector.capture import Capture, Message
from ssmd_connector.ledger import Ledger
from ssmd_connector.metrics import ConnectorMetrics
from ssmd_connector.publisher import Publisher
from ssmd_connector.spool import Spool
from ssmd_connector.venues.kalshi import KalshiVenue

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from ssmd_common.nats.testing import NatsServer

SUBJECTS = SubjectBuilder("dev", "kalshi")
VENUE = KalshiVenue()


@dataclass
class Bench:
    """A publisher at work, and what a test needs to look at it."""

    nc: NatsClient
    publisher: Publisher
    capture: Capture
    ledger: Ledger
    metrics: ConnectorMetrics
    sent: int = 0

    def message(self, size: int = 0) -> Message:
        self.sent += 1
        frame = b'{"type":"trade","sid":1,"seq":%d,"msg":{"market_ticker":"A.5","x":"%b"}}' % (
            self.sent,
            b"x" * size,
        )
        route = VENUE.route(frame)
        return self.capture.frame(
            route, frame, connection=1, frame_no=self.sent, received_ns=1, limit=self.publisher.limit
        )

    async def put(self, count: int, size: int = 0) -> None:
        for _ in range(count):
            message = self.message(size)
            if not self.publisher.try_put(message):
                await self.publisher.put(message)


@asynccontextmanager
async def bench(
    server: NatsServer,
    *,
    spool: Spool | None = None,
    window: int = 500,
    memory_bytes: int = 1 << 22,
    limits: StreamLimits | None = None,
    stream_limit: int = -1,
    create: bool = True,
    url: str = "",
) -> AsyncIterator[Bench]:
    metrics = ConnectorMetrics(Metrics("test"))
    ledger = Ledger()
    ledger.opened(1)
    capture = Capture("host-1", SUBJECTS)
    holder: list[Publisher] = []

    async def lost() -> None:
        for publisher in holder:
            publisher.on_disconnected()

    async def back() -> None:
        for publisher in holder:
            publisher.on_reconnected()

    nc = await connect(NatsSettings(url=url or server.url), name="test", on_disconnected=lost, on_reconnected=back)
    if create:
        await ensure_stream(nc, "DEV", (SUBJECTS.data_filter, SUBJECTS.capture_filter), create=True, limits=limits)
    publisher = Publisher(
        stream="DEV",
        window=window,
        ack_timeout_s=1.0,
        memory_bytes=memory_bytes,
        spool=spool,
        ledger=ledger,
        substitute=capture.substitute,
        metrics=metrics,
    )
    holder.append(publisher)
    await publisher.attach(nc, stream_limit=stream_limit)
    task = asyncio.create_task(publisher.run())
    try:
        yield Bench(nc, publisher, capture, ledger, metrics)
    finally:
        holder.clear()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if spool is not None:
            spool.close()
        await close(nc)


async def idle(b: Bench) -> None:
    """Wait until everything has its PubAck, also where that was in vain before."""
    async with asyncio.timeout(120):
        while not b.publisher.is_idle:  # noqa: ASYNC110 - the publisher's own event tells also of other things
            await asyncio.sleep(0.02)


async def refused(b: Bench, reason: str, *, times: int = 1) -> None:
    """Wait until so many answers have refused a message for this reason."""
    async with asyncio.timeout(120):
        while b.metrics.refusals.labelled(reason=reason).read() < times:  # noqa: ASYNC110 - a counter sets no event
            await asyncio.sleep(0.02)


async def stored_frames(nc: NatsClient) -> list[int]:
    """Return the frame numbers the stream holds, in its order."""
    info = await stream_info(nc, "DEV")
    found: list[int] = []
    for seq in range(info.first_seq, info.last_seq + 1):
        message = await direct_get(nc, "DEV", seq=seq)
        assert message is not None
        identity = parse_msg_id(message.headers["Nats-Msg-Id"])
        assert isinstance(identity, FrameId)
        found.append(identity.frame_no)
    return found


async def test_every_message_is_stored_once_in_order_with_its_bytes(nats_server: NatsServer) -> None:
    async with bench(nats_server) as b:
        await b.put(2000)
        assert await b.publisher.drained(120)
        assert b.ledger.through(1) == 2000
        info = await stream_info(b.nc, "DEV")
        assert (info.messages, info.last_seq) == (2000, 2000)
        first = await direct_get(b.nc, "DEV", seq=1)
        assert first is not None
        assert first.subject == "dev.kalshi.json.trade.A%2E5"
        assert first.data == b'{"type":"trade","sid":1,"seq":1,"msg":{"market_ticker":"A.5","x":""}}'
        assert first.headers == {"Nats-Msg-Id": "host-1.1.1", "Ssmd-Received-Ns": "1", "Ssmd-Type": "trade"}
        assert b.metrics.pubacks.read() == 2000


async def test_a_killed_server_costs_nothing_and_doubles_nothing(nats_server: NatsServer, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", max_bytes=1 << 24)
    async with bench(nats_server, spool=spool, memory_bytes=200_000) as b:
        await b.put(1500)
        nats_server.kill()
        await b.put(3000)
        assert b.publisher.is_spooling
        nats_server.start()
        await b.put(500)
        await idle(b)
        assert b.ledger.through(1) == 5000
        frames = await stored_frames(b.nc)
        assert sorted(frames) == list(range(1, 5001))
        assert spool.is_empty


async def test_without_a_spool_the_reader_waits_and_nothing_is_lost(nats_server: NatsServer) -> None:
    async with bench(nats_server, memory_bytes=60_000) as b:
        await b.put(50)
        nats_server.kill()
        putting = asyncio.create_task(b.put(500))
        await asyncio.sleep(0.5)
        assert not putting.done()
        nats_server.start()
        async with asyncio.timeout(120):
            await putting
        await idle(b)
        assert sorted(await stored_frames(b.nc)) == list(range(1, 551))


async def test_what_the_spool_kept_is_published_by_the_next_life(nats_server: NatsServer, tmp_path: Path) -> None:
    async with bench(nats_server, spool=Spool(tmp_path / "s", max_bytes=1 << 22)) as b:
        nats_server.kill()
        await b.put(300)
        assert b.publisher.keep_rest() == 0
    nats_server.start()
    async with bench(nats_server, spool=Spool(tmp_path / "s", max_bytes=1 << 22)) as b:
        assert await b.publisher.drained(120)
        assert await stored_frames(b.nc) == list(range(1, 301))
        assert b.ledger.through(1) == 0


async def test_memory_and_spool_full_stop_the_reader(nats_server: NatsServer, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s", max_bytes=20_000)
    async with bench(nats_server, spool=spool, memory_bytes=20_000) as b:
        nats_server.kill()
        putting = asyncio.create_task(b.put(500))
        await asyncio.sleep(0.5)
        assert not putting.done()
        assert spool.size_bytes <= 20_000
        nats_server.start()
        async with asyncio.timeout(120):
            await putting
        await idle(b)
        assert sorted(await stored_frames(b.nc)) == list(range(1, 501))


async def test_a_full_stream_is_waited_for_with_one_line(
    nats_server: NatsServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    spool = Spool(tmp_path / "s", max_bytes=1 << 22)
    async with bench(nats_server, spool=spool, limits=StreamLimits(max_bytes=40_000)) as b:
        begun_s = time.monotonic()
        await b.put(200, size=400)
        await refused(b, "full")
        assert not await b.publisher.drained(1)
        config = dict((await stream_info(b.nc, "DEV")).config)
        await b.nc.request("$JS.API.STREAM.UPDATE.DEV", json.dumps(config | {"max_bytes": 1 << 20}).encode())
        await idle(b)
        assert sorted(await stored_frames(b.nc)) == list(range(1, 201))
    said = capfd.readouterr().out
    # One line, and one every ten seconds for as long as it lasts; a small message that still fits begins it anew.
    ends = said.count("publish_accepted_again")
    assert 1 <= said.count("publish_stream_full") <= ends + (time.monotonic() - begun_s) / 10


async def test_a_frame_the_stream_finds_too_large_is_told_of_instead(nats_server: NatsServer) -> None:
    async with bench(nats_server, limits=StreamLimits(max_msg_size=2000)) as b:
        await b.put(1)
        await b.put(1, size=4000)
        await b.put(1)
        assert await b.publisher.drained(120)
        assert b.ledger.through(1) == 3
        message = await direct_get(b.nc, "DEV", seq=1, next_by_subject="dev.kalshi.capture.>")
        assert message is not None
        event = decode_event(message.data)
        assert isinstance(event, FrameOversize)
        assert (event.frame_no, event.session, event.connection) == (2, "host-1", 1)
        assert message.headers["Nats-Msg-Id"] == "host-1.1.2"


async def test_a_missing_stream_is_waited_for(nats_server: NatsServer) -> None:
    async with bench(nats_server, create=False) as b:
        await b.put(20)
        await refused(b, "no_stream")
        assert not await b.publisher.drained(0.5)
        await ensure_stream(b.nc, "DEV", (SUBJECTS.data_filter, SUBJECTS.capture_filter), create=True)
        assert await b.publisher.drained(120)
        assert b.ledger.through(1) == 20


async def test_a_message_above_the_servers_limit_never_reaches_the_socket(nats_server: NatsServer) -> None:
    async with bench(nats_server) as b:
        await b.put(1, size=9 << 20)
        await b.put(1)
        assert await b.publisher.drained(120)
        assert b.nc.is_connected
        message = await direct_get(b.nc, "DEV", seq=1)
        assert message is not None
        assert message.subject == "dev.kalshi.capture.frame_oversize"


async def test_what_the_stream_takes_never_is_set_aside_with_its_number_and_holds_up_nothing(
    nats_server: NatsServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # Small enough for the frames, too small for the event that stands for a large one.
    spool = Spool(tmp_path / "s", max_bytes=1 << 22)
    async with bench(nats_server, spool=spool, limits=StreamLimits(max_msg_size=200)) as b:
        await b.put(5)
        await b.put(1, size=3000)
        async with asyncio.timeout(120):
            while b.metrics.set_aside.read() == 0:
                await b.put(1)
                await asyncio.sleep(0.1)
        assert await b.publisher.drained(120)
        assert b.ledger.lost(1) == [(6, 7)]
        assert b.ledger.settled(1) == b.sent
        assert await stored_frames(b.nc) == [number for number in range(1, b.sent + 1) if number != 6]
    (line,) = (line for line in capfd.readouterr().out.splitlines() if "message_set_aside" in line)
    assert "host-1.1.6" in line


async def test_a_stream_that_takes_nothing_costs_no_message(nats_server: NatsServer, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s", max_bytes=1 << 22)
    async with bench(nats_server, spool=spool, limits=StreamLimits(max_msg_size=20)) as b:
        await b.put(20)
        # Each of them again and again.
        await refused(b, "too_large", times=60)
        config = dict((await stream_info(b.nc, "DEV")).config)
        await b.nc.request("$JS.API.STREAM.UPDATE.DEV", json.dumps(config | {"max_msg_size": -1}).encode())
        await idle(b)
        assert (b.ledger.through(1), b.metrics.set_aside.read()) == (20, 0)


async def test_an_answer_of_another_stream_is_no_acknowledgement(
    nats_server: NatsServer, capfd: pytest.CaptureFixture[str]
) -> None:
    async with bench(nats_server, create=False) as b:
        await ensure_stream(b.nc, "OTHER", (SUBJECTS.data_filter, SUBJECTS.capture_filter), create=True)
        await b.put(3)
        await refused(b, "other_stream", times=3)
        assert not await b.publisher.drained(1)
        assert b.ledger.through(1) == 0
        await b.nc.request("$JS.API.STREAM.DELETE.OTHER", b"")
        await ensure_stream(b.nc, "DEV", (SUBJECTS.data_filter, SUBJECTS.capture_filter), create=True)
        assert await b.publisher.drained(120)
        assert await stored_frames(b.nc) == [1, 2, 3]
    assert "stored in stream OTHER, not in DEV" in capfd.readouterr().out


async def test_frames_that_find_no_room_before_the_end_are_counted(nats_server: NatsServer, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s", max_bytes=8_000)
    async with bench(nats_server, spool=spool, memory_bytes=100_000) as b:
        nats_server.kill()
        await b.put(100)
        b.publisher.shed(1)
        ((first, end),) = b.ledger.lost(1)
        assert (end, b.publisher.keep_rest()) == (101, 101 - first)
        kept = spool.size_bytes
        assert kept <= 8_000
        # The record of the loss finds room all the same.
        told = b.capture.event(Heartbeat(session="host-1", at_ns=1, connections=[]))
        assert b.publisher.try_put(told)
        assert b.publisher.keep_rest() == 101 - first
        assert spool.size_bytes > kept
    nats_server.start()
    async with bench(nats_server, spool=Spool(tmp_path / "s", max_bytes=8_000)) as b:
        assert await b.publisher.drained(120)
        info = await stream_info(b.nc, "DEV")
        assert info.messages == first


async def test_acknowledgements_that_stay_away_end_in_a_new_connection(nats_server: NatsServer) -> None:
    """A server that takes everything and answers nothing: only the connection is at fault."""
    deaf = False

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while data := await reader.read(1 << 16):
            if not (deaf and number == 1 and b"PubAck" not in data and b'"seq"' in data):
                writer.write(data)
        writer.close()

    count = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", nats_server.port)
        with suppress(OSError):
            await asyncio.gather(pump(reader, back_writer, 0), pump(back_reader, writer, count))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        async with bench(nats_server, url=f"nats://127.0.0.1:{port}") as b:
            await b.put(10)
            assert await b.publisher.drained(120)
            deaf = True
            await b.put(10)
            await idle(b)
            assert (count, b.ledger.through(1)) == (2, 20)
            assert await stored_frames(b.nc) == list(range(1, 21))


async def test_messages_that_wait_together_leave_in_one_write(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(nats_server, window=2_000) as at:
        await at.put(1)
        assert await at.publisher.drained(120)
        blocks: list[bytes] = []
        write = at.nc.write_block

        async def noting(block: bytes) -> None:
            blocks.append(block)
            await write(block)

        monkeypatch.setattr(at.nc, "write_block", noting)
        await at.put(1_000)
        assert await at.publisher.drained(120)
    assert sum(block.count(b"HPUB ") for block in blocks) == 1_000
    assert len(blocks) == 2, "512 messages at most are one block"


async def test_a_connection_that_takes_no_bytes_any_more_is_left_for_a_new_one(nats_server: NatsServer) -> None:
    """A path that was cut without a word: what is under way on it would be waited for until the kernel gives up."""
    cut = asyncio.Event()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while data := await reader.read(1 << 16):
            if cut.is_set() and number == 1:
                await asyncio.Event().wait()
            writer.write(data)
        writer.close()

    count = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", nats_server.port)
        number = count
        with suppress(OSError):
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(pump(reader, back_writer, number))
                pumps.create_task(pump(back_reader, writer, number))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        async with bench(nats_server, url=f"nats://127.0.0.1:{port}", memory_bytes=1 << 26) as b:
            await b.put(1)
            await idle(b)
            cut.set()
            # More than all buffers on the way hold.
            await b.put(30, size=1_000_000)
            await idle(b)
            assert (count, b.ledger.through(1)) == (2, 31)


async def reloaded(server: NatsServer, config: str) -> None:
    """Let the server take up other lines, and wait until it says that it has."""
    done = b"Reloaded server configuration"
    before = server.log.read_bytes().count(done)
    server.reload(config)
    async with asyncio.timeout(60):
        while server.log.read_bytes().count(done) == before:  # noqa: ASYNC110 - another process tells it
            await asyncio.sleep(0.02)


async def test_a_server_whose_limit_is_lowered_under_way_is_connected_to_anew(nats_server: NatsServer) -> None:
    async with bench(nats_server) as b:
        await b.put(1, size=40_000)
        await idle(b)
        nats_server._fixed = nats_server._fixed.replace("max_payload: 8MB", "max_payload: 20000")
        await reloaded(nats_server, "")
        await b.put(1, size=40_000)
        await b.put(1)
        await idle(b)
        assert not b.nc.is_closed
        assert b.nc.max_payload == 20_000
        assert await stored_frames(b.nc) == [1, 2, 3]
        assert b.metrics.oversize.read() == 1


@pytest.mark.parametrize("publish", [">", "nothing"])
async def test_a_right_to_hear_answers_that_is_given_back_needs_no_restart(
    nats_server: NatsServer, publish: str
) -> None:
    def users(publish: str, subscribe: str) -> str:
        user = f'{{user: a, password: a, permissions: {{publish: "{publish}", subscribe: "{subscribe}"}}}}'
        return f"authorization {{ users: [{user}] }}"

    await reloaded(nats_server, users(">", ">"))
    async with bench(nats_server, url=nats_server.url.replace("//", "//a:a@")) as b:

        async def told(of: str) -> None:
            async with asyncio.timeout(60):
                while of not in b.nc.violation.lower():  # noqa: ASYNC110 - the server tells it
                    await asyncio.sleep(0.02)

        await b.put(1)
        await idle(b)
        await reloaded(nats_server, users(publish, "nothing"))
        await told("for subscription")
        await b.put(1)
        if publish == "nothing":
            await told("for publish")
        assert not await b.publisher.drained(1)
        await reloaded(nats_server, users(">", ">"))
        await idle(b)
        assert await stored_frames(b.nc) == [1, 2]
