"""A replay tells an archive again: its bytes, order, gaps and disconnects; never into the stream it came from."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from integration.connector_bench import STREAM, Bench, until
from integration.replay_bench import (
    Archive,
    archived,
    command,
    environment,
    everything,
    replayed,
    request,
    run_replay,
)
from ssmd_archiver.testing import SESSION, Stream, archive
from ssmd_common import events
from ssmd_common.config.nats import NatsSettings
from ssmd_common.errors import ArchiveError, ConfigError, SsmdError, TransportError
from ssmd_common.nats.connection import close, connect
from ssmd_common.nats.streams import (
    StoredMessage,
    StreamLimits,
    api_request,
    direct_get,
    stream_definition,
    stream_info,
)
from ssmd_common.nats.testing import free_port
from ssmd_common.service.lifecycle import Stop
from ssmd_connector import feedloop
from ssmd_connector.backoff import Backoff
from ssmd_connector.publisher import Publisher
from ssmd_connector.replay import plan_replay
from ssmd_connector.replay_nats import replay_to_nats
from ssmd_connector.replay_source import find_source
from ssmd_simulator.roads import GeneratedRoad
from ssmd_simulator.server import Simulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from integration.nats_server import NatsServer

SECOND_NS = 1_000_000_000
COINBASE = Path(__file__).parents[2] / "exchanges/feeds/coinbase.yaml"


@pytest.fixture
async def source(tmp_path: Path) -> Archive:
    """An archive with one of everything."""
    return await everything(tmp_path / "source")


def shown(archive: Archive) -> Counter[tuple[Any, ...]]:
    """Return the gaps of an archive, whatever stream it lies in."""
    streams = {"": "PROD_KALSHI:1"}
    return Counter(
        (
            gap.layer,
            gap.cause,
            gap.status,
            streams.get(gap.key, gap.key),
            gap.start_seq,
            gap.end_seq,
            gap.missing_count,
        )
        for gap in archive.gaps()
    )


async def stored(server: NatsServer, stream: str = "REPLAY_KALSHI") -> list[StoredMessage]:
    """Return a stream's messages in order."""
    client = await connect(NatsSettings(url=server.url), name="reader")
    try:
        info = await stream_info(client, stream)
        found = [await direct_get(client, stream, seq=seq) for seq in range(1, info.last_seq + 1)]
    finally:
        await close(client)
    return [message for message in found if message is not None]


async def test_the_archive_of_a_replay_holds_the_same_bytes_in_the_same_order_with_the_same_gaps(
    source: Archive, nats_server: NatsServer, tmp_path: Path
) -> None:
    again = await replayed(nats_server.url, tmp_path / "again", source.folder)
    assert again.told() == source.told()
    assert b'{"type":"trade",\n "n":\n1}' in [record.data for record in again.records()], "newlines come back"
    assert again.rejects() == source.rejects() == [b"\xff not JSON"]
    assert shown(again) == shown(source)
    assert {gap.cause for gap in again.gaps()} >= {"retention", "silent", "crashed", "frames_missing", "not_kept"}
    assert again.whole()


async def test_disconnects_come_again_with_their_causes_and_events_with_what_they_said(
    source: Archive, nats_server: NatsServer, tmp_path: Path
) -> None:
    again = await replayed(nats_server.url, tmp_path / "again", source.folder)
    closes = [(event.cause, event.code, event.reason) for event in again.events(events.ConnectionClosed)]
    assert closes[:2] == [("silent", 1006, "nothing came"), ("crashed", None, "")]
    assert {cause for cause, _, _ in closes[2:]} == {"stopped"}
    assert len(again.events(events.ConnectionOpened)) == len(closes)
    for kind in (events.Control, events.Market, events.FrameUnparsed, events.Subscribed, events.ExchangeGap):
        ours, theirs = again.events(kind), source.events(kind)
        assert len(ours) == len(theirs) > 0
        same = {"frame", "document", "data", "channel", "gap_no", "after_seq", "next_seq"}
        names = same & {field for event in theirs for field in event.__struct_fields__}
        assert [[getattr(e, name) for name in names] for e in ours] == [
            [getattr(e, name) for name in names] for e in theirs
        ]
    ((day),) = again.manifests()
    (source_day,) = source.manifests()
    causes = Counter(session.cause for session in day.sessions if session.cause != "stopped")
    ended = Counter(session.cause for session in source_day.sessions if session.cause is not None)
    assert causes == ended + Counter(["crashed"]), "of a crash the source knows the gap alone"
    assert day.sessions[0].unverifiable == source_day.sessions[0].unverifiable == ["ticker"]


