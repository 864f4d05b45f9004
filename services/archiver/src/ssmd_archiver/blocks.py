"""What is gathered until it makes a block (pure): lines, columns, and the journal's lines beside them."""

from __future__ import annotations

import base64
import re
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from ssmd_archiver.records import json_problem
from ssmd_common.archive.columns import Columns, Ticker, encode_columns
from ssmd_common.archive.index import Anomaly, Event, GapRecord, Reject, encode_line
from ssmd_common.ranges import Ranges

if TYPE_CHECKING:
    from ssmd_archiver.records import Message
    from ssmd_archiver.runs import Run
    from ssmd_common.subjects import DataSubject

__all__ = ["BlockBuilder", "JournalLine", "PendingBlock", "ticker_of"]

JournalLine = Event | GapRecord | Anomaly | Reject
_NEWLINE = re.compile(b"\n")


class PendingBlock(msgspec.Struct, gc=False):
    """A block ready to be written: the two members' raw bytes, the journal's lines, and what the block line tells.

    Attributes:
        data: Raw lines, each with its newline; empty where the block holds no record.
        meta: The columns' line; empty likewise.
        lines: The group's other lines, encoded.
        noted: The same lines.
        last_reply: Acknowledgement subject of the last message.
    """

    data: bytes
    meta: bytes
    lines: bytes
    noted: list[JournalLine]
    records: int
    events: int
    rejects: int
    first_seq: int | None
    last_seq: int | None
    first_ns: int | None
    last_ns: int | None
    stored: tuple[int, int] | None
    received: tuple[int, int] | None
    records_by_type: dict[str, int]
    tickers: list[str]
    frames: dict[str, list[tuple[int, int]]]
    seen_ns: dict[str, int]
    duplicates: list[tuple[int, int]]
    filtered: list[tuple[int, int]]
    last_msg_id: str | None
    last_reply: str | None


