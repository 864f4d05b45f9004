"""The manifest API as a process over an archive, for the tests that need its socket."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Server", "serving"]

_PROGRAM = "from ssmd_manifest_api.cli import main; main()"
_START_S = 180


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    pid: int
    host: str
    port: int

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self.host}:{self.port}"


@contextmanager
def serving(data: Path, log: Path, *options: str) -> Iterator[Server]:
    """Run a server for the time of the block; what it logs goes to a file."""
    words = [sys.executable, "-c", _PROGRAM, "--data", str(data), "--port", "0", *options]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(p).absolute()) for p in sys.path if p)}
    with log.open("wb") as errors:
        process = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stderr=errors)  # noqa: S603 - our own program
    try:
        yield Server(process.pid, "127.0.0.1", _port(process, log))
    finally:
        process.terminate()
        try:
            process.wait(60)
        finally:
            process.kill()


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    end = time.monotonic() + _START_S
    while time.monotonic() < end and process.poll() is None:
        found = re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text("utf-8"))
        if found:
            return int(found[1])
        time.sleep(0.05)
    raise AssertionError(f"the API did not start:\n{log.read_text('utf-8')}")
