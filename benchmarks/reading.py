"""Measures what reads an archive, in MB of lines a second, beside `zcat` and `sha256sum` over the same files.

    PYTHONPATH=tests python benchmarks/reading.py --messages 1000000 --rounds 3

- *verify*, *rebuild*: `ssmd-archiver`, whole processes, start and end included;
- *records*: the manifest API's `/records` over a socket: everything, with envelopes, and of one ticker, which still
  reads every block;
- *load*: `ssmd_common.load`, every record as an object;
- *zcat, wc -l*, *sha256sum*: what plain tools take for the same files.

In turn, round after round, once with one processor for everything and once with all of them; medians are compared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import quiet
from bench.fill import FEED, fill
from bench.machine import machine, machine_line
from bench.readers import archiver
from bench.serving import download, serving
from ssmd_common.archive.layout import list_days
from ssmd_common.archive.manifest import parse_manifest
from ssmd_common.nats.testing import NatsServer

SPARE_MESSAGES = 20_000
MEGABYTE = 1e6
_ARCHIVER = "from ssmd_archiver.cli import main; main()"
_LOAD = """
import sys, ssmd_common
from pathlib import Path
from ssmd_common.archive.layout import list_days
base, feed = Path(sys.argv[1]), sys.argv[2]
print(sum(1 for day in list_days(base, feed) for _ in ssmd_common.load(feed, day.date, data=base)))
"""
PLAIN = "zcat, wc -l"


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement.

    Attributes:
        cpus: How many processors it might use.
        megabytes: Bytes of the archive's lines, whatever of them came back.
    """

    name: str
    cpus: int
    seconds: float
    megabytes: float


@dataclass(frozen=True, slots=True)
class Archive:
    """What is read."""

    base: Path
    records: int
    megabytes: float
    files: list[str]
    ticker: str


def _fill_and_archive(base: Path, messages: int, folder: Path) -> None:
    server = NatsServer(folder / "nats")
    server.start()
    try:
        asyncio.run(fill(server.url, messages + SPARE_MESSAGES))
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            pool.submit(archiver, server.url, messages, base, "1s").result()
    finally:
        server.kill()


def _look(base: Path) -> Archive:
    entries, files, tickers = [], [], []
    for day in list_days(base, FEED):
        manifest = parse_manifest(day.manifest.read_bytes(), where=str(day.manifest))
        entries += manifest.files
        tickers += manifest.tickers
        files += [str(day.folder / entry.name) for entry in manifest.files]
    return Archive(
        base,
        records=sum(entry.records for entry in entries),
        megabytes=sum(entry.bytes for entry in entries) / MEGABYTE,
        files=files,
        ticker=tickers[0],
    )


def _program(archive: Archive, command: list[str], expected: str) -> Callable[[], float]:
    def run() -> float:
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - our own programs
        if expected not in done.stdout:
            raise RuntimeError(f"{shlex.join(command)[:200]} printed:\n{done.stdout[-1000:]}")
        return archive.megabytes

    return run


def _shell(archive: Archive, text: str, expected: str) -> Callable[[], float]:
    return _program(archive, ["sh", "-c", text, "sh", *archive.files], expected)


def _records(archive: Archive, address: tuple[str, int], query: str) -> Callable[[], float]:
    def run() -> float:
        size = download(address, f"/records/{FEED}{query}")
        if not query and size != round(archive.megabytes * MEGABYTE):
            raise RuntimeError(f"/records answered {size} bytes")
        return archive.megabytes

    return run


def measure(archive: Archive, cpus: set[int], rounds: int) -> list[Run]:
    """Let every reader read the archive, round after round, on these processors."""
    os.sched_setaffinity(0, cpus)  # what is started inherits it
    python, base = sys.executable, str(archive.base)
    runs: list[Run] = []
    with serving(archive.base) as server:
        readers: list[tuple[str, Callable[[], float]]] = [
            (PLAIN, _shell(archive, 'zcat "$@" | wc -l', str(archive.records))),
            ("sha256sum of the files", _shell(archive, 'sha256sum "$@"', archive.files[0])),
            ("zcat, sha256sum", _shell(archive, 'zcat "$@" | sha256sum', "-")),
            ("verify", _program(archive, [python, "-c", _ARCHIVER, "verify", "--data", base], "verified")),
            ("rebuild", _program(archive, [python, "-c", _ARCHIVER, "rebuild", "--data", base], "written")),
            ("load", _program(archive, [python, "-c", _LOAD, base, FEED], str(archive.records))),
            ("records", _records(archive, server.address, "")),
            ("records with envelope", _records(archive, server.address, "?envelope=true")),
            ("records of one ticker", _records(archive, server.address, f"?ticker={archive.ticker}")),
        ]
        for number in range(rounds):
            for name, read in readers:
                started = time.perf_counter()
                megabytes = read()
                runs.append(Run(name, len(cpus), time.perf_counter() - started, megabytes))
                sys.stderr.write(f"{len(cpus)} processors, round {number + 1}: {runs[-1]}\n")
    return runs


def report(runs: list[Run], archive: Archive) -> str:
    """Return the table: speed on one processor and on all, each beside the plain tool's."""
    cpus = sorted({run.cpus for run in runs})
    head = "".join(f" MB/s on {count} | of *{PLAIN}* |" for count in cpus)
    lines = [
        f"{archive.records:,} records, {archive.megabytes:,.0f} MB of lines, {len(archive.files)} segments",
        "",
        f"| reader |{head}",
        "|---|" + "---|---|" * len(cpus),
    ]

    def speed(name: str, count: int) -> float:
        return statistics.median(r.megabytes / r.seconds for r in runs if (r.name, r.cpus) == (name, count))

    for name in dict.fromkeys(run.name for run in runs):
        cells = "".join(f" {speed(name, n):,.0f} | {speed(name, n) / speed(PLAIN, n):.2f} |" for n in cpus)
        lines.append(f"| {name} |{cells}")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Print the table; write the figures where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--messages", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--folder", type=Path, help="where the archive is, or is to be kept; a temporary one else")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every run's figures there")
    options = parser.parse_args()
    quiet()
    where, line = machine(), machine_line()
    with tempfile.TemporaryDirectory(prefix="ssmd-bench-") as name:
        base = options.folder or Path(name, "archive")
        if not base.is_dir():
            _fill_and_archive(base, options.messages, Path(name))
        archive = _look(base)
        every = os.sched_getaffinity(0)
        runs = [run for cpus in ({min(every)}, every) for run in measure(archive, cpus, options.rounds)]
    sys.stdout.write(f"{line}; {report(runs, archive)}")
    if options.json is not None:
        figures = {"machine": where, "runs": [asdict(run) for run in runs]}
        options.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
