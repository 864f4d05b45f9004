"""Many messages read at once (pure): what nearly every message is, at a fraction of the cost of reading each.

A *run* is a stretch of messages that are all plain: delivered one after the other, with the headers our connector
writes, each a frame of a known connection with a higher number than the one before, each payload JSON on one line.
Columns are made of them by a few calls that look at all of them. Whatever is not plain is read message by message,
:func:`~ssmd_archiver.records.parse_message`, which decides the same for plain ones, only later.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, compress
from itertools import count as count_from
from math import inf
from operator import add, lt
from typing import cast

import msgspec

from ssmd_archiver.blocks import ticker_of
from ssmd_archiver.records import MAX_NS, SubjectReader, are_json, read_tickers
from ssmd_common.archive.columns import Ticker
from ssmd_common.frames import (
    MSG_ID_HEADER,
    RECEIVED_NS_HEADER,
    REPLAY_OF_HEADER,
    TICKERS_HEADER,
    TYPE_HEADER,
)
from ssmd_common.nats.client import RawMessage
from ssmd_common.subjects import DataSubject, decode_token

__all__ = ["RUN_MESSAGES", "Room", "Run", "read_run"]

RUN_MESSAGES = 512
"""Most messages looked at together; what is not plain costs the rest of them one vain look."""

_PLAIN_HEADERS = re.compile(
    (
        rf"\0NATS/1\.0\r\n{MSG_ID_HEADER}: ([!-~]+)\.([1-9][0-9]{{0,17}})\r\n{RECEIVED_NS_HEADER}: ([0-9]+)\r\n"
        rf"{TYPE_HEADER}: ([^\r\n\0]+)\r\n(?:{TICKERS_HEADER}: ([^\r\n\0]+)\r\n)?"
        rf"(?:{REPLAY_OF_HEADER}: [^\r\n\0]+\r\n)?\r\n(?=\0)"
    ).encode()
)
"""A block as our connector writes it, set apart by zero bytes: connection, number, time, type and tickers."""

_NUMBERS = 4
"""A reply subject ends in stream sequence, delivery number, time and pending messages."""

_numbers = msgspec.json.Decoder(list[int])


@dataclass(frozen=True, slots=True)
class Room:
    """What a run may add.

    Attributes:
        messages: So many messages fill the block.
        fill_bytes: The line that reaches these fills the block.
        most_bytes: The line that passes these belongs to another segment.
    """

    messages: int
    fill_bytes: int
    most_bytes: float = inf


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch of plain messages; the lists have one entry a record, as in a block's columns.

    Attributes:
        lines: The payloads, each with its newline.
        frames: Frame numbers, ascending, by connection.
        last_reply: Acknowledgement subject of the last message.
        last_msg_id: Its message id.
    """

    seq: Sequence[int]
    stored_ns: list[int]
    received_ns: list[int]
    type: list[str]
    ticker: list[Ticker]
    connection: list[str]
    frame_no: list[int]
    lines: bytes
    frames: dict[str, list[int]]
    last_reply: str
    last_msg_id: str


def read_run(
    batch: Sequence[RawMessage], reader: SubjectReader, *, next_seq: int, consumer_seq: int, room: Room
) -> tuple[Run | None, int]:
    """Read the plain messages a batch begins with.

    Args:
        batch: The messages in the order delivered, at least one.
        reader: Reads their subjects.
        next_seq: Sequence the first must have; each that follows has the one after.
        consumer_seq: Number the first delivery must have; likewise.
        room: Where the run ends at the latest.

    Returns:
        The run and how many messages it has; or None, and how many messages are to be read one by one.
    """
    subjects, replies, headers, payloads = zip(*batch[: min(room.messages, RUN_MESSAGES)], strict=True)
    count = _count_within(payloads, room)
    named = reader.read_all(subjects[:count])
    if set(map(type, named)) != {DataSubject}:
        count = next((place for place, subject in enumerate(named) if not isinstance(subject, DataSubject)), 0)
    if not count:
        return None, 1
    run = _read(
        cast("list[DataSubject]", named), replies[:count], headers[:count], payloads[:count], next_seq, consumer_seq
    )
    return run, count


def _count_within(payloads: Sequence[bytes], room: Room) -> int:
    ends = list(map(add, accumulate(map(len, payloads)), count_from(1)))  # each line has a newline
    return min(bisect_left(ends, room.fill_bytes) + 1, bisect_right(ends, room.most_bytes))


def _read(
    subjects: list[DataSubject],
    replies: Sequence[bytes],
    headers: Sequence[bytes | None],
    payloads: Sequence[bytes],
    next_seq: int,
    consumer_seq: int,
) -> Run | None:
    count = len(payloads)
    stored_ns = _stored_ns(replies, next_seq, consumer_seq)
    lines = b"\n".join(payloads) + b"\n"
    if stored_ns is None or None in headers or lines.count(b"\n") != count or not are_json(payloads, lines):
        return None
    joined = b"\0".join((b"", *cast("Sequence[bytes]", headers), b""))
    fields = _PLAIN_HEADERS.findall(joined)
    if len(fields) != count or joined.count(b"\0") != count + 1:
        return None
    keys, frame_nos, received, types, tickers = zip(*fields, strict=True)
    received_ns = _decode_numbers(received)
    frame_no = _decode_numbers(frame_nos)
    if received_ns is None or frame_no is None or max(received_ns) >= MAX_NS:
        return None
    type_of = {name: decode_token(name.decode("ascii", "replace")) for name in set(types)}
    key_of = {key: key.decode("ascii") for key in set(keys)}
    frames = {
        key_of[key]: frame_no if len(key_of) == 1 else list(compress(frame_no, map(key.__eq__, keys)))
        for key in key_of
    }
    if not all(all(map(lt, numbers, numbers[1:])) for numbers in frames.values()):
        return None
    return Run(
        seq=range(next_seq, next_seq + count),
        stored_ns=stored_ns,
        received_ns=received_ns,
        type=[type_of[name] for name in types],
        ticker=[
            ticker_of(subject, read_tickers(text)) if text else subject.ticker
            for subject, text in zip(subjects, tickers, strict=False)
        ],
        connection=[key_of[key] for key in keys],
        frame_no=frame_no,
        lines=lines,
        frames=frames,
        last_reply=replies[-1].decode(),
        last_msg_id=f"{key_of[keys[-1]]}.{frame_no[-1]}",
    )


def _stored_ns(replies: Sequence[bytes], next_seq: int, consumer_seq: int) -> list[int] | None:
    """Return the server times of deliveries that follow each other; None where they do not.

    The numbers of all are decoded at once. That sequences and delivery numbers are just those expected shows that
    each reply gave its four: stream sequence, delivery, time, pending.
    """
    head = replies[0].rsplit(b".", _NUMBERS)[0] + b"."
    numbers = _decode_numbers([b",".join(replies).replace(head, b"").replace(b".", b",")])
    count = len(replies)
    if numbers is None or len(numbers) != _NUMBERS * count:
        return None
    if numbers[0::_NUMBERS] != list(range(next_seq, next_seq + count)):
        return None
    if numbers[1::_NUMBERS] != list(range(consumer_seq, consumer_seq + count)):
        return None
    return numbers[2::_NUMBERS]


def _decode_numbers(texts: Iterable[bytes]) -> list[int] | None:
    """Return decimal numbers; None where one is written in another way."""
    try:
        return _numbers.decode(b"[%b]" % b",".join(texts))
    except msgspec.DecodeError:
        return None
