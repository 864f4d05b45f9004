"""Measures the manifest API: against nginx on the same bytes, and over an archive of many days.

    PYTHONPATH=tests python benchmarks/api.py nginx --seconds 5 --rounds 3
    PYTHONPATH=tests python benchmarks/api.py archive --feeds 3 --days 400 --segments 96
    PYTHONPATH=tests python benchmarks/api.py --json figures.json     # both

*nginx*: requests a second for a manifest of 10 KB, whole (200) and known (304), of one worker of each, by the same
load generator, in turn, round after round; medians are compared. *archive*: time to start, memory, and latency of
each listing, filter and condition after its first request, over a generated archive. The load generator shares the
machine's processors with what it measures.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from operator import attrgetter, itemgetter
from pathlib import Path

from bench.load import request_bytes, run_load, time_request
from bench.machine import machine, machine_line
from bench.serving import Server, cpu_seconds, serving
from integration.api_archive import FEEDS, make_archive, make_day
from ssmd_manifest_api.auth import hash_token, new_token

_NGINX = "nginx"
_CONNECTIONS = 32
_SEGMENTS_OF_10_KB = 9
_ROUTES = (
    "/",
    "/feeds/{feed}",
    "/manifests",
    "/manifests/{feed}",
    "/manifests/{feed}?limit=50",
    "/manifests/{feed}/{date}",
    "/files/{feed}/{date}",
    "/files/{feed}/{date}?type=trade&from={date}T06:00:00Z&to={date}T12:00:00Z",
    "/files/{feed}/{date}?ticker=KXBENCH-T042",
    "/gaps/{feed}",
    "/gaps/{feed}?layer=stream&status=permanent&from={date}",
    "/gaps/{feed}/{date}",
    "/conditions/{feed}",
)


@contextmanager
def nginx(file: Path, path: str) -> Iterator[Server]:
    """Run nginx with one worker that serves a file at a path."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        raise SystemExit("no nginx on this machine: install it (Debian: nginx-light)")
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        os.chmod(folder, 0o755)  # noqa: PTH101, S103 - its worker is another user where root runs this
        probe.bind(("127.0.0.1", 0))
        address = probe.getsockname()
        probe.close()
        served = Path(folder) / "root" / path.lstrip("/")
        served.parent.mkdir(parents=True)
        served.write_bytes(file.read_bytes())
        temporary = "".join(f"{kind}_temp_path {folder}/{kind}; " for kind in _NGINX_FOLDERS)
        config = Path(folder) / "nginx.conf"
        config.write_text(
            f"daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;\n"
            f"events {{ worker_connections 1024; }}\n"
            f"http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000; {temporary}\n"
            f"default_type application/json; open_file_cache max=100;\n"
            f"server {{ listen {address[0]}:{address[1]}; root {folder}/root; }} }}\n"
        )
        process = subprocess.Popen([program, "-c", str(config), "-e", f"{folder}/error.log"])  # noqa: S603 - what is measured
        try:
            for _ in range(500):
                try:
                    socket.create_connection(address).close()
                    break
                except ConnectionRefusedError:
                    time.sleep(0.01)
            yield Server(process, address, 0)
        finally:
            process.terminate()
            process.wait()


_NGINX_FOLDERS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@dataclass(frozen=True, slots=True)
class Served:
    """One round of one server.

    Attributes:
        p99_ms: Of one of sixteen requests.
        cpu_us: Processor time of the server and its children, a request.
    """

    server: str
    status: int
    per_second: float
    p99_ms: float
    cpu_us: float


def compare(seconds: float, rounds: int) -> list[Served]:
    """Measure both on a manifest of 10 KB, in turn."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "archive"
        first = dt.date(2026, 11, 1)
        make_day(base, FEEDS[0], first, 0, _SEGMENTS_OF_10_KB)
        path = f"/manifests/{FEEDS[0]}/{first.isoformat()}"
        manifest = base / FEEDS[0] / first.isoformat() / "manifest.json"
        token = new_token()
        config = Path(folder) / "api.yaml"
        config.write_text(f"tokens: [{{name: bench, sha256: {hash_token(token)}, feeds: [{FEEDS[0]}]}}]\n")
        bearer = {"Authorization": f"Bearer {token}"}
        ours_etag = f'"{hashlib.sha256(manifest.read_bytes()).hexdigest()}"'
        served: list[Served] = []
        with (
            nginx(manifest, path) as static,
            serving(base) as plain,
            serving(base, "--config", str(config)) as guarded,
        ):
            servers: tuple[tuple[str, Server, dict[str, str], str], ...] = (
                (_NGINX, static, {}, _etag(static.address, path)),
                ("API", plain, {}, ours_etag),
                ("API, token", guarded, bearer, ours_etag),
            )
            for _ in range(rounds):
                for status in (200, 304):
                    for name, server, headers, etag in servers:
                        known = {"If-None-Match": etag} if status == 304 else {}  # noqa: PLR2004 - Not Modified
                        before_s = cpu_seconds(server.process.pid)
                        load = run_load(
                            server.address,
                            request_bytes(path, {**headers, **known}),
                            status=status,
                            connections=_CONNECTIONS,
                            seconds=seconds,
                        )
                        cpu_s = cpu_seconds(server.process.pid) - before_s
                        p99_ms = 1000 * _percentile(load.latencies_s, 99)
                        served.append(
                            Served(name, status, load.per_second, p99_ms, 1e6 * cpu_s / load.all_requests)
                        )
        return served


def compared(served: Sequence[Served]) -> str:
    """Return the table: medians, and the rates beside nginx's."""
    lines = [
        f"a manifest of 10 KB, {_CONNECTIONS} connections",
        "",
        "| server | status | requests/s | of nginx | p99 ms | CPU µs a request |",
        "|---|---|---|---|---|---|",
    ]
    rates: dict[tuple[str, int], float] = {}
    for name, status in sorted({(one.server, one.status): None for one in served}, key=itemgetter(1)):
        runs = [one for one in served if (one.server, one.status) == (name, status)]
        rate = rates[name, status] = statistics.median(one.per_second for one in runs)
        p99_ms, cpu_us = (statistics.median(map(attrgetter(what), runs)) for what in ("p99_ms", "cpu_us"))
        beside = rate / rates[_NGINX, status]
        lines.append(f"| {name} | {status} | {rate:,.0f} | {beside:.2f} | {p99_ms:.2f} | {cpu_us:.0f} |")
    return "\n".join(lines)


