"""Messages of any size and kind through real NATS: up to the server's limit, empty, binary, of several lines."""

from __future__ import annotations

import base64
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import nats.errors
import pytest
import structlog.testing

from integration.archive_bench import SESSION, Bench, bench_at
from integration.nats_server import NatsServer
from ssmd_archiver.consumer import PULL_BYTES
from ssmd_common import load
from ssmd_common.archive.index import Reject
from ssmd_common.archive.layout import list_days
from ssmd_common.archive.reader import day_segments

SUBJECT = "prod.kalshi.json.trade.KX"


@pytest.fixture
async def bench(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench_at(nats_server.url, tmp_path) as made:
        await made.create()
        yield made


async def _publish(bench: Bench, payload: bytes) -> None:
    bench.frames += 1
    headers = {"Nats-Msg-Id": f"{SESSION}.1.{bench.frames}"}
    ack = await bench.client.jetstream().publish(SUBJECT, payload, headers=headers, timeout=30)
    bench.last_seq = ack.seq


def _as_large_as_may_be(bench: Bench) -> bytes:
    """Return the next payload: with its headers exactly ``max_payload``."""
    headers = f"NATS/1.0\r\nNats-Msg-Id: {SESSION}.1.{bench.frames + 1}\r\n\r\n"
    return b'{"x":"%s"}' % (b"y" * (bench.client.max_payload - len(headers) - 8))


def _records(bench: Bench) -> list[bytes]:
    days = list_days(bench.data, "kalshi")
    return [record.data for day in days for record in load("kalshi", day.date, data=bench.data)]


def _rejects(bench: Bench) -> list[bytes]:
    days = list_days(bench.data, "kalshi")
    lines = [line for day in days for segment in day_segments(day) for line in segment.index.lines()]
    return [base64.b64decode(line.data) for line in lines if isinstance(line, Reject)]


async def test_messages_of_the_servers_limit_are_archived_however_many_follow_each_other(bench: Bench) -> None:
    with pytest.raises(nats.errors.MaxPayloadError):
        await bench.client.publish(SUBJECT, b"x" * (bench.client.max_payload + 1))
    sent = []
    for number in range(10):
        sent += [_as_large_as_may_be(bench)]
        await _publish(bench, sent[-1])
        sent += [b'{"n":%d}' % number]
        await _publish(bench, sent[-1])
    assert sum(map(len, sent)) > 2 * PULL_BYTES, "one pull cannot hold them"
    with structlog.testing.capture_logs() as logs:
        report = await bench.archive()
    assert _records(bench) == sent
    assert (report.records, report.rejects, report.lost) == (20, 0, 0)
    assert [line["event"] for line in logs].count("consumer_created") == 1, "a full pull is no discontinuity"


async def test_payloads_of_every_kind_keep_their_bytes_through_nats(bench: Bench) -> None:
    lines = [
        b'{"n":1}',
        b"[1,[2,3],{}]",
        b'"text"',
        b"null",
        b'{\n "a": 1,\r\n "b": [\n]\n}\n',
        '{"a":"Zürich 東京 \U0001f600"}'.encode(),
    ]
    rejected = [
        b"",
        b"\n",
        b"not json",
        b'{"cut":',
        b"\xff\xfe\x00",
        b'{"a":"\xff"}',
        b'{"a":1}{"b":2}',
        b'{"half":"\\ud83d"}',
        bytes(range(256)) * 4096,
    ]
    for line, reject in itertools.zip_longest(lines, rejected):
        for payload in (line, reject):
            if payload is not None:
                await _publish(bench, payload)
    report = await bench.archive()
    assert _records(bench) == lines
    assert _rejects(bench) == rejected
    assert (report.records, report.rejects, report.archived, report.lost) == (6, 9, 15, 0)
