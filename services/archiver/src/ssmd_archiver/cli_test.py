"""The command as its users run it: a process, its output and its exit code."""

from __future__ import annotations

import json
import os
import pty
from pathlib import Path

import pytest

from ssmd_archiver.disk import Disk
from ssmd_archiver.run import writer_lock
from ssmd_archiver.testing import DATE, archive, run_cli, trades

CONFIG = """
nats: {url: "nats://127.0.0.1:1", stream: PROD_KALSHI, consumer: archiver-kalshi, filter: "prod.kalshi.json.>"}
storage: {path: %s}
rotation: {interval: 15m}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "archiver.yaml"
    path.write_text(CONFIG % (tmp_path / "data"))
    return path


def test_check_says_what_a_configuration_means(config: Path) -> None:
    done = run_cli("check", "--config", str(config))
    assert (done.returncode, done.stderr) == (0, "")
    assert "feed      kalshi of environment prod" in done.stdout
    assert "every 15m, sealed on exit: yes" in done.stdout


@pytest.mark.parametrize("interval", ["0m", "15", "-1h", "15µ", "1.5h", "36h"])
def test_an_interval_of_another_form_is_refused_with_those_taken(config: Path, interval: str) -> None:
    config.write_text(config.read_text().replace("interval: 15m", f"interval: {interval}"), "utf-8")
    done = run_cli("check", "--config", str(config))
    assert done.returncode == 2
    assert f"{config}: rotation.interval: " in done.stderr
    assert "s, m, h or d" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--config: missing"),
        (("--config", "nowhere.yaml"), "nowhere.yaml: no such file"),
        (("verify",), "name one of --config and --data"),
        (("verify", "--data", "nowhere"), "nowhere: no archive here"),
        (("verify", "--data", ".", "--date", "yesterday"), "error: "),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_2(arguments: tuple[str, ...], said: str) -> None:
    done = run_cli(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


async def test_verify_tells_the_frames_and_exits_by_what_it_finds(tmp_path: Path) -> None:
    stream = trades(12)
    stream.close()
    await archive(tmp_path, stream)
    done = run_cli("verify", "--data", str(tmp_path))
    assert done.returncode == 0
    assert done.stdout.startswith("kalshi: 12 frames received, 12 archived, 0 lost\n")
    assert done.stderr == "", "no progress bar off a terminal"
    path = tmp_path / "kalshi" / DATE / "120000.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-1])
    broken = run_cli("verify", "--data", str(tmp_path), "--feed", "kalshi", "--date", DATE, "--json")
    assert broken.returncode == 1
    document = json.loads(broken.stdout)
    assert document["ok"] is False
    assert {finding["where"] for finding in document["feeds"][0]["findings"]} == {str(path)}


async def test_verify_shows_progress_on_a_terminal(tmp_path: Path) -> None:
    await archive(tmp_path, trades(12))
    ours, theirs = pty.openpty()
    done = run_cli("verify", "--data", str(tmp_path), stderr=theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    os.close(theirs)
    assert done.returncode == 0
    assert "verifying" in shown


async def test_rebuild_and_seal_work_on_a_stopped_archive_only(tmp_path: Path) -> None:
    await archive(tmp_path, trades(5), seal=False)
    sealed = run_cli("seal", "--data", str(tmp_path))
    assert (sealed.returncode, sealed.stdout) == (0, "kalshi: sealed 120000\n")
    manifest = tmp_path / "kalshi" / DATE / "manifest.json"
    before = manifest.read_bytes()
    manifest.unlink()
    rebuilt = run_cli("rebuild", "--data", str(tmp_path))
    assert (rebuilt.returncode, rebuilt.stdout) == (0, "kalshi: 1 manifest written\n")
    assert manifest.read_bytes() == before
    lock = writer_lock(tmp_path, "kalshi", Disk())
    refused = run_cli("rebuild", "--data", str(tmp_path))
    lock.release()
    assert refused.returncode == 1
    assert "another archiver writes this folder" in refused.stderr


@pytest.mark.parametrize("command", [("check",), ()])
@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ("tls: {ca: nowhere.pem}", "nats.tls: no such file: nowhere.pem"),
        ("creds: nowhere.creds", "nats.creds: nowhere.creds: cannot be read"),
        ("nkey_seed: SAAX", "nats.nkey_seed: not an nkey seed"),
    ],
)
def test_credentials_that_cannot_be_used_are_told_by_check_as_by_a_start(
    config: Path, command: tuple[str, ...], shown: str, said: str
) -> None:
    config.write_text(config.read_text().replace("nats: {", f"nats: {{{shown}, "), "utf-8")
    done = run_cli(*command, "--config", str(config))
    assert done.returncode == 2
    assert f"error: {config}: {said}" in done.stderr
