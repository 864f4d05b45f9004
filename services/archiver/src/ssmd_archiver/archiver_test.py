"""The archiver on real files, fed with messages as they come off the wire."""

from __future__ import annotations

import asyncio
import errno
import gzip
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_archiver.disk import Disk, explain, low_space
from ssmd_archiver.maintenance import rebuild_feed, seal_feed
from ssmd_archiver.recovery import recover
from ssmd_archiver.run import writer_lock
from ssmd_archiver.testing import (
    DATE,
    METRICS,
    SESSION,
    SUBJECTS,
    T0,
    Stream,
    archive,
    boundaries,
    manifest_of,
    start,
    trades,
    verified,
)
from ssmd_archiver.verify import verify_feed
from ssmd_common import events, load
from ssmd_common.archive.times import SECOND_NS, from_rfc3339
from ssmd_common.errors import ArchiveBusyError, ArchiveError
from ssmd_common.nats.client import RawMessage


async def test_every_message_is_in_its_window_and_the_manifest_tells_it(tmp_path: Path) -> None:
    stream = trades(25)
    stream.close()
    await archive(tmp_path, stream)
    manifest = manifest_of(tmp_path)
    assert [(f.name, f.records, f.nats_start_seq, f.nats_end_seq) for f in manifest.files] == [
        ("120000.jsonl.gz", 9, 1, 10),
        ("120010.jsonl.gz", 10, 11, 20),
        ("120020.jsonl.gz", 6, 21, 27),
    ]
    assert [f.seal_reason for f in manifest.files] == ["window", "window", "exit"]
    assert (manifest.tickers, manifest.message_types, manifest.has_gaps) == (["KX-B5.5"], ["trade"], False)
    assert [(s.first_frame, s.last_frame, s.received, s.cause) for s in manifest.sessions] == [
        (1, 25, 25, "stopped")
    ]
    assert [json.loads(record.data)["n"] for record in load("kalshi", DATE, data=tmp_path)] == list(range(1, 26))
    report = verified(tmp_path)
    assert (report.received, report.archived, report.lost, report.records) == (25, 25, 0, 25)


async def test_every_entry_of_a_day_stays_in_the_manifest_across_restarts(tmp_path: Path) -> None:
    stream = trades(5)
    await archive(tmp_path, stream)
    for _ in range(10):
        stream.trade()
    await archive(tmp_path, stream)
    assert [f.name for f in manifest_of(tmp_path).files] == [
        "120000.jsonl.gz",
        "120000-1.jsonl.gz",
        "120010.jsonl.gz",
    ]
    verified(tmp_path)


async def test_a_stop_without_seal_resumes_the_open_segment(tmp_path: Path) -> None:
    stream = trades(5)
    await archive(tmp_path, stream, seal=False)
    assert not list((tmp_path / "kalshi" / DATE).glob("*.jsonl.gz"))
    assert len(list(load("kalshi", DATE, data=tmp_path))) == 5, "the durable part of an open segment can be read"
    for _ in range(4):
        stream.trade()
    await archive(tmp_path, stream)
    assert [(f.name, f.records) for f in manifest_of(tmp_path).files] == [("120000.jsonl.gz", 9)]


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.integers(1, 30), max_size=4),
    st.integers(1, 50),
    st.none() | st.integers(1, 5),
    st.none() | st.integers(40, 200),
)
def test_contents_and_boundaries_depend_on_the_stream_alone(
    tmp_path_factory: pytest.TempPathFactory,
    kills: list[int],
    batch: int,
    commit_every: int | None,
    max_bytes: int | None,
) -> None:
    stream = trades(60)
    base = tmp_path_factory.mktemp("once"), tmp_path_factory.mktemp("killed")

    async def both() -> None:
        await archive(base[0], stream, max_bytes=max_bytes)
        for kill in kills:
            await archive(base[1], stream, batch=batch, stop_after=kill, max_bytes=max_bytes)
        await archive(base[1], stream, batch=batch, commit_every=commit_every, max_bytes=max_bytes)

    asyncio.run(both())
    assert boundaries(base[1]) == boundaries(base[0])
    verified(base[1])


