"""The certificate of a day: what was received, what is archived, what is missing, and the hash of every file; pure.

It is derived from the day's manifest and indexes alone, the same bytes from the same files, so anyone who has the
folder can make it again. Its list of files is in the format of ``sha256sum``, sorted by name, and its root is the
hash of that list: one line to keep, that stands for the whole day.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import Field, ValidationError

from ssmd_common.archive.balance import Balance, CertificatePart, ConnectionBalance, FrameAccounts, total_balance
from ssmd_common.archive.gaps import GapLayer
from ssmd_common.archive.index import Index, read_index
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
from ssmd_common.ranges import range_total

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


class LayerGaps(CertificatePart):
    """The gaps of one layer that touch the day."""

    gaps: int
    missing: int | None = Field(description="Messages or frames missing; null where one gap cannot know")


class CertifiedFile(CertificatePart):
    """A file of the day's folder."""

    path: str = Field(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)?$",
        description="Relative to the day's folder",
        examples=["0615.jsonl.gz"],
    )
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Certificate(CertificatePart):
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
    ledger = FrameAccounts()
    foreign = 0
    for entry, data in zip(manifest.files, indexes, strict=True):
        index = _listed_index(entry, data, where)
        ledger.fold(index)
        foreign += sum(block.records - _framed(block.frames.values()) for block in index.blocks)
    connections = ledger.balances(manifest.gaps)
    files = sorted(_files(manifest, manifest_bytes), key=lambda file: file.path)
    frames = total_balance(connections)
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
