"""The page about adding an exchange tells the truth: its files, its output, and the capture they end in."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from websockets.asyncio.server import serve

from ssmd_common import events
from ssmd_common.config.nats import NatsSettings
from ssmd_common.nats.connection import close, connect
from ssmd_common.nats.streams import StoredMessage, direct_get, stream_info

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

    from integration.nats_server import NatsServer

FEED, ENVIRONMENT = "exchanges/feeds/acme.yaml", "exchanges/environments/acme-local.yaml"


def _page() -> str:
    """Return the page, from the repository or where a build laid it out."""
    for folder in (Path.cwd(), *Path.cwd().parents, *Path(__file__).parents):
        if (folder / "docs" / "feeds.md").is_file():
            return (folder / "docs" / "feeds.md").read_text("utf-8")
    raise AssertionError("docs/feeds.md is not beside the tests")


def _blocks() -> dict[str, str]:
    """Return the page's blocks by what they are."""
    texts = re.findall(r"```[a-z]*\n(.*?)```", _page(), re.DOTALL)
    names = ("frames", "feed", "check", "output", "environment", "run")
    return dict(zip(names, texts, strict=True))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write the files the page says to write."""
    blocks = _blocks()
    for path, text in (
        (FEED, blocks["feed"]),
        (ENVIRONMENT, blocks["environment"]),
        ("acme.jsonl", blocks["frames"]),
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, "utf-8")
    return tmp_path


def _command(block: str) -> list[str]:
    words = block.split()
    assert words[0] == "ssmd-connector"
    return [sys.executable, "-c", "from ssmd_connector.cli import main; main()", *words[1:]]


def _environ() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(part).absolute()) for part in sys.path if part)}


def test_check_prints_what_the_page_shows(folder: Path) -> None:
    blocks = _blocks()
    done = subprocess.run(  # noqa: S603 - the page's own words
        _command(blocks["check"]),
        cwd=folder,
        env=_environ(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == blocks["output"]


def test_every_file_of_the_page_is_named_in_it() -> None:
    page = _page()
    assert [name for name in (FEED, ENVIRONMENT, "acme.jsonl") if f"`{name}`" not in page] == []


async def test_the_two_files_capture_the_exchange_without_code(folder: Path, nats_server: NatsServer) -> None:
    """Acme on a loopback port sends the page's frames to whoever subscribes as the page's feed does."""
    frames = _blocks()["frames"].splitlines()
    asked: list[str] = []
    sent = asyncio.Event()

    async def acme(connection: ServerConnection) -> None:
        asked.append(str(await connection.recv()))
        for frame in frames:
            await connection.send(frame)
        sent.set()
        await connection.wait_closed()

    async with serve(acme, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        environment = folder / ENVIRONMENT
        text = environment.read_text("utf-8").replace("nats://localhost:4222", nats_server.url)
        environment.write_text(f"{text}endpoint: ws://127.0.0.1:{port}\n", "utf-8")
        process = await asyncio.create_subprocess_exec(
            *_command(_blocks()["run"]), cwd=folder, env=_environ(), stderr=asyncio.subprocess.DEVNULL
        )
        try:
            async with asyncio.timeout(120):
                await sent.wait()
        finally:
            process.terminate()
            async with asyncio.timeout(120):
                code = await process.wait()
    assert code == 0
    assert json.loads(asked[0]) == {
        "op": "subscribe",
        "topics": ["trades", "quotes"],
        "symbols": ["BTC/USD", "ETH/USD"],
    }
    messages = await _stored(nats_server, "DEV_ACME")
    data = [(message.subject, message.data.decode()) for message in messages if ".json." in message.subject]
    assert data == [
        ("dev.acme.json.trade.BTC/USD", frames[1]),
        ("dev.acme.json.trade.BTC/USD", frames[2]),
        ("dev.acme.json.ticker.ETH/USD", frames[3]),
        ("dev.acme.json.trade.BTC/USD", frames[5]),
    ]
    told = [event for message in messages if (event := events.decode_event(message.data)) is not None]
    assert [event.frame for event in told if isinstance(event, events.Control)] == [frames[0], frames[4], frames[6]]
    (gap,) = [event for event in told if isinstance(event, events.ExchangeGap)]
    assert (gap.key, gap.after_seq, gap.next_seq, gap.missing_count) == ("trades:BTC/USD", 103, 105, 1)
    (closed,) = [event for event in told if isinstance(event, events.ConnectionClosed)]
    assert closed.unverifiable == ["quotes"]


async def _stored(server: NatsServer, stream: str) -> list[StoredMessage]:
    nc = await connect(NatsSettings(url=server.url), name="reader")
    try:
        info = await stream_info(nc, stream)
        found = [await direct_get(nc, stream, seq=seq) for seq in range(1, info.last_seq + 1)]
    finally:
        await close(nc)
    return [message for message in found if message is not None]