async def test_open_files_torn_at_any_byte_lose_nothing(tmp_path: Path) -> None:
    stream = trades(8)
    whole = tmp_path / "whole"
    await archive(whole, stream, commit_every=3, seal=False)
    opened = whole / "kalshi" / DATE / "_open"
    index = (opened / "120000.index.jsonl").read_bytes()
    complete = tmp_path / "complete"
    await archive(complete, stream)
    expected = boundaries(complete)
    for cut in range(0, len(index), 37):
        torn = tmp_path / f"torn{cut}"
        shutil.copytree(whole, torn)
        (torn / "kalshi" / DATE / "_open" / "120000.index.jsonl").write_bytes(index[:cut])
        await archive(torn, stream)
        assert boundaries(torn) == expected
        verified(torn)
        shutil.rmtree(torn)


@settings(deadline=None, max_examples=80)
@given(st.sampled_from(["jsonl.gz", "meta.jsonl.gz", "index.jsonl"]), st.floats(0, 1), st.binary(max_size=3))
def test_an_open_file_cut_anywhere_recovers_or_stops_with_a_remedy(
    tmp_path_factory: pytest.TempPathFactory, name: str, kept: float, garbage: bytes
) -> None:
    stream = trades(8)
    torn, complete = tmp_path_factory.mktemp("torn"), tmp_path_factory.mktemp("complete")

    async def run() -> None:
        await archive(complete, stream)
        await archive(torn, stream, commit_every=3, seal=False)
        path = torn / "kalshi" / DATE / "_open" / f"120000.{name}"
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * kept)] + garbage)
        problem = ""
        try:
            await archive(torn, stream)
        except ArchiveError as error:
            problem = str(error)
        if problem:
            # Data that the index counts is gone: more than a crash can do. It is told, and nothing is guessed.
            assert name != "index.jsonl"
            assert kept < 1
            assert "restore the file from a backup" in problem
        else:
            assert boundaries(torn) == boundaries(complete)
            verified(torn)

    asyncio.run(run())


async def test_bytes_after_the_last_journaled_block_are_cut(tmp_path: Path) -> None:
    stream = trades(5)
    await archive(tmp_path, stream, seal=False)
    for path in (tmp_path / "kalshi" / DATE / "_open").iterdir():
        path.write_bytes(path.read_bytes() + b"\x1f\x8btorn")
    stream.trade()
    await archive(tmp_path, stream)
    assert verified(tmp_path).records == 6


async def test_a_seal_interrupted_between_its_renames_is_finished(tmp_path: Path) -> None:
    stream = trades(5)
    await archive(tmp_path, stream)
    day = tmp_path / "kalshi" / DATE
    (day / "120000.jsonl.gz").rename(day / "_open" / "120000.jsonl.gz")
    (day / "_evidence" / "120000.meta.jsonl.gz").rename(day / "_open" / "120000.meta.jsonl.gz")
    (day / "manifest.json").unlink()
    stream.trade()
    await archive(tmp_path, stream)
    assert [f.records for f in manifest_of(tmp_path).files] == [5, 1]
    verified(tmp_path)


async def test_a_resend_is_dropped_and_counted_also_after_a_restart(tmp_path: Path) -> None:
    stream = trades(3)
    stream.add(SUBJECTS.json_trade("KX-B5.5"), b'{"n":2}', f"{SESSION}.1.2")
    await archive(tmp_path, stream)
    stream.add(SUBJECTS.json_trade("KX-B5.5"), b'{"n":1}', f"{SESSION}.1.1")
    await archive(tmp_path, stream)
    assert [(f.records, f.duplicates) for f in manifest_of(tmp_path).files] == [(3, 1), (0, 1)]
    assert [json.loads(r.data)["n"] for r in load("kalshi", DATE, data=tmp_path)] == [1, 2, 3]
    verified(tmp_path)


async def test_a_jump_of_the_stream_is_one_gap_with_its_count(tmp_path: Path) -> None:
    stream = trades(6)
    del stream.messages[2:5]
    await archive(tmp_path, stream)
    (gap,) = manifest_of(tmp_path).gaps
    assert (gap.layer, gap.cause, gap.after_seq, gap.start_seq, gap.end_seq, gap.missing_count) == (
        "stream",
        "retention",
        2,
        3,
        6,
        3,
    )
    assert verified(tmp_path).missing == 3


async def test_silence_is_evidence_and_a_window_of_events_alone_is_sealed(tmp_path: Path) -> None:
    stream = Stream()
    stream.event(events.Heartbeat(session=SESSION, at_ns=T0, connections=[]))
    await archive(tmp_path, stream)
    (entry,) = manifest_of(tmp_path).files
    assert (entry.records, entry.bytes, entry.capture_events) == (0, 0, 1)
    assert gzip.decompress((tmp_path / "kalshi" / DATE / entry.name).read_bytes()) == b""
    verified(tmp_path)


