"""A replay to standard output: the exact bytes of the data frames, each followed by a newline, paced.

With an envelope each record is one JSON line with what is known of it, and what the capture tells of itself, events
and gaps, comes between them.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

import msgspec

from ssmd_common.archive.gaps import Gap
from ssmd_common.archive.index import Event
from ssmd_common.archive.reader import Record
from ssmd_common.errors import SsmdError
from ssmd_connector.replay_source import moment_ns

if TYPE_CHECKING:
    from collections.abc import Callable

    from ssmd_connector.replay_pace import Pace
    from ssmd_connector.replay_progress import ReplayProgress
    from ssmd_connector.replay_source import Item, Source

__all__ = ["replay_to_stdout"]

_SECOND_NS = 1_000_000_000
_CHUNK_BYTES = 1 << 16
_STDOUT = "standard output"


def replay_to_stdout(source: Source, pace: Pace, progress: ReplayProgress, *, envelope: bool) -> int:
    """Write it; a reader that has enough and closes the pipe ends it quietly.

    Raises:
        SsmdError: A file is missing or damaged, or what is written finds no room; what came before is written.
    """
    out = _Out()
    try:
        _write(source, pace, progress, out, envelope=envelope)
    except BrokenPipeError:
        out.abandon()
    return 0


class _Out:
    """Standard output; a failure of it is told as one, not taken for one of the archive."""

    def __init__(self) -> None:
        if sys.stdout is None:  # the process was started without one
            raise SsmdError("is closed", where=_STDOUT)
        self._buffer = sys.stdout.buffer

    def write(self, data: bytes) -> None:
        self._try(lambda: self._buffer.write(data))

    def flush(self) -> None:
        self._try(self._buffer.flush)

    def abandon(self) -> None:
        """Let go of what is still buffered: it has nowhere to go, and the interpreter would complain at its end."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._buffer.fileno())

    def _try(self, action: Callable[[], object]) -> None:
        try:
            action()
        except BrokenPipeError:
            raise
        except OSError as error:
            self.abandon()
            raise SsmdError(f"cannot be written: {error.strerror}", where=_STDOUT) from None


def _write(source: Source, pace: Pace, progress: ReplayProgress, out: _Out, *, envelope: bool) -> None:
    for _, items in source.groups():
        lines: list[bytes] = []
        size = records = latest_ns = 0
        for item in items:
            at_ns = moment_ns(item)
            latest_ns = latest_ns if at_ns is None else at_ns
            wait_ns = 0 if at_ns is None else pace.wait_ns(at_ns, time.monotonic_ns())
            if wait_ns or size >= _CHUNK_BYTES:
                out.write(b"".join(lines))
                lines, size = [], 0
            if wait_ns and at_ns is not None:
                out.flush()
                records = progress.move(records, at_ns)
                progress.pause(wait_ns, at_ns)
                time.sleep(wait_ns / _SECOND_NS)
            line = _enveloped(item) if envelope else item.data if isinstance(item, Record) else None
            if line is not None:
                lines.append(line + b"\n")
                size += len(line)
            if isinstance(item, Record):
                records += 1
        out.write(b"".join(lines))
        out.flush()
        progress.move(records, latest_ns)


def _enveloped(item: Item) -> bytes | None:
    """Return an item as one JSON line; None for what is neither a record, an event nor a gap."""
    fields: dict[str, Any]
    match item:
        case Record():
            fields = {
                "seq": item.seq,
                "stored_ns": item.stored_ns,
                "received_ns": item.received_ns,
                "type": item.type,
                "ticker": item.tickers if len(item.tickers) > 1 else item.ticker,
                "data": msgspec.Raw(item.data.replace(b"\n", b" ")),
            }
        case Event():
            fields = {
                "seq": item.seq,
                "stored_ns": item.stored_ns,
                "received_ns": item.received_ns,
                "event": msgspec.Raw(bytes(item.payload)),
            }
        case Gap():
            fields = {"gap": item}
        case _:
            return None
    return msgspec.json.encode(fields)
