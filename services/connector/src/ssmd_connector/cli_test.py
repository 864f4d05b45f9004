from __future__ import annotations

import gzip
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

FEED = """\
name: f
type: {type}
versions:
  - version: v1
    effective_from: 2025-01-01
    protocol: {{transport: wss, message: json}}
    endpoint: wss://exchange.example/ws
websocket:
  route: {{type: [type], symbol: [symbol]}}
  control: {{types: [hello]}}
"""


def connector(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from ssmd_connector.cli import main; main()", *map(str, arguments)]
    return subprocess.run(  # noqa: S603 - our own program
        command, capture_output=True, text=True, timeout=60, check=False
    )


def files(folder: Path, *, kind: str = "websocket", transport: str = "nats") -> tuple[str, str, str, str]:
    feed, env = folder / "feed.yaml", folder / "env.yaml"
    feed.write_text(FEED.format(type=kind))
    env.write_text(f"name: e\nfeed: f\ntransport: {{type: {transport}}}\n")
    return "--feed", str(feed), "--env", str(env)


def test_check_tells_what_would_be_captured(tmp_path: Path) -> None:
    done = connector("check", *files(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert "dev.f.json.>" in done.stdout


def test_check_routes_recorded_frames_and_names_the_rest(tmp_path: Path) -> None:
    frames = tmp_path / "frames.jsonl"
    frames.write_text('{"type":"trade","symbol":"A"}\n{"received_ms":5,"frame":{"type":"hello"}}\n')
    assert connector("check", *files(tmp_path), "--frames", frames).returncode == 0
    frames.write_text('{"type":"trade","symbol":"A"}\nnot json\n')
    done = connector("check", *files(tmp_path), "--frames", frames)
    assert done.returncode == 1
    assert "not routed: line 2: JSON is malformed: invalid character (byte 4): not json" in done.stdout


def test_check_shows_what_a_frame_holds_and_nothing_it_asks_of_the_terminal(tmp_path: Path) -> None:
    frames = tmp_path / "frames.jsonl"
    frames.write_text('{"type":"[/b]:A:","symbol":"\\u001b[2J:bug:"}\n')
    done = connector("check", *files(tmp_path), "--frames", frames)
    assert (done.returncode, done.stderr) == (0, "")
    assert "[/b]:A:" in done.stdout
    assert r"\x1b[2J:bug:" in done.stdout


def test_check_needs_no_environment_and_tells_a_program_in_json(tmp_path: Path) -> None:
    feed = files(tmp_path)[:2]
    frames = tmp_path / "frames.jsonl.gz"
    frames.write_bytes(gzip.compress(b'{"type":"trade","symbol":"A"}\n[]\n{"type":"hello"}\n'))
    assert connector("check", *feed).returncode == 0
    done = connector("check", *feed, "--frames", frames, "--json")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert told["kinds"] == {"control": 1, "data": 2}
    assert told["unverifiable"] == ["trade", "untyped"]
    assert told["not_routed"] == [{"line": 2, "text": "no type in it: []"}]


def test_check_refuses_what_it_cannot_read_in_one_line(tmp_path: Path) -> None:
    feed = files(tmp_path)[:2]
    for arguments, words in (
        ((*feed, "--frames", tmp_path / "none"), "--frames: cannot be read: No such file or directory"),
        ((*feed, "--json"), "--json: tells of frames, and none are given"),
        (("--env", tmp_path / "env.yaml"), "--feed: missing"),
        ((*feed, "--live"), "--live: needs an environment"),
    ):
        done = connector("check", *arguments)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert words in done.stderr


@pytest.mark.parametrize(
    ("transport", "words"),
    [
        ("{type: nats, creds: /none.creds}", "env.yaml: transport.creds: /none.creds: cannot be read"),
        ("{type: nats, tls: {ca: /none.pem}}", "env.yaml: transport.tls: no such file: /none.pem"),
        ("{type: nats, nkey_seed: SUNO}", "env.yaml: transport.nkey_seed: not an nkey seed"),
        ('{type: nats, url: "bob:s3cret@host:99999"}', ": is no address of a NATS server"),
    ],
)
def test_check_refuses_what_nats_could_not_be_reached_with(tmp_path: Path, transport: str, words: str) -> None:
    arguments = files(tmp_path)
    (tmp_path / "env.yaml").write_text(f"name: e\nfeed: f\ntransport: {transport}\n")
    done = connector("check", *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "s3cret" not in done.stdout + done.stderr


@pytest.mark.parametrize("url", ["nats://bob:s3cret@host", "bob:s3cret@host", "nats://h,bob:s3cret@host"])
def test_check_shows_no_password_of_an_address(tmp_path: Path, url: str) -> None:
    arguments = files(tmp_path)
    (tmp_path / "env.yaml").write_text(f'name: e\nfeed: f\ntransport: {{type: nats, url: "{url}"}}\n')
    done = connector("check", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "@host" in done.stdout
    assert "s3cret" not in done.stdout


def test_check_refuses_frames_that_nats_could_not_take(tmp_path: Path) -> None:
    feed = files(tmp_path)[:2]
    (tmp_path / "feed.yaml").write_text(FEED.format(type="websocket") + "  max_frame_bytes: 8MiB\n")
    done = connector("check", *feed)
    assert done.returncode == 2
    assert "websocket.max_frame_bytes: frames of 8388608 bytes do not fit NATS's max_payload" in done.stderr


@pytest.mark.parametrize(
    ("kind", "transport", "text"),
    [
        ("websocket", "memory", "Memory transport not supported - connector requires NATS"),
        ("websocket", "mqtt", "MQTT transport not yet supported"),
        ("rest", "nats", "feeds not yet supported"),
        ("multicast", "nats", "feeds not yet supported"),
    ],
)
def test_what_is_not_supported_is_refused_in_one_line(tmp_path: Path, kind: str, transport: str, text: str) -> None:
    done = connector(*files(tmp_path, kind=kind, transport=transport))
    assert done.returncode == 2
    assert text in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_missing_option_is_named() -> None:
    done = connector()
    assert (done.returncode, done.stderr) == (2, "error: --feed: missing (see --help)\n")
