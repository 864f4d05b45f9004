from __future__ import annotations

import errno
import os
import stat
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from ssmd_common.errors import ConfigError
from ssmd_connector import spool as spool_module
from ssmd_connector.capture import Message
from ssmd_connector.spool import Mark, Spool

if TYPE_CHECKING:
    from pathlib import Path


def message(number: int, size: int = 10) -> Message:
    return Message(b"s.a", b"NATS/1.0\r\n\r\n", b"x" * size, 1, number)


def numbers(read: list[tuple[Message, Mark]]) -> list[int]:
    return [found.frame_no for found, _ in read]


def test_messages_come_back_in_order_and_unchanged(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=1 << 20)
    given_messages = [message(number) for number in range(1, 6)]
    assert spool.append(given_messages) == 5
    assert [found for found, _ in spool.read(3)] == given_messages[:3]
    assert [found for found, _ in spool.read(9)] == given_messages[3:]
    assert not spool.has_unread
    assert not spool.is_empty


def test_what_is_acknowledged_is_let_go_and_the_rest_survives_the_process(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=1 << 20)
    spool.append(message(number) for number in range(1, 6))
    spool.commit(spool.read(2)[-1][1])
    spool._lock.release()  # the process is killed: nothing else happens
    again = Spool(tmp_path, max_bytes=1 << 20)
    read = again.read(9)
    assert [len(found.payload) for found, _ in read] == [10, 10, 10]
    assert numbers(read) == [0, 0, 0]
    again.commit(read[-1][1])
    assert again.is_empty
    assert list(tmp_path.glob("*.spool")) == []


def test_a_cut_tail_costs_only_itself(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=1 << 20)
    spool.append([message(1), message(2)])
    spool._lock.release()
    (file,) = tmp_path.glob("*.spool")
    file.write_bytes(file.read_bytes()[:-3])
    again = Spool(tmp_path, max_bytes=1 << 20)
    again.append([message(7)])
    read = again.read(9)
    assert numbers(read) == [0, 7]
    again.commit(read[-1][1])
    assert again.is_empty


def test_a_file_of_nothing_but_a_cut_record_is_empty(tmp_path: Path) -> None:
    (tmp_path / "0000000001.spool").write_bytes(b"\x09\x00")
    spool = Spool(tmp_path, max_bytes=1 << 20)
    assert spool.read(9) == []
    assert spool.is_empty
    assert not spool.has_unread


def left_behind(folder: Path, count: int) -> Path:
    """Leave a killed process's spool of so many messages, their sizes telling them apart; return its file."""
    spool = Spool(folder, max_bytes=1 << 20)
    spool.append(message(number, size=number) for number in range(1, count + 1))
    spool._lock.release()
    (file,) = folder.glob("*.spool")
    return file


def sizes(read: list[tuple[Message, Mark]]) -> list[int]:
    return [len(found.payload) for found, _ in read]


def test_what_is_handed_out_of_a_file_read_to_its_end_stays_until_it_is_acknowledged(tmp_path: Path) -> None:
    left_behind(tmp_path, 3)
    spool = Spool(tmp_path, max_bytes=1 << 20)
    read = spool.read(1)
    spool.append([message(4, size=4)])
    # All that was read ahead and no more: the next call moves on to the next file.
    read += spool.read(2)
    read += spool.read(1)
    assert sizes(read) == [1, 2, 3, 4]
    spool.rewind()
    assert sizes(spool.read(9)) == [1, 2, 3, 4]


@pytest.mark.parametrize("head", ["1 -5", "1 7", "1 99999", "2 0", "-1 0", "", "x y", "1 0 0"])
def test_a_head_that_is_no_place_of_a_record_loses_nothing(tmp_path: Path, head: str) -> None:
    left_behind(tmp_path, 3)
    (tmp_path / "head").write_text(head)
    spool = Spool(tmp_path, max_bytes=1 << 20)
    read = spool.read(9)
    assert sizes(read) == [1, 2, 3]
    spool.commit(read[-1][1])
    assert spool.is_empty


