"""An archiver that kills itself at a named point: the process the kill harness starts.

``python -m integration.killed_archiver CONFIG POINT COUNT`` runs the archiver, which sends itself SIGKILL when it
passes ``POINT`` for the ``COUNT``-th time. A point is ``before`` or ``after`` an operation on a kind of file
(``after:append:data``), or ``before:ack`` and ``after:ack``.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from ssmd_archiver import consumer
from ssmd_archiver.disk import Disk
from ssmd_archiver.run import run_archiver
from ssmd_common.archive.layout import DATA_SUFFIX, INDEX_SUFFIX, MANIFEST_NAME, META_SUFFIX
from ssmd_common.config.loading import load_archiver
from ssmd_common.service import lifecycle, logs

__all__ = ["POINTS"]

_FILES = ("data", "meta", "index")
POINTS = [
    f"{moment}:{operation}"
    for moment in ("before", "after")
    for operation in (
        *(f"{name}:{kind}" for name in ("open", "append", "sync", "rename") for kind in _FILES),
        "folder",
        "sync_folder",
        "manifest",
        "ack",
    )
]
"""Every boundary at which the archiver can be killed by name."""


class _Bomb:
    def __init__(self, point: str, count: int) -> None:
        self._point = point
        self._left = count

    def passes(self, point: str) -> None:
        if point == self._point:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def _kind(path: Path) -> str:
    for suffix, kind in ((META_SUFFIX, "meta"), (INDEX_SUFFIX, "index"), (DATA_SUFFIX, "data")):
        if path.name.endswith(suffix):
            return kind
    return "manifest" if path.name == MANIFEST_NAME else "other"


class MinedDisk(Disk):
    """A disk with a bomb at every boundary."""

    def __init__(self, bomb: _Bomb) -> None:
        self._bomb = bomb

    def make_folder(self, folder: Path) -> None:
        self._bomb.passes("before:folder")
        super().make_folder(folder)
        self._bomb.passes("after:folder")

    def open_append(self, path: Path, *, new: bool) -> int:
        self._bomb.passes(f"before:open:{_kind(path)}")
        fd = super().open_append(path, new=new)
        self._bomb.passes(f"after:open:{_kind(path)}")
        return fd

    def append(self, fd: int, data: bytes, path: Path) -> None:
        self._bomb.passes(f"before:append:{_kind(path)}")
        half = len(data) // 2
        super().append(fd, data[:half], path)
        self._bomb.passes(f"amid:append:{_kind(path)}")
        super().append(fd, data[half:], path)
        self._bomb.passes(f"after:append:{_kind(path)}")

    def sync(self, fd: int, path: Path) -> None:
        self._bomb.passes(f"before:sync:{_kind(path)}")
        super().sync(fd, path)
        self._bomb.passes(f"after:sync:{_kind(path)}")

    def rename(self, source: Path, target: Path) -> None:
        self._bomb.passes(f"before:rename:{_kind(target)}")
        super().rename(source, target)
        self._bomb.passes(f"after:rename:{_kind(target)}")

    def sync_folder(self, folder: Path) -> None:
        self._bomb.passes("before:sync_folder")
        super().sync_folder(folder)
        self._bomb.passes("after:sync_folder")

    def replace(self, path: Path, data: bytes) -> None:
        self._bomb.passes(f"before:{_kind(path)}")
        super().replace(path, data)
        self._bomb.passes(f"after:{_kind(path)}")


POINTS += [f"amid:append:{kind}" for kind in _FILES]


def main() -> None:
    """Run until killed, by the bomb or by the harness."""
    config, point, count = sys.argv[1:]
    bomb = _Bomb(point, int(count))
    plain_ack = consumer.PullConsumer.ack

    async def ack(self: consumer.PullConsumer, reply: str) -> None:
        bomb.passes("before:ack")
        await plain_ack(self, reply)
        bomb.passes("after:ack")

    consumer.PullConsumer.ack = ack  # type: ignore[method-assign]
    logs.configure("ssmd-archiver")
    loaded = load_archiver(config)
    code = lifecycle.run(
        lambda stop: run_archiver(loaded, stop, new_archive=False, health_addr=None, disk=MinedDisk(bomb))
    )
    sys.exit(code)


if __name__ == "__main__":
    main()
