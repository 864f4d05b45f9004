"""The certificate of a day: what was received, what is archived, what is missing, and the hash of every file; pure.

It is derived from the day's manifest and indexes alone, the same bytes from the same files, so anyone who has the
folder can make it again. Its list of files is in the format of ``sha256sum``, sorted by name, and its root is the
hash of that list: one line to keep, that stands for the whole day.

The balance counts frames by the connector's own numbers. Of every connection, what it had received by the end of
the day, less what it had by the start of it, is archived, or lost in a recorded gap, or unverifiable because the
connector crashed before it could tell, or still under way.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ssmd_common import events
from ssmd_common.archive.gaps import GapLayer
from ssmd_common.archive.index import ConnectionFrames, Event, Index, Reject, read_index
from ssmd_common.archive.layout import (
    DATA_SUFFIX,
    EVIDENCE,
    INDEX_SUFFIX,
    MANIFEST_NAME,
    META_SUFFIX,
)
from ssmd_common.archive.manifest import EpochEntry, FileEntry, GapEntry, Manifest, parse_manifest
from ssmd_common.archive.times import DAY_NS, day_start_ns, from_rfc3339
from ssmd_common.errors import ArchiveError
from ssmd_common.frames import FrameId, parse_msg_id
from ssmd_common.ranges import Ranges, range_total

__all__ = [
    "Certificate",
    "CertifiedFile",
    "certify",
    "contradictions",
    "differences",
    "encode_certificate",
    "is_settled",
    "parse_certificate",
    "sha256sum_list",
]

CERTIFICATE_VERSION = 1
_INTERRUPTION = ".closed"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Balance(_Part):
    """Frames of the day: ``received + carried_in`` equals the sum of everything below."""

    received: int = Field(description="Frames the connectors count as received, in this day's record")
    carried_in: int = Field(description="Frames received before it that had not come to the archive yet")
    archived: int = Field(description="Distinct frames archived in this day")
    lost: dict[str, int] = Field(description="Frames in recorded gaps, by the layer that lost them")
    unverifiable: int = Field(description="Frames of a connector that crashed before it could tell their fate")
    carried_out: int = Field(description="Frames received that may still come: published, spooled or about to be")
    unaccounted: int = Field(description="Frames that nothing explains; 0 in a sound archive")


class ConnectionBalance(Balance):
    """The same of one connection."""

    session: str
    connection: int
    published: int = Field(description="Frames with a PubAck of NATS, as the connector told in this day's record")


class LayerGaps(_Part):
    """The gaps of one layer that touch the day."""

    gaps: int
    missing: int | None = Field(description="Messages or frames missing; null where one gap cannot know")


class CertifiedFile(_Part):
    """A file of the day's folder."""

    path: str = Field(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)?$",
        description="Relative to the day's folder",
        examples=["0615.jsonl.gz"],
    )
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Certificate(_Part):
    """What a day of the archive amounts to."""

    certificate_version: Literal[1]
    feed: str
    env: str
    stream: str
    date: dt.date
    state: Literal["final", "pending"] = Field(description="`pending` while the day may still gain segments")
    complete_through: str | None
    epochs: list[EpochEntry]
    records: int = Field(description="Lines of the day's data files")
    records_without_frame: int = Field(description="Those of publishers that number no frames: unverifiable")
    capture_events: int
    rejects: int
    balanced: bool = Field(description="Whether nothing is unaccounted for")
    published: int = Field(description="Frames with a PubAck of NATS, as the connectors told")
    frames: Balance
    connections: list[ConnectionBalance]
    gaps: dict[str, LayerGaps] = Field(description="By layer")
    files: list[CertifiedFile] = Field(description="By path")
    root: str = Field(pattern=r"^[0-9a-f]{64}$", description="sha256 of the list in the format of `sha256sum`")


def sha256sum_list(files: Iterable[CertifiedFile]) -> bytes:
    """Return the list that ``sha256sum -c`` checks from the day's folder."""
    return "".join(f"{file.sha256}  {file.path}\n" for file in files).encode()


def encode_certificate(certificate: Certificate) -> bytes:
    """Return the certificate's bytes: the same for the same certificate, always."""
    return certificate.model_dump_json(indent=2).encode() + b"\n"


