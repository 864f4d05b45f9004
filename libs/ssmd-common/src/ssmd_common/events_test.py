from __future__ import annotations

import json

from ssmd_common import events


def test_an_event_carries_its_kind_and_comes_back() -> None:
    closed = events.ConnectionClosed(
        session="host-01J",
        connection=2,
        at_ns=5,
        cause="peer_closed",
        frames=9,
        acked_through=7,
        lost=[(8, 10)],
    )
    payload = events.encode_event(closed)
    assert json.loads(payload)["event"] == "connection_closed" == events.event_name(closed)
    assert events.decode_event(payload) == closed


def test_a_field_of_a_later_version_is_ignored() -> None:
    payload = b'{"event":"exchange_resynced","session":"s","at_ns":1,"gap_no":3,"key":"sid:1","new":true}'
    assert events.decode_event(payload) == events.ExchangeResynced(session="s", at_ns=1, gap_no=3, key="sid:1")


def test_an_unknown_or_damaged_event_is_no_event() -> None:
    for payload in (b"", b"{}", b'{"event":"novel","session":"s","at_ns":1}', b"\xff", b"[" * 100_000):
        assert events.decode_event(payload) is None
