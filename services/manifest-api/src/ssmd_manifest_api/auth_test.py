from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_manifest_api.auth import Grant, Guard, hash_token, new_token
from ssmd_manifest_api.config import TokenEntry

TOKEN, OTHER = new_token(), new_token()
GUARD = Guard(
    [
        TokenEntry(name="ann", sha256=hash_token(TOKEN), feeds=("kalshi",)),
        TokenEntry(name="ben", sha256=hash_token(OTHER), feeds="all"),
    ]
)


def basic(text: str) -> bytes:
    return b"Basic " + base64.b64encode(text.encode())


@pytest.mark.parametrize(
    ("value", "grant"),
    [
        (f"Bearer {TOKEN}".encode(), Grant(frozenset({"kalshi"}))),
        (f"bearer  {TOKEN} ".encode(), Grant(frozenset({"kalshi"}))),
        (f"Bearer {OTHER}".encode(), Grant(None)),
        (basic(f"anybody:{TOKEN}"), Grant(frozenset({"kalshi"}))),
        (basic(f":{OTHER}"), Grant(None)),
        (f"Bearer {TOKEN}x".encode(), None),
        (f"Bearer {TOKEN[:-1]}".encode(), None),
        (f"Bearer {hash_token(TOKEN)}".encode(), None),
        (b"Bearer ", None),
        (b"Bearer", None),
        (b"", None),
        (TOKEN.encode(), None),
        (f"Token {TOKEN}".encode(), None),
        (basic(TOKEN), None),
        (b"Basic !!!", None),
        (b"Basic \xff", None),
        (b"Bearer " + b"x" * 5_000, None),
    ],
)
def test_only_a_known_token_opens(value: bytes, grant: Grant | None) -> None:
    assert GUARD.grant([(b"host", b"x"), (b"authorization", value)]) == grant


def test_no_token_and_two_tokens_open_nothing() -> None:
    assert GUARD.grant([]) is None
    twice = [(b"authorization", f"Bearer {token}".encode()) for token in (TOKEN, OTHER)]
    assert GUARD.grant(twice) is None


def test_without_known_tokens_everything_is_open() -> None:
    guard = Guard()
    assert guard.open
    assert guard.grant([(b"authorization", b"Bearer whatever")]) == Grant(None)


@settings(deadline=None)
@given(st.binary())
def test_nothing_sent_raises(value: bytes) -> None:
    assert GUARD.grant([(b"authorization", value)]) is None


def test_a_token_is_long_new_each_time_and_known_by_its_hash() -> None:
    assert len({new_token() for _ in range(100)}) == 100
    assert len(TOKEN) > 40
    assert hash_token(TOKEN) == hashlib.sha256(TOKEN.encode()).hexdigest()


def test_a_guard_shows_no_token_and_no_hash() -> None:
    assert TOKEN not in repr(vars(GUARD))
