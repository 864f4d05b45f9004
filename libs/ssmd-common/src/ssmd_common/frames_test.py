from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ssmd_common.errors import WireError
from ssmd_common.frames import EventId, FrameId, decode_tickers, encode_tickers, instance_name, parse_msg_id

sessions = st.from_regex(r"\A[A-Za-z0-9_-]{1,30}-[0-9A-HJKMNP-TV-Z]{26}\Z")


@settings(deadline=None)
@given(sessions, st.integers(1, 10**8), st.integers(1, 10**17))
def test_a_frame_id_comes_back_from_its_message_id(session: str, connection: int, frame_no: int) -> None:
    frame = FrameId(session, connection, frame_no)
    assert parse_msg_id(str(frame)) == frame


@settings(deadline=None)
@given(sessions, st.integers(0, 10**8), st.integers(1, 10**17))
def test_an_event_id_comes_back_and_is_never_a_frame(session: str, connection: int, event_no: int) -> None:
    event = EventId(session, connection, event_no)
    assert parse_msg_id(str(event)) == event


@pytest.mark.parametrize("text", ["", "abc", "a.b.c", "s.1.0", "s.1.-1", "s.01.1", "s.1.e", ".1.1", "s.1.٣"])
def test_a_foreign_message_id_is_not_taken_for_a_frame(text: str) -> None:
    assert parse_msg_id(text) is None


@settings(deadline=None)
@given(st.lists(st.text(min_size=1, max_size=20), max_size=6))
@example(["x." * 600, "_"])
def test_tickers_survive_the_header(tickers: list[str]) -> None:
    value = encode_tickers(tickers)
    assert value.isascii()
    assert not set(value) & set("\r\n ")
    assert decode_tickers(value) == tickers


def test_a_host_name_becomes_an_instance_name() -> None:
    assert instance_name("web-1.eu.example.com") == "web-1-eu-example-com"


def test_a_name_with_nothing_usable_is_refused() -> None:
    with pytest.raises(WireError, match="no letter or digit"):
        instance_name("...")
