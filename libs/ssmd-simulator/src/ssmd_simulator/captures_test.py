from __future__ import annotations

import os
from pathlib import Path

import pytest

from ssmd_common.errors import ConfigError
from ssmd_simulator import captures

STREAM = "kalshi_prod_orderbook_stream_20260807"


@pytest.fixture
def recorded() -> Path:
    folder = os.environ.get("SSMD_CAPTURES")
    if not folder:
        pytest.skip("SSMD_CAPTURES names no folder of recorded frames")
    return Path(folder)


def test_the_timed_file_holds_the_frames_of_the_plain_one_byte_for_byte(recorded: Path) -> None:
    plain = captures.read(recorded / f"{STREAM}.jsonl")
    timed = captures.read(recorded / f"{STREAM}.recv.jsonl")
    assert timed.frames == plain.frames
    assert b"\n".join(plain.frames) + b"\n" == (recorded / f"{STREAM}.jsonl").read_bytes()
    assert (plain.received_ms, len(timed.received_ms or ())) == (None, 269)


def test_every_capture_at_hand_is_read_line_for_line(recorded: Path) -> None:
    files = [file for file in sorted(recorded.glob("*.jsonl")) if ".recv." not in file.name]
    assert files
    for file in files:
        assert list(captures.read(file).frames) == file.read_bytes().splitlines()


def test_the_sids_are_those_of_the_recording(recorded: Path) -> None:
    assert captures.read(recorded / f"{STREAM}.jsonl").sids() == {"orderbook_delta": 1}
    mixed = captures.read(recorded / "kalshi_prod_ticker_trade_20260212_cents_and_dollars.jsonl")
    assert mixed.sids() == {"ticker": 1, "trade": 2}
    assert captures.read(recorded / "coinbase_exchange_2021.jsonl").sids() == {}


def parse(*lines: bytes) -> captures.Capture:
    return captures.parse(lines, file="a.jsonl")


def test_a_frame_is_not_re_serialised() -> None:
    frame = b'{ "b" : 1.50,\t"a":"\\u00e9" }'
    assert parse(b'{"received_ms":1,"frame":' + frame + b"}").frames == (frame,)
    assert parse(frame).frames == (frame,)


def test_what_is_not_json_is_a_frame_too() -> None:
    assert parse(b"PONG", b"\xff\x00").frames == (b"PONG", b"\xff\x00")


def test_an_exchanges_own_received_ms_is_no_time_of_ours() -> None:
    line = b'{"received_ms":1,"frame":{},"more":2}'
    assert parse(line) == captures.Capture((line,), None)


def test_blank_lines_are_no_frames() -> None:
    assert parse(b"{}", b"", b"[]", b"").frames == (b"{}", b"[]")


@pytest.mark.parametrize(
    "lines", [(b"{}", b'{"received_ms":1,"frame":{}}'), (b'{"received_ms":1,"frame":{}}', b"{}")]
)
def test_both_kinds_of_line_in_one_file_are_refused(lines: tuple[bytes, bytes]) -> None:
    with pytest.raises(ConfigError, match=r"a.jsonl: line 2 is of another kind"):
        parse(*lines)


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(ConfigError, match="holds no frame"):
        parse(b"")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.jsonl: cannot be read: No such file"):
        captures.read(tmp_path / "none.jsonl")


def test_receive_times_set_the_pace_and_never_go_back() -> None:
    capture = captures.Capture((b"1", b"2", b"3", b"4"), (5000, 7000, 6000, 9000))
    assert capture.due_s(speed=2, rate=1) == (0.0, 1.0, 1.0, 2.0)


def test_without_receive_times_the_rate_does() -> None:
    capture = captures.Capture((b"1", b"2", b"3"), None)
    assert capture.due_s(speed=2, rate=5) == pytest.approx((0.0, 0.1, 0.2))
    assert capture.due_s(speed=2, rate=None) == (0.0, 0.0, 0.0)
