from __future__ import annotations

import pytest

from ssmd_common.errors import WireError
from ssmd_common.nats.acks import Delivery, parse_ack_subject

EXPECTED = Delivery(delivered=2, stream_seq=37, consumer_seq=41, stored_ns=1_700_000_000_123_456_789, pending=5)


def test_a_delivery_is_read_from_the_plain_subject() -> None:
    assert parse_ack_subject("$JS.ACK.PROD_KALSHI.arch.2.37.41.1700000000123456789.5") == EXPECTED


def test_a_delivery_is_read_from_the_subject_with_domain() -> None:
    assert parse_ack_subject("$JS.ACK.hub.ACCHASH.PROD_KALSHI.arch.2.37.41.1700000000123456789.5") == EXPECTED
    assert parse_ack_subject("$JS.ACK._.ACCHASH.PROD_KALSHI.arch.2.37.41.1700000000123456789.5.token") == EXPECTED


@pytest.mark.parametrize(
    "reply", ["", "_INBOX.x.y", "$JS.ACK.S.C.1.2.3.4", "$JS.ACK.S.C.a.b.c.d.e", "$JS.ACK.1.2.3.4.5.6.7.8"]
)
def test_another_subject_is_refused(reply: str) -> None:
    with pytest.raises(WireError, match="not a JetStream"):
        parse_ack_subject(reply)
