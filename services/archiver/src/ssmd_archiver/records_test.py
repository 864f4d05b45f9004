from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_archiver.blocks import BlockBuilder
from ssmd_archiver.records import SubjectReader, json_problem, parse_message, subject_matches
from ssmd_common.archive.columns import decode_columns
from ssmd_common.archive.reader import restore_newlines
from ssmd_common.subjects import DataSubject, SubjectBuilder

REPLY = b"$JS.ACK.PROD_KALSHI.arch.1.%d.%d.1700000000000000000.0"
TRADE = DataSubject("trade", "KX")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def test_our_headers_are_read_whatever_their_case_and_order() -> None:
    headers = (
        b"NATS/1.0\r\nssmd-type: orderbook_delta\r\nNATS-MSG-ID: s.1.2\r\nSsmd-Received-Ns: 17\r\nOther: x\r\n\r\n"
    )
    message = parse_message(b"prod.kalshi.json.orderbook.A", REPLY % (7, 3), headers, b"{}")
    assert (message.msg_id, message.type, message.received_ns, message.seq, message.consumer_seq) == (
        "s.1.2",
        "orderbook_delta",
        17,
        7,
        3,
    )


@pytest.mark.parametrize("value", [b"-5", b"abc", b"", b"9" * 40])
def test_a_foreign_receive_time_is_no_time(value: bytes) -> None:
    headers = b"NATS/1.0\r\nSsmd-Received-Ns: " + value + b"\r\n\r\n"
    assert parse_message(b"a.b.json.t.x", REPLY % (1, 1), headers, b"").received_ns is None


@pytest.mark.parametrize(
    ("subject", "pattern", "matches"),
    [
        ("a.b.json.trade.X", "a.b.json.>", True),
        ("a.b.json.trade.X", "a.b.json.trade.*", True),
        ("a.b.json.trade.X", "a.b.json.ticker.>", False),
        ("a.b.json", "a.b.json.>", False),
        ("a.b.json.trade", "a.*.json.trade", True),
    ],
)
def test_filters_match_as_nats_matches_them(subject: str, pattern: str, *, matches: bool) -> None:
    assert subject_matches(subject, pattern) is matches


def test_a_narrower_filter_leaves_other_data_out_and_no_capture_event() -> None:
    reader = SubjectReader(SubjectBuilder("prod", "kalshi"), "prod.kalshi.json.trade.>")
    assert reader.read(b"prod.kalshi.json.trade.X") == DataSubject("trade", "X")
    assert reader.read(b"prod.kalshi.json.ticker.X") is None
    assert reader.read(b"prod.kalshi.capture.heartbeat") is not None


@pytest.mark.parametrize(
    "payload", [b"", b"nope", b'{"a":"\xff"}', b"{} {}", b"NaN", b"[" * 100_000, b'{"a":"x\ny"}', b"\xef\xbb\xbf{}"]
)
def test_what_is_no_json_text_is_told(payload: bytes) -> None:
    assert json_problem(payload)


def test_the_deepest_json_taken_is_the_same_however_deep_the_call() -> None:
    def called(levels: int, payload: bytes) -> str | None:
        return called(levels - 1, payload) if levels else json_problem(payload)

    deepest, deeper = b"[" * 500 + b"]" * 500, b"[" * 501 + b"]" * 501
    for levels in (0, 300):
        assert called(levels, deepest) is None
        assert called(levels, deeper) == "JSON nested deeper than 500 levels"
    assert json_problem(b'["' + b"[" * 10_000 + b'"]') is None, "brackets in a string nest nothing"


@settings(deadline=None)
@given(json_values, st.sampled_from([None, 2]))
def test_every_json_text_is_one_line_and_comes_back_byte_for_byte(value: object, indent: int | None) -> None:
    payload = json.dumps(value, indent=indent, ensure_ascii=False).encode("utf-8", "surrogatepass")
    if json_problem(payload):
        return
    builder = BlockBuilder(None)
    message = parse_message(b"prod.kalshi.json.trade.KX", REPLY % (1, 1), None, payload)
    builder.add_record(message, TRADE, None, None)
    block = builder.take()
    line, _, rest = block.data.partition(b"\n")
    assert rest == b""
    assert json.loads(line) == json.loads(payload)
    columns = decode_columns(block.meta.rstrip(b"\n"), where="")
    assert restore_newlines(line, columns.newlines.get(0, [])) == payload


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 10**12),
            st.none() | st.integers(0, 2**61),
            st.text(min_size=1, max_size=8),
            st.none() | st.text(min_size=1, max_size=8) | st.tuples(st.text(min_size=1), st.text(min_size=1)),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_columns_come_back_as_they_went(
    rows: list[tuple[int, int | None, str, str | tuple[str, ...] | None]],
) -> None:
    builder = BlockBuilder(None)
    for seq, received_ns, kind, ticker in rows:
        message = parse_message(b"prod.kalshi.json.trade.KX", REPLY % (seq, 1), None, b"{}")
        message.received_ns, message.type = received_ns, kind
        if isinstance(ticker, tuple):
            message.tickers = ticker
        single = ticker if isinstance(ticker, str) else None
        builder.add_record(message, DataSubject(kind, single), "s.1" if received_ns else None, received_ns)
    block = builder.take()
    columns = decode_columns(block.meta.rstrip(b"\n"), where="")
    assert columns.seq == [row[0] for row in rows]
    assert columns.received_ns == [row[1] for row in rows]
    assert columns.type == [row[2] for row in rows]
    assert columns.ticker == [row[3] for row in rows]
    assert sum(block.records_by_type.values()) == len(rows) == block.records


def test_a_payload_that_is_no_json_is_kept_in_the_index() -> None:
    builder = BlockBuilder(None)
    message = parse_message(b"prod.kalshi.json.trade.KX", REPLY % (4, 1), None, b"\xff\x00")
    builder.add_reject(message, "not JSON")
    block = builder.take()
    line = json.loads(block.lines)
    assert (line["kind"], line["seq"], base64.b64decode(line["data"])) == ("reject", 4, b"\xff\x00")
    assert (block.records, block.rejects, block.first_seq, block.last_seq) == (0, 1, 4, 4)
