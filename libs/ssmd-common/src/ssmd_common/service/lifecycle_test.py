from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ssmd_common.errors import ConfigError, SsmdError, TransportError
from ssmd_common.service.lifecycle import Stop, run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def _nothing(_stop: Stop) -> None:
    await asyncio.sleep(0)


async def _seven(_stop: Stop) -> int:
    return 7


async def _cancelled(_stop: Stop) -> None:
    raise asyncio.CancelledError


def _raising(error: BaseException) -> Callable[[Stop], Awaitable[None]]:
    async def main(_stop: Stop) -> None:
        raise error

    return main


@pytest.mark.parametrize(("main", "code"), [(_nothing, 0), (_seven, 7), (_cancelled, 1)])
def test_the_exit_code_is_what_main_returns(main: Callable[[Stop], Awaitable[int | None]], code: int) -> None:
    assert run(main) == code


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigError("bad", file="a.yaml", field="b"), 2, "error: a.yaml: b: bad\n"),
        (TransportError("refused", where="nats://u:p@h"), 1, "error: nats://[redacted]@h: refused\n"),
        (ExceptionGroup("tasks", [ExceptionGroup("inner", [ConfigError("bad")])]), 2, "error: bad\n"),
        (ExceptionGroup("tasks", [SsmdError("a"), ConfigError("b"), SsmdError("a")]), 2, "error: a\nerror: b\n"),
    ],
)
def test_a_known_error_is_one_line_and_its_exit_code(
    capsys: pytest.CaptureFixture[str], error: Exception, code: int, line: str
) -> None:
    assert run(_raising(error)) == code
    assert capsys.readouterr().err == line


def test_an_unexpected_error_exits_1_even_beside_a_known_one() -> None:
    assert run(_raising(ExceptionGroup("tasks", [ConfigError("bad"), RuntimeError("bug")]))) == 1


def test_signals_stop_in_order_and_the_second_changes_nothing() -> None:
    seen: list[str] = []

    async def main(stop: Stop) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(stop.wait(), 60)
        os.kill(os.getpid(), signal.SIGINT)
        while stop.asked < 2:  # noqa: ASYNC110 - Stop has no event for the second signal, which means nothing to it
            await asyncio.sleep(0.01)
        seen.append(stop.reason)

    before = signal.getsignal(signal.SIGINT)
    assert run(main) == 0
    assert seen == ["SIGTERM"]
    assert signal.getsignal(signal.SIGINT) is before


async def test_waiting_ends_at_the_stop_or_after_the_time() -> None:
    stop = Stop()
    assert not await stop.wait_for(0.01)
    stop.set("test")
    assert await stop.wait_for(60)
    assert stop.is_set()


APP = """
import asyncio, sys, typer
from ssmd_common.errors import ConfigError
from ssmd_common.service import logs
from ssmd_common.service.lifecycle import run, run_app

app = typer.Typer()

@app.command()
def fail(kind: str, number: int = 0) -> None:
    if kind == "early":
        held = "what-a-variable-holds"
        raise RuntimeError("a bug before anything is set up")
    logs.configure("ssmd-test")
    if kind == "config":
        raise ConfigError("no such feed", file="f.yaml", field="feed", remedy="name one")
    if kind == "bug":
        raise RuntimeError("a bug")
    if kind == "exit":
        raise typer.Exit(number)
    if kind == "pipe":
        raise BrokenPipeError
    if kind == "interrupt":
        raise KeyboardInterrupt
    if kind == "service":
        async def main(stop):
            print("up", flush=True)
            await stop.wait()
            while stop.asked < 2:
                await asyncio.sleep(0.01)
            print("sealed", stop.asked, flush=True)
        raise typer.Exit(run(main))

@app.command()
def other() -> None: ...

run_app(app)
"""

ENV = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def _app(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", APP, *args],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=ENV,
    )


@pytest.mark.parametrize(
    ("args", "code", "stderr"),
    [
        (["fail", "config"], 2, "error: f.yaml: feed: no such feed (name one)\n"),
        (["fail", "exit", "--number", "3"], 3, ""),
        (["fail", "pipe"], 1, ""),
        (["fail", "interrupt"], 130, ""),
        (["fail", "nothing"], 0, ""),
        (["fail"], 2, "error: Missing argument 'kind'. (see --help)\n"),
        (["nowhere"], 2, "error: No such command 'nowhere'. Did you mean 'other'? (see --help)\n"),
    ],
)
def test_a_cli_says_one_line_and_exits_rightly(args: list[str], code: int, stderr: str) -> None:
    done = _app(*args)

    assert (done.returncode, done.stderr) == (code, stderr)


def test_a_bug_exits_1_with_its_traceback_in_the_log() -> None:
    done = _app("fail", "bug")

    assert done.returncode == 1
    assert '"event": "service_failed"' in done.stderr
    assert "RuntimeError: a bug" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_bug_before_logs_are_set_up_shows_no_variables() -> None:
    done = _app("fail", "early")
    assert done.returncode == 1
    assert "a bug before anything is set up" in done.stderr
    assert done.stdout == ""
    assert "what-a-variable-holds" not in done.stderr


def test_ctrl_c_twice_still_ends_in_order() -> None:
    with subprocess.Popen(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", APP, "fail", "service"],
        env=ENV,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert "stop_requested" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)

    assert (process.returncode, out) == (0, "sealed 2\n")
    assert "Traceback" not in err
