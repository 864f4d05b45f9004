"""Compares our archiver with simpler ones over the same stream of a real nats-server, in one run.

    python benchmarks/archiver.py --messages 200000 --rounds 3

- *archiver*: ours as it is deployed: data, meta, index, sha256, fsync before each acknowledgement;
- *fetch 1000*: a loop on the client's ``fetch(1000)`` that writes gzip lines and acknowledges, once a batch;
- *fetch 100*: the same on ``fetch(100)`` every 100 ms, so at most 1,000 messages a second;
- *bytes*: a socket that counts what the server sends.

Each in a process of its own, in turn, round after round; medians are compared, so a busy machine disturbs all
alike. The machine's processors are shared with the server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import quiet
from bench.fill import fill
from bench.readers import Took, archiver, count_bytes, fetch_loop
from ssmd_common.nats.testing import NatsServer

SPARE_MESSAGES = 20_000
SLOW_SHARE = 40
"""The loop of 1,000 messages a second reads so much less."""

BASELINE = "fetch 1000"
OURS = "archiver"


def _measure(function: Callable[..., Took], *arguments: Any) -> Took:
    """Run a reader in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def run(messages: int, rounds: int, folder: Path) -> dict[str, list[Took]]:
    """Fill a stream and let every reader read it in each round."""
    server = NatsServer(folder / "nats")
    server.start()
    try:
        size = asyncio.run(fill(server.url, messages + SPARE_MESSAGES))
        _say(f"filled: {messages + SPARE_MESSAGES} messages, {size / (messages + SPARE_MESSAGES):.0f} bytes each")
        took: dict[str, list[Took]] = {}
        for number in range(rounds):
            place = folder / str(number)
            readers: list[tuple[str, Callable[..., Took], tuple[Any, ...]]] = [
                (OURS, archiver, (messages, place / "ours")),
                (BASELINE, fetch_loop, (messages, place / "1000", 1000, 0.0)),
                ("bytes", count_bytes, (messages,)),
                ("fetch 100", fetch_loop, (max(100, messages // SLOW_SHARE), place / "100", 100, 0.1)),
            ]
            for name, function, arguments in readers:
                one = _measure(function, server.url, *arguments)
                took.setdefault(name, []).append(one)
                _say(f"round {number + 1}: {name}: {one.messages / one.seconds:,.0f} messages/s")
        return took
    finally:
        server.kill()


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def _rate(runs: list[Took]) -> float:
    return statistics.median(took.messages / took.seconds for took in runs)


def report(took: dict[str, list[Took]]) -> str:
    """Return the ratios, then the table."""
    ours = _rate(took[OURS])
    lines = [f"archiver : {name} = {ours / _rate(runs):.2f}" for name, runs in took.items() if name != OURS]
    lines += [
        "",
        "| reader | messages/s | CPU µs a message | bytes a message | blocks | fsyncs |",
        "|---|---|---|---|---|---|",
    ]
    for name, runs in took.items():
        cpu_us = statistics.median(one.cpu_seconds / one.messages for one in runs) * 1e6
        stored = statistics.median(one.stored_bytes / one.messages for one in runs)
        lines.append(
            f"| {name} | {_rate(runs):,.0f} | {cpu_us:.1f} | {stored:.0f} | {runs[-1].blocks} | {runs[-1].syncs} |"
        )
    return "\n".join(lines) + "\n"


def _between(lowest: int, highest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number = int(text)
        if not lowest <= number <= highest:
            raise argparse.ArgumentTypeError(f"use {lowest} to {highest}")
        return number

    return parse


def main() -> int:
    """Run, print, and write the figures where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--messages", type=_between(10_000, 5_000_000), default=200_000, metavar="N")
    parser.add_argument("--rounds", type=_between(1, 50), default=3, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every run's figures there")
    options = parser.parse_args()
    quiet()
    with tempfile.TemporaryDirectory(prefix="ssmd-bench-") as folder:
        took = run(options.messages, options.rounds, Path(folder))
    sys.stdout.write(report(took))
    if options.json is not None:
        figures = {
            "messages": options.messages,
            "python": platform.python_version(),
            "cpus": os.cpu_count(),
            "ratios": {name: _rate(took[OURS]) / _rate(runs) for name, runs in took.items() if name != OURS},
            "runs": {name: [asdict(one) for one in runs] for name, runs in took.items()},
        }
        options.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