def _etag(address: tuple[str, int], path: str) -> str:
    with socket.create_connection(address) as connection:
        connection.sendall(request_bytes(path, {}))
        (etag,) = re.findall(rb'(?i)etag: ("[^"]+")', connection.recv(4096))
    return str(etag, "ascii")


@dataclass(frozen=True, slots=True)
class Route:
    """How quickly one route answered, after its first request."""

    route: str
    first_ms: float
    median_ms: float
    p99_ms: float
    cpu_ms: float


@dataclass(frozen=True, slots=True)
class Listed:
    """How the API did over an archive of many days.

    Attributes:
        ready_s: From the process's beginning to `/ready`.
        ready_cpu_s: Processor time meanwhile.
        fresh_mib: Resident memory then, and ``used_mib`` after all requests.
    """

    feeds: int
    days: int
    requests: int
    ready_s: float
    ready_cpu_s: float
    fresh_mib: float
    used_mib: float
    routes: list[Route]


def measure(feeds: int, days: int, segments: int, requests: int, folder: Path | None) -> Listed:
    """Measure every listing over an archive, made first where ``folder`` does not hold it yet."""
    with tempfile.TemporaryDirectory() as temporary:
        base = folder or Path(temporary) / "archive"
        last = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1)
        if not base.is_dir():
            make_archive(base, feeds=feeds, days=days, segments=segments, last=last)
        names = sorted(path.name for path in base.iterdir())
        dates = sorted(path.name for path in (base / names[0]).iterdir())
        with serving(base) as server:
            fresh_mib, ready_cpu_s = server.memory_mib(), cpu_seconds(server.process.pid)
            routes = []
            for route in _ROUTES:
                paths = [
                    route.format(feed=names[number % len(names)], date=dates[number * 37 % len(dates)])
                    for number in range(requests)
                ]
                first_s = _seconds(server, paths[0])
                before_s = cpu_seconds(server.process.pid)
                later_s = [_seconds(server, path) for path in paths]
                cpu_s = (cpu_seconds(server.process.pid) - before_s) / requests
                median_s, p99_s = statistics.median(later_s), _percentile(later_s, 99)
                routes.append(Route(route, *(1000 * seconds for seconds in (first_s, median_s, p99_s, cpu_s))))
            return Listed(
                feeds=len(names),
                days=len(dates),
                requests=requests,
                ready_s=server.started_s,
                ready_cpu_s=ready_cpu_s,
                fresh_mib=fresh_mib,
                used_mib=server.memory_mib(),
                routes=routes,
            )


def listed(found: Listed) -> str:
    """Return the table, and above it how the process began."""
    lines = [
        f"{found.feeds} feeds, {found.days} days each, {found.requests} requests a route after its first",
        f"ready {found.ready_s:.2f} s after the process began, {found.ready_cpu_s:.2f} s of it on a processor",
        f"memory {found.fresh_mib:.0f} MiB fresh, {found.used_mib:.0f} MiB after all of this",
        "",
        "| route | first ms | median ms | p99 ms | CPU ms a request |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| `{one.route}` | {one.first_ms:.1f} | {one.median_ms:.1f} | {one.p99_ms:.1f} | {one.cpu_ms:.1f} |"
        for one in found.routes
    ]
    return "\n".join(lines)


def _seconds(server: Server, path: str) -> float:
    return time_request(server.address, request_bytes(path, {}), status=200)


def _percentile(values: Sequence[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


def main() -> int:
    """Measure what the command line says, print it, and write the figures where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("parts", nargs="*", choices=[_NGINX, "archive", []], metavar="nginx|archive")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure there")
    against = parser.add_argument_group("nginx", "requests a second, beside nginx on the same bytes")
    against.add_argument("--seconds", type=float, default=5.0, help="of each run")
    against.add_argument("--rounds", type=int, default=3)
    over = parser.add_argument_group("archive", "latency of every listing over an archive of many days")
    over.add_argument("--feeds", type=int, default=3)
    over.add_argument("--days", type=int, default=400)
    over.add_argument("--segments", type=int, default=96)
    over.add_argument("--requests", type=int, default=200)
    over.add_argument(
        "--folder", type=Path, help="where the archive is, or is to be kept; a temporary one by default"
    )
    options = parser.parse_args()
    parts = options.parts or [_NGINX, "archive"]
    figures: dict[str, object] = {"machine": machine()}
    sys.stdout.write(machine_line() + "\n")
    if _NGINX in parts:
        served = compare(options.seconds, options.rounds)
        figures[_NGINX] = [asdict(one) for one in served]
        sys.stdout.write(f"\n{compared(served)}\n")
    if "archive" in parts:
        found = measure(options.feeds, options.days, options.segments, options.requests, options.folder)
        figures["archive"] = asdict(found)
        sys.stdout.write(f"\n{listed(found)}\n")
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
