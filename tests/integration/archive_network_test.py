"""The archiver and a bad network: cut, stalled, answered with errors; on real NATS behind a proxy."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from integration.archive_bench import Bench, bench_at
from integration.nats_server import NatsServer
from ssmd_archiver import consumer
from ssmd_archiver.verify import verify_feed
from ssmd_common.config.nats import NatsSettings
from ssmd_common.nats.connection import connect


class Proxy:
    """A TCP road to the server that can be cut, or stalled with its sockets left open."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._open = asyncio.Event()
        self._open.set()
        self.port = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            self.cut()
            self._open.set()

    def cut(self) -> None:
        """Close every connection that stands."""
        for writer in self._writers:
            writer.transport.abort()

    def stall(self) -> None:
        """Let nothing through, and close nothing."""
        self._open.clear()

    def resume(self) -> None:
        """Let everything through again."""
        self._open.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._open.wait()
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, up_writer}
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._copy(reader, up_writer))
            tasks.create_task(self._copy(up_reader, writer))
        self._writers -= {writer, up_writer}

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


@pytest.fixture
async def proxy(nats_server: NatsServer) -> AsyncIterator[Proxy]:
    made = Proxy(nats_server.port)
    async with made.running():
        yield made


@pytest.fixture
async def bench(nats_server: NatsServer, proxy: Proxy, tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench_at(nats_server.url, tmp_path) as made:
        made.url = f"nats://127.0.0.1:{proxy.port}"
        await made.create()
        yield made


def _whole(bench: Bench, count: int) -> None:
    assert bench.numbers() == list(range(1, count + 1))
    report = verify_feed(bench.data, "kalshi")
    assert (report.findings, report.gaps) == ([], {})


async def test_a_connection_cut_again_and_again_loses_and_doubles_nothing(bench: Bench, proxy: Proxy) -> None:
    async with bench.archiving():
        for pause_s in (0.0, 0.2, 0.5, 1.0):
            await bench.publish(50)
            proxy.cut()
            await asyncio.sleep(pause_s)
        await bench.publish(50)
        await bench.reach(bench.last_seq)
    _whole(bench, 250)


async def test_a_stalled_connection_is_given_up_and_everything_archived_after_it(
    bench: Bench, proxy: Proxy
) -> None:
    async with bench.archiving():
        await bench.publish(20)
        await bench.reach(bench.last_seq)
        proxy.stall()
        await bench.publish(20)
        await asyncio.sleep(12)
        proxy.cut()
        proxy.resume()
        await bench.reach(bench.last_seq)
    _whole(bench, 40)


@pytest.mark.parametrize(
    "status", ["409 Leadership Change", "409 Consumer Deleted", "503 No Responders", "400 Bad Request"]
)
async def test_an_answer_that_refuses_a_pull_starts_the_reader_again(
    bench: Bench, nats_server: NatsServer, status: str
) -> None:
    inboxes: asyncio.Queue[str] = asyncio.Queue()

    async def on_request(message: Msg) -> None:
        await inboxes.put(message.reply)

    await bench.client.subscribe("$JS.API.CONSUMER.MSG.NEXT.>", cb=on_request)
    raw = await connect(NatsSettings(url=nats_server.url), name="test")
    async with bench.archiving():
        await bench.publish(20)
        inbox = await asyncio.wait_for(inboxes.get(), 10)
        block = f"NATS/1.0 {status}\r\n\r\n".encode()
        await raw.write_block(b"HPUB %b %d %d\r\n%b\r\n" % (inbox.encode(), len(block), len(block), block))
        await bench.publish(20)
        await bench.reach(bench.last_seq)
    await raw.close()
    _whole(bench, 40)


async def test_small_pulls_give_the_same_archive(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "PULL_MESSAGES", 7)
    await bench.publish(100)
    await bench.archive()
    _whole(bench, 100)


async def test_a_server_that_comes_later_is_waited_for(nats_server: NatsServer, tmp_path: Path) -> None:
    async with bench_at(nats_server.url, tmp_path) as bench:
        await bench.create()
        await bench.publish(5)
        await asyncio.to_thread(nats_server.stop)
        async with bench.archiving():
            await asyncio.sleep(1)
            await asyncio.to_thread(nats_server.start)
            await bench.reach(bench.last_seq)
        _whole(bench, 5)


async def test_the_stream_is_waited_for_when_the_connector_comes_later(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with bench_at(nats_server.url, tmp_path) as bench, bench.archiving():
        await asyncio.sleep(1)
        await bench.create()
        await bench.publish(5)
        await bench.reach(bench.last_seq)
