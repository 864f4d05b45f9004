"""The archiver on real files, fed with messages as they come off the wire."""

from __future__ import annotations

import asyncio
import errno
import gzip
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_archiver.archiver import Archiver, FeedSettings
from ssmd_archiver.catalog import Catalog
from ssmd_archiver.consumer import RawMessage
from ssmd_archiver.disk import Disk, explain
from ssmd_archiver.epoch import Position
from ssmd_archiver.maintenance import rebuild_feed, seal_feed
from ssmd_archiver.metrics import ArchiverMetrics
from ssmd_archiver.plan import jump_gaps
from ssmd_archiver.recovery import recover
from ssmd_archiver.rotation import Rotation
from ssmd_archiver.run import writer_lock
from ssmd_archiver.verify import FeedReport, verify_feed
from ssmd_common import events, load
from ssmd_common.archive.manifest import Manifest, parse_manifest
from ssmd_common.archive.times import SECOND_NS, from_rfc3339
from ssmd_common.errors import ArchiveBusyError, ArchiveError
from ssmd_common.events import CaptureEvent
from ssmd_common.nats.streams import StreamInfo
from ssmd_common.service.telemetry import Metrics
from ssmd_common.subjects import SubjectBuilder

T0 = from_rfc3339("2026-11-23T12:00:00Z")
DATE = "2026-11-23"
SESSION = "host-01ARZ3NDEKTSV4RRFFQ69G5FAV"
SUBJECTS = SubjectBuilder("prod", "kalshi")
METRICS = ArchiverMetrics(Metrics("test"))


@dataclass
class Stream:
    """A stream's messages, one a second of server time unless told otherwise."""

    messages: list[tuple[int, bytes, bytes | None, bytes, int]] = field(default_factory=list)
    frames: int = 0
    events: int = 0

    def add(self, subject: str, payload: bytes, msg_id: str | None, at_ns: int | None = None) -> None:
        seq = self.messages[-1][0] + 1 if self.messages else 1
        headers = None
        if msg_id is not None:
            headers = f"NATS/1.0\r\nNats-Msg-Id: {msg_id}\r\nSsmd-Received-Ns: {T0 + seq}\r\n\r\n".encode()
        stored_ns = T0 + (seq - 1) * SECOND_NS if at_ns is None else at_ns
        self.messages.append((seq, subject.encode(), headers, payload, stored_ns))

    def trade(self, payload: bytes | None = None, at_ns: int | None = None) -> None:
        self.frames += 1
        body = payload if payload is not None else b'{"n":%d}' % self.frames
        self.add(SUBJECTS.json_trade("KX-B5.5"), body, f"{SESSION}.1.{self.frames}", at_ns)

    def event(self, event: CaptureEvent, at_ns: int | None = None) -> None:
        self.events += 1
        msg_id = f"{SESSION}.{event.connection}.e{self.events}"
        self.add(SUBJECTS.capture(events.event_name(event)), events.encode_event(event), msg_id, at_ns)

    def close(self, cause: str = "stopped") -> None:
        self.event(
            events.ConnectionClosed(
                session=SESSION, connection=1, at_ns=T0, cause=cause, frames=self.frames, acked_through=self.frames
            )
        )

    def deliver(self, after_seq: int) -> list[RawMessage]:
        rest = [message for message in self.messages if message[0] > after_seq]
        return [
            (subject, b"$JS.ACK.PROD_KALSHI.arch.1.%d.%d.%d.0" % (seq, number, stored_ns), headers, payload)
            for number, (seq, subject, headers, payload, stored_ns) in enumerate(rest, 1)
        ]


def _settings(base: Path, interval_s: int, max_bytes: int | None, *, shared: bool) -> FeedSettings:
    return FeedSettings(
        base=base,
        subjects=SUBJECTS,
        stream="PROD_KALSHI",
        shared=shared,
        data_filter="prod.kalshi.json.>",
        interval=f"{interval_s}s",
        rotation=Rotation(interval_s * SECOND_NS, max_bytes),
        flush_s=5,
    )


