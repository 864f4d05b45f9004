"""Blocks on their way to disk: written beside the loop, one after the other, while the next one is gathered."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ssmd_archiver.blocks import BlockBuilder, PendingBlock
    from ssmd_archiver.compression import Compress
    from ssmd_archiver.segment import SegmentWriter
    from ssmd_common.archive.index import Block

__all__ = ["BlockQueue", "Written"]


@dataclass(frozen=True, slots=True)
class Written:
    """A block that is durable.

    Attributes:
        seconds: How long it took.
    """

    pending: PendingBlock
    block: Block
    seconds: float


class BlockQueue:
    """Holds at most one block: bringing another waits until it is durable, so memory is bounded by two.

    Args:
        compress: Makes the members.
        on_written: Told of each block once it is durable, in order, in the event loop.
    """

    def __init__(self, compress: Compress, on_written: Callable[[Written], None]) -> None:
        self._compress = compress
        self._on_written = on_written
        self._under_way: asyncio.Future[Written] | None = None

    async def put(self, builder: BlockBuilder, writer: SegmentWriter) -> None:
        """Begin to write a block, once the one before it is durable.

        Raises:
            ArchiveError: That one could not be written.
        """
        await self.settle()
        self._under_way = asyncio.ensure_future(asyncio.to_thread(self._write, builder, writer))

    def _write(self, builder: BlockBuilder, writer: SegmentWriter) -> Written:
        started = time.monotonic()
        pending = builder.take()
        block = writer.commit(pending, self._compress)
        return Written(pending, block, time.monotonic() - started)

    async def settle(self, *, wait: bool = True) -> None:
        """Return once nothing is under way; unless ``wait``, at once.

        Raises:
            ArchiveError: A write failed; nothing of the block was acknowledged.
        """
        if self._under_way is None or not (wait or self._under_way.done()):
            return
        written = await self._under_way
        self._under_way = None
        self._on_written(written)
