"""Writing one segment: blocks appended, synced and journaled, then sealed for good.

A block lasts once :meth:`SegmentWriter.commit` returns: both members are written and synced, then the journal's
group is written and synced. Sealing writes the seal line, syncs, and renames index, meta and data, in this order,
so a data file in the day's folder always has its evidence.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Sequence

import msgspec

from ssmd_archiver.blocks import JournalLine, PendingBlock
from ssmd_archiver.compression import EMPTY_MEMBER, Compress
from ssmd_archiver.disk import Disk
from ssmd_common.archive.derivation import SegmentSummary, SummaryFold
from ssmd_common.archive.index import Block, Header, Index, Seal, block_chain, encode_line, seal_crc32
from ssmd_common.archive.layout import EVIDENCE, OPEN, DayPaths, SegmentPaths
from ssmd_common.archive.reader import read_block

__all__ = ["SegmentWriter", "finish_renames"]


class _Output:
    """One of a segment's files while it is written: descriptor, length and running hash."""

    def __init__(self, disk: Disk, fd: int, paths: SegmentPaths, kind: str) -> None:
        self.disk = disk
        self.fd = fd
        self.path = getattr(paths, kind)
        self.length = 0
        self.sha256 = hashlib.sha256()

    def append(self, data: bytes) -> None:
        self.disk.append(self.fd, data, self.path)
        self.length += len(data)
        self.sha256.update(data)

    def sync(self) -> None:
        self.disk.sync(self.fd, self.path)


class SegmentWriter:
    """One open segment.

    Attributes:
        header: Its first line.
        raw_bytes: Uncompressed size so far.
        last_ns: Server time of its last message; None while it has none.
        messages: Whether it holds any message.
    """

    def __init__(self, day: DayPaths, header: Header, disk: Disk, *, new: bool = True) -> None:
        self.day = day
        self.header = header
        self.disk = disk
        self.paths = day.open(header.name)
        self.raw_bytes = 0
        self.last_ns: int | None = None
        self.messages = False
        self._raw_sha256 = hashlib.sha256()
        if new:
            disk.make_folder(day.folder / OPEN)
            disk.make_folder(day.folder / EVIDENCE)
        self._data = self._output("data", new=new)
        self._meta = self._output("meta", new=new)
        self._index = self._output("index", new=new)
        self._chain = 0
        self._fold = SummaryFold(header)
        if new:
            self._journal(encode_line(header))
            disk.sync_folder(day.folder / OPEN)

    def _output(self, kind: str, *, new: bool) -> _Output:
        return _Output(self.disk, self.disk.open_append(getattr(self.paths, kind), new=new), self.paths, kind)

    @classmethod
    def resume(cls, day: DayPaths, index: Index, disk: Disk) -> SegmentWriter:
        """Continue a recovered segment whose files end at its last committed block.

        Raises:
            ArchiveError: A block differs from its index.
        """
        writer = cls(day, index.header, disk, new=False)
        for output in (writer._data, writer._meta, writer._index):
            size = os.fstat(output.fd).st_size
            offset = 0
            while offset < size:
                part = os.pread(output.fd, min(1 << 20, size - offset), offset)
                output.sha256.update(part)
                offset += len(part)
                if output is writer._index:
                    writer._chain = zlib.crc32(part, writer._chain)
            output.length = size
        for group in index.groups:
            block = group.block
            if block.records:
                _, lines = read_block(writer._data.fd, writer._meta.fd, block, where=writer.paths)
                for line in lines:
                    writer._raw_sha256.update(line + b"\n")
            writer._count(group.lines, block)
        return writer

    def _count(self, lines: Sequence[JournalLine], block: Block) -> None:
        self._fold.add(lines, block)
        self.raw_bytes += block.raw_bytes
        if block.first_seq is not None:
            self.messages = True
            self.last_ns = block.last_ns

    def _journal(self, group: bytes) -> None:
        self._index.append(group)
        self._index.sync()
        self._chain = zlib.crc32(group, self._chain)

    def commit(self, pending: PendingBlock, compress: Compress) -> Block:
        """Write a block; when this returns it lasts.

        Args:
            pending: What it holds.
            compress: Makes its members; those before it may come from another.

        Raises:
            ArchiveError: A write failed; the segment is as before once recovered.
        """
        data = meta = b""
        if pending.records:
            data = compress(pending.data)
            meta = compress(pending.meta)
        data_offset, meta_offset = self._data.length, self._meta.length
        if data:
            self._data.append(data)
            self._meta.append(meta)
            self._data.sync()
            self._meta.sync()
            self._raw_sha256.update(pending.data)
        block = Block(
            data_offset=data_offset,
            data_bytes=len(data),
            data_crc32=zlib.crc32(data),
            meta_offset=meta_offset,
            meta_bytes=len(meta),
            meta_crc32=zlib.crc32(meta),
            records=pending.records,
            raw_bytes=len(pending.data),
            first_seq=pending.first_seq,
            last_seq=pending.last_seq,
            first_ns=pending.first_ns,
            last_ns=pending.last_ns,
            stored=pending.stored,
            received=pending.received,
            records_by_type=pending.records_by_type,
            tickers=pending.tickers,
            frames=pending.frames,
            seen_ns=pending.seen_ns,
            duplicates=pending.duplicates,
            filtered=pending.filtered,
            last_msg_id=pending.last_msg_id,
            chain=0,
        )
        block = msgspec.structs.replace(block, chain=block_chain(block, zlib.crc32(pending.lines, self._chain)))
        self._journal(pending.lines + encode_line(block))
        self._count(pending.noted, block)
        return block

    def seal(self, *, reason: str, sealed_ns: int, complete_through_ns: int) -> SegmentSummary:
        """Close the segment for good; return what it contributes to its day.

        Args:
            reason: Why, a :class:`~ssmd_archiver.rotation.Reason`.
            sealed_ns: Our clock, for the record.
            complete_through_ns: Server time before which nothing will be added.
        """
        for output in (self._data, self._meta):
            if not output.length:
                output.append(EMPTY_MEMBER)
                output.sync()
        seal = Seal(
            data_sha256=self._data.sha256.hexdigest(),
            raw_sha256=self._raw_sha256.hexdigest(),
            meta_sha256=self._meta.sha256.hexdigest(),
            body_sha256=self._index.sha256.hexdigest(),
            data_bytes=self._data.length,
            meta_bytes=self._meta.length,
            sealed_ns=sealed_ns,
            reason=reason,
            complete_through_ns=complete_through_ns,
            line_crc32=0,
        )
        self._journal(encode_line(msgspec.structs.replace(seal, line_crc32=seal_crc32(seal))))
        self.close()
        finish_renames(self.day, self.header.name, self.disk)
        return self._fold.finish(seal, self._index.sha256.hexdigest(), where=str(self.paths.index))

    def close(self) -> None:
        """Close the files; the segment stays as it is."""
        for output in (self._data, self._meta, self._index):
            os.close(output.fd)


def finish_renames(day: DayPaths, stem: str, disk: Disk) -> None:
    """Move a sealed segment's files to their places: index, meta, data, whatever is left of it."""
    opened, sealed = day.open(stem), day.sealed(stem)
    for source, target in ((opened.index, sealed.index), (opened.meta, sealed.meta), (opened.data, sealed.data)):
        if source.exists():
            disk.rename(source, target)
    for folder in (day.folder / EVIDENCE, day.folder, day.folder / OPEN):
        disk.sync_folder(folder)
