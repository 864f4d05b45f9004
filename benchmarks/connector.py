"""Compares our connector with simpler ways from a WebSocket into a real nats-server's stream, in one run.

    python benchmarks/connector.py --frames 200000 --rounds 5

- *connector*: ours as it is deployed: routing, session, message ids, a window of acknowledgements, the spool;
- *connector on picows*, *on websockets*: the same with each frame taken from such a library's ``recv``;
- *publish_async*: a loop on the client's ``publish_async``, 4,000 messages under way; the baseline;
- *publish_async, websockets*: the same on the library most connectors are written with;
- *publish*: a loop that waits for each acknowledgement;
- *core publish*: the client's ``publish`` without any acknowledgement: fast, and lossy.

Each in a process of its own, in turn, round after round, over a new stream; medians are compared, so a busy machine
disturbs all alike. The frames come from another process, which only writes what was made before. It, the server and
the publisher share the machine's processors; the table says how much each of them took.

The second table is the latency from a frame's receipt to its acknowledgement, at fixed rates.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from bench.publishers import Places, Took, connector, loop_of, one_by_one, publish_async, without_acks
from bench.sockets import open_picows, open_websockets
from bench.source import Source, running_source
from ssmd_common.nats.testing import NatsServer

OURS = "connector"
BASELINE = "publish_async"
SLOW_SHARE = 20
"""The loop that waits for each acknowledgement sends so much less."""

RATES = (1_000, 5_000, 20_000)
LATENCY_S = 5
RUN_TIMEOUT_S = 320

WAYS: dict[str, Callable[..., Took]] = {
    OURS: connector,
    "connector on picows": partial(connector, socket=open_picows),
    "connector on websockets": partial(connector, socket=open_websockets),
    BASELINE: partial(loop_of, library="picows", publish=publish_async),
    "publish_async, websockets": partial(loop_of, library="websockets", publish=publish_async),
    "core publish": partial(loop_of, library="picows", publish=without_acks),
    "publish": partial(loop_of, library="picows", publish=one_by_one),
}
LATENCIES: dict[str, Callable[..., Took]] = {
    OURS: partial(connector, timed=True),
    BASELINE: WAYS[BASELINE],
}


def _measure(way: Callable[..., Took], server: NatsServer, source: Source, frames: int, rate: int) -> Took:
    """Run one of the ways in a fresh process."""
    context = multiprocessing.get_context("spawn")
    source.marks.clear()
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory(prefix="ssmd-bench-") as folder:
        places = Places(source.url(frames, rate), server.url, server.pid, source.pid, Path(folder))
        arguments = (theirs, way, places, source.marks.sending, source.marks.total)
        process = context.Process(target=_call, args=arguments, daemon=True)
        process.start()
        theirs.close()
        try:
            given_up_at = time.monotonic() + RUN_TIMEOUT_S
            while not ours.poll(1):
                if not source.process.is_alive() or time.monotonic() > given_up_at:
                    raise RuntimeError("a run took too long, or the source died")
            took: Took = ours.recv()
        except EOFError:
            raise RuntimeError("a run failed; its error stands above") from None
        finally:
            process.kill()
            process.join()
    return took


def _call(pipe: Any, way: Callable[..., Took], *arguments: Any) -> None:
    pipe.send(way(*arguments))


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def throughput(server: NatsServer, source: Source, frames: int, rounds: int) -> dict[str, list[Took]]:
    """Let every way take the frames as fast as it can, in each round."""
    took: dict[str, list[Took]] = {}
    for number in range(rounds):
        for name, way in WAYS.items():
            count = max(1_000, frames // SLOW_SHARE) if name == "publish" else frames
            one = _measure(way, server, source, count, 0)
            took.setdefault(name, []).append(one)
            _say(f"round {number + 1}: {name}: {one.frames / one.seconds:,.0f} frames/s")
    return took


def latency(server: NatsServer, source: Source, rounds: int) -> dict[str, dict[int, list[Took]]]:
    """Send at fixed rates, and note when each frame has its acknowledgement."""
    took: dict[str, dict[int, list[Took]]] = {name: {} for name in LATENCIES}
    for number in range(rounds):
        for rate in RATES:
            for name, way in LATENCIES.items():
                one = _measure(way, server, source, rate * LATENCY_S, rate)
                took[name].setdefault(rate, []).append(one)
                p50, p99 = quantiles_ms([one])
                _say(f"round {number + 1}: {name} at {rate:,}/s: p50 {p50:.2f} ms, p99 {p99:.2f} ms")
    return took


def quantiles_ms(runs: list[Took]) -> tuple[float, float]:
    """Return the medians over the runs of p50 and p99, in milliseconds."""
    cuts = [statistics.quantiles(one.latencies_ns, n=100) for one in runs]
    return statistics.median(cut[49] for cut in cuts) / 1e6, statistics.median(cut[98] for cut in cuts) / 1e6


def _rate(runs: list[Took]) -> float:
    return statistics.median(took.frames / took.seconds for took in runs)


def _cpu_us(runs: list[Took], part: Callable[[Took], float]) -> float:
    return statistics.median(part(took) / took.frames for took in runs) * 1e6


def report(took: dict[str, list[Took]], latencies: dict[str, dict[int, list[Took]]]) -> str:
    """Return the ratios, then the tables."""
    ours = _rate(took[OURS])
    lines = [f"connector : {name} = {ours / _rate(runs):.2f}" for name, runs in took.items() if name != OURS]
    lines += [
        "",
        "| way | frames/s | from, to | CPU µs a frame: publisher | server | source | frames a CPU second |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, runs in took.items():
        rates = sorted(one.frames / one.seconds for one in runs)
        own = _cpu_us(runs, lambda one: one.cpu_seconds)
        server, source = (
            _cpu_us(runs, lambda one: one.nats_cpu_seconds),
            _cpu_us(runs, lambda one: one.source_cpu_seconds),
        )
        lines.append(
            f"| {name} | {_rate(runs):,.0f} | {rates[0]:,.0f} to {rates[-1]:,.0f} | {own:.1f} | {server:.1f} "
            f"| {source:.1f} | {1e6 / own:,.0f} |"
        )
    if latencies:
        lines += ["", "| received → PubAck, ms | " + " | ".join(f"{rate:,}/s p50 | p99" for rate in RATES) + " |"]
        lines.append("|---" * (1 + 2 * len(RATES)) + "|")
    for name, by_rate in latencies.items():
        cells = (f"{value:.2f}" for rate in RATES for value in quantiles_ms(by_rate[rate]))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _figures(took: Took) -> dict[str, Any]:
    figures = asdict(took)
    latencies_ns = figures.pop("latencies_ns")
    if latencies_ns:
        figures["p50_ms"], figures["p99_ms"] = quantiles_ms([took])
    return figures


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
    parser.add_argument("--frames", type=_between(20_000, 2_000_000), default=200_000, metavar="N")
    parser.add_argument("--rounds", type=_between(1, 50), default=3, metavar="N")
    parser.add_argument("--no-latency", action="store_true", help="measure the frames a second alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every run's figures there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ssmd-bench-") as folder, running_source() as source:
        server = NatsServer(Path(folder) / "nats")
        server.start()
        try:
            took = throughput(server, source, options.frames, options.rounds)
            latencies = {} if options.no_latency else latency(server, source, options.rounds)
        finally:
            server.kill()
    sys.stdout.write(report(took, latencies))
    if options.json is not None:
        figures = {
            "frames": options.frames,
            "python": platform.python_version(),
            "cpus": os.cpu_count(),
            "ratios": {name: _rate(took[OURS]) / _rate(runs) for name, runs in took.items() if name != OURS},
            "runs": {name: [_figures(one) for one in runs] for name, runs in took.items()},
            "latencies": {
                name: {str(rate): [_figures(one) for one in runs] for rate, runs in by_rate.items()}
                for name, by_rate in latencies.items()
            },
        }
        options.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
