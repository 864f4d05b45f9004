from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_common.archive.gaps import Gap, GapLayer, GapStatus
from ssmd_common.archive.index import Anomaly, Event, GapRecord
from ssmd_common.archive.reader import Record
from ssmd_connector.replay_source import in_order, moment_ns

if TYPE_CHECKING:
    from ssmd_connector.replay_source import Item


def record(seq: int) -> Record:
    return Record(
        seq,
        stored_ns=seq * 10,
        received_ns=seq * 10 - 3,
        type="t",
        tickers=(),
        connection="s.1",
        frame_no=seq,
        data=b"",
    )


def event(seq: int) -> Event:
    return Event(seq=seq, stored_ns=seq * 10, received_ns=None, msg_id="s.1.e1", payload=msgspec.Raw(b"{}"))


def gap(gap_id: str, *, key: str, detected_ns: int, end_seq: int | None = None) -> Gap:
    return Gap(
        gap_id=gap_id,
        layer=GapLayer.STREAM,
        cause="lost",
        status=GapStatus.PERMANENT,
        epoch=2,
        key=key,
        end_seq=end_seq,
        start_ns=0,
        end_ns=detected_ns,
        detected_ns=detected_ns,
    )


def names(items: list[Item]) -> list[int | str]:
    return [item.gap_id if isinstance(item, Gap) else item.seq for item in items]


@settings(deadline=None)
@given(st.sets(st.integers(1, 200)), st.data())
def test_records_and_events_come_in_the_order_of_the_stream(seqs: set[int], data: st.DataObject) -> None:
    told = data.draw(st.sets(st.sampled_from(sorted(seqs)))) if seqs else set()
    records = [record(seq) for seq in sorted(seqs - told)]
    lines = [event(seq) for seq in sorted(told)]
    assert names(in_order(records, lines, stream="S")) == sorted(seqs)


def test_a_gap_of_the_stream_stands_before_the_message_that_showed_it() -> None:
    lines = [GapRecord(gap=gap("2:3", key="", detected_ns=60, end_seq=6))]
    items = in_order([record(1), record(2), record(6)], lines, stream="S")
    assert names(items) == [1, 2, "2:3", 6]
    assert [item.key for item in items if isinstance(item, Gap)] == ["S:2"]


def test_a_gap_that_an_event_told_stands_behind_it_and_before_what_came_later() -> None:
    lines = [event(2), GapRecord(gap=gap("s.1.closed", key="s.1", detected_ns=20)), event(5)]
    assert names(in_order([record(1), record(3)], lines, stream="S")) == [1, 2, "s.1.closed", 3, 5]


def test_a_gap_learned_last_is_told_last_and_an_anomaly_is_none() -> None:
    lines = [
        Anomaly(name="late", seq=1, at_ns=10, detail={}),
        GapRecord(gap=gap("g", key="s.1", detected_ns=999)),
    ]
    items = in_order([record(1), record(2)], lines, stream="S")
    assert names(items) == [1, 2, "g"]
    assert [moment_ns(item) for item in items] == [7, 17, None]
