"""A segment's index: its journal while it is open, its evidence once sealed.

JSON lines in groups. A group is written and fsynced at once: the capture events, gaps, anomalies and rejects met
since the last group, then the ``block`` line that commits them. What follows the last block line of a torn journal
never happened. A sealed index ends with a ``seal`` line. With the indexes alone a manifest is rebuilt.

All ranges are half-open pairs ``[first, end)``; offsets and lengths are bytes; times are nanoseconds.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ssmd_common.archive.gaps import Gap
from ssmd_common.errors import ArchiveError
from ssmd_common.ranges import Range

__all__ = [
    "INDEX_VERSION",
    "Anomaly",
    "Block",
    "ConnectionFrames",
    "Event",
    "GapRecord",
    "Group",
    "Header",
    "Index",
    "IndexLine",
    "Reject",
    "Seal",
    "block_chain",
    "decode_line",
    "encode_line",
    "read_index",
    "seal_crc32",
]

INDEX_VERSION = 1


class IndexLine(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag=str.lower):
    """Base of every line; ``kind`` is the lower-case name of the class."""


class ConnectionFrames(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of one connection's frames at a point of the stream.

    Attributes:
        frames: Ranges of frame numbers archived so far, over all segments.
        missing: Ranges of frame numbers known to be lost.
        events: Ranges of the session's event numbers archived so far under this connection.
        acked_through: Highest number up to which the connector had every PubAck, as last reported.
        reported: Frames the connector had received, as last reported; None before the first report.
        opened_ns: When it opened; None where that was not seen.
        seen_ns: Connector's time of the last frame of it.
        closed: The cause it closed for; empty while it is open.
        closed_ns: When it closed, or was last seen before it crashed.
        resumed: A later connection took over after it.
        lane: Which of the session's sockets it was, from 1.
        lanes: How many of them the session kept open at once.
        replayed: It is a replay's, whose frames were received long before they were stored.
    """

    session: str
    connection: int
    frames: list[Range] = []
    missing: list[Range] = []
    events: list[Range] = []
    acked_through: int = 0
    reported: int | None = None
    opened_ns: int | None = None
    seen_ns: int | None = None
    closed: str = ""
    closed_ns: int | None = None
    resumed: bool = False
    lane: int = 1
    lanes: int = 1
    replayed: bool = False


class Header(IndexLine, frozen=True, kw_only=True, tag="header"):
    """First line: what this segment belongs to and what was known when it opened.

    Attributes:
        created: Creation time of the stream, as the server writes it.
        shared: The consumer was filtered (the stream holds other prefixes): jumps in sequence are no gaps.
        name: The segment's stem.
        after_seq: Position of the archive in this epoch before the segment; None at the start of an epoch.
        after_ns: Server time of that position; None where there is none.
        connections: Frame state of the connections still followed.
        open_gaps: Gaps whose end was unknown.
    """

    version: int
    env: str
    feed: str
    prefix: str
    stream: str
    created: str
    epoch: int
    shared: bool
    name: str
    interval: str
    window_start_ns: int
    window_end_ns: int
    after_seq: int | None
    after_ns: int | None
    connections: list[ConnectionFrames]
    open_gaps: list[Gap]


class Event(IndexLine, frozen=True, kw_only=True, tag="event"):
    """A capture event of the stream; ``payload`` is its JSON as it was stored."""

    seq: int
    stored_ns: int
    received_ns: int | None
    msg_id: str
    payload: msgspec.Raw


class GapRecord(IndexLine, frozen=True, kw_only=True, tag="gap"):
    """A gap learned in this segment, or the new whole state of one."""

    gap: Gap


class Anomaly(IndexLine, frozen=True, kw_only=True, tag="anomaly"):
    """Something unusual that lost nothing (``clock_stepped``, ``late``, ``epoch_opened``)."""

    name: str
    seq: int | None
    at_ns: int
    detail: dict[str, Any]


class Reject(IndexLine, frozen=True, kw_only=True, tag="reject"):
    """A message under a data subject whose payload is not JSON; ``data`` is its bytes in base64."""

    seq: int
    stored_ns: int
    received_ns: int | None
    subject: str
    msg_id: str | None
    data: str
    reason: str


class Block(IndexLine, frozen=True, kw_only=True, omit_defaults=True, tag="block"):
    """Commits a group: one gzip member of data and one of meta, or none where it holds no record.

    Attributes:
        raw_bytes: Uncompressed bytes of the data member, newlines included.
        data_crc32: crc32 of the compressed member.
        first_seq: First message of the group, of whatever kind; None where there is none.
        last_seq: The archive's position once this line is durable; None while it has none.
        first_ns: Server time of the first message.
        last_ns: Server time of the last message.
        stored: Range of its records' server times; None where it holds no record.
        received: Range of its records' ``received_ns``; None where none has one.
        tickers: The tickers of its records, sorted.
        frames: Frame ranges of its records by ``{session}.{connection}``.
        seen_ns: Connector's time of the last of these frames, by ``{session}.{connection}``.
        duplicates: Sequence ranges dropped because their frame is archived already.
        filtered: Sequence ranges the configured filter leaves out.
        last_msg_id: Message id at ``last_seq``, to recognise a stream rolled back.
        chain: crc32 of every byte of the index before this line and of the line itself, its ``chain`` being 0.
    """

    data_offset: int
    data_bytes: int
    data_crc32: int
    meta_offset: int
    meta_bytes: int
    meta_crc32: int
    records: int
    raw_bytes: int
    first_seq: int | None
    last_seq: int | None
    first_ns: int | None
    last_ns: int | None
    records_by_type: dict[str, int]
    tickers: list[str]
    frames: dict[str, list[Range]]
    seen_ns: dict[str, int]
    duplicates: list[Range]
    filtered: list[Range]
    last_msg_id: str | None
    stored: Range | None = None
    received: Range | None = None
    chain: int