async def test_payloads_of_every_kind_keep_their_bytes(tmp_path: Path) -> None:
    payloads = [b"[1,2]", b'{\n "a": 1\n}', b"", b"\xff\xfe", b"not json", b'"text"', b'{"a":"\xc3\xa9"}']
    stream = Stream()
    for payload in payloads:
        stream.trade(payload)
    await archive(tmp_path, stream)
    entry = manifest_of(tmp_path).files[0]
    assert (entry.records, entry.rejects) == (4, 3)
    records = [record.data for record in load("kalshi", DATE, data=tmp_path)]
    assert records == [b"[1,2]", b'{\n "a": 1\n}', b'"text"', b'{"a":"\xc3\xa9"}']
    report = verified(tmp_path)
    assert (report.archived, report.rejects) == (7, 3)


async def test_a_day_rolls_over_and_each_has_its_manifest(tmp_path: Path) -> None:
    stream = Stream()
    stream.trade(at_ns=from_rfc3339("2026-11-23T23:59:59.9Z"))
    stream.trade(at_ns=from_rfc3339("2026-11-24T00:00:00Z"))
    await archive(tmp_path, stream, interval_s=7 * 3600)
    assert [f.name for f in manifest_of(tmp_path).files] == ["2100.jsonl.gz"]
    assert [f.name for f in manifest_of(tmp_path, "2026-11-24").files] == ["0000.jsonl.gz"]
    assert manifest_of(tmp_path).complete_through == "2026-11-24T00:00:00Z"
    verified(tmp_path)


async def test_a_clock_stepping_far_back_opens_the_true_window_and_is_told(tmp_path: Path) -> None:
    stream = trades(3)
    stream.trade(at_ns=T0 - 3600 * SECOND_NS)
    stream.trade(at_ns=T0 + 5 * SECOND_NS)
    await archive(tmp_path, stream)
    manifest = manifest_of(tmp_path)
    assert [(f.name, f.seal_reason) for f in manifest.files] == [
        ("120000.jsonl.gz", "clock"),
        ("110000.jsonl.gz", "window"),
        ("120000-1.jsonl.gz", "exit"),
    ]
    assert [anomaly.name for anomaly in manifest.anomalies] == ["clock_stepped"]
    verified(tmp_path)


async def test_a_gap_over_midnight_is_listed_in_both_days(tmp_path: Path) -> None:
    stream = Stream()
    stream.trade(at_ns=from_rfc3339("2026-11-23T23:59:00Z"))
    stream.trade(at_ns=from_rfc3339("2026-11-23T23:59:01Z"))
    stream.trade(at_ns=from_rfc3339("2026-11-25T00:00:01Z"))
    del stream.messages[1]
    await archive(tmp_path, stream)
    for date in ("2026-11-23", "2026-11-24", "2026-11-25"):
        assert [gap.missing_count for gap in manifest_of(tmp_path, date).gaps] == [1]
    assert manifest_of(tmp_path, "2026-11-24").files == []
    verified(tmp_path)


async def test_an_interruption_begins_at_the_last_frame_also_after_a_restart(tmp_path: Path) -> None:
    stream = trades(3)
    stream.close()
    other = "host-01BX5ZZKBKACTAV9WEVGEMMVRZ"
    stream.add(SUBJECTS.json_trade("KX-B5.5"), b"{}", f"{other}.1.1")
    once, restarted = tmp_path / "once", tmp_path / "restarted"
    await archive(once, stream)
    await archive(restarted, stream, stop_after=4)
    await archive(restarted, stream)
    (gap,) = manifest_of(once).gaps
    assert (gap.layer, gap.cause, gap.missing_count, gap.status) == ("connection", "stopped", None, "permanent")
    assert (gap.start, gap.end) == ("2026-11-23T12:00:00.000000004Z", "2026-11-23T12:00:00.000000006Z")
    assert manifest_of(restarted).gaps == [gap]


