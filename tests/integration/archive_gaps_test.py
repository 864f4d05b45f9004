"""What the stream lost is recorded with its cause and size, and nothing else is: the archiver on real NATS."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from nats.js.api import DiscardPolicy

from integration.archive_bench import SESSION, STREAM, Bench, bench_at
from integration.nats_server import NatsServer
from ssmd_archiver.run import run_archiver
from ssmd_archiver.verify import verify_feed
from ssmd_common.config.archiver import ArchiverConfig
from ssmd_common.errors import ConfigError, SsmdError, TransportError
from ssmd_common.nats.testing import NatsServer as ProcessServer
from ssmd_common.service.lifecycle import Stop


@pytest.fixture
async def bench(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench_at(nats_server.url, tmp_path) as made:
        yield made


@pytest.mark.parametrize("limit", [{"max_msgs": 10}, {"max_bytes": 1200}, {"max_age": 0.5}])
async def test_retention_overtaking_a_stopped_archiver_is_a_gap_with_its_count(
    bench: Bench, limit: dict[str, float]
) -> None:
    settings: dict[str, Any] = {"discard": DiscardPolicy.OLD, "duplicate_window": 0.3}
    await bench.create(**settings)
    await bench.publish(5)
    await bench.archive()
    await bench.publish(15)
    await bench.change(**settings, **limit)
    if "max_age" in limit:
        # An age goes on taking: it is lifted again, or it would take what the archiver has yet to read.
        async with asyncio.timeout(60):
            while (await bench.state()).messages:  # noqa: ASYNC110 - the server sets no event
                await asyncio.sleep(0.1)
        await bench.change(**settings)
    await bench.publish(5)
    first_seq = (await bench.state()).first_seq
    assert first_seq > 6, "the limit has taken messages the archive does not hold"
    report = await bench.archive()
    (gap,) = bench.gaps()
    missing = first_seq - 6
    assert (gap["layer"], gap["cause"], gap["start_seq"], gap["end_seq"], gap["missing_count"], gap["status"]) == (
        "stream",
        "retention",
        6,
        first_seq,
        missing,
        "permanent",
    )
    assert bench.numbers() == [*range(1, 6), *range(first_seq, 26)]
    assert report.missing == missing


async def test_a_purge_of_what_is_archived_is_no_gap(bench: Bench) -> None:
    await bench.create()
    await bench.publish(5)
    await bench.archive()
    await bench.client.jetstream().purge_stream(STREAM)
    await bench.publish(5)
    await bench.archive()
    assert bench.gaps() == []
    assert bench.numbers() == list(range(1, 11))


async def test_a_purge_of_what_is_not_archived_is_a_gap(bench: Bench) -> None:
    await bench.create()
    await bench.publish(5)
    await bench.archive()
    await bench.publish(5)
    await bench.client.jetstream().purge_stream(STREAM)
    await bench.publish(5)
    await bench.archive()
    assert [(gap["start_seq"], gap["end_seq"], gap["missing_count"]) for gap in bench.gaps()] == [(6, 11, 5)]


async def test_single_deletes_are_told_apart(bench: Bench) -> None:
    await bench.create()
    await bench.publish(10)
    for seq in (3, 4, 7):
        await bench.client.jetstream().delete_msg(STREAM, seq)
    await bench.archive()
    assert [(gap["cause"], gap["start_seq"], gap["missing_count"]) for gap in bench.gaps()] == [
        ("deleted", 3, 2),
        ("deleted", 7, 1),
    ]


async def test_a_recreated_stream_opens_an_epoch_and_its_messages_follow(bench: Bench) -> None:
    await bench.create()
    await bench.publish(5)
    await bench.archive()
    await bench.client.jetstream().delete_stream(STREAM)
    await bench.create()
    await bench.publish(5)
    await bench.archive()
    assert bench.numbers() == list(range(1, 11))
    (gap,) = bench.gaps()
    assert (gap["cause"], gap["epoch"], gap["start_seq"], gap["missing_count"]) == ("stream_recreated", 1, 6, None)
    # An hour may end meanwhile, so an epoch has a file or two.
    held = {
        epoch: [seq for entry in files for seq in range(entry["nats_start_seq"], entry["nats_end_seq"] + 1)]
        for epoch, files in itertools.groupby(bench.files(), key=lambda entry: entry["epoch"])
    }
    assert held == {1: [1, 2, 3, 4, 5], 2: [1, 2, 3, 4, 5]}


async def test_a_stream_recreated_under_a_running_archiver_is_followed(bench: Bench) -> None:
    await bench.create()
    await bench.publish(5)
    async with bench.archiving():
        await bench.reach(5)
        await bench.client.jetstream().delete_stream(STREAM)
        await asyncio.sleep(0.5)
        await bench.create()
        await bench.publish(3)
        async with asyncio.timeout(120):
            while len(bench.numbers()) < 8:  # noqa: ASYNC110 - files tell it
                await asyncio.sleep(0.2)
    assert bench.numbers() == list(range(1, 9))
    assert [gap["cause"] for gap in bench.gaps()] == ["stream_recreated"]
    assert verify_feed(bench.data, "kalshi").findings == []


async def test_a_rolled_back_stream_goes_on_at_the_last_common_message(tmp_path: Path) -> None:
    server = ProcessServer(tmp_path / "nats")  # a process, whose files can be put back
    server.start()
    try:
        async with bench_at(server.url, tmp_path) as bench:
            await bench.create()
            await bench.publish(5)
            await bench.archive()
            await asyncio.to_thread(server.stop)
            shutil.copytree(tmp_path / "nats", tmp_path / "copy")
            await asyncio.to_thread(server.start)
        async with bench_at(server.url, tmp_path) as bench:
            bench.frames = 5
            await bench.publish(5)
            await bench.archive()
            await asyncio.to_thread(server.stop)
            shutil.rmtree(tmp_path / "nats")
            shutil.copytree(tmp_path / "copy", tmp_path / "nats")
            await asyncio.to_thread(server.start)
        async with bench_at(server.url, tmp_path) as bench:
            bench.frames = 10
            await bench.publish(7)
            await bench.archive()
            assert bench.numbers() == list(range(1, 18))
            (gap,) = bench.gaps()
            assert (gap["cause"], gap["epoch"], gap["start_seq"]) == ("stream_rolled_back", 1, 11)
    finally:
        server.kill()


async def test_a_narrower_filter_counts_what_it_leaves_out_and_records_no_gap(bench: Bench) -> None:
    await bench.create()
    bench.settings["filter"] = "prod.kalshi.json.trade.>"
    await bench.publish(3)
    await bench.publish(4, subject="prod.kalshi.json.ticker.KX")
    await bench.publish(2)
    await bench.archive()
    assert bench.gaps() == []
    assert bench.numbers() == [1, 2, 3, 8, 9]
    assert sum(entry["filtered"] for entry in bench.files()) == 4


async def test_a_stream_shared_by_two_prefixes_gives_no_false_alarm_and_its_losses_show_by_frame(
    bench: Bench,
) -> None:
    await bench.client.jetstream().add_stream(name=STREAM, subjects=["prod.>"])
    for number in range(6):
        await bench.publish(1)
        await bench.client.jetstream().publish("prod.other.json.trade.Z", b"%d" % number)
    await bench.archive()
    assert bench.gaps() == []
    assert bench.numbers() == [1, 2, 3, 4, 5, 6]
    await bench.publish(3)
    await bench.client.jetstream().delete_msg(STREAM, 14)
    await bench.event(1, event="heartbeat", connections=[{"connection": 1, "frames": 9, "acked_through": 9}])
    report = await bench.archive()
    (gap,) = bench.gaps()
    assert (gap["cause"], gap["key"], gap["start_seq"], gap["missing_count"]) == (
        "frames_missing",
        f"{SESSION}.1",
        8,
        1,
    )
    assert (report.received, report.archived, report.lost) == (9, 8, 1)


async def test_a_resend_after_the_dedupe_window_is_dropped_and_counted(bench: Bench) -> None:
    await bench.create(duplicate_window=0.2)
    await bench.publish(3)
    async with asyncio.timeout(60):
        # Until its window is over the server knows it, and takes it once.
        while (await bench.state()).last_seq < 4:
            await asyncio.sleep(0.1)
            bench.frames = 1
            await bench.publish(1)
    await bench.archive()
    assert bench.numbers() == [1, 2, 3]
    assert sum(entry["duplicates"] for entry in bench.files()) == 1


async def test_a_foreign_publisher_is_archived_and_called_unverifiable(bench: Bench) -> None:
    await bench.create()
    await bench.publish(4, identified=False)
    report = await bench.archive()
    assert bench.numbers() == [1, 2, 3, 4]
    assert report.foreign == 4


async def test_a_quiet_feed_is_sealed_by_the_servers_clock(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench.create()
    await bench.publish(3)
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() - 5 * 3600 * 10**9)
    config = bench.config().model_copy(
        update={"rotation": ArchiverConfig.model_validate(_rotation(bench, "2s")).rotation}
    )
    stop = Stop()
    task = asyncio.create_task(run_archiver(config, stop, new_archive=False, health_addr=None))
    async with asyncio.timeout(120):
        # A window may end between two of the messages, so all are waited for.
        while sum(entry["records"] for entry in bench.files()) < 3:  # noqa: ASYNC110 - files tell it
            await asyncio.sleep(0.1)
    stop.set("the test is done")
    await task
    entries = bench.files()
    assert entries[-1]["seal_reason"] == "idle"
    assert sum(entry["records"] for entry in entries) == 3


def _rotation(bench: Bench, interval: str) -> dict[str, Any]:
    document = json.loads(bench.config().model_dump_json(exclude={"rotation", "flush_interval"}, exclude_none=True))
    return {**document, "rotation": {"interval": interval, "grace": "1s"}}


async def test_an_empty_folder_where_this_consumer_archived_before_is_refused(bench: Bench) -> None:
    await bench.create()
    await bench.publish(3)
    await bench.archive()
    shutil.rmtree(bench.data)
    with pytest.raises(ConfigError, match="mount the archive's volume, or begin a new archive with --new-archive"):
        await run_archiver(bench.config(), Stop(), new_archive=False, health_addr=None)


async def test_a_folder_of_another_stream_is_refused(bench: Bench) -> None:
    await bench.create()
    await bench.publish(3)
    await bench.archive()
    await bench.client.jetstream().add_stream(name="OTHER", subjects=["other.>"])
    bench.settings["stream"] = "OTHER"
    with pytest.raises(ConfigError, match=r"nats.stream: .*another storage.path"):
        await run_archiver(bench.config(), Stop(), new_archive=False, health_addr=None)


async def test_a_filter_the_stream_never_matches_is_refused(bench: Bench) -> None:
    await bench.client.jetstream().add_stream(name=STREAM, subjects=["dev.>"])
    with pytest.raises(ConfigError, match=r"takes dev.>, never prod.kalshi.json.>"):
        await run_archiver(bench.config(), Stop(), new_archive=False, health_addr=None)


async def test_two_archivers_on_one_folder_the_second_is_refused(bench: Bench) -> None:
    await bench.create()
    await bench.publish(1)
    async with bench.archiving():
        await bench.reach(1)
        with pytest.raises(SsmdError, match="another archiver writes this folder"):
            await run_archiver(bench.config(), Stop(), new_archive=False, health_addr=None)


async def test_two_archivers_on_one_consumer_one_ends_and_says_why(bench: Bench, tmp_path: Path) -> None:
    await bench.create()
    await bench.publish(3)
    other = Bench(bench.url, bench.client, tmp_path / "other")

    async def run(of: Bench, stop: Stop) -> None:
        await run_archiver(of.config(), stop, new_archive=True, health_addr=None)

    stops = Stop(), Stop()
    tasks = [asyncio.create_task(run(of, stop)) for of, stop in zip((bench, other), stops, strict=True)]
    done: set[asyncio.Task[None]] = set()
    rest = set(tasks)
    async with asyncio.timeout(120):
        while not done:
            await bench.publish(5)
            done, rest = await asyncio.wait(tasks, timeout=0.1, return_when=asyncio.FIRST_COMPLETED)
    for stop in stops:
        stop.set("the test is done")
    assert done
    with pytest.raises(TransportError, match=r"consumer is shared.*its own nats.consumer"):
        await done.pop()
    await asyncio.gather(*rest, return_exceptions=True)