def _start(
    base: Path,
    interval_s: int = 10,
    max_bytes: int | None = None,
    *,
    shared: bool = False,
    disk: Disk | None = None,
) -> Archiver:
    disk = disk or Disk()
    disk.make_folder(base / "kalshi")
    recovered = recover(base, "kalshi", disk)
    catalog = Catalog(base, "kalshi", disk)
    catalog.check_all()
    position = recovered.position or Position(epoch=1, created="c", seq=None)
    settings = _settings(base, interval_s, max_bytes, shared=shared)
    return Archiver(settings, recovered, position, catalog, disk, METRICS, lambda: 1)


async def _archive(
    base: Path,
    stream: Stream,
    *,
    batch: int = 1000,
    commit_every: int | None = None,
    seal: bool = True,
    interval_s: int = 10,
    max_bytes: int | None = None,
    stop_after: int | None = None,
    shared: bool = False,
) -> None:
    """Archive what the stream holds past the archive's position, in batches; ``stop_after`` kills it there."""
    archiver = _start(base, interval_s, max_bytes, shared=shared)
    await archiver.write_manifests(now=True)
    rest = stream.deliver(archiver.next_seq - 1)
    if stop_after is not None:
        rest = rest[:stop_after]
    expected = 1
    while rest:
        part, rest = rest[:batch], rest[batch:]
        expected, jump = await archiver.take_in(part, expected)
        assert expected > 0
        if jump is not None:
            info = StreamInfo("S", (), "c", 0, jump.message.seq, 10**6, 0, 0, 0)
            position = archiver.position
            gaps = jump_gaps(
                info,
                epoch=1,
                start_seq=jump.expected_seq,
                end_seq=jump.message.seq,
                start_ns=position.stored_ns or 0,
                end_ns=jump.message.stored_ns,
            )
            archiver.explain(gaps, jump.message.seq)
            rest = jump.rest + rest
        if commit_every and archiver.next_seq % commit_every == 0:
            await archiver.commit()
    if stop_after is None:
        await archiver.close(seal=seal)
    else:
        await archiver.commit()


def _manifest(base: Path, date: str = DATE) -> Manifest:
    path = base / "kalshi" / date / "manifest.json"
    return parse_manifest(path.read_bytes(), where=str(path))


def _verified(base: Path) -> FeedReport:
    report = verify_feed(base, "kalshi")
    assert report.findings == []
    return report


def _boundaries(base: Path) -> list[tuple[str, int, int, str]]:
    files = _manifest(base).files
    return [(entry.name, entry.nats_start_seq, entry.nats_end_seq, entry.sha256_raw) for entry in files]


def _trades(count: int) -> Stream:
    stream = Stream()
    stream.event(events.ConnectionOpened(session=SESSION, connection=1, at_ns=T0, url="ws://x"))
    for _ in range(count):
        stream.trade()
    return stream


async def test_every_message_is_in_its_window_and_the_manifest_tells_it(tmp_path: Path) -> None:
    stream = _trades(25)
    stream.close()
    await _archive(tmp_path, stream)
    manifest = _manifest(tmp_path)
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
    report = _verified(tmp_path)
    assert (report.received, report.archived, report.lost, report.records) == (25, 25, 0, 25)


async def test_every_entry_of_a_day_stays_in_the_manifest_across_restarts(tmp_path: Path) -> None:
    stream = _trades(5)
    await _archive(tmp_path, stream)
    for _ in range(10):
        stream.trade()
    await _archive(tmp_path, stream)
    assert [f.name for f in _manifest(tmp_path).files] == [
        "120000.jsonl.gz",
        "120000-1.jsonl.gz",
        "120010.jsonl.gz",
    ]
    _verified(tmp_path)


async def test_a_stop_without_seal_resumes_the_open_segment(tmp_path: Path) -> None:
    stream = _trades(5)
    await _archive(tmp_path, stream, seal=False)
    assert not list((tmp_path / "kalshi" / DATE).glob("*.jsonl.gz"))
    assert len(list(load("kalshi", DATE, data=tmp_path))) == 5, "the durable part of an open segment can be read"
    for _ in range(4):
        stream.trade()
    await _archive(tmp_path, stream)
    assert [(f.name, f.records) for f in _manifest(tmp_path).files] == [("120000.jsonl.gz", 9)]


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
    stream = _trades(60)
    base = tmp_path_factory.mktemp("once"), tmp_path_factory.mktemp("killed")

    async def both() -> None:
        await _archive(base[0], stream, max_bytes=max_bytes)
        for kill in kills:
            await _archive(base[1], stream, batch=batch, stop_after=kill, max_bytes=max_bytes)
        await _archive(base[1], stream, batch=batch, commit_every=commit_every, max_bytes=max_bytes)

    asyncio.run(both())
    assert _boundaries(base[1]) == _boundaries(base[0])
    _verified(base[1])


