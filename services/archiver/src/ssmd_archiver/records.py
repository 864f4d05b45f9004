"""From a delivered message to what is kept of it (pure): parse what placing it needs, archive the bytes.

A message becomes a *record* (a line of the data file), a *capture event*, or a *reject* (a payload that is not
JSON); it may also be *filtered* by configuration. :class:`~ssmd_archiver.blocks.BlockBuilder` gathers them into the
next block. :mod:`ssmd_archiver.runs` reads many at once where all are plain records.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from ssmd_common.frames import (
    MSG_ID_HEADER,
    RECEIVED_NS_HEADER,
    REPLAY_OF_HEADER,
    TICKERS_HEADER,
    TYPE_HEADER,
    decode_tickers,
)
from ssmd_common.nats.acks import parse_ack_subject
from ssmd_common.subjects import CaptureSubject, DataSubject, SubjectBuilder, decode_token

__all__ = [
    "MAX_NS",
    "Message",
    "SubjectReader",
    "are_json",
    "json_problem",
    "parse_message",
    "read_tickers",
    "subject_matches",
]

_MSG_ID = MSG_ID_HEADER.lower().encode()
_RECEIVED_NS = RECEIVED_NS_HEADER.lower().encode()
_TYPE = TYPE_HEADER.lower().encode()
_TICKERS = TICKERS_HEADER.lower().encode()
_SUBJECTS_KEPT = 1 << 17
MAX_NS = 1 << 62
"""No time of ours lies beyond it."""

_OUR_HEADERS = re.compile(
    f"NATS/1.0\r\n{MSG_ID_HEADER}: ([^\r\n]+)\r\n{RECEIVED_NS_HEADER}: ([0-9]+)\r\n"
    f"(?:{TYPE_HEADER}: ([^\r\n]+)\r\n)?(?:{TICKERS_HEADER}: ([^\r\n]+)\r\n)?"
    f"(?:{REPLAY_OF_HEADER}: [^\r\n]+\r\n)?\r\n".encode()
)
"""The block as our connector writes it; any other is read by :func:`_any_headers`, more slowly."""

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
    subject: bytes
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
            tickers = read_tickers(raw_tickers)
    return Message(
        seq,
        consumer_seq,
        stored_ns,
        subject,
        reply_text,
        msg_id,
        received_ns,
        message_type,
        tickers,
        payload,
    )


def read_tickers(value: bytes) -> tuple[str, ...] | None:
    """Return the tickers a header names; None where it names none."""
    return tuple(decode_tickers(value.decode("ascii", "replace"))) or None


def _any_headers(headers: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Return our four headers out of a block written by anybody: any order, any case."""
    found: dict[bytes, bytes] = {}
    for line in headers.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        found[name.strip().lower()] = value.strip()
    return found.get(_MSG_ID, b""), found.get(_RECEIVED_NS, b""), found.get(_TYPE, b""), found.get(_TICKERS, b"")


def _nanoseconds(text: bytes) -> int | None:
    number = int(text) if text.isdigit() else None
    return number if number is not None and number < MAX_NS else None


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
        self._known: dict[bytes, DataSubject | CaptureSubject | None] = {}

    def read(self, subject: bytes) -> DataSubject | CaptureSubject | None:
        """Return what the subject names; None where it is not ours, or outside the filter."""
        try:
            return self._known[subject]
        except KeyError:
            pass
        text = subject.decode("utf-8", "replace")
        found = self._subjects.parse(text)
        if isinstance(found, DataSubject) and self._filter and not subject_matches(text, self._filter):
            found = None
        if len(self._known) >= _SUBJECTS_KEPT:
            self._known.clear()
        self._known[subject] = found
        return found

    def read_all(self, subjects: Sequence[bytes]) -> list[DataSubject | CaptureSubject | None]:
        """Return what each subject names, as :meth:`read` does."""
        try:
            return [self._known[subject] for subject in subjects]
        except KeyError:
            return list(map(self.read, subjects))


def json_problem(payload: bytes) -> str | None:
    """Return why a payload is not one JSON text in UTF-8; None where it is."""
    if _is_too_deep(payload):
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


def are_json(payloads: Sequence[bytes], joined: bytes) -> bool:
    """Tell whether :func:`json_problem` finds nothing in any payload, for far less than asking it of each.

    Args:
        payloads: The payloads, at least one.
        joined: All of them, one after the other, with ASCII in between.
    """
    if any(_is_too_deep(payload) for payload in payloads if len(payload) > MAX_DEPTH):
        return False
    try:
        for payload in payloads:
            _raw_json.decode(payload)
        if not joined.isascii():
            joined.decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


def _is_too_deep(payload: bytes) -> bool:
    if len(payload) <= MAX_DEPTH or payload.count(b"[") + payload.count(b"{") <= MAX_DEPTH:
        return False
    return _depth(payload) > MAX_DEPTH


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
