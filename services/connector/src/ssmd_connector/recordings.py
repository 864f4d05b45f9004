"""Recorded frames, read back from the shapes in which people and this system keep them.

A line is a frame as it came; or an object that holds the frame beside the time of its receipt,
``{"received_ms": …, "frame": …}`` (or ``received_ns``), where a frame given as a JSON string is that text, so that
frames that are no JSON can be kept; or a record of the manifest API, ``{"seq": …, "stored_ns": …, "data": …}``.
Gzip is recognised by its first bytes: a sealed segment's data file is a recording, even apart from its evidence.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from ssmd_common.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["RecordedFrame", "recorded_frames"]

_GZIP = b"\x1f\x8b"
_QUOTE = b'"'
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class _Timed(msgspec.Struct, forbid_unknown_fields=True):
    """A frame and when it was received."""

    frame: msgspec.Raw
    received_ms: float | None = None
    received_ns: int | None = None


class _Record(msgspec.Struct, forbid_unknown_fields=True):
    """A record as the manifest API tells it; frames of exchanges have ``seq`` and ``data`` too."""

    seq: int
    stored_ns: int
    data: msgspec.Raw
    received_ns: int | None = None
    type: str | None = None
    ticker: str | None = None


_decode_timed = msgspec.json.Decoder(_Timed).decode
_decode_record = msgspec.json.Decoder(_Record).decode
_decode_text = msgspec.json.Decoder(str).decode


@dataclass(frozen=True, slots=True)
class RecordedFrame:
    """A frame of a recording.

    Attributes:
        line: The line it stands in, counted from 1; None for one that lies in a segment's evidence.
        data: Its bytes.
        connection: The connection it came by, where that is known.
        frame_no: Its number on that connection.
    """

    line: int | None
    data: bytes
    connection: str = ""
    frame_no: int | None = None


def recorded_frames(path: Path) -> Iterator[RecordedFrame]:
    """Yield the frames of a recording; empty lines are none.

    Raises:
        ConfigError: The file cannot be read, or its gzip is damaged.
    """
    number = 0
    try:
        with path.open("rb") as raw:
            packed = raw.read(len(_GZIP)) == _GZIP
            raw.seek(0)
            lines = gzip.GzipFile(fileobj=raw) if packed else raw
            for number, line in enumerate(lines, 1):
                text = line.rstrip(b"\r\n")
                if number == 1:
                    # The editor's that saved the file, not the exchange's.
                    text = text.removeprefix(_BYTE_ORDER_MARK)
                if text.strip():
                    yield RecordedFrame(number, _frame(text))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ConfigError(f"damaged gzip after line {number}: {error}", file=str(path), field="--frames") from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=str(path), field="--frames") from None


def _frame(text: bytes) -> bytes:
    try:
        timed = _decode_timed(text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return _data_of_record(text)
    held = timed.received_ms is not None or timed.received_ns is not None
    return _unquoted(bytes(timed.frame)) if held else text


def _data_of_record(text: bytes) -> bytes:
    try:
        return bytes(_decode_record(text).data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return text


def _unquoted(frame: bytes) -> bytes:
    if not frame.startswith(_QUOTE):
        return frame
    try:
        return _decode_text(frame).encode()
    except (msgspec.DecodeError, UnicodeError):
        return frame