class BlockBuilder:
    """Gathers messages until they make a block.

    Args:
        position: The archive's position before the first message; None while it has none.
        last_msg_id: Message id at that position.
    """

    def __init__(self, position: int | None, last_msg_id: str | None = None) -> None:
        self.position = position
        self.messages = 0
        self.raw_bytes = 0
        self.last_ns: int | None = None
        self.last_reply: str | None = None
        self.last_msg_id = last_msg_id
        self._first_seq: int | None = None
        self._first_ns: int | None = None
        self._events = 0
        self._rejects = 0
        self._lines: list[bytes] = []  # each piece one line or more, newlines included
        self._columns = Columns()
        self._journal: list[JournalLine] = []
        self._frames: dict[str, Ranges] = {}
        self._seen_ns: dict[str, int] = {}
        self._duplicates = Ranges()
        self._filtered = Ranges()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write."""
        return not self.messages and not self._journal

    def note(self, line: GapRecord | Anomaly) -> None:
        """Add a line that is no message: a gap or an anomaly."""
        self._journal.append(line)

    def pass_gap(self, end_seq: int) -> None:
        """Move the position to the end of a recorded gap."""
        self.position = end_seq - 1

    def _message(self, message: Message) -> None:
        self.messages += 1
        if self._first_seq is None:
            self._first_seq, self._first_ns = message.seq, message.stored_ns
        self.position = message.seq
        self.last_ns = message.stored_ns
        self.last_reply = message.reply
        self.last_msg_id = message.msg_id

    def add_filtered(self, message: Message) -> None:
        """Count a message the configured filter leaves out."""
        self._message(message)
        self._filtered.add(message.seq)

    def add_duplicate(self, message: Message) -> None:
        """Count a message whose frame is archived already."""
        self._message(message)
        self._duplicates.add(message.seq)

    def add_event(self, message: Message) -> None:
        """Keep a capture event; one that is not JSON on one line becomes a reject."""
        problem = json_problem(message.payload)
        if problem is None and message.msg_id is not None and b"\n" not in message.payload:
            self._message(message)
            self._events += 1
            line = Event(
                seq=message.seq,
                stored_ns=message.stored_ns,
                received_ns=message.received_ns,
                msg_id=message.msg_id,
                payload=msgspec.Raw(message.payload),
            )
            self._journal.append(line)
        else:
            self.add_reject(message, problem or "no capture event of ours")

    def add_reject(self, message: Message, reason: str) -> None:
        """Keep a message that is no JSON, in the index."""
        self._message(message)
        self._rejects += 1
        line = Reject(
            seq=message.seq,
            stored_ns=message.stored_ns,
            received_ns=message.received_ns,
            subject=message.subject.decode("utf-8", "replace"),
            msg_id=message.msg_id,
            data=base64.b64encode(message.payload).decode(),
            reason=reason,
        )
        self._journal.append(line)

    def add_record(
        self,
        message: Message,
        subject: DataSubject,
        connection: str | None,
        frame_no: int | None,
        seen_ns: int | None = None,
    ) -> None:
        """Keep a payload as a line; a raw newline between its tokens becomes a space, its place is kept."""
        payload = message.payload
        columns = self._columns
        if b"\n" in payload:
            columns.newlines[len(columns.seq)] = [found.start() for found in _NEWLINE.finditer(payload)]
            payload = payload.replace(b"\n", b" ")
        if connection is None and message.msg_id is not None:
            columns.msg_id[len(columns.seq)] = message.msg_id
        self._message(message)
        self._lines.append(payload + b"\n")
        self.raw_bytes += len(payload) + 1
        columns.seq.append(message.seq)
        columns.stored_ns.append(message.stored_ns)
        columns.received_ns.append(message.received_ns)
        columns.type.append(message.type or subject.type)
        columns.ticker.append(ticker_of(subject, message.tickers))
        columns.connection.append(connection)
        columns.frame_no.append(frame_no)
        if connection is not None and frame_no is not None:
            self._frames.setdefault(connection, Ranges()).add(frame_no)
            self._seen_ns[connection] = seen_ns or message.stored_ns

    def add_run(self, run: Run, seen_ns: dict[str, int]) -> None:
        """Keep a run's payloads as lines; :meth:`add_record` for each would lead to the same.

        Args:
            run: The run.
            seen_ns: As in :attr:`~ssmd_common.archive.index.Block.seen_ns`, for the run's connections.
        """
        columns = self._columns
        if self._first_seq is None:
            self._first_seq, self._first_ns = run.seq[0], run.stored_ns[0]
        self.messages += len(run.seq)
        self.position = run.seq[-1]
        self.last_ns = run.stored_ns[-1]
        self.last_reply = run.last_reply
        self.last_msg_id = run.last_msg_id
        self._lines.append(run.lines)
        self.raw_bytes += len(run.lines)
        columns.seq += run.seq
        columns.stored_ns += run.stored_ns
        columns.received_ns += run.received_ns
        columns.type += run.type
        columns.ticker += run.ticker
        columns.connection += run.connection
        columns.frame_no += run.frame_no
        for key, numbers in run.frames.items():
            self._frames.setdefault(key, Ranges()).extend(numbers)
        self._seen_ns.update(seen_ns)

    def take(self) -> PendingBlock:
        """Return the block gathered; the builder is used up."""
        columns = self._columns
        tickers: set[str] = set()
        for ticker in set(columns.ticker):
            if isinstance(ticker, str):
                tickers.add(ticker)
            elif ticker is not None:
                tickers.update(ticker)
        return PendingBlock(
            data=b"".join(self._lines),
            meta=encode_columns(columns) if self._lines else b"",
            lines=b"".join(map(encode_line, self._journal)),
            noted=self._journal,
            records=len(columns),
            events=self._events,
            rejects=self._rejects,
            first_seq=self._first_seq,
            last_seq=self.position,
            first_ns=self._first_ns,
            last_ns=self.last_ns,
            stored=_range(columns.stored_ns),
            received=_range([ns for ns in columns.received_ns if ns is not None]),
            records_by_type=dict(Counter(columns.type)),
            tickers=sorted(tickers),
            frames={key: ranges.pairs() for key, ranges in sorted(self._frames.items())},
            seen_ns=dict(sorted(self._seen_ns.items())),
            duplicates=self._duplicates.pairs(),
            filtered=self._filtered.pairs(),
            last_msg_id=self.last_msg_id,
            last_reply=self.last_reply,
        )


def ticker_of(subject: DataSubject, tickers: tuple[str, ...] | None) -> Ticker:
    """Return what a record is about: the tickers of its header, else its subject's."""
    if tickers is None:
        return subject.ticker
    return tickers[0] if len(tickers) == 1 else tickers


def _range(times_ns: list[int]) -> tuple[int, int] | None:
    """Return the half-open range of times: clocks step back, so neither end need be the first or the last."""
    return (min(times_ns), max(times_ns) + 1) if times_ns else None