def test_a_head_without_its_file_is_not_taken_for_that_of_the_next_file(tmp_path: Path) -> None:
    file = left_behind(tmp_path, 2)
    spool = Spool(tmp_path, max_bytes=1 << 20)
    spool.commit(spool.read(1)[-1][1])
    spool._lock.release()
    file.unlink()
    assert (tmp_path / "head").exists()
    left_behind(tmp_path, 3)
    assert sizes(Spool(tmp_path, max_bytes=1 << 20).read(9)) == [1, 2, 3]


def test_the_last_file_goes_after_the_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left_behind(tmp_path, 2)
    spool = Spool(tmp_path, max_bytes=1 << 20)
    read = spool.read(9)
    spool.commit(read[0][1])
    gone: list[str] = []
    monkeypatch.setattr(type(tmp_path), "unlink", lambda path, missing_ok: gone.append(path.name))  # noqa: ARG005
    spool.commit(read[1][1])
    assert gone == ["head", "0000000001.spool"]


@pytest.mark.parametrize("at", range(4 * 60))
def test_a_byte_that_changed_costs_only_its_own_message(tmp_path: Path, at: int) -> None:
    file = left_behind(tmp_path, 6)
    data = bytearray(file.read_bytes())
    data[at] ^= 0x10
    file.write_bytes(data)
    spool = Spool(tmp_path, max_bytes=1 << 20)
    read = spool.read(9)
    assert len(read) >= 5
    assert all(found.subject == b"s.a" and found.headers == b"NATS/1.0\r\n\r\n" for found, _ in read)
    assert set(sizes(read)) <= set(range(1, 7))
    spool.commit(read[-1][1])
    assert spool.is_empty


def test_a_tail_of_zeros_is_no_messages(tmp_path: Path) -> None:
    file = left_behind(tmp_path, 2)
    file.write_bytes(file.read_bytes() + bytes(4096))
    spool = Spool(tmp_path, max_bytes=1 << 20)
    assert sizes(spool.read(999)) == [1, 2]
    assert spool.size_bytes == file.stat().st_size


def test_another_users_messages_are_refused_before_anything_is_captured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = left_behind(tmp_path, 2)

    def refuse(path: Path, mode: str) -> None:
        assert (path, mode) == (file, "r+b")
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(type(tmp_path), "open", refuse)
        with pytest.raises(ConfigError, match=r"0000000001\.spool: cannot be used: Permission denied"):
            Spool(tmp_path, max_bytes=1 << 20)
    assert sizes(Spool(tmp_path, max_bytes=1 << 20).read(9)) == [1, 2]


def test_files_of_other_names_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "5.spool").write_bytes(b"x")
    Spool(tmp_path, max_bytes=1 << 20).close()
    assert (tmp_path / "5.spool").read_bytes() == b"x"


def test_what_a_disk_takes_before_it_refuses_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path, max_bytes=1 << 20, file_bytes=100)
    write, written = spool_module._write_all, 0

    def write_once(fd: int, data: bytes) -> None:
        nonlocal written
        written += 1
        if written > 1:
            os.write(fd, data[:7])
            raise OSError(28, "No space left on device")
        write(fd, data)

    monkeypatch.setattr(spool_module, "_write_all", write_once)
    count = spool.append(message(number) for number in range(1, 9))
    assert numbers(spool.read(99)) == list(range(1, count + 1))
    with pytest.raises(OSError, match="No space"):
        spool.append([message(9)])
    assert not spool.has_unread


def test_a_disk_without_room_for_the_head_costs_nothing(tmp_path: Path) -> None:
    left_behind(tmp_path, 3)
    (tmp_path / "head").mkdir()
    spool = Spool(tmp_path, max_bytes=1 << 20)
    read = spool.read(9)
    spool.commit(read[0][1])
    spool.commit(read[2][1])
    assert spool.is_empty


