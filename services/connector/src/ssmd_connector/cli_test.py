from __future__ import annotations

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
    assert "not routed: 1" in done.stdout


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
