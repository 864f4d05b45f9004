from __future__ import annotations

from struct import Struct
from typing import Any

import pytest

from ssmd_connector import spool_records
from ssmd_connector.capture import Message
from ssmd_connector.spool_records import decode_record, encode_record, next_record

HEADERS = b"NATS/1.0\r\n\r\n"


def test_a_record_behind_a_damaged_one_is_found_without_a_look_at_all_before_every_header(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = 0

    class Counted(Struct):
        def unpack_from(self, *args: Any) -> tuple[Any, ...]:
            nonlocal looks
            looks += 1
            return super().unpack_from(*args)

    looks_like_headers = Message(b"dev.x.json.trade.A", HEADERS, b"NATS/1.0\r\n" * 1000, 1, 1)
    whole = Message(b"dev.x.json.trade.B", HEADERS, b"{}", 1, 2)
    damaged = b"\xff" + encode_record(looks_like_headers)[1:]
    monkeypatch.setattr(spool_records, "_HEAD", Counted(spool_records._HEAD.format))
    behind = next_record(damaged + encode_record(whole), 1)
    assert behind == len(damaged)
    assert decode_record(encode_record(whole), 0, own=True) == (whole, len(encode_record(whole)))
    assert looks < 20_000
