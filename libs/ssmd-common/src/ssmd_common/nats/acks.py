"""What JetStream tells about a delivered message, read from its reply subject.

``$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<timestamp ns>.<pending>``; a second form puts
``<domain>.<account hash>`` after ``ACK`` and may append tokens. Indices count from the front, never from the end.
"""

from __future__ import annotations

from typing import NamedTuple

from ssmd_common.errors import WireError

__all__ = ["Delivery", "parse_ack_subject"]

_PLAIN_TOKENS = 9
_DOMAIN_TOKENS = 11


class Delivery(NamedTuple):
    """One delivery of a stream message.

    Attributes:
        delivered: How often this message was delivered, from 1.
        stream_seq: Its sequence in the stream.
        consumer_seq: Number of this delivery on the consumer; contiguous within one consumer's life.
        stored_ns: When the server stored it.
        pending: Messages still to be delivered; says nothing of loss.
    """

    delivered: int
    stream_seq: int
    consumer_seq: int
    stored_ns: int
    pending: int


def parse_ack_subject(reply: str) -> Delivery:
    """Read a delivery from its reply subject.

    Raises:
        WireError: It is no acknowledgement subject.
    """
    tokens = reply.split(".")
    base = 2 if len(tokens) == _PLAIN_TOKENS else 4
    if len(tokens) < _PLAIN_TOKENS or (base == 4 and len(tokens) < _DOMAIN_TOKENS):  # noqa: PLR2004 - the base above
        raise WireError("not a JetStream acknowledgement subject", where=reply[:80])
    try:
        return Delivery(
            int(tokens[base + 2]),
            int(tokens[base + 3]),
            int(tokens[base + 4]),
            int(tokens[base + 5]),
            int(tokens[base + 6]),
        )
    except ValueError:
        raise WireError("not a JetStream acknowledgement subject", where=reply[:80]) from None
