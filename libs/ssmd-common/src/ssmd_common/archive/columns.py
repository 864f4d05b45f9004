"""The meta member of a block: one JSON line of columns, one entry a record.

Integers are delta-coded (the first entry is the value itself), texts dictionary-coded. A null stays null and the
next delta counts from the last value. ``newlines`` holds, by row, the offsets in the line where a raw newline of
the payload became a space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import sub
from typing import Any, TypeVar, cast

import msgspec

from ssmd_common.errors import ArchiveError

__all__ = ["Columns", "Ticker", "decode_columns", "encode_columns"]

Ticker = str | tuple[str, ...] | None
_ValueT = TypeVar("_ValueT")


@dataclass(slots=True)
class Columns:
    """A block's metadata; all lists have one entry a record.

    Attributes:
        ticker: The ticker, several as a tuple, or None.
        connection: ``{session}.{connection}``; None for a foreign publisher's message.
        msg_id: By row, the message id of a foreign publisher's message that has one.
        newlines: By row, where newlines were replaced.
    """

    seq: list[int] = field(default_factory=list)
    stored_ns: list[int] = field(default_factory=list)
    received_ns: list[int | None] = field(default_factory=list)
    type: list[str] = field(default_factory=list)
    ticker: list[Ticker] = field(default_factory=list)
    connection: list[str | None] = field(default_factory=list)
    frame_no: list[int | None] = field(default_factory=list)
    msg_id: dict[int, str] = field(default_factory=dict)
    newlines: dict[int, list[int]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.seq)


class _Stored(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    records: int
    seq: list[int]
    stored_ns: list[int]
    received_ns: list[int | None]
    types: list[str]
    type: list[int]
    tickers: list[str | list[str] | None]
    ticker: list[int]
    connections: list[str | None]
    connection: list[int]
    frame_no: list[int | None]
    msg_id: dict[int, str] = {}
    newlines: dict[int, list[int]] = {}


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Stored)


def encode_columns(columns: Columns) -> bytes:
    """Return the block's meta line, newline included."""
    types, type_codes = _dictionary(columns.type)
    tickers, ticker_codes = _dictionary(columns.ticker)
    connections, connection_codes = _dictionary(columns.connection)
    return (
        _encoder.encode(
            _Stored(
                records=len(columns),
                seq=_deltas(columns.seq),
                stored_ns=_deltas(columns.stored_ns),
                received_ns=_nullable_deltas(columns.received_ns),
                types=types,
                type=type_codes,
                tickers=tickers,
                ticker=ticker_codes,
                connections=connections,
                connection=connection_codes,
                frame_no=_nullable_deltas(columns.frame_no),
                msg_id=columns.msg_id,
                newlines=columns.newlines,
            )
        )
        + b"\n"
    )


def decode_columns(line: bytes, *, where: str) -> Columns:
    """Read a meta line back.

    Raises:
        ArchiveError: It is damaged, or its columns differ in length.
    """
    try:
        stored = _decoder.decode(line)
        columns = Columns(
            seq=_sums(stored.seq),
            stored_ns=_sums(stored.stored_ns),
            received_ns=_nullable_sums(stored.received_ns),
            type=_looked_up(stored.types, stored.type),
            ticker=_looked_up(list(map(_ticker, stored.tickers)), stored.ticker),
            connection=_looked_up(stored.connections, stored.connection),
            frame_no=_nullable_sums(stored.frame_no),
            msg_id=stored.msg_id,
            newlines=stored.newlines,
        )
    except (msgspec.DecodeError, IndexError, RecursionError) as error:
        raise ArchiveError(f"meta line damaged: {error}", where=where) from None
    lengths = {
        len(column)
        for column in (
            columns.seq,
            columns.stored_ns,
            columns.received_ns,
            columns.type,
            columns.ticker,
            columns.connection,
            columns.frame_no,
        )
    }
    if lengths != {stored.records}:
        raise ArchiveError("meta columns differ in length", where=where)
    return columns


def _ticker(stored: str | list[str] | None) -> Ticker:
    return tuple(stored) if isinstance(stored, list) else stored


def _looked_up(distinct: list[_ValueT], codes: list[int]) -> list[_ValueT]:
    return list(map(distinct.__getitem__, codes))


def _dictionary(values: Sequence[Any]) -> tuple[list[Any], list[int]]:
    distinct = list(dict.fromkeys(values))
    if len(distinct) == 1:
        return distinct, [0] * len(values)
    code_of = {value: code for code, value in enumerate(distinct)}
    return distinct, [code_of[value] for value in values]


def _deltas(values: list[int]) -> list[int]:
    return values[:1] + list(map(sub, values[1:], values))


def _sums(deltas: list[int]) -> list[int]:
    return list(accumulate(deltas))


def _nullable_deltas(values: list[int | None]) -> list[int | None]:
    if None not in values:
        return list(_deltas(cast("list[int]", values)))
    before = 0
    deltas: list[int | None] = []
    for value in values:
        if value is None:
            deltas.append(None)
        else:
            deltas.append(value - before)
            before = value
    return deltas


def _nullable_sums(deltas: list[int | None]) -> list[int | None]:
    if None not in deltas:
        return list(_sums(cast("list[int]", deltas)))
    total = 0
    return [None if delta is None else (total := total + delta) for delta in deltas]
