"""What the archive costs, by counts: they hold on any machine, times do not."""

from __future__ import annotations

import gc
import os
import sys
from collections import Counter
from pathlib import Path

import pytest

from ssmd_archiver.archiver import BLOCK_BYTES, BLOCK_MESSAGES
from ssmd_archiver.disk import Disk
from ssmd_archiver.testing import DATE, SESSION, T0, Stream, archive, start
from ssmd_common import events
from ssmd_common.archive.index import Block
from ssmd_common.archive.layout import INDEX_SUFFIX, list_days
from ssmd_common.archive.reader import day_segments
from ssmd_common.archive.times import DAY_NS, SECOND_NS

_WRITES = ("write", "writev", "pwrite")
_SYNCS = ("fsync", "fdatasync")
_OTHERS = ("open", "stat", "rename", "replace")
FRAME = b'{"type":"trade","sid":1,"seq":1,"msg":"' + b"x" * 260 + b'"}'


class CountingDisk(Disk):
    """A disk that counts what is asked of it, by the kind of file."""

    def __init__(self) -> None:
        self.appends: Counter[str] = Counter()
        self.syncs: Counter[str] = Counter()

    @staticmethod
    def _kind(path: Path) -> str:
        return path.name.split(".", 1)[1]

    def append(self, fd: int, data: bytes, path: Path) -> None:
        self.appends[self._kind(path)] += 1
        super().append(fd, data, path)

    def sync(self, fd: int, path: Path) -> None:
        self.syncs[self._kind(path)] += 1
        super().sync(fd, path)


def _blocks(base: Path) -> list[Block]:
    return [block for day in list_days(base, "kalshi") for s in day_segments(day) for block in s.index.blocks]


def _stream(count: int, payload: bytes = FRAME) -> Stream:
    stream = Stream()
    for number in range(count):
        stream.trade(payload, at_ns=T0 + number)
    return stream


async def test_a_block_costs_one_write_and_one_sync_a_file(tmp_path: Path) -> None:
    disk = CountingDisk()
    await archive(tmp_path, _stream(10_000), batch=10_000, disk=disk)
    blocks = _blocks(tmp_path)
    assert len(blocks) == -(-10_000 * (len(FRAME) + 1) // BLOCK_BYTES) == 3
    assert sum(block.records for block in blocks) == 10_000
    once = {"jsonl.gz": 3, "meta.jsonl.gz": 3, "index.jsonl": 3 + 2}  # and the header, and the seal
    assert disk.appends == disk.syncs == once


async def test_blocks_do_not_depend_on_how_messages_arrive(tmp_path: Path) -> None:
    stream = _stream(5_000)
    for batch in (1, 333, 5_000):
        await archive(tmp_path / str(batch), stream, batch=batch)
    assert [len(_blocks(tmp_path / str(batch))) for batch in (1, 333, 5_000)] == [2, 2, 2]


async def test_small_messages_are_bounded_by_number(tmp_path: Path) -> None:
    await archive(tmp_path, _stream(BLOCK_MESSAGES + 1, b"{}"), batch=5_000)
    assert [block.records for block in _blocks(tmp_path)] == [BLOCK_MESSAGES, 1]


async def test_a_quiet_block_without_a_record_costs_one_sync(tmp_path: Path) -> None:
    stream = Stream()
    for number in range(5):
        stream.event(events.Heartbeat(session=SESSION, connection=0, at_ns=T0, connections=[]), at_ns=T0 + number)
    disk = CountingDisk()
    await archive(tmp_path, stream, batch=1, commit_every=1, seal=False, disk=disk)
    assert disk.syncs == {"index.jsonl": 1 + 5}
    assert (tmp_path / "kalshi" / DATE / "_open").is_dir()


async def test_a_block_costs_three_writes_and_three_syncs_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archiver = start(tmp_path, 3_600)
    messages = _stream(20_000).deliver(0)
    expected, _ = await archiver.take_in(messages[:1], 1)
    await archiver.commit()
    calls: Counter[str] = Counter()

    def counting(name: str) -> None:
        real = getattr(os, name)

        def count(*arguments: object) -> object:
            calls[name] += 1
            return real(*arguments)

        monkeypatch.setattr(os, name, count)

    for name in (*_WRITES, *_SYNCS, *_OTHERS):
        counting(name)
    await archiver.take_in(messages[1:], expected)
    await archiver.commit()
    monkeypatch.undo()
    blocks = len(_blocks(tmp_path)) - 1
    assert blocks >= 5
    written, synced = (sum(calls.pop(name, 0) for name in names) for names in (_WRITES, _SYNCS))
    assert (written, synced, dict(calls)) == (3 * blocks, 3 * blocks, {})
    await archiver.close(seal=True)


async def test_messages_that_are_durable_leave_nothing_in_memory(tmp_path: Path) -> None:
    archiver = start(tmp_path, 3_600)
    stream = _stream(60_000)
    kept = []
    for first in range(0, 60_000, 20_000):
        messages = stream.deliver(first)[:20_000]
        await archiver.take_in(messages, 1)
        await archiver.commit()
        assert archiver.position.seq == first + 20_000
        del messages
        gc.collect()
        kept.append(sys.getallocatedblocks())
    await archiver.close(seal=False)
    # 20,000 messages more cost what a few blocks' summaries do: far less than one object for every ten of them.
    assert kept[2] - kept[1] < 2_000


async def test_a_seal_reads_no_index_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    read_bytes = Path.read_bytes

    def noted(path: Path) -> bytes:
        read.append(path.name)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", noted)
    stream = Stream()
    for number in range(5):  # the last two in the day after
        stream.trade(FRAME, at_ns=T0 + number * 10 * SECOND_NS + (DAY_NS if number > 2 else 0))
    await archive(tmp_path, stream)
    assert [len(day.sealed_stems()) for day in list_days(tmp_path, "kalshi")] == [3, 2]
    assert [name for name in read if name.endswith(INDEX_SUFFIX)] == []
