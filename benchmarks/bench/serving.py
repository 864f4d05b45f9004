"""The manifest API as a process, to be measured."""

from __future__ import annotations

import dataclasses
import http.client
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from bench.load import request_bytes, time_request

__all__ = ["Server", "cpu_seconds", "download", "serving"]

_SERVER = "from ssmd_manifest_api.cli import main; main()"
_START_S = 60.0
_TIMEOUT_S = 600.0
_PART_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Server:
    """A server under measurement."""

    process: subprocess.Popen[bytes]
    address: tuple[str, int]
    started_s: float

    def memory_mib(self) -> float:
        """Return its resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text("ascii")
        (kib,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
        return int(kib) / 1024


def cpu_seconds(pid: int) -> float:
    """Return the processor time a process and its children have used."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(cpu_seconds(int(child)) for child in children)


@contextmanager
def serving(data: Path, *options: str) -> Iterator[Server]:
    """Run the manifest API over an archive; it is ready once `/ready` answers 200."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        started = time.perf_counter()
        with log.open("wb") as errors:
            process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-c", _SERVER, "--data", str(data), "--port", "0", *options],
                stdin=subprocess.DEVNULL,
                stderr=errors,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            )
        try:
            address = _listening(process, log)
            time_request(address, request_bytes("/ready", {}), status=200)
            yield Server(process, address, time.perf_counter() - started)
        finally:
            process.terminate()
            process.wait()


def _listening(process: subprocess.Popen[bytes], log: Path) -> tuple[str, int]:
    end = time.monotonic() + _START_S
    while time.monotonic() < end and process.poll() is None:
        found = re.search(r"http://(127\.0\.0\.1):(\d+)", log.read_text("utf-8"))
        if found:
            return found[1], int(found[2])
        time.sleep(0.01)
    raise SystemExit(f"the API did not start:\n{log.read_text('utf-8')}")


def download(address: tuple[str, int], path: str) -> int:
    """Read an answer whole and return its body's length.

    Raises:
        RuntimeError: It is none of 200.
    """
    with closing(http.client.HTTPConnection(*address, timeout=_TIMEOUT_S)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise RuntimeError(f"{path} answered {answer.status}")
        size = 0
        while part := answer.read(_PART_BYTES):
            size += len(part)
        return size