async def test_a_crashed_connector_is_a_gap_from_its_last_frame_to_the_next_ones_first(tmp_path: Path) -> None:
    stream = trades(3)
    other = "host-01BX5ZZKBKACTAV9WEVGEMMVRZ"
    started = events.SessionStarted(session=other, at_ns=T0, instance="host", env="prod", feed="kalshi")
    stream.add(SUBJECTS.capture("session_started"), events.encode_event(started), f"{other}.0.e1")
    stream.add(SUBJECTS.json_trade("KX-B5.5"), b"{}", f"{other}.1.1")
    await archive(tmp_path, stream)
    (gap,) = manifest_of(tmp_path).gaps
    assert (gap.layer, gap.cause, gap.status, gap.epoch, gap.key, gap.missing_count) == (
        "connection",
        "crashed",
        "permanent",
        1,
        f"{SESSION}.1",
        None,
    )
    assert (gap.start, gap.end) == ("2026-11-23T12:00:00.000000004Z", "2026-11-23T12:00:00.000000006Z")
    verified(tmp_path)


async def test_a_gap_is_counted_once_though_its_end_is_learned_later_or_after_a_restart(tmp_path: Path) -> None:
    counted = METRICS.gaps.labelled(layer="connection")
    before = counted.value
    stream = trades(3)
    stream.close("peer_closed")
    await archive(tmp_path, stream, seal=False)
    assert counted.value == before + 1
    assert METRICS.last_gap.labelled(layer="connection").value == 1e-9  # by the clock of these tests
    for connection in (2, 3):
        stream.event(events.ConnectionOpened(session=SESSION, connection=connection, at_ns=T0, url="ws://x"))
        body, msg_id = b'{"n":4}', f"{SESSION}.{connection}.1"
        stream.add(SUBJECTS.json_trade("KX-B5.5"), body, msg_id)
        if connection == 2:
            closed = events.ConnectionClosed(
                session=SESSION, connection=2, at_ns=T0, cause="peer_closed", frames=1, acked_through=1
            )
            stream.event(closed)
    await archive(tmp_path, stream)
    assert len(manifest_of(tmp_path).gaps) == 2
    assert counted.value == before + 2


async def test_every_kind_of_gap_ends_in_the_manifest(tmp_path: Path) -> None:
    stream = trades(3)
    for number in (1, 2):
        stream.event(
            events.ExchangeGap(
                session=SESSION,
                connection=1,
                at_ns=T0 + number,
                gap_no=number,
                key="sid:1",
                after_seq=10 * number,
                next_seq=10 * number + 4,
                missing_count=3,
                frame_no=3,
            )
        )
    stream.event(events.ExchangeResynced(session=SESSION, connection=1, at_ns=T0 + 9, gap_no=1, key="sid:1"))
    stream.frames += 1  # a frame that was acknowledged and never came
    stream.trade()
    stream.close("peer_closed")
    await archive(tmp_path, stream)
    told = {
        (gap.layer, gap.cause, gap.status): (gap.epoch, gap.key, gap.start_seq, gap.end_seq, gap.missing_count)
        for gap in manifest_of(tmp_path).gaps
    }
    assert told == {
        ("exchange", "sequence_skipped", "resynced"): (1, f"{SESSION}.1/sid:1", 11, 14, 3),
        ("exchange", "sequence_skipped", "permanent"): (1, f"{SESSION}.1/sid:1", 21, 24, 3),
        ("stream", "frames_missing", "permanent"): (1, f"{SESSION}.1", 4, 5, 1),
        ("connection", "peer_closed", "open"): (1, f"{SESSION}.1", 6, None, None),
    }
    assert verified(tmp_path).lost == 1


async def test_rebuild_derives_the_identical_manifest(tmp_path: Path) -> None:
    stream = trades(25)
    del stream.messages[12]
    stream.close("peer_closed")
    await archive(tmp_path, stream)
    path = tmp_path / "kalshi" / DATE / "manifest.json"
    before = path.read_bytes()
    path.unlink()
    rebuild_feed(tmp_path, "kalshi", Disk())
    assert path.read_bytes() == before


async def test_verify_finds_every_single_changed_byte(tmp_path: Path) -> None:
    stream = trades(4)
    del stream.messages[2]
    await archive(tmp_path, stream)
    day = tmp_path / "kalshi" / DATE
    evidence = ("120000.meta.jsonl.gz", "120000.index.jsonl")
    paths = [day / "120000.jsonl.gz", day / "manifest.json", *(day / "_evidence" / name for name in evidence)]
    for path in paths:
        before = path.read_bytes()
        for place in range(len(before)):
            changed = bytearray(before)
            changed[place] ^= 1
            path.write_bytes(changed)
            assert verify_feed(tmp_path, "kalshi").findings, f"byte {place} of {path.name}"
        path.write_bytes(before)
    verified(tmp_path)


