"""Measures what the services cost while next to nothing happens, and how long each takes to start.

    python benchmarks/idle.py --seconds 60 --rounds 3

The local deployment at one frame a second, its processes started one after the other: from a process's start until
it says it is ready, then the processor time each uses in ``--seconds``. Where Docker has the images
(`./pants package deploy/images::`), also from `docker run` until the program in it has read its arguments.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from bench.machine import machine, machine_line
from bench.serving import cpu_seconds
from ssmd_common.config.model import parse_interval
from ssmd_local import programs
from ssmd_local.places import RunPaths
from ssmd_local.plan import API, ARCHIVER, CONNECTOR, NATS, SIMULATOR, FileReady, ProcessSpec, Request
from ssmd_local.prepare import prepare

FRAMES_A_SECOND = "1"
ORDER = (NATS, SIMULATOR, API, CONNECTOR, ARCHIVER)
"""Each finds what it needs; the archiver waits for the stream, which the connector makes."""

_READY_TIMEOUT_S = 60.0
_POLL_S = 0.005
_STOP_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Idle:
    """One process of one round.

    Attributes:
        ready_s: From its start until it was ready.
        ready_cpu_s: Processor time meanwhile.
        cpu_ms: Processor time a second, in ms, while a frame came each second.
        memory_mib: Resident at the end.
    """

    name: str
    ready_s: float
    ready_cpu_s: float
    cpu_ms: float
    memory_mib: float


def _is_ready(spec: ProcessSpec, client: httpx.Client) -> bool:
    if isinstance(spec.ready, FileReady):
        return spec.ready.path.exists()
    with contextlib.suppress(httpx.TransportError):
        return client.get(spec.ready.url).status_code == httpx.codes.OK
    return False


@contextlib.contextmanager
def _running(spec: ProcessSpec, paths: RunPaths) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process; it ends in order behind the block."""
    with paths.log(spec.name).open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own programs
            [*programs.command(spec.name), *spec.args],
            cwd=paths.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=programs.child_environment(os.environ),
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(_STOP_TIMEOUT_S)


def _started(spec: ProcessSpec, process: subprocess.Popen[bytes], paths: RunPaths) -> tuple[float, float]:
    """Wait until a process is ready; return the seconds that took, and those on a processor."""
    begun = time.monotonic()
    with httpx.Client(timeout=1) as client:
        while not _is_ready(spec, client):
            if process.poll() is not None or time.monotonic() - begun > _READY_TIMEOUT_S:
                raise RuntimeError(f"{spec.name} did not get ready:\n{paths.log(spec.name).read_text('utf-8')}")
            time.sleep(_POLL_S)
    return time.monotonic() - begun, cpu_seconds(process.pid)


def _memory_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def one_round(seconds: float) -> list[Idle]:
    """Start everything, let it idle, stop it."""
    with tempfile.TemporaryDirectory(prefix="ssmd-bench-") as name, ExitStack() as stack:
        paths = RunPaths(Path(name, "data"))
        request = Request(
            data=paths.data,
            feed=None,
            capture=None,
            rate=FRAMES_A_SECOND,
            rotation=parse_interval("15m"),
            api_port=0,
        )
        plan = prepare(request, {})
        paths.logs.mkdir(parents=True)
        for path, text in plan.files.items():
            path.write_text(text, "utf-8")
        processes: dict[str, subprocess.Popen[bytes]] = {}
        started: dict[str, tuple[float, float]] = {}
        for spec in sorted(plan.processes, key=lambda spec: ORDER.index(spec.name)):
            processes[spec.name] = stack.enter_context(_running(spec, paths))
            started[spec.name] = _started(spec, processes[spec.name], paths)
        before = {who: cpu_seconds(process.pid) for who, process in processes.items()}
        time.sleep(seconds)
        return [
            Idle(
                who,
                *started[who],
                cpu_ms=(cpu_seconds(process.pid) - before[who]) / seconds * 1000,
                memory_mib=_memory_mib(process.pid),
            )
            for who, process in processes.items()
        ]


def images(rounds: int) -> dict[str, list[float]]:
    """Return how many seconds each image there is takes to run its program's ``--help``."""
    docker = shutil.which("docker")
    took: dict[str, list[float]] = {}
    for name in (SIMULATOR, API, ARCHIVER, CONNECTOR) if docker else ():
        for _ in range(rounds):
            begun = time.monotonic()
            run = ["docker", "run", "--rm", "--read-only", "--network", "none", "--pull", "never", name, "--help"]
            if subprocess.run(run, capture_output=True, check=False).returncode:  # noqa: S603 - our own images
                break
            took.setdefault(name, []).append(time.monotonic() - begun)
    return took


def report(rounds: list[list[Idle]], containers: dict[str, list[float]]) -> str:
    """Return the tables, medians of the rounds."""
    lines = [
        "| process | ready after s | CPU s until then | CPU ms a second, one frame each | memory MiB |",
        "|---|---|---|---|---|",
    ]
    for runs in zip(*rounds, strict=True):
        ready, cpu, idle, memory = (
            statistics.median(getattr(run, what) for run in runs)
            for what in ("ready_s", "ready_cpu_s", "cpu_ms", "memory_mib")
        )
        lines.append(f"| {runs[0].name} | {ready:.2f} | {cpu:.2f} | {idle:.1f} | {memory:.0f} |")
    if containers:
        lines += ["", "| image | `docker run … --help`, s |", "|---|---|"]
        lines += [f"| {name} | {statistics.median(seconds):.2f} |" for name, seconds in containers.items()]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Print the tables; write the figures where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=60.0, metavar="N", help="how long it idles, each round")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure there")
    options = parser.parse_args()
    where, line = machine(), machine_line()
    rounds = [one_round(options.seconds) for _ in range(options.rounds)]
    containers = images(options.rounds)
    sys.stdout.write(f"{line}\n\n{report(rounds, containers)}")
    if options.json is not None:
        figures = {
            "machine": where,
            "rounds": [[asdict(one) for one in runs] for runs in rounds],
            "images": containers,
        }
        options.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
