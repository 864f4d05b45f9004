"""From a delivered message to what is kept of it (pure): parse what placing it needs, archive the bytes.

A message becomes a *record* (a line of the data file), a *capture event*, or a *reject* (a payload that is not
JSON); it may also be *filtered* by configuration. :class:`BlockBuilder` gathers them into the next block.
"""

from __future__ import annotations

import base64
import re

import msgspec

from ssmd_common.archive.columns import Columns, Ticker, encode_columns
from ssmd_common.archive.index import Event, IndexLine, Reject, encode_line
from ssmd_common.frames import (
    MSG_ID_HEADER,
    RECEIVED_NS_HEADER,
    REPLAY_OF_HEADER,
    TICKERS_HEADER,
    TYPE_HEADER,
    decode_tickers,
)
from ssmd_common.nats.acks import parse_ack_subject
from ssmd_common.ranges import Ranges
from ssmd_common.subjects import CaptureSubject, DataSubject, SubjectBuilder, decode_token

__all__ = [
    "BlockBuilder",
    "Message",
    "PendingBlock",
    "SubjectReader",
    "json_problem",
    "parse_message",
    "subject_matches",
]

_MSG_ID = MSG_ID_HEADER.lower().encode()
_RECEIVED_NS = RECEIVED_NS_HEADER.lower().encode()
_TYPE = TYPE_HEADER.lower().encode()
_TICKERS = TICKERS_HEADER.lower().encode()
_SUBJECTS_KEPT = 1 << 17
_MAX_NS = 1 << 62

_OUR_HEADERS = re.compile(
    f"NATS/1.0\r\n{MSG_ID_HEADER}: ([^\r\n]+)\r\n{RECEIVED_NS_HEADER}: ([0-9]+)\r\n"
    f"(?:{TYPE_HEADER}: ([^\r\n]+)\r\n)?(?:{TICKERS_HEADER}: ([^\r\n]+)\r\n)?"
    f"(?:{REPLAY_OF_HEADER}: [^\r\n]+\r\n)?\r\n".encode()
)
"""The block as our connector writes it; any other is read by :func:`_any_headers`, more slowly."""

_NEWLINE = re.compile(b"\n")
MAX_DEPTH = 500
"""Deepest nesting of JSON that is archived as a record; deeper texts are rejects."""
_STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)

_raw_json = msgspec.json.Decoder(msgspec.Raw)


class Message(msgspec.Struct, gc=False):
    """One delivered message, parsed as far as the archiver needs.

    Attributes:
        seq: Sequence in the stream.
        consumer_seq: Number of this delivery on the consumer.
        stored_ns: When the server stored it.
        msg_id: Its message id; None where it has none.
        received_ns: Connector's time; None for a foreign publisher's.
        type: The payload's own type from the header, decoded; None where the subject decides.
        tickers: From the header; None where the subject decides.
    """

    seq: int
    consumer_seq: int
    stored_ns: int
    subject: str
    reply: str
    msg_id: str | None
    received_ns: int | None
    type: str | None
    tickers: tuple[str, ...] | None
    payload: bytes


