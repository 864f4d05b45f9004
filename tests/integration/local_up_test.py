"""The local deployment as a person uses it: one command, real processes, a sealed and verified archive after it."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import httpx
import pytest

from ssmd_common import load
from ssmd_common.archive.layout import DayPaths, list_days
from ssmd_common.archive.manifest import Manifest, parse_manifest
from ssmd_local.places import RunPaths
from ssmd_local.state import RunState, read_state

COMMAND = [sys.executable, "-c", "from ssmd_local.cli import main; main()"]
READY_S = 150.0
STOP_S = 150.0

FoundT = TypeVar("FoundT")


def environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SSMD_DATA", "KALSHI_"))}
    return {**kept, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def ssmd(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own program
        [*COMMAND, *args], capture_output=True, text=True, timeout=STOP_S, check=False, env=environment()
    )


@contextmanager
def running(data: Path, *args: str) -> Iterator[subprocess.Popen[str]]:
    """Give an ``ssmd up``; whatever the test does, nothing of it is left."""
    process = subprocess.Popen(  # noqa: S603 - our own program
        [*COMMAND, "up", "--data", str(data), "--api-port", "0", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=STOP_S)


def ended(process: subprocess.Popen[str], *, seconds: float) -> tuple[int, str]:
    output, _ = process.communicate(timeout=seconds)
    return process.returncode, output


def until(look: Callable[[], FoundT | None], *, what: str) -> FoundT:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.2)
    pytest.fail(f"{what} did not come within {READY_S:g} s")


def begun(data: Path) -> RunState:
    """Return the state of a run once all its processes are started."""

    def look() -> RunState | None:
        state = read_state(RunPaths(data))
        return state if state is not None and len(state.processes) >= 5 else None

    return until(look, what="the processes")


def capturing(data: Path) -> RunState:
    """Return the state of a run once data is durable in the archive."""

    def look() -> RunState | None:
        state = read_state(RunPaths(data))
        if state is None or len(state.processes) < 5:
            return None
        try:
            days = httpx.get(f"{state.api_url}/manifests", trust_env=False, timeout=60).json()["feeds"]
            listing = (
                days
                and httpx.get(
                    f"{state.api_url}/files/{days[0]['feed']}/{days[0]['last_date']}", trust_env=False, timeout=5
                ).json()
            )
        except httpx.HTTPError:
            return None
        return state if listing and (listing["files"] or any(part["records"] for part in listing["open"])) else None

    return until(look, what="the first data")


def manifests(data: Path, feed: str) -> list[Manifest]:
    return [parse_manifest(day.manifest.read_bytes(), where=str(day.manifest)) for day in list_days(data, feed)]


def assert_sealed(data: Path, feed: str = "kalshi") -> None:
    """Nothing is open, every sealed file is in its manifest with its evidence, and no process is left."""
    days: list[DayPaths] = list_days(data, feed)
    assert days
    for day, manifest in zip(days, manifests(data, feed), strict=True):
        assert day.open_stems() == []
        assert sorted(file.name for file in manifest.files) == sorted(
            f"{stem}.jsonl.gz" for stem in day.data_stems()
        )
        assert day.data_stems() == day.sealed_stems()
        # While nothing ran nothing was captured, and the archive says so; nothing else is missing.
        assert {(gap.layer, gap.cause) for gap in manifest.gaps} <= {("connection", "stopped")}
    assert not RunPaths(data).state.exists()


def assert_nothing_runs(state: RunState) -> None:
    assert [name for name, process in state.processes.items() if process.is_alive()] == []


def test_up_captures_stops_by_itself_and_goes_on_over_the_same_data(tmp_path: Path) -> None:
    data = tmp_path / "archive"
    with running(data, "--for", "8", "--rotation", "3s", "--rate", "50") as process:
        state = begun(data)
        code, output = ended(process, seconds=STOP_S)
    assert code == 0, output
    assert state.api_url in output
    assert_nothing_runs(state)
    assert_sealed(data)
    first_run = [file for manifest in manifests(data, "kalshi") for file in manifest.files]
    assert len(first_run) >= 2, "8 s in windows of 3 s"

    with running(data, "--rotation", "3s", "--rate", "50") as process:
        state = capturing(data)
        until(lambda: _newer_than(data, first_run[-1].nats_end_seq, state), what="data of the second run")
        # It runs until it is told to end, however long these take.
        status = ssmd("status", "--data", str(data))
        second = ssmd("up", "--data", str(data), "--api-port", "0")
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        code, output = ended(process, seconds=STOP_S)
    assert code == 0, output
    assert "kalshi" in status.stdout
    assert "?" not in status.stdout, "every counter is one that a service has"
    assert (second.returncode, "ssmd down" in second.stderr) == (2, True)
    assert_nothing_runs(state)
    assert_sealed(data)
    files = [file for manifest in manifests(data, "kalshi") for file in manifest.files]
    assert len(files) > len(first_run)
    for before, after in itertools.pairwise(files):
        assert before.nats_end_seq + 1 == after.nats_start_seq, "no loss and no overlap"

    verified = ssmd("verify", "--data", str(data))
    assert verified.returncode == 0, verified.stdout
    assert "0 lost" in verified.stdout


def _newer_than(data: Path, seq: int, state: RunState) -> bool:
    ends = []
    for day in list_days(data, "kalshi"):
        answer = httpx.get(f"{state.api_url}/files/kalshi/{day.date}", trust_env=False, timeout=60)
        if answer.status_code == httpx.codes.OK:  # the folder of a new day is there before its first block
            listing = answer.json()
            ends += [part["nats_end_seq"] for part in (*listing["files"], *listing["open"]) if part["nats_end_seq"]]
    return max(ends, default=0) > seq + 20


def test_down_stops_a_capture_from_elsewhere_and_a_dead_process_ends_it(tmp_path: Path) -> None:
    data = tmp_path / "archive"
    with running(data, "--rate", "20") as process:
        state = capturing(data)
        down = ssmd("down", "--data", str(data))
        assert down.returncode == 0, down.stderr
        code, output = ended(process, seconds=STOP_S)
    assert code == 0, output
    assert_nothing_runs(state)
    assert_sealed(data)

    with running(data, "--rate", "20") as process:
        state = capturing(data)
        os.kill(state.processes["ssmd-connector"].pid, signal.SIGKILL)
        code, output = ended(process, seconds=STOP_S)
    assert code == 1, output
    assert "ssmd-connector was killed by SIGKILL" in output
    assert_nothing_runs(state)
    assert list_days(data, "kalshi")[-1].open_stems() == []


def test_a_recording_lies_in_the_archive_byte_for_byte_and_in_order(tmp_path: Path) -> None:
    captures = os.environ.get("SSMD_CAPTURES")
    if not captures:
        pytest.skip("SSMD_CAPTURES names no folder of recordings")
    recording = Path(captures) / "kalshi_prod_orderbook_stream_20260807.jsonl"
    frames = [line for line in recording.read_bytes().split(b"\n") if line]
    sent = [frame for frame in frames if json.loads(frame)["type"] not in {"subscribed", "ok"}]
    data = tmp_path / "archive"
    with running(data, "--capture", str(recording), "--rate", "max", "--for", "8") as process:
        code, output = ended(process, seconds=READY_S + STOP_S)
    assert code == 0, output
    assert_sealed(data)
    archived = [record.data for day in list_days(data, "kalshi") for record in load("kalshi", day.date, data=data)]
    assert archived == sent