async def test_open_files_torn_at_any_byte_lose_nothing(tmp_path: Path) -> None:
    stream = _trades(8)
    whole = tmp_path / "whole"
    await _archive(whole, stream, commit_every=3, seal=False)
    opened = whole / "kalshi" / DATE / "_open"
    index = (opened / "120000.index.jsonl").read_bytes()
    complete = tmp_path / "complete"
    await _archive(complete, stream)
    expected = _boundaries(complete)
    for cut in range(0, len(index), 37):
        torn = tmp_path / f"torn{cut}"
        shutil.copytree(whole, torn)
        (torn / "kalshi" / DATE / "_open" / "120000.index.jsonl").write_bytes(index[:cut])
        await _archive(torn, stream)
        assert _boundaries(torn) == expected
        _verified(torn)
        shutil.rmtree(torn)


async def test_bytes_after_the_last_journaled_block_are_cut(tmp_path: Path) -> None:
    stream = _trades(5)
    await _archive(tmp_path, stream, seal=False)
    for path in (tmp_path / "kalshi" / DATE / "_open").iterdir():
        path.write_bytes(path.read_bytes() + b"\x1f\x8btorn")
    stream.trade()
    await _archive(tmp_path, stream)
    assert _verified(tmp_path).records == 6


async def test_a_seal_interrupted_between_its_renames_is_finished(tmp_path: Path) -> None:
    stream = _trades(5)
    await _archive(tmp_path, stream)
    day = tmp_path / "kalshi" / DATE
    (day / "120000.jsonl.gz").rename(day / "_open" / "120000.jsonl.gz")
    (day / "_evidence" / "120000.meta.jsonl.gz").rename(day / "_open" / "120000.meta.jsonl.gz")
    (day / "manifest.json").unlink()
    stream.trade()
    await _archive(tmp_path, stream)
    assert [f.records for f in _manifest(tmp_path).files] == [5, 1]
    _verified(tmp_path)


async def test_a_resend_is_dropped_and_counted_also_after_a_restart(tmp_path: Path) -> None:
    stream = _trades(3)
    stream.add(SUBJECTS.json_trade("KX-B5.5"), b'{"n":2}', f"{SESSION}.1.2")
    await _archive(tmp_path, stream)
    stream.add(SUBJECTS.json_trade("KX-B5.5"), b'{"n":1}', f"{SESSION}.1.1")
    await _archive(tmp_path, stream)
    assert [(f.records, f.duplicates) for f in _manifest(tmp_path).files] == [(3, 1), (0, 1)]
    assert [json.loads(r.data)["n"] for r in load("kalshi", DATE, data=tmp_path)] == [1, 2, 3]
    _verified(tmp_path)


async def test_a_jump_of_the_stream_is_one_gap_with_its_count(tmp_path: Path) -> None:
    stream = _trades(6)
    del stream.messages[2:5]
    await _archive(tmp_path, stream)
    (gap,) = _manifest(tmp_path).gaps
    assert (gap.layer, gap.cause, gap.after_seq, gap.start_seq, gap.end_seq, gap.missing_count) == (
        "stream",
        "retention",
        2,
        3,
        6,
        3,
    )
    assert _verified(tmp_path).missing == 3


async def test_silence_is_evidence_and_a_window_of_events_alone_is_sealed(tmp_path: Path) -> None:
    stream = Stream()
    stream.event(events.Heartbeat(session=SESSION, at_ns=T0, connections=[]))
    await _archive(tmp_path, stream)
    (entry,) = _manifest(tmp_path).files
    assert (entry.records, entry.bytes, entry.capture_events) == (0, 0, 1)
    assert gzip.decompress((tmp_path / "kalshi" / DATE / entry.name).read_bytes()) == b""
    _verified(tmp_path)


