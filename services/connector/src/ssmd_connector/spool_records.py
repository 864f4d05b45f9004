"""How a message lies in a file of the spool (pure).

A record is ``length, crc32, connection, frame_no, subject length, headers length`` in little-endian numbers, then
subject, headers and payload; ``length`` and ``crc32`` are of these three together.
"""

from __future__ import annotations

import struct
import zlib

from ssmd_connector.capture import Message

__all__ = ["decode_record", "encode_record", "next_record", "record_bytes"]

_HEAD = struct.Struct("<IIIQII")
_HEADERS_BEGIN, _HEADERS_END = b"NATS/1.0\r\n", b"\r\n\r\n"
_MAX_SUBJECT_BYTES = 4096
_SPACE = 0x20


def record_bytes(message: Message) -> int:
    """Return the size of a message's record."""
    return _HEAD.size + len(message.subject) + message.size


def encode_record(message: Message) -> bytes:
    """Return a message's record."""
    body = message.subject + message.headers + message.payload
    head = _HEAD.pack(
        len(body),
        zlib.crc32(body),
        message.connection,
        message.frame_no,
        len(message.subject),
        len(message.headers),
    )
    return head + body


def decode_record(data: bytes, position: int, *, own: bool) -> tuple[Message, int] | None:
    """Return the message of the record at ``position`` and where that ends; None where it is cut or damaged.

    Args:
        data: What a file holds.
        position: Where the record begins.
        own: It is of this life of the connector; of an earlier one it counts for no connection of this one.
    """
    start = position + _HEAD.size
    if start > len(data):
        return None
    length, crc, connection, frame_no, subject_length, headers_length = _HEAD.unpack_from(data, position)
    body = data[start : start + length]
    payload_at = subject_length + headers_length
    if len(body) != length or zlib.crc32(body) != crc:
        return None
    # The lengths are not in the checksum, and a stretch of zeros is a record of nothing whose checksum is right.
    headers = body[subject_length:payload_at]
    if not (subject_length and headers.startswith(_HEADERS_BEGIN) and headers.endswith(_HEADERS_END)):
        return None
    message = Message(
        subject=body[:subject_length],
        headers=headers,
        payload=body[payload_at:],
        connection=connection if own else 0,
        frame_no=frame_no if own else 0,
    )
    return message, start + length


def next_record(data: bytes, position: int) -> int | None:
    """Return where the next whole record begins; None where none does."""
    headers_at = data.find(_HEADERS_BEGIN, position)
    while headers_at >= 0:
        earliest = max(position, headers_at - _HEAD.size - _MAX_SUBJECT_BYTES)
        for start in reversed(range(earliest, headers_at - _HEAD.size)):
            if data[start + _HEAD.size] <= _SPACE:
                # No subject holds it. A frame's text may look like headers many times over.
                break
            *_, subject_length, _ = _HEAD.unpack_from(data, start)
            if (
                start + _HEAD.size + subject_length == headers_at
                and decode_record(data, start, own=False) is not None
            ):
                return start
        headers_at = data.find(_HEADERS_BEGIN, headers_at + 1)
    return None