def parse_certificate(data: bytes, *, where: str) -> Certificate:
    """Read a certificate; whether it agrees with itself is told by :func:`contradictions`.

    Raises:
        ArchiveError: It is none, or of another version.
    """
    try:
        return Certificate.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ArchiveError(
            f"no certificate: {name}: {first['msg']}",
            where=where,
            remedy="take it as JSON from /manifests/{feed}/{date}/certificate",
        ) from None


def contradictions(certificate: Certificate) -> list[str]:
    """Return in what a certificate contradicts itself: it was changed since it was made."""
    paths = [file.path for file in certificate.files]
    lines = []
    if paths != sorted(set(paths)):
        lines.append("files: are not listed by path, each once")
    if MANIFEST_NAME not in paths:
        lines.append(f"files: {MANIFEST_NAME} is not listed")
    root = _root(certificate.files)
    if root != certificate.root:
        lines.append(f"root: the certificate says {certificate.root}, its list gives {root}")
    return lines


def _root(files: Iterable[CertifiedFile]) -> str:
    return hashlib.sha256(sha256sum_list(files)).hexdigest()


def is_settled(manifest: Manifest, *, opened: bool, later: bool) -> bool:
    """Tell whether a day gains no more segments.

    Args:
        manifest: The day's.
        opened: A segment of the day is open.
        later: The archive holds a later day of the feed.
    """
    through = manifest.complete_through
    ended = through is not None and from_rfc3339(through) >= day_start_ns(manifest.date) + DAY_NS
    return not opened and (ended or later)


def certify(manifest_bytes: bytes, indexes: Iterable[bytes], *, settled: bool, where: str) -> Certificate:
    """Derive a day's certificate.

    Args:
        manifest_bytes: The day's manifest.
        indexes: The sealed index of each file the manifest lists, in its order; read one at a time.
        settled: Whether the day gains no more segments.
        where: The manifest's place, for errors.

    Raises:
        ArchiveError: The manifest is damaged, or an index is not the one it lists.
    """
    manifest = parse_manifest(manifest_bytes, where=where)
    ledger = _Ledger()
    foreign = 0
    for entry, data in zip(manifest.files, indexes, strict=True):
        index = _listed_index(entry, data, where)
        ledger.fold(index)
        foreign += sum(block.records - _framed(block.frames.values()) for block in index.blocks)
    connections = ledger.balances(manifest.gaps)
    files = sorted(_files(manifest, manifest_bytes), key=lambda file: file.path)
    frames = _total(connections)
    return Certificate(
        certificate_version=CERTIFICATE_VERSION,
        feed=manifest.feed,
        env=manifest.env,
        stream=manifest.stream,
        date=manifest.date,
        state="final" if settled else "pending",
        complete_through=manifest.complete_through,
        epochs=manifest.epochs,
        records=sum(entry.records for entry in manifest.files),
        records_without_frame=foreign,
        capture_events=sum(entry.capture_events for entry in manifest.files),
        rejects=sum(entry.rejects for entry in manifest.files),
        balanced=not any(connection.unaccounted for connection in connections),
        published=sum(connection.published for connection in connections),
        frames=frames,
        connections=connections,
        gaps={layer.value: _layer(manifest.gaps, layer) for layer in GapLayer},
        files=files,
        root=_root(files),
    )


def _listed_index(entry: FileEntry, data: bytes, where: str) -> Index:
    if hashlib.sha256(data).hexdigest() == entry.index_sha256:
        index = read_index(data, where=where)
        if index is not None:
            return index
    raise ArchiveError(
        f"the index of {entry.name} is not the one the manifest lists",
        where=where,
        remedy="run `ssmd-archiver verify`",
    )


def _framed(ranges: Iterable[list[tuple[int, int]]]) -> int:
    return sum(range_total(pairs) for pairs in ranges)


