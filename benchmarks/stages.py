"""Tells where the archiver's processor time goes: each stage of a message's way by itself, on the same messages.

    python benchmarks/stages.py --rounds 15

No server, no disk, one thread: bytes as a server sends them, through the functions the archiver calls. A stage's
figure is its best round, so a busy machine disturbs it least. In the archiver the stages share caches, processors
and the interpreter's lock, so together they take longer than this.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.fill import SUBJECTS, commands
from bench.machine import machine, machine_line
from ssmd_archiver.archiver import BLOCK_BYTES
from ssmd_archiver.blocks import BlockBuilder, PendingBlock
from ssmd_archiver.compression import DEFAULT
from ssmd_archiver.proof import FrameLedger
from ssmd_archiver.records import SubjectReader
from ssmd_archiver.runs import RUN_MESSAGES, Room, Run, read_run
from ssmd_common.nats.client import NatsClient, RawMessage

MESSAGES = 16_384
TICKERS = 600
_READ_BYTES = 1 << 18
_START_NS = 1_795_000_000_000_000_000


def delivered(count: int) -> bytes:
    """Return so many messages as a server delivers them to subscription 1."""
    parts = []
    for number, command in enumerate(itertools.islice(commands(count, "in", TICKERS, None), count), 1):
        line, _, rest = command.partition(b"\r\n")
        _, subject, _, headers_size, total = line.split(b" ")
        reply = b"$JS.ACK.BENCH.bench.1.%d.%d.%d.%d" % (number, number, _START_NS + number * 7_919, count - number)
        parts.append(b"HMSG %b 1 %b %b %b\r\n%b" % (subject, reply, headers_size, total, rest))
    return b"".join(parts)


class Stages:
    """The stages, each on what the one before it left."""

    def __init__(self) -> None:
        data = delivered(MESSAGES)
        self._reads = [data[start : start + _READ_BYTES] for start in range(0, len(data), _READ_BYTES)]
        self._messages: list[RawMessage] = []
        self._runs: list[Run] = []
        self._blocks: list[PendingBlock] = []

    def cut(self) -> None:
        """Cut messages out of what the socket gave."""
        self._messages.clear()
        client = NatsClient()
        client._raw[1] = self._messages.extend  # noqa: SLF001 - as its subscribe_raw does, without a server

        async def parse() -> None:
            for part in self._reads:
                await client._ps.parse(part)  # noqa: SLF001 - as its read loop does

        asyncio.run(parse())

    def read(self) -> None:
        """Read what they are: subjects, sequences, headers, JSON."""
        self._runs.clear()
        reader, place = SubjectReader(SUBJECTS, SUBJECTS.data_filter), 0
        while place < MESSAGES:
            batch, room = self._messages[place : place + RUN_MESSAGES], Room(MESSAGES, BLOCK_BYTES * MESSAGES)
            run, count = read_run(batch, reader, next_seq=place + 1, consumer_seq=place + 1, room=room)
            if run is None:
                raise RuntimeError(f"message {place + 1} is not plain")
            self._runs.append(run)
            place += count

    def prove(self) -> None:
        """Follow the frames' numbers."""
        ledger = FrameLedger()
        for connection in self._runs[0].frames:
            ledger.locate(f"{connection}.1")  # the archiver knows a connection by its first message
        for run in self._runs:
            if not ledger.follows(run.frames):
                raise RuntimeError("frames do not follow each other")
            ledger.add_frames(run)

    def gather(self) -> None:
        """Gather blocks: lines and columns."""
        self._blocks.clear()
        builder = BlockBuilder(None)
        for run in self._runs:
            builder.add_run(run, {})
            if builder.raw_bytes >= BLOCK_BYTES:
                self._blocks.append(builder.take())
                builder = BlockBuilder(None)
        self._blocks.append(builder.take())

    def compress(self) -> None:
        """Compress lines and columns."""
        for block in self._blocks:
            DEFAULT(block.data)
            DEFAULT(block.meta)

    def digest(self) -> None:
        """Hash lines, as a seal does."""
        digest = hashlib.sha256()
        for block in self._blocks:
            digest.update(block.data)


def measure(rounds: int) -> dict[str, float]:
    """Return the ns a message of each stage's best round."""
    stages = Stages()
    steps: dict[str, Callable[[], None]] = {
        "cut messages out of reads": stages.cut,
        "read subjects, numbers, headers, JSON": stages.read,
        "follow frame numbers": stages.prove,
        "gather lines and columns": stages.gather,
        "compress": stages.compress,
        "sha256": stages.digest,
    }
    found = {}
    for name, step in steps.items():
        best = float("inf")
        for _ in range(rounds):
            started = time.perf_counter()
            step()
            best = min(best, time.perf_counter() - started)
        found[name] = best / MESSAGES * 1e9
    return found


def main() -> int:
    """Print the table; write the figures where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=15, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    options = parser.parse_args()
    where, line = machine(), machine_line()
    found = measure(options.rounds)
    rows = [f"| {name} | {ns:,.0f} |" for name, ns in [*found.items(), ("**together**", sum(found.values()))]]
    sys.stdout.write("\n".join([line, "", "| stage | ns a message |", "|---|---|", *rows]) + "\n")
    if options.json is not None:
        options.json.write_text(json.dumps({"machine": where, "ns": found}, indent=2) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
