"""Reading many messages at once decides what reading each of them decides, and leaves the same files."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_archiver import archiver as archiver_module
from ssmd_archiver.compression import compressor
from ssmd_archiver.records import SubjectReader
from ssmd_archiver.runs import RUN_MESSAGES, Room, read_run
from ssmd_archiver.testing import SESSION, SUBJECTS, T0, Stream, archive
from ssmd_common import events
from ssmd_common.config.archiver import Compression
from ssmd_common.nats.client import RawMessage

REPEATABLE = compressor(Compression(codec="zlib", level=1))
"""igzip may encode the same bytes in two ways (ADR 2), and here whole files are compared."""

ROOM = Room(1_000, 1 << 20)
READER = SubjectReader(SUBJECTS, SUBJECTS.data_filter)
OTHER_INSTANCE = "other-01ARZ3NDEKTSV4RRFFQ69G5FAV"

payloads = st.sampled_from(
    [
        b'{"a":1}',
        b'{"b":"\xc3\xa9"}',
        b"[1,2]",
        b'{"a":\n1}',
        b"not JSON",
        b"",
        b"1 2",
        b"[1,",
        b"2]",
        b'{"a":"\xff"}',
        b"[" * 501 + b"]" * 501,
        b'"' + b"x" * 3_000 + b'"',
    ]
)
plain = st.just(b'{"a":1}')
bodies = st.one_of(plain, plain, plain, payloads)
steps = st.one_of(
    st.tuples(st.just("frame"), st.sampled_from([1, 1, 1, 2]), st.integers(1, 3), bodies),
    st.tuples(st.just("again"), st.integers(1, 5)),
    st.tuples(st.just("tickers"), st.sampled_from([b"A", b"A,B%2E5", b","])),
    st.tuples(
        st.just("odd"), st.sampled_from([b"Ssmd-Type: t\r\n", b"X: y\r\nSsmd-Type: t\r\n", b"Ssmd-Type: \0\r\n"])
    ),
    st.tuples(st.just("foreign")),
    st.tuples(st.just("event"), st.sampled_from(["stopped", "lost", "opened", "other"])),
    st.tuples(st.just("clock"), st.integers(-15, 12)),
)


def made_of(parts: list[tuple[object, ...]]) -> Stream:
    """Return a stream of frames of two connections, with what may come between them."""
    stream, numbers, at_ns = Stream(), {1: 0, 2: 0}, T0
    subject = SUBJECTS.json_trade("KX-B5.5")
    for part in parts:
        at_ns += 1_000_000
        match part:
            case "frame", int(connection), int(times), bytes(payload):
                for _ in range(times * 20):
                    numbers[connection] += 1
                    stream.add(subject, payload, f"{SESSION}.{connection}.{numbers[connection]}", at_ns)
            case "again", int(back):
                stream.add(subject, b"{}", f"{SESSION}.1.{max(1, numbers[1] - back)}", at_ns)
            case ("tickers" | "odd") as name, bytes(value):
                numbers[1] += 1
                line = b"Ssmd-Type: t\r\nSsmd-Tickers: %b\r\n" % value if name == "tickers" else value
                headers = b"NATS/1.0\r\nNats-Msg-Id: %b.1.%d\r\nSsmd-Received-Ns: %d\r\n%b\r\n"
                seq = len(stream.messages) + 1
                block = headers % (SESSION.encode(), numbers[1], at_ns, line)
                stream.messages.append((seq, SUBJECTS.json("t", None).encode(), block, b"{}", at_ns))
            case ("foreign",):
                stream.add(subject, b"{}", None, at_ns)
            case "event", str(what):
                stream.event(_event(what), at_ns)
            case "clock", int(seconds):
                at_ns += seconds * 1_000_000_000
            case _:
                raise AssertionError(part)
    return stream


def _event(what: str) -> events.CaptureEvent:
    session = OTHER_INSTANCE if what == "other" else SESSION
    if what == "opened":
        return events.ConnectionOpened(session=session, connection=2, at_ns=T0, url="ws://x")
    return events.ConnectionClosed(session=session, connection=1, at_ns=T0, cause=what, frames=0, acked_through=0)


def files_of(base: Path) -> dict[str, bytes]:
    return {str(path.relative_to(base)): path.read_bytes() for path in sorted(base.rglob("*")) if path.is_file()}


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, min_size=1, max_size=14), st.sampled_from([7, 60, 1000]), st.sampled_from([None, 2_000]))
def test_runs_leave_the_very_files_that_single_messages_leave(
    parts: list[tuple[object, ...]], batch: int, max_bytes: int | None
) -> None:
    stream = made_of(parts)
    with tempfile.TemporaryDirectory() as folder:
        at_once, one_by_one = Path(folder, "runs"), Path(folder, "single")
        with mock.patch.object(archiver_module, "BLOCK_MESSAGES", 50):
            asyncio.run(archive(at_once, stream, batch=batch, max_bytes=max_bytes, compress=REPEATABLE))
            with mock.patch.object(archiver_module, "read_run", return_value=(None, RUN_MESSAGES)):
                asyncio.run(archive(one_by_one, stream, batch=batch, max_bytes=max_bytes, compress=REPEATABLE))
        assert files_of(at_once) == files_of(one_by_one)


def frames(count: int, payload: bytes = b"{}") -> list[RawMessage]:
    stream = Stream()
    for _ in range(count):
        stream.trade(payload, T0)
    return stream.deliver(0)


def test_frames_of_our_connector_are_one_run() -> None:
    run, count = read_run(frames(300), READER, next_seq=1, consumer_seq=1, room=ROOM)
    assert run is not None
    assert count == len(run.seq) == 300
    assert run.frames == {f"{SESSION}.1": list(range(1, 301))}
    assert (run.last_msg_id, run.lines) == (f"{SESSION}.1.300", b"{}\n" * 300)


def test_a_run_ends_with_the_line_that_fills_a_block() -> None:
    batch = frames(10, b'"2345678"')  # ten bytes a line
    for fill_bytes, taken in ((1, 1), (10, 1), (11, 2), (100, 10), (1_000, 10)):
        assert read_run(batch, READER, next_seq=1, consumer_seq=1, room=Room(99, fill_bytes))[1] == taken
    for most_bytes, taken in ((10, 1), (19, 1), (20, 2), (100, 10)):
        assert read_run(batch, READER, next_seq=1, consumer_seq=1, room=Room(99, 999, most_bytes))[1] == taken
    assert read_run(batch, READER, next_seq=1, consumer_seq=1, room=Room(99, 999, 9)) == (None, 1)
    assert read_run(batch, READER, next_seq=1, consumer_seq=1, room=Room(3, 999))[1] == 3


def test_a_run_ends_before_the_first_message_that_is_no_data() -> None:
    stream = Stream()
    stream.trade()
    stream.event(events.Heartbeat(session=SESSION, connection=0, at_ns=T0, connections=[]))
    run, count = read_run(stream.deliver(0), READER, next_seq=1, consumer_seq=1, room=ROOM)
    assert run is not None
    assert count == 1
    assert read_run(stream.deliver(1), READER, next_seq=2, consumer_seq=1, room=ROOM) == (None, 1)


@pytest.mark.parametrize(("next_seq", "consumer_seq"), [(2, 1), (1, 2)])
def test_a_delivery_that_is_not_the_next_is_in_no_run(next_seq: int, consumer_seq: int) -> None:
    assert read_run(frames(5), READER, next_seq=next_seq, consumer_seq=consumer_seq, room=ROOM)[0] is None


def test_what_adds_up_only_together_is_no_run() -> None:
    one, two = frames(1)[0], frames(2)[1]
    headers = one[2], two[2]
    assert headers[0] is not None
    assert headers[1] is not None
    for first, second in ((headers[0] + headers[1], b""), (headers[0][:-2], b"\r\n" + headers[1])):
        batch: list[RawMessage] = [(one[0], one[1], first, b"{}"), (two[0], two[1], second, b"{}")]
        assert read_run(batch, READER, next_seq=1, consumer_seq=1, room=ROOM)[0] is None
    for payloads in ((b"[1,", b"2]"), (b"1\n2", b"3"), (b"1 2", b"3")):
        batch = [(m[0], m[1], m[2], payload) for m, payload in zip((one, two), payloads, strict=True)]
        assert read_run(batch, READER, next_seq=1, consumer_seq=1, room=ROOM)[0] is None