def _files(manifest: Manifest, manifest_bytes: bytes) -> Iterable[CertifiedFile]:
    yield CertifiedFile(path=MANIFEST_NAME, sha256=hashlib.sha256(manifest_bytes).hexdigest())
    for entry in manifest.files:
        stem = entry.name.removesuffix(DATA_SUFFIX)
        yield CertifiedFile(path=entry.name, sha256=entry.sha256)
        yield CertifiedFile(path=f"{EVIDENCE}/{stem}{META_SUFFIX}", sha256=entry.meta_sha256)
        yield CertifiedFile(path=f"{EVIDENCE}/{stem}{INDEX_SUFFIX}", sha256=entry.index_sha256)


def _layer(gaps: Sequence[GapEntry], layer: GapLayer) -> LayerGaps:
    counts = [gap.missing_count for gap in gaps if gap.layer == layer.value]
    known = [count for count in counts if count is not None]
    return LayerGaps(gaps=len(counts), missing=sum(known) if len(known) == len(counts) else None)


def _total(connections: Sequence[ConnectionBalance]) -> Balance:
    def total(name: str) -> int:
        return sum(getattr(connection, name) for connection in connections)

    layers = {layer.value for layer in GapLayer}
    return Balance(
        received=total("received"),
        carried_in=total("carried_in"),
        archived=total("archived"),
        lost={name: sum(connection.lost.get(name, 0) for connection in connections) for name in sorted(layers)},
        unverifiable=total("unverifiable"),
        carried_out=total("carried_out"),
        unaccounted=total("unaccounted"),
    )


@dataclass(slots=True)
class _Account:
    """One connection as the day's record tells of it.

    Attributes:
        frames: Numbers of the frames archived so far.
        lost_before: Numbers known to be lost before the day.
        reported: Frames received, as last reported.
        acked: Highest number up to which every frame has its PubAck.
        at_start: What ``received``, ``acked``, ``archived`` and ``carried`` were when the day began.
    """

    frames: Ranges = field(default_factory=Ranges)
    lost_before: Ranges = field(default_factory=Ranges)
    reported: int = 0
    acked: int = 0
    at_start: tuple[int, int, int, int] = (0, 0, 0, 0)

    @classmethod
    def of(cls, state: ConnectionFrames) -> _Account:
        account = cls(Ranges(state.frames), Ranges(state.missing), state.reported or 0, state.acked_through)
        if state.closed == events.CRASHED:
            for first, end in account.outstanding():
                account.lost_before.add_range(first, end)  # the day it crashed in told that they are unverifiable
        account.at_start = (
            account.received,
            account.acked,
            len(account.frames),
            range_total(account.outstanding()),
        )
        return account

    @property
    def received(self) -> int:
        return max(self.reported, self.frames.end - 1, 0)

    def outstanding(self) -> list[tuple[int, int]]:
        """Return the ranges of numbers received that are neither archived nor were lost before the day."""
        missing = self.frames.missing(1, self.received + 1)
        return [part for first, end in missing for part in self.lost_before.missing(first, end)]

    def recovered(self) -> int:
        """Return how many frames came in this day that were called lost before."""
        missing = self.lost_before.pairs()
        return sum(end - first - range_total(self.frames.missing(first, end)) for first, end in missing)

    def tell(self, reported: int, acked_through: int) -> None:
        self.reported = max(self.reported, reported)
        self.acked = max(self.acked, acked_through)