async def test_every_message_names_the_one_it_replays_in_a_session_of_its_own(
    source: Archive, nats_server: NatsServer, tmp_path: Path
) -> None:
    await replayed(nats_server.url, tmp_path / "again", source.folder)
    messages = await stored(nats_server)
    data = [message for message in messages if ".json." in message.subject]
    wanted = [
        f"{record.connection}.{record.frame_no}" if record.connection else f"1:{record.seq}"
        for record in source.records()
    ]
    rejected = f"{SESSION}.1.26"
    assert [m.headers["Ssmd-Replay-Of"] for m in data if m.headers["Ssmd-Replay-Of"] != rejected] == wanted
    sessions = {message.headers["Nats-Msg-Id"].rsplit(".", 2)[0] for message in messages}
    assert len(sessions) == 1
    assert sessions.pop().startswith("replay-")
    assert {message.subject.split(".")[0] for message in messages} == {"replay"}
    book = next(message for message in data if message.data == b'{"type":"orderbook_delta","n":3}')
    assert (book.subject, book.headers["Ssmd-Type"]) == ("replay.kalshi.json.orderbook.KX-A", "orderbook_delta")
    assert int(book.headers["Ssmd-Received-Ns"]) in {record.received_ns for record in source.records()}


async def test_a_capture_with_a_disconnect_is_replayed_whole(
    nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedloop, "Backoff", lambda: Backoff(base_s=0.01, cap_s=0.1))
    bench = Bench(nats_server, tmp_path)
    port = free_port()
    async with AsyncExitStack() as connector:
        for life in (1, 2):
            road = GeneratedRoad(seed=life, markets=8, rate=1500.0)
            async with Simulator(road, keys=None, port=port) as simulator:
                if life == 1:
                    await connector.enter_async_context(bench.capturing(simulator.url))
                await until(lambda: simulator.frames >= 1500)
                if life == 2:
                    await connector.aclose()
    source = await archived(nats_server.url, tmp_path / "source", stream=STREAM, prefix="dev.kalshi")
    again = await replayed(nats_server.url, tmp_path / "again", source.folder)
    assert len(source.records()) > 2500
    assert again.told() == source.told()
    assert [gap.cause for gap in again.gaps()] == [gap.cause for gap in source.gaps()] == ["peer_closed"]
    controls = [event.frame for event in source.events(events.Control)]
    assert [event.frame for event in again.events(events.Control)] == controls
    assert source.whole()
    assert again.whole()


async def test_segments_are_replayed_in_the_order_of_the_record_and_what_lies_between_is_a_gap(
    source: Archive, nats_server: NatsServer, tmp_path: Path
) -> None:
    first, _, third, *_ = (
        source.folder / segment.day.date.isoformat() / f"{segment.name}.jsonl.gz" for segment in source.segments()
    )
    again = await replayed(nats_server.url, tmp_path / "again", third, first, first)
    segments = source.segments()
    expected = [record.data for segment in (segments[0], segments[2]) for record in segment.records()]
    assert [record.data for record in again.records()] == expected
    (gap,) = (gap for gap in again.gaps() if gap.layer == "archive")
    between = (segments[0].index.last_seq or 0) + 1, (segments[1].index.last_seq or 0) + 1
    assert (gap.cause, gap.start_seq, gap.end_seq) == ("left_out", *between)


async def test_copies_of_a_segment_are_replayed_once(source: Archive, tmp_path: Path) -> None:
    copy = tmp_path / "copy" / "kalshi"
    shutil.copytree(source.folder, copy)
    both, one = find_source([copy, source.folder]), find_source([source.folder])
    assert [segment.stem for segment in both.segments] == [segment.stem for segment in one.segments]
    assert both.records == one.records


async def test_two_archives_of_the_same_messages_are_not_replayed_at_once(
    source: Archive, nats_server: NatsServer, tmp_path: Path
) -> None:
    once = await replayed(nats_server.url, tmp_path / "once", source.folder)
    twice = await archived(
        nats_server.url, tmp_path / "twice", stream="REPLAY_KALSHI", prefix="replay.kalshi", consumer="other"
    )
    with pytest.raises(ConfigError, match=r"holds messages that .* holds too \(give one of the two\)"):
        find_source([once.folder, twice.folder])


