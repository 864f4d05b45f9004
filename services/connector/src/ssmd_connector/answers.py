"""What JetStream answers to a published message, and what follows from it. Pure."""

from __future__ import annotations

from enum import Enum

import msgspec

__all__ = ["DUPLICATE", "STORED", "Answer", "Verdict", "read_answer"]

#: The stream's own bound, then what server, node and account have for all streams.
_STREAM_FULL = frozenset({10077, 10047, 10023, 10002})
_TOO_LARGE = 10054
_BAD_REQUEST = 400
_BUSY = 429
_UNAVAILABLE = 503


class Verdict(Enum):
    """What an answer means for its message; the values name it in logs and metrics."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    FULL = "full"
    TOO_LARGE = "too_large"
    NO_STREAM = "no_stream"
    BUSY = "busy"
    INVALID = "invalid"
    OTHER_STREAM = "other_stream"
    OTHER = "other"

    @property
    def retry_after_s(self) -> float:
        """How long to wait before the message is sent again."""
        return 0.2 if self is Verdict.BUSY else 2.0

    @property
    def is_about_the_message(self) -> bool:
        """Whether waiting alone heals nothing: it is this message the stream does not take."""
        return self in (Verdict.TOO_LARGE, Verdict.INVALID)


class Answer(msgspec.Struct, frozen=True):
    """An answer, read."""

    verdict: Verdict
    text: str = ""


class _Error(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _PubAck(msgspec.Struct, gc=False):
    error: _Error | None = None
    stream: str = ""
    seq: int = 0
    duplicate: bool = False


_decode = msgspec.json.Decoder(_PubAck).decode
_STATUS_LINE = b"NATS/1.0 "
STORED = Answer(Verdict.STORED)
"""The one answer that says the message is stored."""
DUPLICATE = Answer(Verdict.DUPLICATE)
"""The one answer that says the message was there already."""


def read_answer(headers: bytes | None, payload: bytes, stream: str) -> Answer:
    """Read what came to a message's reply subject: a PubAck of ``stream``, an error, or the server's own status."""
    if headers is not None and headers.startswith(_STATUS_LINE):
        return _read_status(headers)
    try:
        ack = _decode(payload)
    except msgspec.DecodeError:
        return Answer(Verdict.OTHER, "an answer that is no PubAck")
    if ack.error is not None:
        return Answer(_verdict(ack.error), f"{ack.error.description} ({ack.error.err_code or ack.error.code})")
    if ack.seq <= 0:
        return Answer(Verdict.OTHER, "an answer without a sequence")
    if ack.stream != stream:
        return Answer(Verdict.OTHER_STREAM, f"stored in stream {ack.stream}, not in {stream}")
    return DUPLICATE if ack.duplicate else STORED


def _read_status(headers: bytes) -> Answer:
    status = headers[len(_STATUS_LINE) :].split(b"\r\n", 1)[0].decode("utf-8", "replace")
    match status[:3]:
        case "503":
            return Answer(Verdict.NO_STREAM, "no stream takes this subject")
        case "429":
            return Answer(Verdict.BUSY, "too many requests")
        case _:
            return Answer(Verdict.OTHER, status)


def _verdict(error: _Error) -> Verdict:
    if error.err_code in _STREAM_FULL:
        return Verdict.FULL
    if error.err_code == _TOO_LARGE:
        return Verdict.TOO_LARGE
    if error.code == _BUSY:
        return Verdict.BUSY
    if error.code == _BAD_REQUEST:
        return Verdict.INVALID
    return Verdict.NO_STREAM if error.code == _UNAVAILABLE and not error.err_code else Verdict.OTHER