class _Ledger:
    """Follows the connections of a day through its indexes."""

    def __init__(self) -> None:
        self._accounts: dict[tuple[str, int], _Account] | None = None

    def fold(self, index: Index) -> None:
        """Add a segment; the first one's header says how things stood before."""
        if self._accounts is None:
            states = index.header.connections
            self._accounts = {(state.session, state.connection): _Account.of(state) for state in states}
        for block in index.blocks:
            for key, ranges in block.frames.items():
                session, _, number = key.rpartition(".")
                account = self._account(session, int(number))
                for first, end in ranges:
                    account.frames.add_range(first, end)
        for line in index.lines():
            if isinstance(line, Event | Reject):
                self._message(line)

    def _account(self, session: str, connection: int) -> _Account:
        accounts = self._accounts if self._accounts is not None else {}
        return accounts.setdefault((session, connection), _Account())

    def _message(self, line: Event | Reject) -> None:
        identity = None if line.msg_id is None else parse_msg_id(line.msg_id)
        if isinstance(identity, FrameId):
            self._account(identity.session, identity.connection).frames.add(identity.frame_no)
        event = events.decode_event(bytes(line.payload)) if isinstance(line, Event) else None
        match event:
            case events.Heartbeat():
                for state in event.connections:
                    self._account(event.session, state.connection).tell(state.frames, state.acked_through)
            case events.ConnectionClosed():
                self._account(event.session, event.connection).tell(event.frames, event.acked_through)
            case _:
                pass

    def balances(self, gaps: Sequence[GapEntry]) -> list[ConnectionBalance]:
        """Return each connection's balance, by session and connection.

        A gap of the stream's own sequences counts messages, not frames, so as many frames as it lost messages may
        be explained by it, of whichever connection.
        """
        in_stream = sum(
            gap.missing_count or 0 for gap in gaps if gap.layer == GapLayer.STREAM.value and not gap.key
        )
        unknowable = any(gap.missing_count is None for gap in gaps if gap.layer == "stream" and not gap.key)
        found = []
        for (session, connection), account in sorted((self._accounts or {}).items()):
            if not connection:
                continue  # the session's own events, before and beside its connections
            mine = [gap for gap in gaps if gap.key == f"{session}.{connection}"]
            balance = _balance(session, connection, account, mine)
            by_stream = balance.unaccounted if unknowable else min(balance.unaccounted, in_stream)
            if by_stream:
                in_stream -= min(by_stream, in_stream)
                lost = {**balance.lost, "stream": balance.lost.get("stream", 0) + by_stream}
                balance = balance.model_copy(
                    update={"lost": dict(sorted(lost.items())), "unaccounted": balance.unaccounted - by_stream}
                )
            if balance.received or balance.archived or balance.carried_in or balance.lost:
                found.append(balance)
        return found


def _balance(session: str, connection: int, account: _Account, gaps: Sequence[GapEntry]) -> ConnectionBalance:
    rest = Ranges(account.outstanding())
    lost: dict[str, int] = {}
    for gap in gaps:
        if gap.start_seq is None or gap.end_seq is None:
            continue
        before = len(rest)
        rest = _without(rest, gap.start_seq, gap.end_seq)
        if len(rest) < before:
            lost[gap.layer] = lost.get(gap.layer, 0) + before - len(rest)
    open_end = _without(rest, 1, account.acked + 1)
    crashed = any(gap.gap_id.endswith(_INTERRUPTION) and gap.cause == events.CRASHED for gap in gaps)
    received, acked, archived, carried = account.at_start
    return ConnectionBalance(
        session=session,
        connection=connection,
        received=account.received - received,
        carried_in=carried + account.recovered(),
        published=account.acked - acked,
        archived=len(account.frames) - archived,
        lost=dict(sorted(lost.items())),
        unverifiable=len(open_end) if crashed else 0,
        carried_out=0 if crashed else len(open_end),
        unaccounted=len(rest) - len(open_end),
    )


def _without(numbers: Ranges, first: int, end: int) -> Ranges:
    """Return a set of numbers without those of ``[first, end)``."""
    kept = Ranges()
    for low, high in numbers.pairs():
        kept.add_range(low, min(high, first))
        kept.add_range(max(low, end), high)
    return kept


def differences(certificate: Certificate, derived: Certificate) -> list[str]:
    """Return in what a certificate differs from the one its files give, one line a field.

    A certificate taken while the day was pending stays right when it is settled.
    """
    said, found = certificate.model_dump(mode="json"), derived.model_dump(mode="json")
    if said["state"] == "pending":
        said["state"] = found["state"]
    names = [name for name in said if name not in ("files", "root") and said[name] != found[name]]
    lines = [f"{name}: the certificate says {said[name]}, the files say {found[name]}" for name in names]
    listed = {file.path: file.sha256 for file in certificate.files}
    there = {file.path: file.sha256 for file in derived.files}
    lines += [f"{path}: is sealed and not in the certificate" for path in sorted(set(there) - set(listed))]
    lines += [f"{path}: is in the certificate and not in the manifest" for path in sorted(set(listed) - set(there))]
    return lines
