"""Measures what the archiver holds in memory and stores, by how many tickers a feed has.

    python benchmarks/sizes.py --tickers 600 100000 --messages 300000

For each number of tickers a stream of a real nats-server is filled and archived as in `archiver.py`, the tickers in
turn: every block then names as many as it has lines, which is the most it can.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from bench import quiet
from bench.fill import FEED, fill
from bench.readers import Took, archiver
from ssmd_common.archive.layout import list_days
from ssmd_common.archive.reader import day_segments
from ssmd_common.nats.testing import NatsServer

SPARE_MESSAGES = 20_000


def measure(tickers: int, messages: int, folder: Path) -> Took:
    """Archive a stream of that many tickers; the archive is in ``folder / "archive"``."""
    server = NatsServer(folder / "nats")
    server.start()
    try:
        asyncio.run(fill(server.url, messages + SPARE_MESSAGES, tickers=tickers))
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            return pool.submit(archiver, server.url, messages, folder / "archive").result()
    finally:
        server.kill()


def row(tickers: int, took: Took, folder: Path) -> str:
    """Return a line of the table."""
    days = list_days(folder / "archive", FEED)
    segments = [segment for day in days for segment in day_segments(day)]
    records = sum(block.records for segment in segments for block in segment.index.blocks)
    blocks = sum(len(segment.index.blocks) for segment in segments)
    data, meta, index = (
        sum(getattr(day.sealed(stem), kind).stat().st_size for day in days for stem in day.sealed_stems())
        for kind in ("data", "meta", "index")
    )
    manifest = sum(day.manifest.stat().st_size for day in days)
    return (
        f"| {tickers:,} | {took.peak_bytes / 2**20:.0f} MiB | {data / records:.1f} | {meta / records:.1f} "
        f"| {index / records:.2f} | {index / blocks / 1024:.1f} KiB | {manifest / 2**20:.2f} MiB |\n"
    )


def main() -> int:
    """Print one row for each number of tickers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--tickers", type=int, nargs="+", default=[600, 100_000], metavar="N")
    parser.add_argument("--messages", type=int, default=300_000, metavar="N")
    options = parser.parse_args()
    quiet()
    sys.stdout.write(
        "| tickers | memory, most | data | meta | index, bytes a record | index a block | manifest |\n"
    )
    sys.stdout.write("|---|---|---|---|---|---|---|\n")
    for tickers in options.tickers:
        with tempfile.TemporaryDirectory(prefix="ssmd-sizes-") as folder:
            took = measure(tickers, options.messages, Path(folder))
            sys.stdout.write(row(tickers, took, Path(folder)))
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
