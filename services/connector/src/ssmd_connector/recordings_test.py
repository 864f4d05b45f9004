from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_common.errors import ConfigError
from ssmd_connector.recordings import RecordedFrame, recorded_frames

if TYPE_CHECKING:
    from pathlib import Path

FRAME = b'{ "type":"trade" , "price":1.10 }'


def frames(path: Path, data: bytes) -> list[bytes]:
    path.write_bytes(data)
    return [frame.data for frame in recorded_frames(path)]


@pytest.mark.parametrize(
    "line",
    [
        FRAME,
        b'{"received_ms":1786085188416,"frame":' + FRAME + b"}",
        b'{"received_ms":1786085188416.25,"frame":' + FRAME + b"}",
        b'{"frame":' + FRAME + b',"received_ns":1786085188416000000}',
        b'{"seq":3,"stored_ns":5,"received_ns":4,"type":"trade","ticker":null,"data":' + FRAME + b"}",
    ],
    ids=["bare", "milliseconds", "fraction", "nanoseconds", "record"],
)
def test_a_frame_comes_out_of_each_shape_byte_for_byte(line: bytes, tmp_path: Path) -> None:
    assert frames(tmp_path / "f", line + b"\n") == [FRAME]
    assert frames(tmp_path / "f", gzip.compress(line + b"\n")) == [FRAME]


def test_a_text_that_is_no_json_is_kept_as_a_string_beside_its_time(tmp_path: Path) -> None:
    assert frames(tmp_path / "f", b'{"received_ms":1,"frame":"PONG"}') == [b"PONG"]


@pytest.mark.parametrize(
    "line",
    [
        b'{"frame":1}',
        b'{"frame":1,"received_ms":1,"type":"x"}',
        b'{"seq":1,"data":1,"more":1}',
        b'{"type":"trade","ticker":"BTC-USD","seq":5,"data":{"price":"1"}}',
        b'{"seq":1,"data":1}',
        b'"text"',
        b"[1]",
        b"PONG",
    ],
)
def test_what_only_resembles_another_shape_is_a_frame(line: bytes, tmp_path: Path) -> None:
    assert frames(tmp_path / "f", line) == [line]


def test_lines_are_counted_as_an_editor_counts_them_and_empty_ones_are_no_frames(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"\n1\r\n  \n\n2")
    assert list(recorded_frames(tmp_path / "f")) == [RecordedFrame(2, b"1"), RecordedFrame(5, b"2")]


def test_members_of_a_segment_are_read_on(tmp_path: Path) -> None:
    assert frames(tmp_path / "0615.jsonl.gz", gzip.compress(b"1\n") + gzip.compress(b"2\n")) == [b"1", b"2"]


@pytest.mark.parametrize("cut", [5, 30, -12, -1])
def test_a_damaged_gzip_is_told_and_no_crash(cut: int, tmp_path: Path) -> None:
    whole = gzip.compress(b"".join(b'{"number":%d}\n' % number for number in range(100)))
    with pytest.raises(ConfigError, match="damaged gzip after line"):
        frames(tmp_path / "f", whole[:cut])


def test_a_file_that_is_none_is_told(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(ConfigError, match="--frames: cannot be read"):
            list(recorded_frames(path))


@given(lines=st.lists(st.binary(max_size=60), max_size=5))
@settings(deadline=None)
def test_no_bytes_do_worse_than_a_config_error(
    lines: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("recording") / "f"
    path.write_bytes(b"\n".join(lines))
    try:
        found = list(recorded_frames(path))
    except ConfigError:
        return
    assert len(found) <= sum(line.count(b"\n") + 1 for line in lines)


def test_every_json_value_beside_a_time_comes_back(tmp_path: Path) -> None:
    values = [None, 0, [1, {"a": []}], {"type": "x"}]
    lines = "\n".join(json.dumps({"received_ms": 1, "frame": value}) for value in values)
    assert [json.loads(frame) for frame in frames(tmp_path / "f", lines.encode())] == values


def test_the_mark_an_editor_puts_before_a_file_is_no_part_of_its_first_frame(tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"
    assert frames(tmp_path / "f", mark + FRAME + b"\r\n" + mark + FRAME) == [FRAME, mark + FRAME]