async def test_archives_of_two_streams_are_not_replayed_as_one(
    source: Archive, nats_server: NatsServer, tmp_path: Path
) -> None:
    first = await replayed(nats_server.url, tmp_path / "first", source.folder)
    client = await connect(NatsSettings(url=nats_server.url), name="test")
    await api_request(client, "STREAM.DELETE.REPLAY_KALSHI")
    await close(client)
    second = await replayed(nats_server.url, tmp_path / "second", source.folder)
    with pytest.raises(ConfigError, match="their sequences have no common order"):
        find_source([first.folder, second.folder])


async def test_frames_larger_than_the_target_takes_are_named_and_the_replay_is_not_whole(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    stream = Stream()
    for size in (10, 900, 10):
        stream.trade(b'{"type":"trade","text":"%b"}' % (b"x" * size))
    await archive(tmp_path, stream)
    await make_stream(nats_server, max_msg_size=700)
    done = await asyncio.to_thread(
        run_replay, tmp_path / "kalshi", "--to", "nats", "--url", nats_server.url, "--speed", "max"
    )
    subjects = Counter(message.subject.split(".")[3] for message in await stored(nats_server))
    assert (subjects["trade"], subjects["frame_oversize"]) == (2, 1)
    said = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["frames"] for line in said if line["event"] == "replay_oversize"] == [1]
    assert done.returncode == 1


