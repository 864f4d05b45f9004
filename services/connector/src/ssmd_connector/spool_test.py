from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssmd_common.errors import ConfigError
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