def test_what_was_written_last_is_synced_though_nothing_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    folders = 0

    def fsync(fd: int) -> None:
        nonlocal folders
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            folders += 1
        else:
            synced.append(status.st_size)

    monkeypatch.setattr(os, "fsync", fsync)
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    spool = Spool(tmp_path, max_bytes=1 << 20)
    spool.append([message(1)])
    now = 101.0
    spool.append([message(2)])
    now = 101.5
    spool.append([message(3)])
    spool.sync_when_due()
    now = 102.0
    for _ in range(2):
        spool.sync_when_due()
    spool._syncer.shutdown(wait=True)
    (file,) = tmp_path.glob("*.spool")
    assert (len(synced), synced[-1]) == (2, file.stat().st_size)
    assert folders == 1, "the file's name is synced too"


def test_where_no_file_can_be_opened_any_more_syncing_waits_and_nothing_is_written_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    spool = Spool(tmp_path, max_bytes=1 << 20)
    spool.append([message(1)])
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_size))

    def refuse(_fd: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    now = 102.0
    with monkeypatch.context() as full:
        full.setattr(os, "dup", refuse)
        spool.sync_when_due()
        assert spool.append([message(2)]) == 1
    spool.sync_when_due()
    spool._syncer.shutdown(wait=True)
    assert synced[-1] == spool.size_bytes
    assert numbers(spool.read(9)) == [1, 2]


def test_a_damage_is_told_of_once_however_often_it_is_read_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=1 << 20)
    spool.append(message(number) for number in range(1, 5))
    (file,) = tmp_path.glob("*.spool")
    data = bytearray(file.read_bytes())
    data[len(data) // 4 - 1] ^= 1
    file.write_bytes(data)
    with capture_logs() as said:
        for _ in range(3):
            assert numbers(spool.read(9)) == [2, 3, 4]
            spool.rewind()
    assert [line["event"] for line in said] == ["spool_damaged"]


def test_the_bound_holds_and_room_returns(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=1000, file_bytes=200)
    written = spool.append(message(number, 100) for number in range(1, 20))
    assert 0 < written < 19
    assert spool.size_bytes <= 1000
    assert not spool.has_room(message(99, 100))
    spool.commit(spool.read(4)[-1][1])
    assert spool.has_room(message(99, 100))


def test_reading_again_begins_at_the_first_unacknowledged(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=1 << 20, file_bytes=100)
    spool.append(message(number) for number in range(1, 9))
    spool.commit(spool.read(3)[-1][1])
    spool.read(4)
    spool.rewind()
    assert numbers(spool.read(99)) == [4, 5, 6, 7, 8]


def test_two_processes_cannot_share_a_folder(tmp_path: Path) -> None:
    holder = Spool(tmp_path, max_bytes=1 << 20)
    with pytest.raises(ConfigError, match="another process"):
        Spool(tmp_path, max_bytes=1 << 20)
    holder.close()
    Spool(tmp_path, max_bytes=1 << 20).close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(1, 5)),
            st.tuples(st.just("read"), st.integers(1, 5)),
            st.tuples(st.just("commit"), st.integers(0, 4)),
            st.tuples(st.just("rewind"), st.none()),
        ),
        max_size=40,
    ),
    st.sampled_from([1, 60, 1 << 20]),
)
def test_it_is_a_queue_whatever_the_order_of_calls(
    tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[str, int]], file_bytes: int
) -> None:
    spool = Spool(tmp_path_factory.mktemp("spool"), max_bytes=1 << 20, file_bytes=file_bytes)
    written, read_to, done = 0, 0, 0
    marks: list[Mark] = []
    for move, amount in moves:
        if move == "append":
            assert spool.append(message(written + n) for n in range(1, amount + 1)) == amount
            written += amount
        elif move == "read":
            read = spool.read(amount)
            assert numbers(read) == list(range(read_to + 1, min(written, read_to + amount) + 1))
            marks += [mark for _, mark in read]
            read_to += len(read)
        elif move == "commit" and marks:
            index = min(amount, len(marks) - 1)
            spool.commit(marks[index])
            done += index + 1
            del marks[: index + 1]
        elif move == "rewind":
            spool.rewind()
            read_to = done
            marks.clear()
        assert spool.is_empty == (done == written)
        assert spool.has_unread == (read_to < written)
    spool.close()
