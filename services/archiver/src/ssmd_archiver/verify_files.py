"""One segment's files against its index: every byte, hash, line and column; each by itself, so in any order.

What it takes to add segments up comes back small enough to pass between processes.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ssmd_archiver.findings import Finding
from ssmd_archiver.records import are_json, json_problem
from ssmd_archiver.verify_segments import FoundSegment
from ssmd_common.archive.columns import Columns
from ssmd_common.archive.index import Block, Seal, read_index
from ssmd_common.archive.reader import BlockSource
from ssmd_common.errors import ArchiveError
from ssmd_common.ranges import Range, Ranges

__all__ = ["CheckedSegment", "SequenceSet", "check_segment"]


@dataclass(frozen=True, slots=True)
class SequenceSet:
    """The sequences of a block's records.

    Attributes:
        count: How many records there are, so one that comes twice shows.
        pairs: Disjoint ranges, ascending.
    """

    count: int
    pairs: list[Range]


@dataclass(slots=True)
class CheckedSegment:
    """What became of a segment's files.

    Attributes:
        path: Where its index lies.
        index_bytes: The index its files were held to.
        sealed: Whether it lies where sealed segments do.
        seqs: By block; None where the block's files cannot be read.
        foreign: Records of a publisher that numbers no frames.
        data_bytes: Compressed bytes read.
    """

    path: Path
    index_bytes: bytes
    sealed: bool
    seqs: list[SequenceSet | None] = field(default_factory=list)
    foreign: int = 0
    data_bytes: int = 0
    findings: list[Finding] = field(default_factory=list)

    def note(self, base: Path, error: ArchiveError) -> None:
        """Note what a store's file is: once, however many of its blocks say so."""
        finding = Finding(str(base / error.where), error.problem)
        if finding not in self.findings[-1:]:
            self.findings.append(finding)


def check_segment(segment: FoundSegment) -> CheckedSegment:
    """Hold a segment's files to its index."""
    path, index_bytes = segment.index_bytes()
    checked = CheckedSegment(path, index_bytes, segment.sealed)
    index = read_index(index_bytes, where=str(path))
    if index is None:
        return checked
    raw_sha256 = hashlib.sha256()
    with segment.source() as source:
        for block in (group.block for group in index.groups):
            checked.seqs.append(_check_block(segment, block, source, checked, raw_sha256))
            checked.data_bytes += block.data_bytes
        if index.seal is not None:
            if raw_sha256.hexdigest() != index.seal.raw_sha256:
                data = segment.day.sealed(segment.stem).data
                checked.findings.append(Finding(str(data), "its lines differ from the sealed hash"))
            _check_seal(index.seal, source, segment.base, checked)
    return checked


def _check_block(
    segment: FoundSegment,
    block: Block,
    source: BlockSource,
    checked: CheckedSegment,
    raw_sha256: hashlib._Hash,
) -> SequenceSet | None:
    """Check a block's two members; return the sequences of its records, None where they cannot be read."""
    if not block.records:
        return SequenceSet(0, [])
    paths = segment.day.sealed(segment.stem)
    try:
        raw, columns = source.raw(block), source.columns(block)
    except ArchiveError as error:
        checked.note(segment.base, error)
        return None
    raw_sha256.update(raw)
    lines = raw.split(b"\n")[:-1]
    if not are_json(lines, raw):
        for problem in filter(None, map(json_problem, lines)):
            text = f"line in the block at byte {block.data_offset} is no JSON: {problem}"
            checked.findings.append(Finding(str(paths.data), text))
    if differs := _differs(block, columns):
        checked.findings.append(Finding(str(paths.meta), differs))
    checked.foreign += columns.connection.count(None)
    return _sequences(columns.seq)


def _sequences(seqs: list[int]) -> SequenceSet:
    if seqs == list(range(seqs[0], seqs[0] + len(seqs))):
        return SequenceSet(len(seqs), [(seqs[0], seqs[-1] + 1)])
    distinct = Ranges()
    for seq in seqs:
        distinct.add(seq)
    return SequenceSet(len(seqs), distinct.pairs())


def _differs(block: Block, columns: Columns) -> str | None:
    """Return how a block's columns differ from what its index line tells."""
    frames = sum(end - first for pairs in block.frames.values() for first, end in pairs)
    numbered = len(columns) - columns.frame_no.count(None)
    if Counter(columns.type) != block.records_by_type or frames != numbered:
        return f"columns of the block at byte {block.meta_offset} differ from the index"
    return None


def _check_seal(seal: Seal, source: BlockSource, base: Path, checked: CheckedSegment) -> None:
    for kind, expected in (("data", seal.data_sha256), ("meta", seal.meta_sha256)):
        digest = hashlib.sha256()
        try:
            for part in source.parts(kind):
                digest.update(part)
        except ArchiveError as error:
            checked.note(base, error)
        else:
            if digest.hexdigest() != expected:
                checked.note(base, ArchiveError("differs from the sealed hash", where=source.where(kind)))
