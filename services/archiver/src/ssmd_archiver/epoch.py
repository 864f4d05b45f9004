"""Is it still the same stream (pure)? An epoch is one life of a stream, in which a sequence names one message.

A stream recreated under its name starts again at 1; one rolled back (its files restored, or an unsynced tail lost
in a power cut) gives sequences out twice. Position and stream are compared at the start and at each reconnect.
"""

from __future__ import annotations

from dataclasses import dataclass

from ssmd_common.nats.streams import StoredMessage, StreamInfo

__all__ = ["Position", "Verdict", "same_message", "stream_verdict"]


@dataclass(frozen=True, slots=True)
class Position:
    """How far the archive is.

    Attributes:
        epoch: The life of the stream.
        created: The stream's creation time, as the server writes it.
        seq: Highest sequence that is archived or in a recorded gap; None while there is none in this epoch.
        stored_ns: Server time of the last message archived; None where the epoch has none.
        msg_id: Message id of the last message archived; None where it has none.
        message_seq: Sequence of that message; differs from ``seq`` after a gap.
    """

    epoch: int
    created: str
    seq: int | None
    stored_ns: int | None = None
    msg_id: str | None = None
    message_seq: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the stream; ``new_epoch`` is the cause where it is another one now."""

    new_epoch: str | None = None


def same_message(position: Position, stored: StoredMessage) -> bool:
    """Tell whether the stream's message at ``position.message_seq`` is the one archived."""
    return stored.stored_ns == position.stored_ns and stored.headers.get("Nats-Msg-Id") == position.msg_id


def stream_verdict(position: Position, info: StreamInfo, at_position: StoredMessage | None) -> Verdict:
    """Compare the archive's position with the stream.

    Args:
        position: Where the archive is.
        info: The stream as the server describes it now.
        at_position: The stream's message at ``position.message_seq``; None where it holds none there.
    """
    if info.created != position.created:
        return Verdict("stream_recreated")
    if position.seq is not None and info.last_seq < position.seq:
        return Verdict("stream_rolled_back")
    if at_position is not None and not same_message(position, at_position):
        return Verdict("stream_rolled_back")
    return Verdict()