def parse_message(subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> Message:
    """Parse a message as it came off the wire.

    Args:
        subject: Its subject.
        reply: Its acknowledgement subject.
        headers: The header block (``NATS/1.0`` and what follows), or None.
        payload: Its bytes.

    Raises:
        WireError: ``reply`` is no acknowledgement subject.
    """
    reply_text = reply.decode()
    _, seq, consumer_seq, stored_ns, _ = parse_ack_subject(reply_text)
    msg_id = received_ns = message_type = tickers = None
    if headers:
        ours = _OUR_HEADERS.fullmatch(headers)
        raw_id, raw_ns, raw_type, raw_tickers = ours.groups() if ours else _any_headers(headers)
        if raw_id:
            msg_id = raw_id.decode("utf-8", "replace")
        if raw_ns:
            received_ns = _nanoseconds(raw_ns)
        if raw_type:
            message_type = decode_token(raw_type.decode("ascii", "replace"))
        if raw_tickers:
            tickers = tuple(decode_tickers(raw_tickers.decode("ascii", "replace"))) or None
    return Message(
        seq,
        consumer_seq,
        stored_ns,
        subject.decode("utf-8", "replace"),
        reply_text,
        msg_id,
        received_ns,
        message_type,
        tickers,
        payload,
    )


def _any_headers(headers: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Return our four headers out of a block written by anybody: any order, any case."""
    found: dict[bytes, bytes] = {}
    for line in headers.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        found[name.strip().lower()] = value.strip()
    return found.get(_MSG_ID, b""), found.get(_RECEIVED_NS, b""), found.get(_TYPE, b""), found.get(_TICKERS, b"")


def _nanoseconds(text: bytes) -> int | None:
    number = int(text) if text.isdigit() else None
    return number if number is not None and number < _MAX_NS else None


def subject_matches(subject: str, pattern: str) -> bool:
    """Tell whether a subject matches a filter with NATS wildcards."""
    tokens, wanted = subject.split("."), pattern.split(".")
    for place, part in enumerate(wanted):
        if part == ">":
            return len(tokens) > place
        if place >= len(tokens) or part not in ("*", tokens[place]):
            return False
    return len(tokens) == len(wanted)


class SubjectReader:
    """Reads subjects of one feed, remembering them: a feed has few, however many messages.

    Args:
        subjects: The feed's subject grammar.
        data_filter: The configured filter; data outside it is not archived.
    """

    def __init__(self, subjects: SubjectBuilder, data_filter: str) -> None:
        self._subjects = subjects
        self._filter = None if data_filter == subjects.data_filter else data_filter
        self._known: dict[str, DataSubject | CaptureSubject | None] = {}

    def read(self, subject: str) -> DataSubject | CaptureSubject | None:
        """Return what the subject names; None where it is not ours, or outside the filter."""
        try:
            return self._known[subject]
        except KeyError:
            pass
        found = self._subjects.parse(subject)
        if isinstance(found, DataSubject) and self._filter and not subject_matches(subject, self._filter):
            found = None
        if len(self._known) >= _SUBJECTS_KEPT:
            self._known.clear()
        self._known[subject] = found
        return found


def json_problem(payload: bytes) -> str | None:
    """Return why a payload is not one JSON text in UTF-8; None where it is."""
    if payload.count(b"[") + payload.count(b"{") > MAX_DEPTH and _depth(payload) > MAX_DEPTH:
        # A bound of our own: the decoder's depends on how deep it is called.
        return f"JSON nested deeper than {MAX_DEPTH} levels"
    try:
        _raw_json.decode(payload)
    except msgspec.DecodeError as error:
        return str(error)
    if not payload.isascii():
        try:
            payload.decode()
        except UnicodeDecodeError as error:
            return f"not UTF-8: {error.reason} at byte {error.start}"
    return None


def _depth(payload: bytes) -> int:
    """Return how deep brackets are nested outside of strings."""
    deepest = depth = 0
    for token in _STRING_OR_BRACKET.findall(payload):
        if token in (b"[", b"{"):
            depth += 1
            deepest = max(deepest, depth)
        elif token in (b"]", b"}"):
            depth -= 1
    return deepest


class PendingBlock(msgspec.Struct, gc=False):
    """A block ready to be written: the two members' raw bytes, the journal's lines, and what the block line tells.

    Attributes:
        data: Raw lines, each with its newline; empty where the block holds no record.
        meta: The columns' line; empty likewise.
        lines: The group's other lines, encoded.
        last_reply: Acknowledgement subject of the last message.
    """

    data: bytes
    meta: bytes
    lines: bytes
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
        self._last_msg_id = last_msg_id
        self._first_seq: int | None = None
        self._first_ns: int | None = None
        self._events = 0
        self._rejects = 0
        self._lines: list[bytes] = []
        self._columns = Columns()
        self._journal: list[bytes] = []
        self._frames: dict[str, Ranges] = {}
        self._seen_ns: dict[str, int] = {}
        self._duplicates = Ranges()
        self._filtered = Ranges()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write."""
        return not self.messages and not self._journal

    def note(self, line: IndexLine) -> None:
        """Add a line that is no message: a gap or an anomaly."""
        self._journal.append(encode_line(line))

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
        self._last_msg_id = message.msg_id

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
            self._journal.append(encode_line(line))
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
            subject=message.subject,
            msg_id=message.msg_id,
            data=base64.b64encode(message.payload).decode(),
            reason=reason,
        )
        self._journal.append(encode_line(line))

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
        self._lines.append(payload)
        self.raw_bytes += len(payload) + 1
        columns.seq.append(message.seq)
        columns.stored_ns.append(message.stored_ns)
        columns.received_ns.append(message.received_ns)
        columns.type.append(message.type or subject.type)
        ticker: Ticker = subject.ticker
        if message.tickers is not None:
            ticker = message.tickers[0] if len(message.tickers) == 1 else message.tickers
        columns.ticker.append(ticker)
        columns.connection.append(connection)
        columns.frame_no.append(frame_no)
        if connection is not None and frame_no is not None:
            ranges = self._frames.get(connection)
            if ranges is None:
                ranges = self._frames[connection] = Ranges()
            ranges.add(frame_no)
            self._seen_ns[connection] = seen_ns or message.stored_ns

    def take(self) -> PendingBlock:
        """Return the block gathered; the builder is used up."""
        columns = self._columns
        by_type: dict[str, int] = {}
        for name in columns.type:
            by_type[name] = by_type.get(name, 0) + 1
        tickers: set[str] = set()
        for ticker in set(columns.ticker):
            if isinstance(ticker, str):
                tickers.add(ticker)
            elif ticker is not None:
                tickers.update(ticker)
        return PendingBlock(
            data=b"\n".join(self._lines) + b"\n" if self._lines else b"",
            meta=encode_columns(columns) if self._lines else b"",
            lines=b"".join(self._journal),
            records=len(self._lines),
            events=self._events,
            rejects=self._rejects,
            first_seq=self._first_seq,
            last_seq=self.position,
            first_ns=self._first_ns,
            last_ns=self.last_ns,
            stored=_range(columns.stored_ns),
            received=_range([ns for ns in columns.received_ns if ns is not None]),
            records_by_type=by_type,
            tickers=sorted(tickers),
            frames={key: ranges.pairs() for key, ranges in sorted(self._frames.items())},
            seen_ns=dict(sorted(self._seen_ns.items())),
            duplicates=self._duplicates.pairs(),
            filtered=self._filtered.pairs(),
            last_msg_id=self._last_msg_id,
            last_reply=self.last_reply,
        )


def _range(times_ns: list[int]) -> tuple[int, int] | None:
    """Return the half-open range of times: clocks step back, so neither end need be the first or the last."""
    return (min(times_ns), max(times_ns) + 1) if times_ns else None
