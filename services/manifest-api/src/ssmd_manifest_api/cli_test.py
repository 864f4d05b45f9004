from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

COMMAND = [sys.executable, "-c", "from ssmd_manifest_api.cli import main; main()"]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


@contextmanager
def serving(data: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(  # noqa: S603 - our own program
        [*COMMAND, "--data", str(data), "--port", "0", *options],
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(),
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line
        yield process, found.group()
    finally:
        process.kill()
        process.communicate()


def test_behind_a_proxy_it_speaks_of_the_proxys_scheme(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "127.0.0.0/8")
    forwarded = {"Host": "archive.example.org", "X-Forwarded-Proto": "https"}
    with serving(archive) as (_, url), httpx.Client(base_url=url, timeout=20, headers=forwarded) as client:
        assert client.get("/manifests/").headers["location"] == "https://archive.example.org/manifests"
        assert "https://archive.example.org/manifests/kalshi" in client.get("/feeds/kalshi/2026-11-23").text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_over_a_socket_and_stops_in_order(archive: Path, number: signal.Signals) -> None:
    with serving(archive) as (process, url):
        deadline = time.monotonic() + 120
        with httpx.Client(base_url=url, timeout=120) as client:
            assert client.get("/manifests/kalshi/2026-11-23").json()["feed"] == "kalshi"
            part = client.get("/files/kalshi/2026-11-23/0615.jsonl.gz", headers={"Range": "bytes=0-1"})
            assert (part.status_code, part.content) == (206, b"\x1f\x8b")
            head = client.head("/files/kalshi/2026-11-23/0615.jsonl.gz")
            assert (head.status_code, head.content) == (200, b"")
            assert client.get("/files/kalshi/2026-11-23/..%2f..%2f..%2fsecret").status_code == 404
        process.send_signal(number)
        process.send_signal(number)
        assert process.wait(max(1, deadline - time.monotonic())) == 0


def test_a_stop_cuts_a_reader_that_takes_nothing_without_a_traceback(archive: Path) -> None:
    with (
        serving(archive) as (process, url),
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as reader,
    ):
        reader.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            for _ in range(5000):
                reader.send(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(2)  # until the server cannot write any more; too short, and the test says less
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "Traceback" not in told
    assert '"event": "stopped"' in told


def test_a_taken_port_is_one_line_and_exit_2(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(  # noqa: S603 - our own program
            [*COMMAND, "--data", str(tmp_path), "--port", port],
            capture_output=True, text=True, timeout=120, check=False, env=_environment(),
        )  # fmt: skip
    assert done.returncode == 2
    errors = done.stderr.splitlines()
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert port in errors[0]
    assert "--port" in errors[0]


def test_no_folder_named_is_one_line_and_exit_2() -> None:
    environment = {key: value for key, value in _environment().items() if key != "SSMD_DATA"}
    done = subprocess.run(  # noqa: S603 - our own program
        COMMAND, capture_output=True, text=True, timeout=120, check=False, env=environment
    )
    assert done.returncode == 2
    assert "--data" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_new_token_opens_what_its_entry_says(archive: Path, tmp_path: Path) -> None:
    done = subprocess.run(  # noqa: S603 - our own program
        [*COMMAND, "token", "ann", "--feed", "kalshi"],
        capture_output=True, text=True, timeout=120, check=True, env=_environment(),
    )  # fmt: skip
    token, _, rest = done.stdout.partition("\n")
    config = tmp_path / "api.yaml"
    config.write_text(rest.partition("--config:\n")[2])
    assert token not in config.read_text()
    with serving(archive, "--config", str(config)) as (_, url), httpx.Client(base_url=url, timeout=120) as client:
        path = "/manifests/kalshi/2026-11-23"
        refused = client.get(path)
        assert (refused.status_code, refused.headers["www-authenticate"][:6]) == (401, "Bearer")
        assert client.get(path, headers={"Authorization": f"Bearer {token}"}).status_code == 200
        assert client.get(path, auth=("ann", token)).status_code == 200
        assert client.get("/manifests/kraken", auth=("ann", token)).status_code == 404


@pytest.mark.parametrize(
    ("options", "named"),
    [(["--config", "none.yaml"], "none.yaml"), (["--feeds", "none"], "--feeds"), (["--port", "70000"], "--port")],
)
def test_a_wrong_option_is_one_line_and_exit_2(tmp_path: Path, options: list[str], named: str) -> None:
    done = subprocess.run(  # noqa: S603 - our own program
        [*COMMAND, "--data", str(tmp_path), *options],
        capture_output=True, text=True, timeout=120, check=False, env=_environment(),
    )  # fmt: skip
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert named in done.stderr
