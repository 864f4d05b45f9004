from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_common.config.nats import NatsSettings
from ssmd_common.errors import TransportError
from ssmd_common.nats.connection import NatsClient, close, connect
from ssmd_common.nats.streams import (
    ApiError,
    StreamLimits,
    _covers,
    direct_get,
    ensure_stream,
    parse_time_ns,
    stream_info,
    wait_for_stream,
)
from ssmd_common.nats.testing import NatsServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SUBJECTS = ("dev.kalshi.json.>", "dev.kalshi.capture.>")


@pytest.fixture
async def nc(tmp_path: Path) -> AsyncIterator[NatsClient]:
    server = NatsServer(tmp_path)
    server.start()
    client = await connect(NatsSettings(url=server.url), name="test")
    yield client
    await close(client)
    server.stop()


async def test_a_missing_stream_is_created_with_its_limits(nc: NatsClient) -> None:
    info = await ensure_stream(nc, "DEV", SUBJECTS, create=True, limits=StreamLimits(max_bytes=1 << 20))
    assert info.subjects == SUBJECTS
    assert (info.first_seq, info.last_seq, info.messages) == (0, 0, 0)
    expected = {"discard": "new", "storage": "file", "deny_delete": True, "deny_purge": True, "allow_direct": True}
    assert expected.items() <= info.config.items()
    assert info.duplicate_window_s == 120
    assert info.server_ns > parse_time_ns(info.created) - 1_000_000_000


async def test_a_missing_stream_that_may_not_be_created_is_named(nc: NatsClient) -> None:
    with pytest.raises(ApiError, match="there is no stream 'DEV'") as caught:
        await ensure_stream(nc, "DEV", SUBJECTS, create=False)
    assert caught.value.err_code == 10059


async def test_an_existing_stream_must_take_the_subjects(nc: NatsClient) -> None:
    await ensure_stream(nc, "DEV", SUBJECTS[:1], create=True)
    with pytest.raises(ApiError, match=r"does not take dev\.kalshi\.capture") as caught:
        await ensure_stream(nc, "DEV", SUBJECTS, create=True)
    assert caught.value.code != 503, "it is no server that only has to be waited for"


async def test_a_stored_message_is_read_back_by_sequence(nc: NatsClient) -> None:
    await ensure_stream(nc, "DEV", SUBJECTS, create=True)
    ack = await nc.jetstream().publish("dev.kalshi.json.trade.A", b"frame", headers={"Nats-Msg-Id": "s.1.1"})
    message = await direct_get(nc, "DEV", seq=ack.seq)
    assert message is not None
    assert (message.seq, message.subject, message.data) == (1, "dev.kalshi.json.trade.A", b"frame")
    assert message.headers == {"Nats-Msg-Id": "s.1.1"}
    assert message.stored_ns == (await stream_info(nc, "DEV")).last_ns
    assert await direct_get(nc, "DEV", seq=2, next_by_subject=">") is None


async def test_a_stream_without_direct_reads_is_read_the_slower_way(nc: NatsClient) -> None:
    await nc.jetstream().add_stream(name="OLD", subjects=["old.>"])
    await nc.jetstream().publish("old.a", b"x", headers={"Nats-Msg-Id": "s.1.1"})
    message = await direct_get(nc, "OLD", seq=1)
    assert message is not None
    assert (message.data, message.headers) == (b"x", {"Nats-Msg-Id": "s.1.1"})
    assert await direct_get(nc, "OLD", seq=9) is None


async def test_a_stream_that_comes_later_is_waited_for(nc: NatsClient) -> None:
    waiting = asyncio.create_task(wait_for_stream(nc, "DEV"))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    await ensure_stream(nc, "DEV", SUBJECTS, create=True)
    async with asyncio.timeout(120):
        assert (await waiting).name == "DEV"


async def test_whoever_is_asked_to_stop_looks_for_the_stream_a_last_time(nc: NatsClient) -> None:
    stop = asyncio.Event()
    waiting = asyncio.create_task(wait_for_stream(nc, "DEV", stop=stop))
    await asyncio.sleep(0.2)
    await ensure_stream(nc, "DEV", SUBJECTS, create=True)
    stop.set()
    assert (await waiting).name == "DEV"
    with pytest.raises(TransportError, match="stopped while waiting"):
        await wait_for_stream(nc, "NONE", stop=stop)


async def test_a_server_without_jetstream_is_told(tmp_path: Path) -> None:
    server = NatsServer(tmp_path, jetstream=False)
    server.start()
    client = await connect(NatsSettings(url=server.url), name="test")
    try:
        with pytest.raises(ApiError, match="JetStream does not answer") as caught:
            await stream_info(client, "DEV")
        assert caught.value.code == 503
    finally:
        await close(client)
        server.stop()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-04-20T10:00:00.123456789Z", 1776679200123456789),
        ("2026-04-20T10:00:00Z", 1776679200000000000),
        ("2026-04-20T12:00:00.5+02:00", 1776679200500000000),
        ("0001-01-01T00:00:00Z", 0),
    ],
)
def test_server_times_keep_their_nanoseconds(text: str, expected: int) -> None:
    assert parse_time_ns(text) == expected


tokens = st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=4)


@settings(deadline=None)
@given(tokens, tokens)
def test_coverage_means_what_subject_matching_means(taken: list[str], subject: list[str]) -> None:
    def matches(pattern: list[str], name: list[str]) -> bool:
        return len(pattern) == len(name) and all(p in ("*", n) for p, n in zip(pattern, name, strict=True))

    names = [[x if s == "*" else s for s in subject] for x in ("a", "b", "c")]
    assert _covers(".".join(taken), ".".join(subject)) == all(matches(taken, name) for name in names)


def test_a_full_wildcard_covers_what_lies_below_it() -> None:
    assert _covers("dev.>", "dev.kalshi.json.>")
    assert not _covers("dev.*", "dev.>")
    assert not _covers("dev.>", "dev")