class Seal(IndexLine, frozen=True, kw_only=True, tag="seal"):
    """Last line of a sealed index.

    Attributes:
        data_sha256: Of the compressed data file.
        raw_sha256: Of the uncompressed data.
        meta_sha256: Of the compressed meta file.
        body_sha256: Of this index before the seal line.
        complete_through_ns: Server time before which nothing will be added to this segment's window.
        line_crc32: crc32 of this line, ``line_crc32`` being 0.
    """

    data_sha256: str
    raw_sha256: str
    meta_sha256: str
    body_sha256: str
    data_bytes: int
    meta_bytes: int
    sealed_ns: int
    reason: str
    complete_through_ns: int
    line_crc32: int


_LINES = Header | Event | GapRecord | Anomaly | Reject | Block | Seal
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_LINES)


def encode_line(line: IndexLine) -> bytes:
    """Return a line with its newline."""
    return _encoder.encode(line) + b"\n"


def decode_line(data: bytes) -> IndexLine | None:
    """Read a line without its newline; None where it is damaged."""
    try:
        line: IndexLine = _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return line


@dataclass(frozen=True, slots=True)
class Group:
    """What one block line committed.

    Attributes:
        lines: Events, gaps, anomalies and rejects, in the order written.
        end_offset: Bytes of the index up to and including the block line.
    """

    lines: list[Event | GapRecord | Anomaly | Reject]
    block: Block
    end_offset: int


@dataclass(slots=True)
class Index:
    """A whole index, as far as it is committed.

    Attributes:
        committed_bytes: Length of the part that counts; what follows is torn.
        total_bytes: Length of what was read.
    """

    header: Header
    groups: list[Group] = field(default_factory=list)
    seal: Seal | None = None
    committed_bytes: int = 0
    total_bytes: int = 0

    @property
    def blocks(self) -> list[Block]:
        """The block lines, in order."""
        return [group.block for group in self.groups]

    def lines(self) -> Iterator[Event | GapRecord | Anomaly | Reject]:
        """Iterate over the committed lines that are no blocks."""
        for group in self.groups:
            yield from group.lines

    @property
    def last_seq(self) -> int | None:
        """The archive's position at the end of this segment; None while the epoch has none."""
        return self.groups[-1].block.last_seq if self.groups else self.header.after_seq


def read_index(data: bytes, *, where: str) -> Index | None:
    """Read an index; the committed part of it where the end is torn.

    Args:
        data: The file's bytes.
        where: The file's path, for the error.

    Returns:
        None where not even the header is whole: the segment never came to be.

    Raises:
        ArchiveError: A line before the last committed one is damaged, or a sealed index differs from its seal.
    """
    lines = data.split(b"\n")
    header = decode_line(lines[0]) if len(lines) > 1 else None
    if header is None:
        return None
    if not isinstance(header, Header) or header.version != INDEX_VERSION:
        raise ArchiveError("not an index this version reads", where=where, remedy="use the ssmd that wrote it")
    index = Index(header, total_bytes=len(data))
    offset = index.committed_bytes = len(lines[0]) + 1
    chain = zlib.crc32(data[:offset])
    pending: list[Event | GapRecord | Anomaly | Reject] = []
    for raw in lines[1:-1]:
        line = decode_line(raw)
        before, offset = offset, offset + len(raw) + 1
        match line:
            case Block() if line.chain == block_chain(line, chain):
                index.groups.append(Group(pending, line, offset))
                index.committed_bytes = offset
                pending = []
            case Seal() if not pending:
                body_sha256 = hashlib.sha256(data[:before]).hexdigest()
                if body_sha256 != line.body_sha256 or line.line_crc32 != seal_crc32(line):
                    raise _damaged(where, before)
                index.seal = line
                index.committed_bytes = offset
            case Event() | GapRecord() | Anomaly() | Reject():
                pending.append(line)
            case _:
                break
        chain = zlib.crc32(raw + b"\n", chain)
    torn = data[index.committed_bytes :].split(b"\n")[len(pending) + 1 : -1]
    if any(isinstance(decode_line(raw), Block | Seal) for raw in torn):
        raise _damaged(where, index.committed_bytes)
    return index


def seal_crc32(seal: Seal) -> int:
    """Return the ``line_crc32`` a seal line must carry."""
    return zlib.crc32(_encoder.encode(msgspec.structs.replace(seal, line_crc32=0)))


def block_chain(block: Block, chain: int) -> int:
    """Return the ``chain`` a block line must carry after an index with crc32 ``chain``."""
    return zlib.crc32(_encoder.encode(msgspec.structs.replace(block, chain=0)), chain)


def _damaged(where: str, offset: int) -> ArchiveError:
    return ArchiveError(
        f"index damaged near byte {offset}",
        where=where,
        remedy="restore the file from a backup, or move its segment aside and run `ssmd-archiver rebuild`",
    )
