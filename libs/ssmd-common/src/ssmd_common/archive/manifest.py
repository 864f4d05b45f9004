"""The manifest of a feed's day: what lies in the folder, and what does not.

Derived from the day's indexes alone (:mod:`ssmd_common.archive.derivation`), written by the archiver, served by the
manifest API. Lists are sorted and never null; times are RFC 3339 UTC; ``nats_*`` sequences are inclusive, gap
ranges half-open.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from ssmd_common.archive.layout import DATA_SUFFIX, is_segment_stem
from ssmd_common.archive.times import from_rfc3339
from ssmd_common.config.model import checked, parse_rotation_interval
from ssmd_common.errors import ArchiveError

__all__ = [
    "SCHEMA_VERSION",
    "EpochEntry",
    "FileEntry",
    "GapEntry",
    "Manifest",
    "SessionEntry",
    "encode_manifest",
    "manifest_schema",
    "parse_manifest",
]

SCHEMA_VERSION = 1


def _readable(parse: Callable[[str], object]) -> AfterValidator:
    """Check a text by what reads it, so that whoever has a manifest need not fear one in it."""
    read = checked(parse)

    def check(text: str) -> str:
        read(text)
        return text

    return AfterValidator(check)


def _data_stem(name: str) -> str:
    stem = name.removesuffix(DATA_SUFFIX)
    if stem == name or not is_segment_stem(stem):
        raise ArchiveError(f"{name!r} is not a segment's name")
    return stem


_Time = Annotated[str, _readable(from_rfc3339)]
_DataName = Annotated[str, _readable(_data_stem)]
_Interval = Annotated[str, _readable(parse_rotation_interval)]
_TIME = Field(description="RFC 3339 UTC, up to nanoseconds", examples=["2026-11-23T06:16:18.123456789Z"])
_SHA256 = Field(pattern=r"^[0-9a-f]{64}$")


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileEntry(_Entry):
    """One sealed segment. ``start``, ``end`` and the sequences span all its messages, capture events included."""

    name: _DataName = Field(description="File name in the day's folder", examples=["0615.jsonl.gz"])
    start: _Time = _TIME
    end: _Time = _TIME
    received_start: _Time | None = Field(
        default=None, description="When the connector received the earliest of its records; null where none tells"
    )
    received_end: _Time | None = Field(default=None, description="When it received the latest; likewise")
    records: int = Field(ge=0, description="Lines in the file")
    bytes: int = Field(ge=0, description="Uncompressed bytes, newlines included")
    nats_start_seq: int = Field(ge=1)
    nats_end_seq: int = Field(ge=1)
    epoch: int = Field(ge=1, description="Which life of the stream the sequences belong to")
    compressed_bytes: int = Field(ge=0)
    sha256: str = _SHA256
    sha256_raw: str = _SHA256
    meta_sha256: str = _SHA256
    index_sha256: str = _SHA256
    records_by_type: dict[str, int]
    capture_events: int = Field(ge=0)
    rejects: int = Field(ge=0, description="Messages whose payload is not JSON; kept in the index")
    duplicates: int = Field(ge=0, description="Messages dropped because their frame is archived already")
    filtered: int = Field(ge=0, description="Messages the configured filter leaves out")
    sealed_at: _Time = _TIME
    seal_reason: str = Field(description="Why it was closed: window, idle, size, exit, epoch, clock")


class GapEntry(_Entry):
    """One gap that touches the day; ranges are half-open."""

    gap_id: str
    layer: Literal["exchange", "connection", "stream", "archive"]
    cause: str
    status: Literal["open", "resynced", "healed", "permanent"]
    epoch: int
    key: str = Field(description="What the sequences belong to: empty for the stream's own")
    start_seq: int | None = Field(description="First missing sequence of the layer")
    end_seq: int | None = Field(description="The sequence after the last missing one")
    start: _Time = _TIME
    end: _Time | None = Field(description="RFC 3339 UTC; null while the gap is open")
    after_seq: int | None = Field(description="start_seq - 1: the last sequence before the gap")
    missing_count: int | None = Field(description="Messages or frames missing; null where that cannot be known")
    detected_at: _Time = _TIME


class SessionEntry(_Entry):
    """One connection as far as its frames lie in this day."""

    session: str
    connection: int
    first_frame: int | None
    last_frame: int | None
    received: int = Field(ge=0, description="Distinct frames of this connection archived in this day")
    opened_at: _Time | None
    closed_at: _Time | None
    cause: str | None = Field(description="Why it closed; null while open or unknown")
    unverifiable: list[str] = Field(
        default=[],
        description="Payload types received on it whose frames carry no sequence that shows a loss at the exchange",
    )


class EpochEntry(_Entry):
    """One life of the stream, as far as it lies in this day."""

    epoch: int
    created: str = Field(description="Creation time of the stream, as the server writes it")
    start_seq: int
    end_seq: int


class AnomalyEntry(_Entry):
    """Something unusual that lost nothing."""

    name: str
    file: str
    seq: int | None
    at: _Time = _TIME
    detail: dict[str, Any]


class Manifest(_Entry):
    """A feed's day."""

    schema_version: Literal[1]
    feed: str
    env: str
    stream: str
    date: dt.date
    format: Literal["jsonl"]
    rotation_interval: _Interval = Field(examples=["15m"])
    complete_through: _Time | None = Field(description="Server time before which nothing will be added")
    files: list[FileEntry]
    gaps: list[GapEntry]
    tickers: list[str]
    message_types: list[str]
    has_gaps: bool
    epochs: list[EpochEntry]
    sessions: list[SessionEntry]
    anomalies: list[AnomalyEntry]


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the manifest file's bytes: the same for the same manifest, always."""
    return manifest.model_dump_json(indent=2).encode() + b"\n"


def parse_manifest(data: bytes, *, where: str) -> Manifest:
    """Read a manifest file.

    Raises:
        ArchiveError: It is damaged or of another version.
    """
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ArchiveError(
            f"manifest damaged at {field}: {first['msg']}", where=where, remedy="run `ssmd-archiver rebuild`"
        ) from None


def manifest_schema() -> str:
    """Return the manifest's JSON Schema as a file's text."""
    schema = Manifest.model_json_schema(mode="serialization")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"
