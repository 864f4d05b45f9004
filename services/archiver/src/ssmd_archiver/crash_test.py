"""What was acknowledged or sealed survives a power cut: a disk that forgets everything not synced."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_archiver.archiver import Archiver
from ssmd_archiver.disk import Disk
from ssmd_archiver.testing import Stream, archive, boundaries, start, trades, verified
from ssmd_common import load
from ssmd_common.archive.layout import list_days


class PowerCutError(Exception):
    """The machine went off."""


class ForgetfulDisk(Disk):
    """Counts operations, goes off at one of them, and then forgets what was not synced.

    Bytes are durable up to the last sync of their file, names up to the last sync of their folder. What is not
    durable may still have reached the disk, in part: a seed decides.
    """

    def __init__(self, cut_at: int, seed: int) -> None:
        self.operations = 0
        self._cut_at = cut_at
        self._random = random.Random(seed)
        self._synced: dict[int, int] = {}
        self._undo: list[tuple[Path, Callable[[], object]]] = []

    def _step(self) -> None:
        self.operations += 1
        if self.operations == self._cut_at:
            raise PowerCutError

    def make_folder(self, folder: Path) -> None:
        self._step()
        super().make_folder(folder)

    def open_append(self, path: Path, *, new: bool) -> int:
        self._step()
        fd = super().open_append(path, new=new)
        inode = os.fstat(fd).st_ino
        if new:
            self._synced[inode] = 0
            self._undo.append((path.parent, lambda: path.unlink(missing_ok=True)))
        else:
            self._synced.setdefault(inode, os.fstat(fd).st_size)
        return fd

    def append(self, fd: int, data: bytes, path: Path) -> None:
        self._step()
        super().append(fd, data, path)

    def sync(self, fd: int, path: Path) -> None:
        self._step()
        super().sync(fd, path)
        self._synced[os.fstat(fd).st_ino] = os.fstat(fd).st_size

    def rename(self, source: Path, target: Path) -> None:
        self._step()
        super().rename(source, target)
        self._undo.append((target.parent, lambda: target.rename(source) if target.exists() else None))

    def replace(self, path: Path, data: bytes) -> None:
        self._step()
        super().replace(path, data)
        self._step()

    def sync_folder(self, folder: Path) -> None:
        self._step()
        super().sync_folder(folder)
        self._undo = [(where, undo) for where, undo in self._undo if where != folder]

    def forget(self, base: Path) -> None:
        """Leave the files as a power cut may leave them."""
        for _, undo in reversed(self._undo):
            if self._random.random() < 0.5:
                undo()
        for path in base.rglob("*"):
            synced = self._synced.get(path.stat().st_ino)
            if path.is_file() and synced is not None and path.stat().st_size > synced:
                os.truncate(path, self._random.randint(synced, path.stat().st_size))


async def _archive_until_cut(base: Path, stream: Stream, disk: ForgetfulDisk) -> int:
    """Archive until the disk goes off; return the highest sequence acknowledged."""
    acknowledged = 0
    archiver: Archiver | None = None
    try:
        archiver = start(base, disk=disk)
        await archiver.write_manifests(now=True)
        rest, expected = stream.deliver(archiver.next_seq - 1), 1
        while rest:
            expected, _ = await archiver.take_in(rest[:4], expected)
            rest = rest[4:]
            await archiver.commit()
            acknowledged = archiver.position.seq or 0
        await archiver.close(seal=True)
    except PowerCutError:
        pass
    if archiver is not None and archiver.position.seq is not None:
        acknowledged = max(acknowledged, archiver.position.seq)
    return acknowledged


def _sealed_bytes(base: Path) -> dict[Path, bytes]:
    """Return what counts as sealed: every data file that a manifest lists."""
    found = {}
    for day in list_days(base, "kalshi"):
        if day.manifest.exists():
            text = day.manifest.read_text()
            for stem in day.data_stems():
                if f'"{stem}.jsonl.gz"' in text:
                    found[day.sealed(stem).data] = day.sealed(stem).data.read_bytes()
    return found


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=5), st.integers(0, 2**32))
def test_a_power_cut_at_any_operation_loses_nothing_acknowledged(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], seed: int
) -> None:
    stream = trades(40)
    whole, cut = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("cut")

    async def run() -> None:
        await archive(whole, stream, seal=False)
        for number, cut_at in enumerate(cuts):
            disk = ForgetfulDisk(cut_at, seed + number)
            acknowledged = await _archive_until_cut(cut, stream, disk)
            sealed = _sealed_bytes(cut)
            disk.forget(cut)
            for path, data in sealed.items():
                assert path.read_bytes() == data, "a sealed file is never touched again"
            recovered = start(cut)
            assert recovered.next_seq - 1 >= acknowledged
            await recovered.close(seal=False)
        await archive(cut, stream, seal=False)

    asyncio.run(run())
    held = [record.data for record in load("kalshi", "2026-11-23", data=cut)]
    assert held == [record.data for record in load("kalshi", "2026-11-23", data=whole)]
    verified(cut)


async def test_the_disk_is_used_often_enough_for_the_cuts_to_fall_everywhere(tmp_path: Path) -> None:
    disk = ForgetfulDisk(0, 0)
    await _archive_until_cut(tmp_path, trades(40), disk)
    assert disk.operations > 60
    assert boundaries(tmp_path)