async def test_a_stop_waits_once_for_a_stream_that_takes_nothing(
    source: Archive, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    drained = Publisher.drained

    async def noted(publisher: Publisher, timeout_s: float) -> bool:
        waits.append(timeout_s)
        return await drained(publisher, min(timeout_s, 0.01))

    monkeypatch.setattr(Publisher, "drained", noted)
    await make_stream(nats_server, max_bytes=2000)
    stop = Stop()
    asyncio.get_running_loop().call_later(1, stop.set, "SIGTERM")
    assert await replay_to_nats(plan_replay(request(source.folder, url=nats_server.url), {}), stop) == 1
    long = [wait for wait in waits if wait > 1]
    assert long[0] == pytest.approx(10, abs=0.5)
    assert sorted(long, reverse=True) == long, "each waits only for what is left of the first"


async def test_a_stream_that_does_not_take_the_subjects_is_refused(
    source: Archive, nats_server: NatsServer
) -> None:
    await make_stream(nats_server, subjects=["other.>"])
    with pytest.raises(TransportError, match=r"does not take replay\.kalshi\.json"):
        await replay_to_nats(plan_replay(request(source.folder, url=nats_server.url), {}), Stop())


async def make_stream(server: NatsServer, *, subjects: Sequence[str] = ("replay.kalshi.>",), **limits: int) -> None:
    """Make the stream of a replay, as another would have made it."""
    definition = stream_definition("REPLAY_KALSHI", subjects, StreamLimits(**limits))
    client = await connect(NatsSettings(url=server.url), name="test")
    try:
        await api_request(client, "STREAM.CREATE.REPLAY_KALSHI", definition)
    finally:
        await close(client)


async def test_a_replay_begun_within_a_gap_tells_of_it(
    source: Archive, nats_server: NatsServer, tmp_path: Path
) -> None:
    begun = next(segment for segment in source.segments() if segment.index.header.open_gaps)
    file = source.folder / begun.day.date.isoformat() / f"{begun.name}.jsonl.gz"
    again = await replayed(nats_server.url, tmp_path / "again", file)
    assert {gap.cause for gap in again.gaps()} >= {gap.cause for gap in begun.index.header.open_gaps}


async def test_a_replay_of_a_replay_is_the_same_again(
    source: Archive, nats_server: NatsServer, tmp_path: Path
) -> None:
    once = await replayed(nats_server.url, tmp_path / "once", source.folder)
    twice = await replayed(nats_server.url, tmp_path / "twice", once.folder, stream="AGAIN", prefix="again.kalshi")
    assert twice.told() == source.told()
    with pytest.raises(ConfigError, match="replay one feed of one environment at a time"):
        plan_replay(request(source.folder, once.folder))
    assert shown(twice) == shown(once)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stream": "PROD_KALSHI"}, "stream PROD_KALSHI is the one these files were archived from"),
        ({"prefix": "prod.kalshi"}, "subject prefix prod.kalshi meets that of these files"),
        ({"prefix": "prod.kalshi.json.x"}, "meets that of these files"),
        ({"prefix": "prod.kalshi.json"}, "meets that of these files"),
        ({"stream": ""}, "cannot name a stream"),
        ({"feed": COINBASE}, "name: is coinbase, the archive holds kalshi"),
        ({"prefix": "a..b"}, "subject_prefix"),
        ({"env": Path("nowhere.yaml")}, "nowhere.yaml: no such file"),
        ({"env": Path("e.yaml"), "stream": "X"}, "--env: and --stream exclude one another"),
        ({"envelope": True}, "--envelope: means nothing with --to nats"),
    ],
)
async def test_what_cannot_be_meant_is_refused_before_anything_is_contacted(
    source: Archive, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        plan_replay(request(source.folder, **options))


@pytest.mark.parametrize(("env", "stream"), [("prod", "OTHER"), ("dev", "PROD_KALSHI")])
async def test_an_environment_of_the_source_is_refused(
    source: Archive, tmp_path: Path, env: str, stream: str
) -> None:
    file = tmp_path / "env.yaml"
    file.write_text(f"name: e\nfeed: kalshi\nenv: {env}\ntransport: {{type: nats, stream: {stream}}}\n")
    with pytest.raises(ConfigError, match="a replay never goes where it came from"):
        plan_replay(request(source.folder, env=file))


async def test_the_command_replays_into_another_environment(
    source: Archive, nats_server: NatsServer, tmp_path: Path
) -> None:
    file = tmp_path / "env.yaml"
    file.write_text(
        f"name: e\nfeed: kalshi\nenv: dev\ntransport: {{type: nats, url: '{nats_server.url}', stream: OTHER}}\n"
    )
    done = await asyncio.to_thread(run_replay, source.folder, "--to", "nats", "--env", file, "--speed", "max")
    assert done.returncode == 0, done.stderr
    messages = await stored(nats_server, "OTHER")
    prefixes = {message.subject.rpartition(".json.")[0] for message in messages if ".json." in message.subject}
    assert prefixes == {"dev.kalshi"}


async def test_standard_output_gets_the_exact_frames(source: Archive) -> None:
    done = await asyncio.to_thread(run_replay, source.folder, "--to", "stdout", "--speed", "max")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"".join(record.data + b"\n" for record in source.records())


async def test_an_envelope_is_a_line_of_json_for_each_record_event_and_gap(source: Archive) -> None:
    done = await asyncio.to_thread(run_replay, source.folder, "--to", "stdout", "--speed", "max", "--envelope")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    records = [line for line in lines if "data" in line]
    assert [(line["seq"], line["type"]) for line in records] == [(r.seq, r.type) for r in source.records()]
    assert [line["data"] for line in records] == [json.loads(r.data) for r in source.records()]
    assert [line["event"]["event"] for line in lines if "event" in line].count("control") == 1
    assert {line["gap"]["cause"] for line in lines if "gap" in line} >= {"retention", "silent", "crashed"}


async def test_a_reader_that_has_enough_ends_it_quietly(source: Archive) -> None:
    words = shlex.join(command(source.folder, "--to", "stdout", "--speed", "max"))
    line = f"{words} | head -n 2; echo ${{PIPESTATUS[0]}}"
    done = await asyncio.to_thread(
        subprocess.run, ["bash", "-c", line], env=environment(), capture_output=True, timeout=60, check=False
    )
    *frames, code = done.stdout.splitlines()
    assert (len(frames), code, done.stderr) == (2, b"0", b"")


@pytest.mark.parametrize(
    ("to", "words"),
    [
        (">/dev/full", b"error: standard output: cannot be written: No space left on device\n"),
        (">&-", b"error: standard output: is closed\n"),
    ],
)
async def test_output_that_finds_no_room_is_told_in_one_line(source: Archive, to: str, words: bytes) -> None:
    line = f"{shlex.join(command(source.folder, '--to', 'stdout', '--speed', 'max'))} {to}"
    done = await asyncio.to_thread(
        subprocess.run, ["bash", "-c", line], env=environment(), capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (1, words)


async def test_the_pace_is_that_of_the_record_times_the_speed(source: Archive) -> None:
    """Never faster than recorded times the speed, counted between what is printed first and last."""
    moments_ns = [record.received_ns or record.stored_ns for record in source.records()]
    begun_s = time.monotonic()
    done = await asyncio.to_thread(run_replay, source.folder, "--to", "stdout", "--speed", "20")
    took_s = time.monotonic() - begun_s
    assert done.returncode == 0
    assert took_s >= (max(moments_ns) - min(moments_ns)) / SECOND_NS / 20


async def test_what_is_no_archive_is_refused_by_name(source: Archive, tmp_path: Path) -> None:
    day = source.folder / "2026-11-23"
    opened = day / "_open" / "1300.jsonl.gz"
    opened.parent.mkdir(exist_ok=True)
    opened.write_bytes(b"")
    stray = tmp_path / "0615.jsonl.gz"
    stray.write_bytes(gzip.compress(b"{}\n"))
    alone = tmp_path / "kalshi" / "2026-11-23" / "120000.jsonl.gz"
    alone.parent.mkdir(parents=True)
    shutil.copy(day / "120000.jsonl.gz", alone)
    cut = day / "120010.jsonl.gz"
    cut.write_bytes(cut.read_bytes()[:-1])
    cases = [
        (tmp_path / "nothing", 2, "no such file or folder"),
        (day / "manifest.json", 2, "is no data file of an archive"),
        (day / "_evidence" / "120000.meta.jsonl.gz", 2, "is no data file of an archive"),
        (opened, 2, "is still being written"),
        (stray, 2, "does not lie in"),
        (tmp_path, 2, "is neither a day's folder nor a feed's"),
        (alone.parent, 1, "120000.jsonl.gz: its evidence is missing: _evidence/120000.index.jsonl"),
        (alone, 1, "its evidence is missing: _evidence/120000.index.jsonl"),
        (cut, 1, "its seal says"),
    ]
    for path, code, words in cases:
        with pytest.raises(SsmdError, match=re.escape(words)) as refused:
            plan_replay(request(path))
        assert refused.value.exit_code == code


@pytest.mark.parametrize(
    "file", ["120020.jsonl.gz", "_evidence/120020.meta.jsonl.gz", "_evidence/120020.index.jsonl"]
)
async def test_a_damaged_file_ends_it_with_what_came_before_on_record(
    source: Archive, nats_server: NatsServer, tmp_path: Path, file: str
) -> None:
    told = source.told()
    path = source.folder / "2026-11-23" / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match=re.escape(f"kalshi/2026-11-23/{file}: ")):
        await replay_to_nats(plan_replay(request(source.folder, url=nats_server.url)), Stop())
    if file.endswith("index.jsonl"):
        return  # every index is read before anything is published
    again = await archived(nats_server.url, tmp_path / "again", stream="REPLAY_KALSHI", prefix="replay.kalshi")
    assert again.told() == told[: len(again.told())]
    assert [event.cause for event in again.events(events.SessionEnded)] == ["failed"]
    assert again.whole()


@asynccontextmanager
async def _replaying(
    source: Archive, server: NatsServer, *, speed: int
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Replay as a process of its own, and go on once some of it is in the stream."""
    words = command(source.folder, "--to", "nats", "--speed", speed, "--url", server.url)
    process = await asyncio.create_subprocess_exec(*words, env=environment())
    try:
        async with asyncio.timeout(120):
            while await _messages(server) < 15:  # noqa: ASYNC110 - the stream tells it
                await asyncio.sleep(0.1)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _messages(server: NatsServer) -> int:
    client = await connect(NatsSettings(url=server.url), name="reader")
    try:
        return (await stream_info(client, "REPLAY_KALSHI")).messages
    except TransportError:
        return 0  # there is no such stream yet
    finally:
        await close(client)


async def test_sigint_stops_it_in_order_with_the_record_closed(
    source: Archive, nats_server: NatsServer, tmp_path: Path
) -> None:
    async with _replaying(source, nats_server, speed=5) as process:
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 120) == 1
    again = await archived(nats_server.url, tmp_path / "again", stream="REPLAY_KALSHI", prefix="replay.kalshi")
    told = again.told()
    assert 0 < len(told) < len(source.told())
    assert told == source.told()[: len(told)]
    assert [event.cause for event in again.events(events.SessionEnded)] == ["SIGINT"]
    assert {gap.cause for gap in again.gaps()} <= {gap.cause for gap in source.gaps()}
    assert again.whole()


async def test_a_server_killed_in_the_middle_costs_nothing(
    source: Archive, nats_server: NatsServer, tmp_path: Path
) -> None:
    async with _replaying(source, nats_server, speed=10) as process:
        await asyncio.to_thread(nats_server.kill)
        await asyncio.sleep(1)
        await asyncio.to_thread(nats_server.start)
        assert await asyncio.wait_for(process.wait(), 120) == 0
    again = await archived(nats_server.url, tmp_path / "again", stream="REPLAY_KALSHI", prefix="replay.kalshi")
    assert again.told() == source.told()
    assert shown(again) == shown(source)
