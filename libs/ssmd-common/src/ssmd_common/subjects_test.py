from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_common.errors import WireError
from ssmd_common.subjects import (
    CaptureSubject,
    DataSubject,
    SubjectBuilder,
    decode_token,
    encode_token,
    parse_filter,
)

PROD = SubjectBuilder("prod", "kalshi")


def test_subjects_are_the_plans() -> None:
    assert PROD.json_trade("INXD-25001") == "prod.kalshi.json.trade.INXD-25001"
    assert PROD.json_ticker("KXBTC-25001") == "prod.kalshi.json.ticker.KXBTC-25001"
    assert PROD.json_orderbook("KXBTC-25001") == "prod.kalshi.json.orderbook.KXBTC-25001"


def test_a_dot_in_a_ticker_stays_one_token() -> None:
    subject = PROD.json_orderbook("KXHIGHCHI-26APR20-B55.5")
    assert subject == "prod.kalshi.json.orderbook.KXHIGHCHI-26APR20-B55%2E5"
    assert PROD.parse(subject) == DataSubject("orderbook", "KXHIGHCHI-26APR20-B55.5")


@settings(deadline=None)
@given(st.text(min_size=1, max_size=60))
def test_every_text_survives_as_one_safe_token(text: str) -> None:
    token = encode_token(text)
    assert re.fullmatch(r"[!-~]+", token)
    assert not set(token) & set(".*>")
    assert decode_token(token) == text


@settings(deadline=None)
@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
def test_different_tickers_never_share_a_token(a: str, b: str) -> None:
    assert (encode_token(a) == encode_token(b)) == (a == b)


@settings(deadline=None)
@given(st.text(min_size=1, max_size=30), st.none() | st.text(min_size=1, max_size=30))
def test_type_and_ticker_come_back_from_the_subject(message_type: str, ticker: str | None) -> None:
    assert PROD.parse(PROD.json(message_type, ticker)) == DataSubject(message_type, ticker)


def test_a_ticker_named_like_the_absent_one_is_kept_apart() -> None:
    assert PROD.json("trade", "_") != PROD.json("trade", None)


def test_a_prefix_replaces_env_and_feed() -> None:
    builder = SubjectBuilder("prod", "kalshi", prefix="eu.prod.kalshi.shard1")
    assert builder.capture("heartbeat") == "eu.prod.kalshi.shard1.capture.heartbeat"
    assert builder.parse("eu.prod.kalshi.shard1.capture.heartbeat") == CaptureSubject("heartbeat")
    assert builder.parse("prod.kalshi.json.trade.X") is None


@pytest.mark.parametrize("prefix", ["prod.*", "prod..kalshi", "prod.>", "prod.kal shi"])
def test_an_unsafe_prefix_is_refused(prefix: str) -> None:
    with pytest.raises(WireError, match="unsafe token"):
        SubjectBuilder("prod", "kalshi", prefix=prefix)


def test_a_token_too_long_for_a_control_line_is_refused() -> None:
    with pytest.raises(WireError, match="limit 512"):
        encode_token("x" * 513)


def test_env_and_feed_come_from_the_literal_tokens_of_a_filter() -> None:
    assert parse_filter("prod.kalshi.json.>") == ("prod", "kalshi")
    assert parse_filter("prod.kalshi.json.trade.>") == ("prod", "kalshi")


@pytest.mark.parametrize("subject_filter", ["prod.*.json.>", "*.kalshi.json.>", ">", "prod.kalshi", "a.b.c.>"])
def test_a_filter_that_names_no_single_feed_is_refused(subject_filter: str) -> None:
    with pytest.raises(WireError, match="does not name one environment and feed"):
        parse_filter(subject_filter)
