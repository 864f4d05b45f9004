"""Measures how the cost of a message and the memory grow with the work: tickers, sizes, days, markets, a backlog.

    PYTHONPATH=tests python benchmarks/growth.py --plot docs/growth.png

Each row is a process of its own over a real nats-server, or over files. The cost is processor time, which a busy
machine disturbs least. What is asked: does anything grow faster than its work?
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import quiet
from bench.fill import FEED, fill
from bench.machine import machine, machine_line, peak_bytes
from bench.publishers import Places, connector
from bench.readers import archiver
from bench.source import running_source
from integration.api_archive import make_archive
from ssmd_archiver.catalog import Catalog
from ssmd_archiver.disk import Disk
from ssmd_archiver.recovery import recover
from ssmd_common.nats.testing import NatsServer

SPARE_MESSAGES = 20_000
TICKERS = (100, 1_000, 10_000, 100_000)
SIZES = (100, 300, 1_024, 8_192, 65_536)
SIZES_BYTES = 400 << 20
DAYS = (1, 10, 100, 1_000)
SEGMENTS_A_DAY = 24
MARKETS = (10, 100, 1_000, 5_000)
BACKLOGS = (50_000, 200_000, 1_000_000, 7_200_000)
"""The last is an hour's outage at 2,000 frames a second."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement.

    Attributes:
        of: What grows.
        at: How far.
        unit: What ``cost_us`` is the cost of.
        cost_us: Processor time each.
        peak_bytes: Most memory the process ever held.
    """

    of: str
    at: int
    unit: str
    cost_us: float
    peak_bytes: int


def _apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a function in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _archived(of: str, at: int, messages: int, **filled: int) -> Row:
    """Archive a stream filled as told; spare messages beyond let the last block be full."""
    spare = min(SPARE_MESSAGES, messages)
    with tempfile.TemporaryDirectory(prefix="ssmd-bench-") as name:
        server = NatsServer(Path(name, "nats"))
        server.start()
        try:
            asyncio.run(fill(server.url, messages + spare, **filled))
            took = _apart(archiver, server.url, messages, Path(name, "archive"))
        finally:
            server.kill()
    return Row(of, at, "message", took.cpu_seconds / took.messages * 1e6, took.peak_bytes)


def by_tickers(count: int) -> Row:
    """Archive a feed of so many tickers, each block naming as many as it can."""
    return _archived("tickers", count, 200_000, tickers=count)


def by_size(size: int) -> Row:
    """Archive frames of that size."""
    return _archived("bytes a frame", size, max(2_000, min(200_000, SIZES_BYTES // size)), frame_bytes=size)


def by_backlog(messages: int) -> Row:
    """Catch up with what the stream gathered while the archiver was away."""
    return _archived("backlog", messages, messages)


def _start(base: Path) -> tuple[float, int]:
    """Do what the archiver does at its start; return the processor time and the most memory."""
    quiet()
    begun = time.process_time()
    recover(base, FEED, Disk())
    Catalog(base, FEED, Disk()).check_all()
    return time.process_time() - begun, peak_bytes()


def by_days(days: int) -> Row:
    """Start the archiver over an archive of so many days."""
    with tempfile.TemporaryDirectory(prefix="ssmd-bench-") as name:
        make_archive(Path(name), feeds=1, days=days, segments=SEGMENTS_A_DAY, last=dt.date(2026, 11, 23))
        seconds, peak = _apart(_start, Path(name))
    return Row("days, at a start", days, "segment", seconds / days / SEGMENTS_A_DAY * 1e6, peak)


def by_markets(count: int) -> Row:
    """Let the connector take frames of so many markets off one socket."""
    with running_source(count) as source, tempfile.TemporaryDirectory(prefix="ssmd-bench-") as name:
        server = NatsServer(Path(name, "nats"))
        server.start()
        try:
            url = source.url(100_000)
            places = Places(url, server.url, server.pid, source.pid, Path(name), count)
            took = _beside(places, source.marks.sending, source.marks.total)
        finally:
            server.kill()
    return Row("markets, connector", count, "frame", took.cpu_seconds / took.frames * 1e6, took.peak_bytes)


def _beside(places: Places, sending: Any, total: Any) -> Any:
    """Run the connector in a fresh process that shares the source's marks."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_connector, args=(theirs, places, sending, total), daemon=True)
    process.start()
    theirs.close()
    try:
        return ours.recv()
    finally:
        process.kill()
        process.join()


def _connector(pipe: Any, *arguments: Any) -> None:
    pipe.send(connector(*arguments))


PARTS: dict[str, tuple[Callable[[int], Row], tuple[int, ...]]] = {
    "tickers": (by_tickers, TICKERS),
    "size": (by_size, SIZES),
    "days": (by_days, DAYS),
    "markets": (by_markets, MARKETS),
    "backlog": (by_backlog, BACKLOGS),
}


def report(rows: list[Row]) -> str:
    """Return the table; the last column holds each cost to that of its first row."""
    lines = ["| what grows | | CPU µs | each | memory, most | to the first |", "|---|---|---|---|---|---|"]
    first = {row.of: row.cost_us for row in reversed(rows)}
    lines += [
        f"| {row.of} | {row.at:,} | {row.cost_us:.1f} | {row.unit} | {row.peak_bytes / 2**20:.0f} MiB "
        f"| {row.cost_us / first[row.of]:.2f} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def plot(rows: list[Row], path: Path) -> None:
    """Draw cost and memory over what grows, both axes logarithmic."""
    import matplotlib as mpl  # noqa: PLC0415 - only who wants the picture needs it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after its backend is chosen

    figure, (costs, memory) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for of in dict.fromkeys(row.of for row in rows):
        own = [row for row in rows if row.of == of]
        label = f"{of} (µs a {own[0].unit})"
        costs.loglog([row.at for row in own], [row.cost_us for row in own], marker="o", label=label)
        memory.loglog([row.at for row in own], [row.peak_bytes / 2**20 for row in own], marker="o")
    costs.set(title="processor time each", ylabel="µs")
    memory.set(title="memory, most", ylabel="MiB")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=110)


def main() -> int:
    """Print the table; write the picture and the figures where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), metavar="PART")
    parser.add_argument("--most", type=int, metavar="N", help="leave out what grows further than that")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also draw the table there, as PNG")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    options = parser.parse_args()
    quiet()
    where, line = machine(), machine_line()
    rows = []
    for part in options.parts:
        measure, points = PARTS[part]
        for point in points if options.most is None else [point for point in points if point <= options.most]:
            rows.append(measure(point))
            sys.stderr.write(f"{rows[-1]}\n")
    sys.stdout.write(f"{line}\n\n{report(rows)}")
    if options.plot is not None:
        plot(rows, options.plot)
    if options.json is not None:
        figures = {"machine": where, "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
