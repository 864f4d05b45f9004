from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_common.events import Control, FrameOversize, FrameUnparsed, decode_event
from ssmd_common.frames import decode_tickers
from ssmd_common.subjects import DataSubject, SubjectBuilder
from ssmd_connector.capture import Capture, Message
from ssmd_connector.venues.kalshi import KalshiVenue
from ssmd_connector.venues.venue import Kind, Route

SUBJECTS = SubjectBuilder("prod", "kalshi")
VENUE = KalshiVenue()


def made(frame: bytes, route: Route | None = None, limit: int = 1 << 20) -> Message:
    capture = Capture("host-1", SUBJECTS)
    return capture.frame(route or VENUE.route(frame), frame, connection=2, frame_no=7, received_ns=42, limit=limit)


def headers(message: Message) -> dict[str, str]:
    first, *lines = message.headers.decode().split("\r\n")
    assert first == "NATS/1.0"
    return dict(line.split(": ", 1) for line in lines if line)


def test_data_keeps_its_bytes_and_carries_its_identity() -> None:
    frame = b'{"type":"orderbook_delta","sid":1,"seq":2,"msg":{"market_ticker":"KXHIGHCHI-26APR20-B55.5"}}'
    message = made(frame)
    assert message.subject == b"prod.kalshi.json.orderbook.KXHIGHCHI-26APR20-B55%2E5"
    assert message.payload == frame
    expected = {"Nats-Msg-Id": "host-1.2.7", "Ssmd-Received-Ns": "42", "Ssmd-Type": "orderbook_delta"}
    assert headers(message) == expected


def test_several_tickers_stand_in_the_header_and_none_in_the_subject() -> None:
    message = made(b"{}", Route(Kind.DATA, "trade", "trade", None, ("BTC/USD", "A,B")))
    assert message.subject == b"prod.kalshi.json.trade._"
    assert decode_tickers(headers(message)["Ssmd-Tickers"]) == ["BTC/USD", "A,B"]


def test_names_too_long_for_a_subject_never_cost_the_frame() -> None:
    long_ticker = made(b"{}", Route(Kind.DATA, "trade", "trade", "T" * 600))
    assert long_ticker.subject == b"prod.kalshi.json.trade._"
    assert decode_tickers(headers(long_ticker)["Ssmd-Tickers"]) == ["T" * 600]
    endless = made(b"{}", Route(Kind.DATA, "trade", "trade", "T" * 40_000))
    assert "Ssmd-Tickers" not in headers(endless)
    assert endless.payload == b"{}"
    long_type = made(b"{}", Route(Kind.DATA, "t" * 600, "t" * 600, "A"))
    assert long_type.subject == b"prod.kalshi.json.untyped.A"
    assert headers(long_type)["Ssmd-Type"] == "untyped"


def test_control_travels_as_exact_text_and_as_base64_where_it_is_none() -> None:
    event = decode_event(made('{"type":"ok", "x":"é"}'.encode()).payload)
    assert isinstance(event, Control)
    assert (event.frame, event.base64, event.frame_no) == ('{"type":"ok", "x":"é"}', False, 7)
    odd = decode_event(made(b"\xff", Route(Kind.CONTROL, "ok", "ok")).payload)
    assert isinstance(odd, Control)
    assert (base64.b64decode(odd.frame), odd.base64) == (b"\xff", True)


def test_an_unreadable_frame_is_kept_whole() -> None:
    event = decode_event(made(b"\x00\xff{").payload)
    assert isinstance(event, FrameUnparsed)
    assert base64.b64decode(event.data) == b"\x00\xff{"


def test_a_frame_too_large_is_told_of_under_its_own_identity() -> None:
    frame = b'{"type":"trade","msg":{"market_ticker":"A","x":"' + b"x" * 2000 + b'"}}'
    message = made(frame, limit=1000)
    event = decode_event(message.payload)
    assert isinstance(event, FrameOversize)
    assert (event.frame_no, event.length, event.limit) == (7, len(frame), 1000)
    assert event.sha256 == hashlib.sha256(frame).hexdigest()
    assert headers(message)["Nats-Msg-Id"] == "host-1.2.7"
    assert message.is_oversize


@pytest.mark.parametrize(
    "frame",
    [b'{"type":"ok","x":"' + b"x" * 2000 + b'"}', b"\x00\xff" + b"x" * 2000, b'{"type":"trade"}' + b" " * 2000],
    ids=["control", "unparsed", "data"],
)
def test_what_stands_for_a_message_too_large_tells_of_the_frame_in_it(frame: bytes) -> None:
    event = decode_event(Capture("host-2", SUBJECTS).substitute(made(frame), 1000).payload)
    assert isinstance(event, FrameOversize)
    assert (event.session, event.connection, event.frame_no, event.at_ns) == ("host-1", 2, 7, 42)
    assert (event.length, event.sha256) == (len(frame), hashlib.sha256(frame).hexdigest())


@settings(deadline=None)
@given(st.text(min_size=1, max_size=40), st.one_of(st.none(), st.text(min_size=1, max_size=40)))
def test_any_type_and_ticker_make_one_subject_that_reads_back(kind: str, ticker: str | None) -> None:
    message = made(b"{}", Route(Kind.DATA, kind, kind, ticker))
    assert SUBJECTS.parse(message.subject.decode("ascii")) == DataSubject(kind, ticker)
    assert message.headers.count(b"\r\n") == 5