async def test_payloads_of_every_kind_keep_their_bytes(tmp_path: Path) -> None:
    payloads = [b"[1,2]", b'{\n "a": 1\n}', b"", b"\xff\xfe", b"not json", b'"text"', b'{"a":"\xc3\xa9"}']
    stream = Stream()
    for payload in payloads:
        stream.trade(payload)
    await _archive(tmp_path, stream)
    entry = _manifest(tmp_path).files[0]
    assert (entry.records, entry.rejects) == (4, 3)
    records = [record.data for record in load("kalshi", DATE, data=tmp_path)]
    assert records == [b"[1,2]", b'{\n "a": 1\n}', b'"text"', b'{"a":"\xc3\xa9"}']
    report = _verified(tmp_path)
    assert (report.archived, report.rejects) == (7, 3)


async def test_a_day_rolls_over_and_each_has_its_manifest(tmp_path: Path) -> None:
    stream = Stream()
    stream.trade(at_ns=from_rfc3339("2026-11-23T23:59:59.9Z"))
    stream.trade(at_ns=from_rfc3339("2026-11-24T00:00:00Z"))
    await _archive(tmp_path, stream, interval_s=7 * 3600)
    assert [f.name for f in _manifest(tmp_path).files] == ["2100.jsonl.gz"]
    assert [f.name for f in _manifest(tmp_path, "2026-11-24").files] == ["0000.jsonl.gz"]
    assert _manifest(tmp_path).complete_through == "2026-11-24T00:00:00Z"
    _verified(tmp_path)


async def test_a_clock_stepping_far_back_opens_the_true_window_and_is_told(tmp_path: Path) -> None:
    stream = _trades(3)
    stream.trade(at_ns=T0 - 3600 * SECOND_NS)
    stream.trade(at_ns=T0 + 5 * SECOND_NS)
    await _archive(tmp_path, stream)
    manifest = _manifest(tmp_path)
    assert [(f.name, f.seal_reason) for f in manifest.files] == [
        ("120000.jsonl.gz", "clock"),
        ("110000.jsonl.gz", "window"),
        ("120000-1.jsonl.gz", "exit"),
    ]
    assert [anomaly.name for anomaly in manifest.anomalies] == ["clock_stepped"]
    _verified(tmp_path)


async def test_a_gap_over_midnight_is_listed_in_both_days(tmp_path: Path) -> None:
    stream = Stream()
    stream.trade(at_ns=from_rfc3339("2026-11-23T23:59:00Z"))
    stream.trade(at_ns=from_rfc3339("2026-11-23T23:59:01Z"))
    stream.trade(at_ns=from_rfc3339("2026-11-25T00:00:01Z"))
    del stream.messages[1]
    await _archive(tmp_path, stream)
    for date in ("2026-11-23", "2026-11-24", "2026-11-25"):
        assert [gap.missing_count for gap in _manifest(tmp_path, date).gaps] == [1]
    assert _manifest(tmp_path, "2026-11-24").files == []
    _verified(tmp_path)


async def test_rebuild_derives_the_identical_manifest(tmp_path: Path) -> None:
    stream = _trades(25)
    del stream.messages[12]
    stream.close("peer_closed")
    await _archive(tmp_path, stream)
    path = tmp_path / "kalshi" / DATE / "manifest.json"
    before = path.read_bytes()
    path.unlink()
    rebuild_feed(tmp_path, "kalshi", Disk())
    assert path.read_bytes() == before


def _damages() -> list[tuple[str, Callable[[bytes], bytes]]]:
    return [
        ("120000.jsonl.gz", lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:]),
        ("_evidence/120000.meta.jsonl.gz", lambda data: data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]),
        ("_evidence/120000.index.jsonl", lambda data: data.replace(b'"records":9', b'"records":8')),
        ("_evidence/120000.index.jsonl", lambda data: data.replace(b'"sealed_ns":1', b'"sealed_ns":2')),
        ("manifest.json", lambda data: data.replace(b'"trade"', b'"trede"', 1)),
    ]


@pytest.mark.parametrize("damage", range(len(_damages())))
async def test_verify_finds_a_single_changed_byte(tmp_path: Path, damage: int) -> None:
    await _archive(tmp_path, _trades(12))
    name, change = _damages()[damage]
    path = tmp_path / "kalshi" / DATE / name
    before = path.read_bytes()
    path.write_bytes(change(before))
    assert path.read_bytes() != before
    report = verify_feed(tmp_path, "kalshi")
    assert report.findings


