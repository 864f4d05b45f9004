"""Finds the highest rate the whole pipeline holds on this machine, from exchange to archive, and holds it.

    python benchmarks/pipeline.py --seconds 300

Rates are tried one after the other, upwards, for ten seconds each; the highest that was held is then held for
``--seconds``, or the next lower one, until one lasts. A rate is held if every frame is in the archive, no gap is
recorded, verification finds nothing, and never more than two seconds' frames were due and not durable. All four
processes share the machine's processors; the exchange only writes what was made before.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import asdict
from pathlib import Path

from bench.machine import machine, machine_line
from bench.source import running_source
from bench.whole import Held, hold

RATES = (2_000, 5_000, 10_000, 15_000, 20_000, 25_000, 30_000, 40_000, 50_000, 60_000)
TRIAL_S = 10


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def _told(held: Held) -> str:
    return (
        f"{held.rate:,}/s for {held.seconds:g} s: {'held' if held.is_held else 'not held'}; "
        f"{held.archived:,} of {held.frames:,} archived, {held.gaps} gaps, {held.findings} findings, "
        f"lag at most {max(held.lags, default=0) / held.rate:.2f} s, {held.late_s:.2f} s late at the end"
    )


def run(rates: list[int], seconds: int, trial_s: int) -> list[Held]:
    """Try the rates upwards, then hold the highest; return all that was tried, the one held last."""
    tried: list[Held] = []
    with running_source() as source:
        for rate in rates:
            tried.append(hold(source, rate, trial_s))
            _say(_told(tried[-1]))
            if not tried[-1].is_held:
                break
        for rate in sorted((one.rate for one in tried if one.is_held), reverse=True):
            tried.append(hold(source, rate, seconds))
            _say(_told(tried[-1]))
            if tried[-1].is_held:
                break
    return tried


def report(tried: list[Held]) -> str:
    """Return the tables: what was tried, and what each process used at the last rate."""
    held = tried[-1]
    lines = [
        "| frames/s | s | held | archived | gaps | lag, s: median | most | to durable, ms: p50 | p99 | most |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in tried:
        p50, p99, most = one.latencies_ms
        held_it = "yes" if one.is_held else "no"
        lines.append(
            f"| {one.rate:,} | {one.seconds:g} | {held_it} | {one.archived:,} of {one.frames:,} "
            f"| {one.gaps} | {statistics.median(one.lags) / one.rate:.2f} | {max(one.lags) / one.rate:.2f} "
            f"| {p50:.0f} | {p99:.0f} | {most:.0f} |"
        )
    lines += ["", f"| process at {held.rate:,}/s | processors | µs a frame | memory, most |", "|---|---|---|---|"]
    for name, usage in held.usage.items():
        each_us, most_mib = usage.cores / held.rate * 1e6, usage.peak_bytes / 2**20
        lines.append(f"| {name} | {usage.cores:.2f} | {each_us:.1f} | {most_mib:.0f} MiB |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run, print, and write the figures where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seconds", type=int, default=60, metavar="N", help="how long the highest rate is held")
    parser.add_argument("--trial", type=int, default=TRIAL_S, metavar="N", help="how long each rate is tried")
    parser.add_argument("--rates", type=int, nargs="+", default=list(RATES), metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every run's figures there")
    options = parser.parse_args()
    where, line = machine(), machine_line()
    tried = run(options.rates, options.seconds, options.trial)
    sys.stdout.write(f"{line}\n\n{report(tried)}")
    if options.json is not None:
        figures = {"machine": where, "tried": [{**asdict(one), "held": one.is_held} for one in tried]}
        options.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    return 0 if tried[-1].is_held else 1


if __name__ == "__main__":
    raise SystemExit(main())
