"""Frames to measure with: the simulator's market, and recorded ones where ``SSMD_CAPTURES`` names them."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path

from ssmd_simulator.directory import Directory
from ssmd_simulator.market import Channel, Exchange
from ssmd_simulator.protocol import Session

__all__ = ["block_of", "captured_frames", "frames_of", "simulated_frames"]

START_NS = 1_795_000_000_000_000_000
STEP_NS = 250_000
DEFLATE_WINDOW = 32 << 10


def simulated_frames(markets: int = 600, seed: int = 1) -> Iterator[bytes]:
    """Iterate over the frames a client of the simulator is sent, without end: some 290 bytes each."""
    exchange = Exchange(seed, Directory(markets))
    session = Session(exchange)
    tickers = [market.listing.ticker for market in exchange.markets]
    command = {"id": 1, "cmd": "subscribe", "params": {"channels": list(Channel), "market_tickers": tickers}}
    session.handle(json.dumps(command).encode(), START_NS)
    for now_ns in itertools.count(START_NS, STEP_NS):
        yield from session.next_frames(1, now_ns)


def captured_frames() -> dict[str, list[bytes]]:
    """Return the recorded frames by the name of their file; none without ``SSMD_CAPTURES``.

    Only files well above deflate's window of 32 KiB: repeated to fill a block, they stay as hard as they are.
    """
    folder = os.environ.get("SSMD_CAPTURES", "")
    paths = sorted(Path(folder).glob("*.jsonl")) if folder else []
    return {
        path.stem: path.read_bytes().splitlines()
        for path in paths
        if path.stat().st_size > 2 * DEFLATE_WINDOW and not path.stem.endswith(".recv")
    }


def frames_of(size: int, frames: list[bytes]) -> list[bytes]:
    """Return frames of exactly ``size`` bytes, 64 at least, with the text of ``frames``, so as hard to compress."""
    text = b"".join(frames).replace(b'"', b"'")
    head, tail = b'{"type":"trade","msg":"', b'"}'
    step = size - len(head) - len(tail)
    text *= -(-step // len(text))
    return [head + text[at : at + step] + tail for at in range(0, len(text) - step + 1, step)]


def block_of(frames: Iterator[bytes], size: int) -> bytes:
    """Return the next frames as lines, up to the first that reaches ``size`` bytes."""
    lines: list[bytes] = []
    total = 0
    while total < size:
        line = next(frames) + b"\n"
        lines.append(line)
        total += len(line)
    return b"".join(lines)
