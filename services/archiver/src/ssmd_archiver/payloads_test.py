from __future__ import annotations

import asyncio
import base64
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_archiver.testing import DATE, SESSION, T0, Stream, archive, manifest_of, verified
from ssmd_common import load
from ssmd_common.archive.index import Reject
from ssmd_common.archive.layout import list_days
from ssmd_common.archive.reader import day_segments

MAX_PAYLOAD = 8 << 20
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


def _as_json(value: Any, indent: int | None, *, ascii_only: bool) -> bytes:
    return json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")


PAYLOADS = st.binary(max_size=200) | st.builds(
    _as_json, JSON, st.sampled_from([None, 0, 2]), ascii_only=st.booleans()
)


def _rejects(base: Path) -> list[bytes]:
    lines = [line for day in list_days(base, "kalshi") for s in day_segments(day) for line in s.index.lines()]
    return [base64.b64decode(line.data) for line in lines if isinstance(line, Reject)]


def _stream(payloads: list[bytes]) -> Stream:
    stream = Stream()
    for payload in payloads:
        stream.trade(payload)
    return stream


@settings(max_examples=40, deadline=None)
@given(st.lists(PAYLOADS, min_size=1, max_size=12), st.integers(1, 4))
def test_every_payload_is_a_line_or_a_reject_and_keeps_its_bytes(payloads: list[bytes], batch: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        asyncio.run(archive(base, _stream(payloads), batch=batch, commit_every=1, interval_s=60))
        records = [record.data for record in load("kalshi", DATE, data=base)]
        rejects = _rejects(base)
        verified(base)
    kept = {True: list(records), False: list(rejects)}
    assert len(records) + len(rejects) == len(payloads)
    for payload in payloads:
        line = bool(kept[True]) and kept[True][0] == payload
        assert kept[line].pop(0) == payload


async def test_payloads_of_the_largest_size_are_lines_and_rejects_like_any(tmp_path: Path) -> None:
    large = b'{"x":"' + b"y" * (MAX_PAYLOAD - 8) + b'"}'
    binary = bytes(range(256)) * (MAX_PAYLOAD // 256)
    lines = b"[" + b"1,\n" * (MAX_PAYLOAD // 3 - 1) + b"1]"
    await archive(tmp_path, _stream([large, b"{}", binary, lines]), interval_s=60)
    assert [record.data for record in load("kalshi", DATE, data=tmp_path)] == [large, b"{}", lines]
    assert _rejects(tmp_path) == [binary]
    (entry,) = manifest_of(tmp_path).files
    assert (entry.records, entry.rejects, entry.bytes) == (3, 1, len(large) + len(lines) + 2 + 3)
    verified(tmp_path)


@pytest.mark.parametrize("payload", [b"[" * 200_000, b"[" * 200_000 + b"]" * 200_000, b'{"a":' * 50_000 + b"1"])
async def test_json_nested_beyond_reading_is_kept_as_a_reject(tmp_path: Path, payload: bytes) -> None:
    await archive(tmp_path, _stream([b"{}", payload, b"{}"]))
    assert [record.data for record in load("kalshi", DATE, data=tmp_path)] == [b"{}", b"{}"]
    assert _rejects(tmp_path) == [payload]
    verified(tmp_path)


async def test_as_many_tickers_as_messages_are_all_named(tmp_path: Path) -> None:
    stream = Stream()
    for number in range(3_000):
        stream.frames += 1
        msg_id = f"{SESSION}.1.{stream.frames}"
        stream.add(f"prod.kalshi.json.trade.KX-{number:06d}", b'{"n":%d}' % number, msg_id, at_ns=T0 + number)
    await archive(tmp_path, stream, interval_s=60)
    assert manifest_of(tmp_path).tickers == [f"KX-{number:06d}" for number in range(3_000)]
    assert [record.ticker for record in load("kalshi", DATE, data=tmp_path)][-1] == "KX-002999"
    verified(tmp_path)
