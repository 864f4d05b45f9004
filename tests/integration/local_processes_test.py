"""The local deployment's supervision, on the processes it is for."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from ssmd_common.errors import ConfigError, SsmdError
from ssmd_local.nats_server import nats_config
from ssmd_local.places import RunPaths
from ssmd_local.plan import API, NATS, SIMULATOR, FileReady, HttpReady, ProcessSpec
from ssmd_local.ports import choose_ports
from ssmd_local.processes import ChildDiedError, Supervisor
from ssmd_local.state import ProcessId

Started = dict[str, ProcessId]


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    paths = RunPaths(tmp_path)
    paths.folder.mkdir()
    return paths


@pytest.fixture
async def supervised(paths: RunPaths) -> AsyncIterator[tuple[Supervisor, Started]]:
    started: Started = {}
    supervisor = Supervisor(paths, os.environ, on_start=started.__setitem__)
    yield supervisor, started
    await supervisor.stop_all(on_stop=_nobody)


def _nobody(_name: str) -> None:
    pass


def api(paths: RunPaths) -> ProcessSpec:
    port = choose_ports(0).api
    args = ("--data", str(paths.data), "--port", str(port))
    return ProcessSpec(API, args, HttpReady(f"http://127.0.0.1:{port}/health"))


def simulator(paths: RunPaths) -> ProcessSpec:
    ready = paths.folder / "ready"
    args = ("--port", "0", "--no-auth", "--ready-file", str(ready))
    return ProcessSpec(SIMULATOR, args, FileReady(ready), after=(API,))


async def test_processes_are_ready_when_start_returns_and_gone_when_stop_returns(
    paths: RunPaths, supervised: tuple[Supervisor, Started]
) -> None:
    supervisor, started = supervised
    server = api(paths)
    (paths.folder / "ready").write_text("of an earlier run")
    await supervisor.start_all([server, simulator(paths)])
    assert isinstance(server.ready, HttpReady)
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(server.ready.url)).status_code == 200
    assert (paths.folder / "ready").read_text().startswith("{")
    assert list(started) == [API, SIMULATOR]
    for process in started.values():
        assert os.getsid(process.pid) == process.pid, "the terminal's Ctrl-C must not reach it"
    stopped: list[str] = []
    assert await supervisor.stop_all(on_stop=stopped.append) == []
    assert stopped == [API, SIMULATOR]
    assert not any(process.is_alive() for process in started.values())


async def test_a_process_that_dies_is_named_with_its_last_lines(
    paths: RunPaths, supervised: tuple[Supervisor, Started]
) -> None:
    supervisor, started = supervised
    await supervisor.start_all([api(paths)])
    os.kill(started[API].pid, signal.SIGKILL)
    error = await asyncio.wait_for(supervisor.died(), 120)
    assert isinstance(error, ChildDiedError)
    assert "ssmd-manifest-api was killed by SIGKILL" in str(error)
    assert "listening" in str(error)


async def test_a_refused_configuration_is_told_in_the_processs_own_words(
    paths: RunPaths, supervised: tuple[Supervisor, Started]
) -> None:
    supervisor, _ = supervised
    wrong = replace(simulator(paths), args=("--rate", "nonsense", "--no-auth"), after=())
    with pytest.raises(ConfigError, match=r"ssmd-simulator: --rate: must be a number above 0"):
        await supervisor.start_all([wrong])


async def test_what_is_not_ready_in_time_says_why(paths: RunPaths, supervised: tuple[Supervisor, Started]) -> None:
    """The API listens already, so that what is asked is answered in the time there is."""
    supervisor, _ = supervised
    server = api(paths)
    lost = replace(server, args=("--data", "nowhere", *server.args[2:]))
    await supervisor.start_all([lost])
    assert isinstance(server.ready, HttpReady)
    asks = HttpReady(server.ready.url.replace("/health", "/ready"))
    waiting = replace(simulator(paths), ready=asks, ready_s=6.0)
    words = r"ssmd-simulator was not ready within 6 s: archive: nowhere is no folder"
    with pytest.raises(SsmdError, match=words) as caught:
        await supervisor.start_all([replace(waiting, after=())])
    assert str(paths.log(SIMULATOR)) in str(caught.value)


async def test_a_stop_while_processes_come_up_leaves_none(
    paths: RunPaths, supervised: tuple[Supervisor, Started]
) -> None:
    supervisor, started = supervised
    never = replace(api(paths), ready=FileReady(paths.folder / "never"))
    starting = asyncio.create_task(supervisor.start_all([never]))
    async with asyncio.timeout(120):
        while API not in started:  # noqa: ASYNC110 - a callback of the supervisor fills it
            await asyncio.sleep(0.01)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    assert await supervisor.stop_all(on_stop=_nobody) == []
    assert not started[API].is_alive()


async def test_the_log_of_the_run_before_is_kept(
    paths: RunPaths, supervised: tuple[Supervisor, Started], nats: Callable[[], ProcessSpec]
) -> None:
    paths.logs.mkdir()
    paths.log(NATS).write_text("before")
    supervisor, _ = supervised
    await supervisor.start_all([nats()])
    assert (paths.logs / "nats-server.log.1").read_text() == "before"
    assert "Server is ready" in paths.log(NATS).read_text()


@pytest.fixture
def nats(paths: RunPaths) -> Callable[[], ProcessSpec]:
    def make() -> ProcessSpec:
        ports = choose_ports(0)
        (paths.folder / "nats.conf").write_text(nats_config(port=ports.nats, monitor_port=ports.nats_monitor))
        url = f"http://127.0.0.1:{ports.nats_monitor}/healthz?js-enabled-only=true"
        return ProcessSpec(NATS, ("-c", "nats.conf"), HttpReady(url))

    return make
