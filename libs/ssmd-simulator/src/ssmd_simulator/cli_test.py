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

from ssmd_simulator import faults
from ssmd_simulator.keys import PRIVATE_KEY_FILE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

COMMAND = (sys.executable, "-c", "from ssmd_simulator.cli import main; main()")
TIMEOUT_S = 180


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
    *logged, ended = map(json.loads, sent.read_text().splitlines())
    assert [line["frame"] for line in logged[:5]] == frames
    assert ended["ended"] == {"frames": len(logged), "code": 1001, "by": "exchange", "whole": True}
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


async def test_the_faults_are_listed_with_their_values() -> None:
    async with started("--list-faults") as process:
        out, _ = await process.communicate()
    assert process.returncode == 0
    told = {line.split()[0]: line for line in out.decode().splitlines()}
    assert {name.partition("=")[0] for name in told} == faults.CATALOGUE.keys()
    assert "(never by chance)" in told["handshake-401"]
    assert "huge-frame=4194304" in told


async def test_faults_asked_for_are_performed_logged_and_recorded(tmp_path: Path) -> None:
    sent, log = tmp_path / "sent.jsonl", tmp_path / "faults.jsonl"
    arguments = ("--no-auth", "--port", "0", "--sent-log", str(sent), "--fault-log", str(log))
    plan = ("--fault", "duplicate-seq=2", "--fault", "close=1013@2s", "--faults-every", "1h", "--only", "reset")
    async with started(*arguments, *plan) as process:
        assert process.stdout is not None
        async with connect(json.loads(await process.stdout.readline())["url"]) as client:
            with contextlib.suppress(ConnectionClosed):
                await client.send('{"id":1,"cmd":"subscribe","params":{"channels":["trade","ticker"]}}')
                while True:
                    await client.recv()
            assert client.close_code == 1013
        process.terminate()
        _, err = await process.communicate()
    assert process.returncode == 0
    logged = [event for event in map(json.loads, err.splitlines()) if event["event"] == "fault_performed"]
    recorded = [json.loads(line) for line in log.read_text().splitlines()]
    assert [event["fault"] for event in logged] == [line["fault"] for line in recorded]
    assert recorded[-1]["fault"] == "close=1013"
    assert json.loads(sent.read_text().splitlines()[-1])["ended"]["whole"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--fault", "none-such"), "--fault: 'none-such' is no fault"),
        (("--fault", "close@never"), "--fault: 'never' is no time"),
        (("--faults-every", "often"), "--faults-every: 'often' is no time"),
        (("--only", "close"), "--only: is for faults by chance"),
        (("--faults-every", "1s", "--only", "handshake-401"), "--only: leaves no fault to draw"),
    ],
)
async def test_faults_that_cannot_be_meant_are_one_line_and_exit_2(arguments: tuple[str, ...], said: str) -> None:
    assert said in await fails("--no-auth", "--port", "0", *arguments)


async def test_a_recording_cannot_end_a_subscription(tmp_path: Path) -> None:
    capture = tmp_path / "capture.jsonl"
    capture.write_text("{}\n")
    said = await fails("--no-auth", "--port", "0", "--capture", str(capture), "--fault", "error-25")
    assert "error-25 is for a made-up market" in said
