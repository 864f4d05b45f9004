from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from ssmd_simulator.keys import PRIVATE_KEY_FILE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

COMMAND = (sys.executable, "-c", "from ssmd_simulator.cli import main; main()")
TIMEOUT_S = 60


@contextlib.asynccontextmanager
async def started(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def fails(*arguments: str) -> str:
    """Run to the end; return the one line it said."""
    async with started(*arguments) as process:
        out, err = await process.communicate()
    assert (process.returncode, out) == (2, b"")
    (line,) = err.decode().splitlines()
    return line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_announces_its_url_and_a_signal_ends_it_with_0(tmp_path: Path, number: signal.Signals) -> None:
    ready, sent = tmp_path / "ready.json", tmp_path / "sent.jsonl"
    arguments = ("--no-auth", "--port", "0", "--ready-file", str(ready), "--sent-log", str(sent))
    async with started(*arguments) as process:
        assert process.stdout is not None
        announced = json.loads(await process.stdout.readline())
        async with connect(announced["url"]) as client:
            await client.send('{"id":1,"cmd":"subscribe","params":{"channels":["ticker"]}}')
            frames = [await client.recv() for _ in range(5)]
            process.send_signal(number)
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await client.recv()
            assert client.close_code == 1001
        _, err = await process.communicate()
    assert process.returncode == 0
    assert json.loads(ready.read_text()) == announced
    events = {event["event"]: event for event in map(json.loads, err.splitlines())}
    logged = sent.read_text().splitlines()
    assert [json.loads(line)["frame"] for line in logged[:5]] == frames
    assert events["connection_closed"]["frames"] == events["simulator_stopped"]["total_frames"] == len(logged)


async def test_generated_keys_stay_out_of_the_output(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    async with started("--generate-keys", str(keys), "--port", "0") as process:
        assert process.stdout is not None
        line = await process.stdout.readline()
        process.terminate()
        out, err = await process.communicate()
    assert process.returncode == 0
    secret = (keys / PRIVATE_KEY_FILE).read_text().splitlines()[1]
    assert secret not in (line + out + err).decode()


async def test_a_taken_port_is_one_line_and_exit_2() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        line = await fails("--no-auth", "--port", str(taken.getsockname()[1]))
    assert line.startswith("error: --port: cannot listen on 127.0.0.1:")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "say who may connect in one way"),
        (("--no-auth", "--generate-keys", "keys"), "say who may connect in one way"),
        (("--key-id", "a"), "--public-key and --key-id: go together"),
        (("--no-auth", "--rate", "fast"), "--rate: must be a number above 0"),
        (("--no-auth", "--rate", "0"), "--rate: must be a number above 0"),
        (("--no-auth", "--speed", "2"), "--speed: is for a recording"),
        (("--no-auth", "--capture", "none.jsonl"), "none.jsonl: cannot be read"),
        (("--no-auth", "--capture", "none.jsonl", "--seed", "1"), "--seed: is for a made-up market"),
        (("--no-auth", "--capture", "none.jsonl", "--open-every", "1"), "--open-every: is for a made-up market"),
        (("--no-auth", "--settle-every", "0"), "--settle-every: must be a number above 0"),
    ],
)
async def test_arguments_that_contradict_are_one_line_and_exit_2(arguments: tuple[str, ...], said: str) -> None:
    line = await fails("--port", "0", *arguments)
    assert line.startswith("error: ")
    assert said in line
