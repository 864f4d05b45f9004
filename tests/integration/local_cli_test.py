"""The local deployment's refusals and its answers where nothing runs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from ssmd_local.places import RunPaths

COMMAND = [sys.executable, "-c", "from ssmd_local.cli import main; main()"]


def ssmd(*args: str, data: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("SSMD_DATA", "KALSHI_"))}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    where = () if data is None else ("--data", str(data))
    return subprocess.run(  # noqa: S603 - our own program
        [*COMMAND, *args, *where], capture_output=True, text=True, timeout=180, check=False, env=environment
    )


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line of a refusal."""
    assert done.returncode == 2, done
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("error: ")
    return done.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--rotation", "soon"), ("--rotation", "such as 15m")),
        (("--rotation", "0m"), ("--rotation", "such as 15m")),
        (("--rotation", "2d"), ("--rotation", "at most 1d")),
        (("--capture", "/nowhere.jsonl"), ("--capture", "/nowhere.jsonl")),
        (("--feed", "karken"), ("--feed", "kraken")),
        (("--rate", "much"), ("--rate", "max")),
        (("--for", "long"), ("--for",)),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_2(
    tmp_path: Path, args: tuple[str, ...], words: tuple[str, ...]
) -> None:
    line = refused(ssmd("up", *args, "--api-port", "0", data=tmp_path))
    for word in words:
        assert word in line


def test_a_taken_port_names_its_option(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        line = refused(ssmd("up", "--api-port", str(taken.getsockname()[1]), data=tmp_path))
    assert "--api-port" in line


def test_two_at_once_over_one_archive_are_refused(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    paths.folder.mkdir()
    with FileLock(paths.lock):
        line = refused(ssmd("up", "--api-port", "0", data=tmp_path))
    assert "ssmd down" in line
    assert str(tmp_path) in line


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "--data" in refused(ssmd("up", "--api-port", "0", data=tmp_path / "file" / "data"))


def test_nothing_to_stop_and_nothing_to_show(tmp_path: Path) -> None:
    down = ssmd("down", data=tmp_path)
    assert (down.returncode, down.stderr) == (0, "")
    assert "nothing runs" in down.stdout
    status = ssmd("status", data=tmp_path)
    assert status.returncode == 1
    assert "nothing runs" in status.stdout
    assert "the archive holds no day yet" in status.stdout


def test_verifying_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    assert "no archive here" in refused(ssmd("verify", data=tmp_path))


def test_a_capture_stopped_before_its_first_frame_verifies(tmp_path: Path) -> None:
    (tmp_path / ".run").mkdir()
    done = ssmd("verify", data=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("0 frames received, 0 archived, 0 lost")


@pytest.mark.parametrize("to", [("--to", "nats"), ("--to=nats",)])
def test_a_replay_needs_a_capture_that_runs_or_an_address(tmp_path: Path, to: tuple[str, ...]) -> None:
    line = refused(ssmd("replay", "nothing.jsonl.gz", *to, data=tmp_path))
    assert "nothing runs over" in line
    assert "--url" in line


def test_a_replay_is_the_connectors_own_command(tmp_path: Path) -> None:
    line = refused(ssmd("replay", str(tmp_path / "none"), "--to", "stdout"))
    assert "none: no such file or folder" in line
    said = ssmd("replay", "--help").stdout
    assert "replay [OPTIONS]" in said
    assert "never into their own stream" in said
