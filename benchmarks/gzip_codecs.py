"""Compares what the archiver can compress with: size and processor time on blocks as it writes them.

    python benchmarks/gzip_codecs.py --blocks 16 --rounds 5

`docs/adr/0002-codec.md` holds its table. The codec `zlib-ng` joins where that package is installed.
"""

from __future__ import annotations

import argparse
import gzip
import importlib
import importlib.util
import itertools
import statistics
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from isal import igzip

from bench.frames import block_of, captured_frames, simulated_frames

BLOCK_BYTES = 1 << 20
GZIP_FORMAT = 31

Compress = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Result:
    """One codec on one sample: raw bytes to stored bytes, and MB a second of processor time."""

    ratio: float
    compress_mb_s: float
    decompress_mb_s: float


def candidates() -> dict[str, Compress]:
    """Return what is compared, by its name."""
    found: dict[str, Compress] = {}
    for level in range(4):
        found[f"igzip {level}"] = partial(igzip.compress, compresslevel=level, mtime=0)
    for level in (1, 3, 6, 9):
        found[f"zlib {level}"] = partial(zlib.compress, level=level, wbits=GZIP_FORMAT)
    if importlib.util.find_spec("zlib_ng"):
        ng = importlib.import_module("zlib_ng.zlib_ng")
        for level in (1, 2, 3, 6, 9):
            found[f"zlib-ng {level}"] = partial(ng.compress, level=level, wbits=GZIP_FORMAT)
    return found


def measure(compress: Compress, blocks: list[bytes], rounds: int) -> Result:
    """Compress every block ``rounds`` times; the medians count."""
    raw = sum(len(block) for block in blocks)
    compressing, decompressing = [], []
    members: list[bytes] = []
    for _ in range(rounds):
        started = time.thread_time()
        members = [compress(block) for block in blocks]
        between = time.thread_time()
        restored = [gzip.decompress(member) for member in members]
        decompressing.append(time.thread_time() - between)
        compressing.append(between - started)
        if restored != blocks:
            raise RuntimeError("what was compressed did not come back")
    stored = sum(len(member) for member in members)
    return Result(raw / stored, *(raw / 1e6 / statistics.median(times) for times in (compressing, decompressing)))


def main() -> int:
    """Print one table a sample."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--blocks", type=int, default=16, choices=range(1, 257), metavar="N")
    parser.add_argument("--rounds", type=int, default=5, choices=range(1, 100), metavar="N")
    options = parser.parse_args()
    samples = {"simulator": simulated_frames()} | {
        name: itertools.cycle(frames) for name, frames in captured_frames().items()
    }
    for name, frames in samples.items():
        blocks = [block_of(frames, BLOCK_BYTES) for _ in range(options.blocks)]
        lines = sum(block.count(b"\n") for block in blocks)
        frame_bytes = sum(len(block) for block in blocks) / lines
        sys.stdout.write(f"\n{name}: {len(blocks)} blocks of 1 MiB, {frame_bytes:.0f} bytes a line\n\n")
        sys.stdout.write("| codec, level | raw : stored | bytes a line | compress MB/s | decompress MB/s |\n")
        sys.stdout.write("|---|---|---|---|---|\n")
        for codec, compress in candidates().items():
            result = measure(compress, blocks, options.rounds)
            sys.stdout.write(
                f"| {codec} | {result.ratio:.2f} | {frame_bytes / result.ratio:.1f} "
                f"| {result.compress_mb_s:.0f} | {result.decompress_mb_s:.0f} |\n"
            )
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