@pytest.mark.parametrize("name", ["120000.jsonl.gz", "_evidence/120000.index.jsonl", "manifest.json"])
async def test_verify_finds_a_missing_file(tmp_path: Path, name: str) -> None:
    await _archive(tmp_path, _trades(12))
    (tmp_path / "kalshi" / DATE / name).unlink()
    assert verify_feed(tmp_path, "kalshi").findings


async def test_a_damaged_line_that_counted_stops_recovery_with_a_remedy(tmp_path: Path) -> None:
    await _archive(tmp_path, _trades(8), commit_every=3, seal=False)
    path = tmp_path / "kalshi" / DATE / "_open" / "120000.index.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"kind":"event"', b'"kind":"evnt0"', 1))
    with pytest.raises(ArchiveError, match=r"index damaged .*restore the file"):
        recover(tmp_path, "kalshi", Disk())


async def test_a_lost_manifest_is_written_again_at_the_start(tmp_path: Path) -> None:
    stream = _trades(5)
    await _archive(tmp_path, stream)
    path = tmp_path / "kalshi" / DATE / "manifest.json"
    before = path.read_bytes()
    path.write_bytes(before[: len(before) // 2])
    await _start(tmp_path).write_manifests(now=True)
    assert path.read_bytes() == before


async def test_an_open_segment_can_be_sealed_by_hand(tmp_path: Path) -> None:
    await _archive(tmp_path, _trades(5), seal=False)
    assert seal_feed(tmp_path, "kalshi", Disk()) == "120000"
    assert [f.records for f in _manifest(tmp_path).files] == [5]
    assert seal_feed(tmp_path, "kalshi", Disk()) is None
    _verified(tmp_path)


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
    archiver = _start(tmp_path)
    await archiver.take_in(_trades(5).deliver(0), 1)
    assert archiver.last_reply is None
    await archiver.commit()
    assert archiver.last_reply == f"$JS.ACK.PROD_KALSHI.arch.1.6.6.{T0 + 5 * SECOND_NS}.0"
    await archiver.close(seal=True)


@pytest.mark.parametrize("syncs", [1, 2, 3])
async def test_a_failed_write_stops_the_archiver_unacknowledged_and_the_next_one_recovers(
    tmp_path: Path, syncs: int
) -> None:
    stream = _trades(5)
    archiver = _start(tmp_path, disk=_FailingDisk(syncs))
    await archiver.take_in(stream.deliver(0), 1)
    with pytest.raises(ArchiveError, match="free space on the disk"):
        await archiver.commit()
    assert archiver.last_reply is None
    await _archive(tmp_path, stream)
    assert _verified(tmp_path).records == 5


async def test_jumps_are_no_gaps_where_the_stream_is_shared(tmp_path: Path) -> None:
    stream = _trades(6)
    del stream.messages[2:5]
    await _archive(tmp_path, stream, shared=True)
    assert _manifest(tmp_path).gaps == []
    report = _verified(tmp_path)
    assert (report.archived, report.lost) == (3, 0)


async def test_a_segments_times_are_its_messages_not_the_moment_it_was_closed(tmp_path: Path) -> None:
    await _archive(tmp_path, _trades(5))
    (entry,) = _manifest(tmp_path).files
    assert (entry.start, entry.end) == ("2026-11-23T12:00:00Z", "2026-11-23T12:00:05Z")
    assert entry.sealed_at == "1970-01-01T00:00:00.000000001Z", "the test's own clock"


async def test_a_large_batch_becomes_one_block_not_one_write_a_message(tmp_path: Path) -> None:
    await _archive(tmp_path, _trades(5000), interval_s=86_400)
    index = (tmp_path / "kalshi" / DATE / "_evidence" / "0000.index.jsonl").read_bytes()
    assert index.count(b'"kind":"block"') == 1


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
    archiver = _start(tmp_path)
    expected, jump = await archiver.take_in(_skipped(order), 1)
    assert (expected, jump) == (-1, None)
    await archiver.close(seal=True)