@pytest.mark.parametrize("name", ["120000.jsonl.gz", "_evidence/120000.index.jsonl", "manifest.json"])
async def test_verify_finds_a_missing_file(tmp_path: Path, name: str) -> None:
    await archive(tmp_path, trades(12))
    (tmp_path / "kalshi" / DATE / name).unlink()
    assert verify_feed(tmp_path, "kalshi").findings


async def test_a_damaged_line_that_counted_stops_recovery_with_a_remedy(tmp_path: Path) -> None:
    await archive(tmp_path, trades(8), commit_every=3, seal=False)
    path = tmp_path / "kalshi" / DATE / "_open" / "120000.index.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"kind":"event"', b'"kind":"evnt0"', 1))
    with pytest.raises(ArchiveError, match=r"index damaged .*restore the file"):
        recover(tmp_path, "kalshi", Disk())


async def test_a_lost_manifest_is_written_again_at_the_start(tmp_path: Path) -> None:
    stream = trades(5)
    await archive(tmp_path, stream)
    path = tmp_path / "kalshi" / DATE / "manifest.json"
    before = path.read_bytes()
    path.write_bytes(before[: len(before) // 2])
    await start(tmp_path).write_manifests(now=True)
    assert path.read_bytes() == before


async def test_an_open_segment_can_be_sealed_by_hand(tmp_path: Path) -> None:
    await archive(tmp_path, trades(5), seal=False)
    assert seal_feed(tmp_path, "kalshi", Disk()) == "120000"
    assert [f.records for f in manifest_of(tmp_path).files] == [5]
    assert seal_feed(tmp_path, "kalshi", Disk()) is None
    verified(tmp_path)


class _FullDisk(Disk):
    """A disk that is full in the middle of the nth write."""

    def __init__(self, writes: int) -> None:
        self.writes = writes

    def append(self, fd: int, data: bytes, path: Path) -> None:
        self.writes -= 1
        if self.writes < 0:
            super().append(fd, data[: len(data) // 2], path)
            raise explain(OSError(errno.ENOSPC, ""), path)
        super().append(fd, data, path)


class _FailingDisk(Disk):
    """A disk that fails at the nth sync."""

    def __init__(self, syncs: int) -> None:
        self.syncs = syncs

    def sync(self, fd: int, path: Path) -> None:
        self.syncs -= 1
        if self.syncs < 0:
            raise explain(OSError(errno.ENOSPC, ""), path)
        super().sync(fd, path)


async def test_nothing_is_acknowledged_before_it_is_durable(tmp_path: Path) -> None:
    archiver = start(tmp_path)
    await archiver.take_in(trades(5).deliver(0), 1)
    assert archiver.last_reply is None
    await archiver.commit()
    assert archiver.last_reply == f"$JS.ACK.PROD_KALSHI.arch.1.6.6.{T0 + 5 * SECOND_NS}.0"
    await archiver.close(seal=True)


@pytest.mark.parametrize("writes", [1, 2, 3])
async def test_a_disk_full_in_the_middle_of_a_block_costs_nothing(tmp_path: Path, writes: int) -> None:
    stream = trades(5)
    archiver = start(tmp_path, disk=_FullDisk(writes))
    await archiver.take_in(stream.deliver(0), 1)
    with pytest.raises(ArchiveError, match=r"No space left on device \(free space on the disk"):
        await archiver.commit()
    assert archiver.last_reply is None
    await archive(tmp_path, stream)
    assert verified(tmp_path).records == 5


@pytest.mark.parametrize("syncs", [1, 2, 3])
async def test_a_failed_write_stops_the_archiver_unacknowledged_and_the_next_one_recovers(
    tmp_path: Path, syncs: int
) -> None:
    stream = trades(5)
    archiver = start(tmp_path, disk=_FailingDisk(syncs))
    await archiver.take_in(stream.deliver(0), 1)
    with pytest.raises(ArchiveError, match="free space on the disk"):
        await archiver.commit()
    assert archiver.last_reply is None
    await archive(tmp_path, stream)
    assert verified(tmp_path).records == 5


async def test_jumps_are_no_gaps_where_the_stream_is_shared(tmp_path: Path) -> None:
    stream = trades(6)
    del stream.messages[2:5]
    await archive(tmp_path, stream, shared=True)
    assert manifest_of(tmp_path).gaps == []
    report = verified(tmp_path)
    assert (report.archived, report.lost) == (3, 0)


async def test_a_segments_times_are_its_messages_not_the_moment_it_was_closed(tmp_path: Path) -> None:
    await archive(tmp_path, trades(5))
    (entry,) = manifest_of(tmp_path).files
    assert (entry.start, entry.end) == ("2026-11-23T12:00:00Z", "2026-11-23T12:00:05Z")
    assert entry.sealed_at == "1970-01-01T00:00:00.000000001Z", "the test's own clock"


async def test_a_large_batch_becomes_one_block_not_one_write_a_message(tmp_path: Path) -> None:
    await archive(tmp_path, trades(5000), interval_s=86_400)
    index = (tmp_path / "kalshi" / DATE / "_evidence" / "0000.index.jsonl").read_bytes()
    assert index.count(b'"kind":"block"') == 1


@pytest.mark.parametrize(
    ("interval_s", "names"),
    [
        (1, ["235958", "235959", "000000"]),
        (15, ["235945", "000000"]),
        (90, ["235830", "000000"]),
        (7 * 60, ["2355", "0000"]),
        (15 * 60, ["2345", "0000"]),
        (3600, ["2300", "0000"]),
        (7 * 3600, ["2100", "0000"]),
        (86_400, ["0000", "0000"]),
    ],
)
async def test_every_interval_turns_at_midnight_and_names_its_windows(
    tmp_path: Path, interval_s: int, names: list[str]
) -> None:
    stream = Stream()
    for at in ("23T23:59:58Z", "23T23:59:59.999999999Z", "24T00:00:00Z"):
        stream.trade(at_ns=from_rfc3339(f"2026-11-{at}"))
    await archive(tmp_path, stream, interval_s=interval_s)
    files = [*manifest_of(tmp_path).files, *manifest_of(tmp_path, "2026-11-24").files]
    assert [entry.name.removesuffix(".jsonl.gz") for entry in files] == names
    assert sum(entry.records for entry in files) == 3
    verified(tmp_path)


async def test_segments_end_at_their_bound_of_bytes(tmp_path: Path) -> None:
    await archive(tmp_path, trades(25), interval_s=86_400, max_bytes=80)
    manifest = manifest_of(tmp_path)
    assert len(manifest.files) > 2
    assert all(entry.bytes <= 80 for entry in manifest.files)
    assert [entry.seal_reason for entry in manifest.files[:-1]] == ["size"] * (len(manifest.files) - 1)
    assert [entry.name for entry in manifest.files[:3]] == ["0000.jsonl.gz", "0000-1.jsonl.gz", "0000-2.jsonl.gz"]
    verified(tmp_path)


async def test_a_sealed_file_that_is_gone_is_told_at_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await archive(tmp_path, trades(12))
    for path in (tmp_path / "kalshi" / DATE).rglob("120000.*"):
        path.unlink()
    await start(tmp_path).write_manifests(now=True)
    said = capsys.readouterr()
    assert "sealed_files_missing" in said.out + said.err
    assert [entry.name for entry in manifest_of(tmp_path).files] == ["120010.jsonl.gz"]


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EIO, errno.EDQUOT])
def test_a_refused_write_names_the_file_and_what_to_do(number: int) -> None:
    text = str(explain(OSError(number, ""), Path("/archive/kalshi/x")))
    assert text.startswith("/archive/kalshi/x: cannot write: ")
    assert text.endswith(")"), "a remedy"


def test_a_disk_is_called_nearly_full_before_it_is() -> None:
    assert low_space(6, 100) is None
    assert low_space(5, 100) is None
    assert low_space(4, 100) is not None


def test_one_folder_has_one_writer_and_the_refusal_names_it(tmp_path: Path) -> None:
    lock = writer_lock(tmp_path, "kalshi", Disk())
    with pytest.raises(ArchiveBusyError, match=r'"pid": \d+'):
        writer_lock(tmp_path, "kalshi", Disk())
    lock.release()
    writer_lock(tmp_path, "kalshi", Disk()).release()


def _skipped(order: Sequence[int]) -> list[RawMessage]:
    return [(b"prod.kalshi.json.trade.X", b"$JS.ACK.S.C.1.%d.%d.%d.0" % (n, n, T0), None, b"{}") for n in order]


@pytest.mark.parametrize("order", [[1, 3], [1, 2, 2], [2]])
async def test_a_delivery_skipped_or_repeated_is_noticed_before_it_counts(tmp_path: Path, order: list[int]) -> None:
    archiver = start(tmp_path)
    expected, jump = await archiver.take_in(_skipped(order), 1)
    assert (expected, jump) == (-1, None)
    await archiver.close(seal=True)
