from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_manifest_api.traversal import tries_to_leave


@pytest.mark.parametrize(
    "path",
    [
        "/files/../../etc/passwd",
        "/manifests/..",
        "/./manifests",
        "/manifests/%2e%2e/2026-11-23",
        "/manifests/%2E%2E%2F%2E%2E%2Fetc/2026-11-23",
        "/manifests/%252e%252e%252fetc/2026-11-23",
        "/manifests/%25252e%25252e/x",
        "/manifests/..%2f..%2fetc/2026-11-23",
        "/manifests/..\\..\\etc/2026-11-23",
        "/manifests/%5c%5cserver/2026-11-23",
        "/manifests/%c0%ae%c0%ae/%c0%af",
        "/manifests/%e0%80%ae%e0%80%ae/x",
        "/manifests/%EF%BC%8E%EF%BC%8E/x",
        "/manifests/%E2%80%A5/x",
        "/files/kalshi/2026-11-23/%EF%BC%8Fetc%EF%BC%8Fpasswd",
        "/files/kalshi/2026-11-23/x%E2%88%95y",
        "/files/kalshi/2026-11-23/0615.jsonl.gz%00",
        "/files/kalshi/2026-11-23/0615.jsonl.gz\0.txt",
        "/files/..;/..;/etc",
        "/files/.%2e/x",
    ],
)
def test_an_attempt_is_seen_whatever_it_is_written_in(path: str) -> None:
    assert tries_to_leave(path.encode())


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/manifests",
        "/manifests/kalshi/2026-11-23",
        "/files/kalshi/2026-11-23/0615-2.jsonl.gz",
        "/feeds/a..b",
        "//",
    ],
)
def test_a_plain_path_is_none(path: str) -> None:
    assert not tries_to_leave(path.encode())


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_raise(path: bytes) -> None:
    tries_to_leave(path)


@settings(deadline=None)
@given(
    before=st.text("abc", max_size=3),
    rounds=st.integers(0, 3),
    behind=st.sampled_from(["", "/etc", "/etc/passwd"]),
)
def test_two_dots_are_seen_behind_any_encoding(before: str, rounds: int, behind: str) -> None:
    climb = "../.." + behind
    for _ in range(rounds):
        climb = quote(climb, safe="").replace(".", "%2E")
    assert tries_to_leave(f"/files/{before}/{climb}".encode())
