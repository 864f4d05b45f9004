"""``check --frames`` on a sealed segment reads its evidence too, and finds only what the exchange left out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ssmd_archiver.testing import DATE, SESSION, SUBJECTS, T0, Stream, archive
from ssmd_common import events
from ssmd_common.config.loading import load_feed
from ssmd_common.errors import ArchiveError
from ssmd_connector.check import check
from ssmd_connector.routing import Routing, route_all
from ssmd_connector.segment_frames import segment_frames
from ssmd_connector.venues.kalshi import KalshiVenue

ROOT = Path(__file__).parents[2]
FIRST, SECOND = "1200.jsonl.gz", "1201.jsonl.gz"


class Told(Stream):
    """A stream to which frames of several connections come in the order of their acknowledgements."""

    def trade_of(self, connection: int, frame_no: int, seq: int) -> None:
        frame = {"type": "trade", "sid": 1, "seq": seq, "msg": {"market_ticker": "A"}}
        self.add(SUBJECTS.json_trade("A"), json.dumps(frame).encode(), f"{SESSION}.{connection}.{frame_no}")

    def control(self, connection: int, frame_no: int, **frame: Any) -> None:
        event = events.Control(
            session=SESSION, connection=connection, at_ns=T0, frame_no=frame_no, frame=json.dumps(frame)
        )
        payload = events.encode_event(event)
        self.add(SUBJECTS.capture("control"), payload, f"{SESSION}.{connection}.{frame_no}")


@pytest.fixture
async def day(tmp_path: Path) -> Path:
    """Two segments: connection 1 goes over from one to the other, and connection 2 follows it."""
    stream = Told()
    stream.control(1, 1, type="subscribed", id=1, msg={"channel": "trade", "sid": 1})
    stream.trade_of(1, 2, 1)
    stream.control(1, 3, type="ok", id=2, sid=1, seq=2, msg={})
    stream.trade_of(1, 5, 4)  # acknowledged before the frame it overtook
    stream.trade_of(1, 4, 3)
    for number in range(6, 60):
        stream.trade_of(1, number, number - 1)
    stream.trade_of(1, 61, 60)  # the minute ends between it and the frame before it
    stream.trade_of(1, 60, 59)
    stream.trade_of(1, 62, 61)
    stream.trade_of(1, 63, 63)  # the exchange left out 62
    stream.trade_of(1, 65, 66)  # and 65, where one frame overtook the other
    stream.trade_of(1, 64, 64)
    stream.control(2, 1, type="subscribed", id=1, msg={"channel": "trade", "sid": 1})
    stream.trade_of(2, 2, 1)
    stream.trade_of(2, 4, 3)  # frame 3 was lost on the way: no matter of the exchange
    stream.trade_of(2, 5, 3)  # and this number came twice
    await archive(tmp_path / "archive", stream, interval_s=60)
    return tmp_path / "archive" / "kalshi" / DATE


def routed(path: Path) -> Routing:
    frames = segment_frames(path)
    assert frames is not None
    return route_all(KalshiVenue(), frames)


def test_a_whole_segment_shows_no_gap_where_there_is_none(day: Path) -> None:
    found = routed(day / FIRST)
    assert (found.frames, dict(found.kinds), found.breaks, found.lost) == (60, {"control": 2, "data": 58}, [], [])
    (sequence,) = found.sequences.values()
    assert (sequence.first, sequence.last, sequence.missing) == (1, 60, 0)


def test_only_what_the_exchange_left_out_or_repeated_is_found_connection_by_connection(day: Path) -> None:
    found = routed(day / SECOND)
    first, second = f"{SESSION}.1 sid:1", f"{SESSION}.2 sid:1"
    assert [finding.text for finding in found.breaks] == [
        f"{first}: 1 missing between 61 and 63",
        f"{first}: 1 missing between 64 and 66",
        f"{second}: 3 repeated behind 3",
    ]
    told = {key: (s.first, s.last, s.gaps, s.missing) for key, s in found.sequences.items()}
    assert told == {first: (59, 66, 2, 2), second: (1, 3, 0, 0)}


def test_the_command_reads_the_evidence_and_tells_of_it(day: Path, capsys: pytest.CaptureFixture[str]) -> None:
    feed = load_feed(ROOT / "exchanges/feeds/kalshi.yaml")
    assert check(feed, None, day / SECOND, as_json=False) == 0
    told = capsys.readouterr().out
    assert f"sequence: line 3: {SESSION}.1 sid:1: 1 missing between 61 and 63" in told
    assert "sequence gaps: 2" in told
    assert "subscribed" in told


def test_a_segment_apart_from_its_evidence_is_a_recording_and_a_damaged_one_is_told(
    day: Path, tmp_path: Path
) -> None:
    apart = tmp_path / DATE / FIRST
    apart.parent.mkdir()
    shutil.copy(day / FIRST, apart)
    assert segment_frames(apart) is None
    with (day / "_evidence" / "1200.meta.jsonl.gz").open("r+b") as meta:
        meta.seek(20)
        meta.write(b"\0\0\0\0")
    with pytest.raises(ArchiveError, match="damaged"):
        routed(day / FIRST)
