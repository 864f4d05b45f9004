"""Certificates of days the archiver wrote, and archives held to them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import subprocess
import tempfile
import zlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssmd_archiver.certified import read_certificate, verify_certificate
from ssmd_archiver.testing import DATE, SESSION, SUBJECTS, T0, Stream, archive, run_cli, trades
from ssmd_common import events
from ssmd_common.archive.balance import Balance
from ssmd_common.archive.certificate import Certificate, encode_certificate, sha256sum_list
from ssmd_common.archive.certificate_store import derive_certificate
from ssmd_common.archive.derivation import derive_manifest, summarise
from ssmd_common.archive.index import (
    GapRecord,
    block_chain,
    encode_line,
    read_index,
    seal_crc32,
)
from ssmd_common.archive.layout import DayKeys, day_paths, list_days
from ssmd_common.archive.manifest import encode_manifest
from ssmd_common.archive.store import LocalStore
from ssmd_common.archive.times import DAY_NS, SECOND_NS
from ssmd_common.errors import ConfigError

OTHER = "host-01ARZ3NDEKTSV4RRFFQ69G5FAW"


def certificates(base: Path) -> dict[str, Certificate]:
    """Return the certificate of every day, by date."""
    store = LocalStore(base)
    found = {}
    for day in list_days(base, "kalshi"):
        keys = DayKeys("kalshi", day.date)
        found[day.date.isoformat()] = derive_certificate(store, keys, day.manifest.read_bytes())
    return found


def beat(stream: Stream, frames: int, acked: int, at_ns: int | None = None) -> None:
    state = events.ConnectionState(connection=1, frames=frames, acked_through=acked)
    stream.event(events.Heartbeat(session=SESSION, at_ns=T0, connections=[state]), at_ns)


def adds_up(frames: Balance) -> bool:
    right = frames.archived + sum(frames.lost.values()) + frames.unverifiable + frames.carried_out
    return frames.received + frames.carried_in == right + frames.unaccounted


async def test_a_whole_day_is_received_published_and_archived(tmp_path: Path) -> None:
    stream = trades(25)
    stream.close()
    await archive(tmp_path, stream)
    certificate = certificates(tmp_path)[DATE]
    assert (certificate.frames.received, certificate.published, certificate.frames.archived) == (25, 25, 25)
    assert certificate.balanced
    assert certificate.state == "pending", "the day may go on"
    assert [gaps.gaps for gaps in certificate.gaps.values()] == [0, 0, 0, 0]
    assert set(certificate.gaps) == {"exchange", "connection", "stream", "archive"}
    assert certificate.root == hashlib.sha256(sha256sum_list(certificate.files)).hexdigest()
    assert encode_certificate(certificate) == encode_certificate(certificates(tmp_path)[DATE])


async def test_frames_that_fell_to_retention_are_lost_in_the_stream(tmp_path: Path) -> None:
    stream = trades(20)
    del stream.messages[5:8]
    stream.close()
    await archive(tmp_path, stream)
    certificate = certificates(tmp_path)[DATE]
    assert (certificate.frames.received, certificate.frames.archived, certificate.balanced) == (20, 17, True)
    assert certificate.frames.lost == {"archive": 0, "connection": 0, "exchange": 0, "stream": 3}
    assert certificate.gaps["stream"].missing == 3


async def test_frames_a_connector_lost_and_said_so_are_lost_by_the_connection(tmp_path: Path) -> None:
    stream = trades(4)
    closed = events.ConnectionClosed(
        session=SESSION, connection=1, at_ns=T0, cause="peer_closed", frames=10, acked_through=10, lost=[(5, 11)]
    )
    stream.event(closed)
    await archive(tmp_path, stream)
    certificate = certificates(tmp_path)[DATE]
    assert (certificate.frames.received, certificate.frames.archived) == (10, 4)
    assert certificate.frames.lost["connection"] == 6
    assert certificate.balanced


async def test_the_tail_of_a_crashed_connector_is_unverifiable(tmp_path: Path) -> None:
    stream = trades(4)
    beat(stream, 9, 4)
    stream.event(
        events.SessionStarted(session=OTHER, at_ns=T0 + SECOND_NS, instance="host", env="prod", feed="kalshi")
    )
    await archive(tmp_path, stream)
    certificate = certificates(tmp_path)[DATE]
    assert (certificate.frames.received, certificate.frames.archived, certificate.published) == (9, 4, 4)
    assert (certificate.frames.unverifiable, certificate.frames.carried_out) == (5, 0)
    assert certificate.gaps["connection"].missing is None
    assert certificate.balanced


async def test_frames_under_way_at_midnight_are_carried_into_the_next_day(tmp_path: Path) -> None:
    midnight = T0 - T0 % DAY_NS + DAY_NS
    stream = Stream()
    stream.event(events.ConnectionOpened(session=SESSION, connection=1, at_ns=T0, url="ws://x"), midnight - 9)
    for _ in range(3):
        stream.trade(at_ns=midnight - 8)
    beat(stream, 5, 3, midnight - 7)
    for _ in range(4):
        stream.trade(at_ns=midnight + 5)
    stream.close()
    stream.messages[-1] = (*stream.messages[-1][:4], midnight + 6)
    await archive(tmp_path, stream)
    before, after = certificates(tmp_path).values()
    assert (before.frames.received, before.frames.archived, before.frames.carried_out) == (5, 3, 2)
    assert (after.frames.carried_in, after.frames.received, after.frames.archived) == (2, 2, 4)
    assert (before.state, after.state) == ("final", "pending")
    assert before.balanced
    assert after.balanced


async def test_foreign_records_are_counted_as_what_nobody_numbered(tmp_path: Path) -> None:
    stream = trades(3)
    for _ in range(2):
        stream.add(SUBJECTS.json_trade("X"), b"{}", None)
    await archive(tmp_path, stream)
    certificate = certificates(tmp_path)[DATE]
    assert (certificate.records, certificate.records_without_frame, certificate.frames.archived) == (5, 2, 3)


async def test_a_frame_that_nothing_explains_unbalances_the_day(tmp_path: Path) -> None:
    """As an archive would be whose gap somebody took out, every hash made anew."""
    stream = trades(20)
    del stream.messages[-3]
    stream.messages[-2:] = [(message[0] - 1, *message[1:]) for message in stream.messages[-2:]]
    stream.close()
    await archive(tmp_path, stream, interval_s=3600)
    assert certificates(tmp_path)[DATE].frames.lost["stream"] == 1
    _forget_gaps(tmp_path)
    certificate = certificates(tmp_path)[DATE]
    assert (certificate.frames.unaccounted, certificate.balanced) == (1, False)
    assert adds_up(certificate.frames)


def _forget_gaps(base: Path) -> None:
    (day,) = list_days(base, "kalshi")
    (stem,) = day.sealed_stems()
    path = day.sealed(stem).index
    index = read_index(path.read_bytes(), where="")
    assert index is not None
    assert index.seal is not None
    data = encode_line(index.header)
    for group in index.groups:
        data += b"".join(encode_line(line) for line in group.lines if not isinstance(line, GapRecord))
        data += encode_line(msgspec.structs.replace(group.block, chain=block_chain(group.block, zlib.crc32(data))))
    seal = msgspec.structs.replace(index.seal, body_sha256=hashlib.sha256(data).hexdigest())
    data += encode_line(msgspec.structs.replace(seal, line_crc32=seal_crc32(seal)))
    path.write_bytes(data)
    again = read_index(data, where="")
    assert again is not None
    summary = summarise(again, data, where="")
    manifest = derive_manifest(header=again.header, date=day.date, segments=[summary], gaps=[])
    day.manifest.write_bytes(encode_manifest(manifest))


STEPS = st.sampled_from(("frame", "frame", "frame", "drop", "beat", "lag", "reconnect", "crash", "night", "reject"))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, min_size=1, max_size=40))
def test_every_day_adds_up_whatever_a_connector_lives_through(steps: list[str]) -> None:
    stream, archived = _life(steps)
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(archive(Path(folder), stream))
        days = certificates(Path(folder)).values()
    assert sum(certificate.frames.archived for certificate in days) == archived
    for certificate in days:
        for balance in (certificate.frames, *certificate.connections):
            assert adds_up(balance)
            assert balance.unaccounted == 0
            assert min(balance.received, balance.carried_in, balance.archived, balance.carried_out) >= 0


def _life(steps: list[str]) -> tuple[Stream, int]:
    """Return what a connector with these steps publishes, and how many of its frames come to the stream."""
    stream = Stream()
    lives = 0
    connection = frames = acked = archived = 0
    now_ns = T0
    session = SESSION

    def publish(event: events.CaptureEvent) -> None:
        stream.events += 1
        msg_id = f"{session}.{event.connection}.e{stream.events}"
        stream.add(SUBJECTS.capture(events.event_name(event)), events.encode_event(event), msg_id, now_ns)

    def open_connection() -> None:
        nonlocal connection, frames, acked
        connection, frames, acked = connection + 1, 0, 0
        publish(events.ConnectionOpened(session=session, connection=connection, at_ns=now_ns, url="ws://x"))

    open_connection()
    for step in steps:
        now_ns += SECOND_NS
        match step:
            case "frame" | "reject":
                frames += 1
                archived += 1
                payload = b"{}" if step == "frame" else b"no JSON"
                stream.add(SUBJECTS.json_trade("X"), payload, f"{session}.{connection}.{frames}", now_ns)
            case "drop":
                frames += 1  # the server said that it has it, and lost it
            case "beat" | "lag":
                acked = frames if step == "beat" else acked
                state = events.ConnectionState(connection=connection, frames=frames, acked_through=acked)
                publish(events.Heartbeat(session=session, at_ns=now_ns, connections=[state]))
            case "reconnect":
                closed = events.ConnectionClosed(
                    session=session,
                    connection=connection,
                    at_ns=now_ns,
                    cause="peer_closed",
                    frames=frames,
                    acked_through=frames,
                )
                publish(closed)
                open_connection()
            case "crash":
                lives += 1
                stream.events = connection = 0
                session = f"host-01ARZ3NDEKTSV4RRFFQ69G5F{'BCDEFGHJKMNPQRSTVWXYZ'[lives % 20]}{lives % 10}"
                publish(
                    events.SessionStarted(session=session, at_ns=now_ns, instance="host", env="prod", feed="kalshi")
                )
                open_connection()
            case "night":
                now_ns += DAY_NS
    return stream, archived


@pytest.fixture
async def certified(tmp_path: Path) -> tuple[Path, Path]:
    """Return an archive of two segments in one day, and the file of its certificate."""
    base = tmp_path / "data"
    stream = trades(15)
    stream.close()
    await archive(base, stream)
    path = tmp_path / "certificate.json"
    path.write_bytes(encode_certificate(certificates(base)[DATE]))
    return base, path


def test_coreutils_check_the_list_and_its_root(certified: tuple[Path, Path], tmp_path: Path) -> None:
    base, path = certified
    certificate = read_certificate(path)
    listed = tmp_path / "SHA256SUMS"
    listed.write_bytes(sha256sum_list(certificate.files))
    folder = base / "kalshi" / DATE
    sha256sum = shutil.which("sha256sum")
    assert sha256sum is not None
    checked = subprocess.run(  # noqa: S603 - coreutils
        [sha256sum, "--strict", "-c", str(listed)], cwd=folder, capture_output=True, text=True, check=True
    )
    assert checked.stdout.count(": OK") == len(certificate.files) == 7
    root = subprocess.run([sha256sum, str(listed)], capture_output=True, text=True, check=True)  # noqa: S603 - as above
    assert root.stdout.split()[0] == certificate.root


def test_an_archive_is_held_to_its_certificate_offline(certified: tuple[Path, Path]) -> None:
    base, path = certified
    done = run_cli("verify", "--data", str(base), "--certificate", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert f"root {read_certificate(path).root}" in done.stdout
    assert "verified" in done.stdout
    told = json.loads(run_cli("verify", "--data", str(base), "--certificate", str(path), "--json").stdout)
    assert (told["ok"], told["findings"]) == (True, [])


def test_every_changed_and_missing_file_is_named(certified: tuple[Path, Path]) -> None:
    base, path = certified
    certificate = read_certificate(path)
    for file in certificate.files:
        place = base / "kalshi" / DATE / file.path
        kept = place.read_bytes()
        place.write_bytes(kept + b"\n")
        assert str(place) in {finding.where for finding in verify_certificate(base, certificate)}
        place.unlink()
        missing = verify_certificate(base, certificate)
        assert (str(place), "is missing") in {(finding.where, finding.problem) for finding in missing}
        place.write_bytes(kept)
    assert verify_certificate(base, certificate) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("published", 14),
        ("records", 16),
        ("stream", "OTHER"),
        ("complete_through", None),
        ("root", "0" * 64),
        ("state", "final"),
    ],
)
def test_every_changed_figure_is_named(certified: tuple[Path, Path], field: str, value: object) -> None:
    base, path = certified
    document = json.loads(path.read_text("utf-8"))
    document[field] = value
    path.write_text(json.dumps(document), "utf-8")
    done = run_cli("verify", "--data", str(base), "--certificate", str(path))
    assert done.returncode == 1
    assert f" {field}: the certificate says" in done.stdout


def test_a_segment_the_certificate_does_not_know_is_named(certified: tuple[Path, Path]) -> None:
    base, path = certified
    certificate = read_certificate(path)
    shorter = certificate.model_copy(update={"files": certificate.files[1:]})
    problems = [finding.problem for finding in verify_certificate(base, shorter)]
    assert f"{certificate.files[0].path}: is sealed and not in the certificate" in problems
    assert any(problem.startswith("root: ") for problem in problems)


def test_a_certificate_of_a_pending_day_holds_once_the_day_is_final(certified: tuple[Path, Path]) -> None:
    base, path = certified
    certificate = read_certificate(path)
    assert certificate.state == "pending"
    later = day_paths(base, "kalshi", certificate.date.replace(day=certificate.date.day + 1))
    later.folder.mkdir()
    assert verify_certificate(base, certificate) == []


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"certificate_version": 2}', '{"files": [{"path": "../x", "sha256": "0"}]}']
)
def test_what_is_no_certificate_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "certificate.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="no certificate"):
        read_certificate(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_certificate(tmp_path / "nothing.json")


def test_a_certificate_that_points_out_of_the_archive_is_refused(certified: tuple[Path, Path]) -> None:
    base, path = certified
    document = json.loads(path.read_text("utf-8"))
    for place in ("../../../etc/passwd", "/etc/passwd", ".writer.lock", "a/../b"):
        document["files"][0]["path"] = place
        path.write_text(json.dumps(document), "utf-8")
        with pytest.raises(ConfigError, match="no certificate"):
            read_certificate(path)
    document["files"][0]["path"], document["feed"] = "x", "../kalshi"
    path.write_text(json.dumps(document), "utf-8")
    with pytest.raises(ConfigError, match="feed"):
        verify_certificate(base, read_certificate(path))


def test_a_wrong_use_of_a_certificate_is_exit_2(certified: tuple[Path, Path], tmp_path: Path) -> None:
    base, path = certified
    for arguments in (
        ("--data", str(base), "--certificate", str(path), "--feed", "kalshi"),
        ("--certificate", str(path)),
        ("--data", str(tmp_path / "nowhere"), "--certificate", str(path)),
        ("--data", str(base), "--certificate", str(tmp_path / "nowhere.json")),
    ):
        done = run_cli("verify", *arguments)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
