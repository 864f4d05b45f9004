from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_archiver.proof import FrameLedger
from ssmd_common import events
from ssmd_common.archive.gaps import Gap, GapLayer, GapStatus

S1 = "host-01ARZ3NDEKTSV4RRFFQ69G5FAV"
S2 = "host-01BX5ZZKBKACTAV9WEVGEMMVRZ"


def _receive(ledger: FrameLedger, session: str, connection: int, numbers: list[int], at_ns: int = 100) -> list[Gap]:
    gaps: list[Gap] = []
    for number in numbers:
        track, frame_no = ledger.locate(f"{session}.{connection}.{number}")
        assert track is not None
        assert frame_no == number
        if number not in track.frames:
            gaps += ledger.frame(track, number, at_ns, at_ns)
    return gaps


def _started(session: str, at_ns: int) -> events.SessionStarted:
    return events.SessionStarted(session=session, at_ns=at_ns, instance="host", env="dev", feed="kalshi")


def _beat(frames: int, acked_through: int) -> events.Heartbeat:
    state = events.ConnectionState(connection=1, frames=frames, acked_through=acked_through)
    return events.Heartbeat(session=S1, at_ns=200, connections=[state])


def _closed(
    cause: str, frames: int, acked_through: int, lost: list[tuple[int, int]] | None = None
) -> events.ConnectionClosed:
    return events.ConnectionClosed(
        session=S1,
        connection=1,
        at_ns=300,
        cause=cause,
        frames=frames,
        acked_through=acked_through,
        lost=lost or [],
    )


@settings(deadline=None)
@given(st.permutations(range(1, 30)), st.integers(0, 29))
def test_frames_in_any_order_prove_complete_and_holes_are_found_exactly(order: list[int], dropped: int) -> None:
    ledger = FrameLedger()
    _receive(ledger, S1, 1, [number for number in order if number != dropped])
    gaps = ledger.event(_beat(29, 29), 201)
    expected = [] if dropped == 0 else [(dropped, dropped + 1, 1)]
    assert [(gap.start_seq, gap.end_seq, gap.missing_count) for gap in gaps] == expected
    assert ledger.event(_beat(29, 29), 202) == [], "a hole is told once"


def test_a_frame_above_acked_through_is_not_missing_yet() -> None:
    ledger = FrameLedger()
    _receive(ledger, S1, 1, [1, 2, 5])
    assert ledger.event(_beat(5, 2), 201) == []
    _receive(ledger, S1, 1, [3, 4])
    assert ledger.event(_beat(5, 5), 202) == []


def test_missing_frames_inside_a_gap_of_the_stream_are_not_counted_again() -> None:
    ledger = FrameLedger()
    _receive(ledger, S1, 1, [1, 2])
    ledger.recorded(
        Gap(
            gap_id="1:3",
            layer=GapLayer.STREAM,
            cause="retention",
            status=GapStatus.PERMANENT,
            epoch=1,
            start_seq=3,
            end_seq=5,
            start_ns=1,
            end_ns=2,
            missing_count=2,
            detected_ns=2,
        )
    )
    _receive(ledger, S1, 1, [5])
    assert ledger.event(_beat(5, 5), 201) == []
    assert ledger.lost_frames() == 2


def test_a_lost_connection_is_a_gap_from_its_last_frame_to_the_next_ones_first() -> None:
    ledger = FrameLedger()
    _receive(ledger, S1, 1, [1, 2], at_ns=250)
    (opened,) = ledger.event(_closed("peer_closed", 2, 2), 301)
    assert (opened.status, opened.start_ns, opened.end_ns, opened.cause) == (
        GapStatus.OPEN,
        250,
        None,
        "peer_closed",
    )
    (ended,) = _receive(ledger, S1, 2, [1], at_ns=900)
    assert (ended.gap_id, ended.status, ended.end_ns) == (opened.gap_id, GapStatus.PERMANENT, 900)
    assert ended.missing_count is None
    assert not ledger.open_gaps


def _opened(session: str, connection: int, lane: int, lanes: int) -> events.ConnectionOpened:
    return events.ConnectionOpened(
        session=session, connection=connection, at_ns=100, url="wss://x", lane=lane, lanes=lanes
    )


def test_only_the_next_connection_of_the_same_lane_ends_an_interruption() -> None:
    ledger = FrameLedger()
    ledger.event(_opened(S1, 1, 1, 2), 100)
    ledger.event(_opened(S1, 2, 2, 2), 100)
    _receive(ledger, S1, 1, [1, 2], at_ns=250)
    (opened,) = ledger.event(_closed("peer_closed", 2, 2), 301)
    assert _receive(ledger, S1, 2, [1, 2, 3], at_ns=400) == []
    restored = FrameLedger(*ledger.snapshot())
    restored.event(_opened(S1, 3, 1, 2), 500)
    assert _receive(restored, S1, 2, [4], at_ns=600) == []
    (ended,) = _receive(restored, S1, 3, [1], at_ns=900)
    assert (ended.gap_id, ended.status, ended.end_ns) == (opened.gap_id, GapStatus.PERMANENT, 900)


def test_a_session_with_fewer_sockets_takes_over_from_every_lane() -> None:
    ledger = FrameLedger()
    for lane in (1, 2, 3):
        ledger.event(_opened(S1, lane, lane, 3), 100)
        _receive(ledger, S1, lane, [1], at_ns=250)
    crashed = ledger.event(_started(S2, 800), 801)
    assert len(crashed) == 3
    ledger.event(_opened(S2, 1, 1, 2), 810)
    ledger.event(_opened(S2, 2, 2, 2), 811)
    assert [gap.key for gap in _receive(ledger, S2, 1, [1], at_ns=900)] == [f"{S1}.1"]
    assert [gap.key for gap in _receive(ledger, S2, 2, [1], at_ns=901)] == [f"{S1}.2", f"{S1}.3"]


def test_an_orderly_stop_is_no_gap_until_a_later_session_shows_how_long() -> None:
    ledger = FrameLedger()
    _receive(ledger, S1, 1, [1], at_ns=250)
    assert ledger.event(_closed("stopped", 1, 1), 301) == []
    restored = FrameLedger(*ledger.snapshot())
    assert restored.event(_started(S2, 800), 801) == []
    (gap,) = _receive(restored, S2, 1, [1], at_ns=900)
    assert (gap.cause, gap.start_ns, gap.end_ns) == ("stopped", 250, 900)
    assert _receive(restored, S2, 1, [2], at_ns=901) == []


def test_frames_a_connector_could_not_keep_are_counted() -> None:
    ledger = FrameLedger()
    _receive(ledger, S1, 1, [1, 4])
    gaps = ledger.event(_closed("peer_closed", 4, 4, [(2, 4)]), 301)
    assert [(gap.cause, gap.layer, gap.missing_count) for gap in gaps] == [
        ("not_kept", GapLayer.CONNECTION, 2),
        ("peer_closed", GapLayer.CONNECTION, None),
    ]


def test_a_crashed_session_is_closed_by_the_next_of_its_instance_only() -> None:
    ledger = FrameLedger()
    _receive(ledger, S1, 1, [1], at_ns=250)
    other = events.SessionStarted(
        session="other-01BX5ZZKBKACTAV9WEVGEMMVRZ", at_ns=700, instance="other", env="dev", feed="kalshi"
    )
    assert ledger.event(other, 701) == []
    (gap,) = ledger.event(_started(S2, 800), 801)
    assert (gap.cause, gap.start_ns, gap.start_seq) == ("crashed", 250, None)


def test_frames_a_crashed_connector_had_in_memory_alone_are_counted_where_later_ones_show_them() -> None:
    ledger = FrameLedger()
    _receive(ledger, S1, 1, [3, 4, 7, 8], at_ns=250)
    lost, interruption = ledger.event(_started(S2, 800), 801)
    assert (lost.cause, lost.layer, lost.start_seq, lost.end_seq) == ("crashed", GapLayer.CONNECTION, 5, 7)
    assert (lost.missing_count, lost.status) == (2, GapStatus.PERMANENT)
    assert (interruption.cause, interruption.start_seq, interruption.missing_count) == ("crashed", None, None)
    assert ledger.lost_frames() == 2


def test_an_exchange_gap_is_resynced_or_healed_by_its_event_or_permanent_when_the_connection_ends() -> None:
    def gap(number: int) -> events.ExchangeGap:
        return events.ExchangeGap(
            session=S1,
            connection=1,
            at_ns=50,
            gap_no=number,
            key="sid:1",
            after_seq=4,
            next_seq=7,
            missing_count=2,
            frame_no=5,
        )

    ledger = FrameLedger()
    (first,) = ledger.event(gap(1), 51)
    (second,) = ledger.event(gap(2), 52)
    (third,) = ledger.event(gap(3), 53)
    assert (first.start_seq, first.end_seq, first.missing_count, first.status) == (5, 7, 2, GapStatus.OPEN)
    (resynced,) = ledger.event(
        events.ExchangeResynced(session=S1, connection=1, at_ns=60, gap_no=1, key="sid:1"), 61
    )
    assert (resynced.gap_id, resynced.status) == (first.gap_id, GapStatus.RESYNCED)
    (healed,) = ledger.event(
        events.ExchangeResynced(session=S1, connection=1, at_ns=60, gap_no=3, key="sid:1", healed=True), 61
    )
    assert (healed.gap_id, healed.status) == (third.gap_id, GapStatus.HEALED)
    gaps = {gap.gap_id: gap.status for gap in ledger.event(_closed("stopped", 0, 0), 301)}
    assert gaps == {second.gap_id: GapStatus.PERMANENT}


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.integers(1, 20)), max_size=40))
def test_a_ledger_restored_from_a_header_knows_the_same(frames: list[tuple[int, int]]) -> None:
    ledger = FrameLedger()
    for connection, number in frames:
        _receive(ledger, S1, connection, [number])
    restored = FrameLedger(*ledger.snapshot())
    assert restored.snapshot() == ledger.snapshot()
    for connection, number in frames:
        track, frame_no = restored.locate(f"{S1}.{connection}.{number}")
        assert track is not None
        assert frame_no is not None
        assert frame_no in track.frames


def _replaying() -> FrameLedger:
    ledger = FrameLedger(epoch=2)
    opened = events.ConnectionOpened(session=S1, connection=1, at_ns=50, url="ws://x", replay_of=f"{S2}.4")
    ledger.event(opened, 51)
    return ledger


def test_what_a_replay_tells_of_its_source_is_not_taken_for_its_own_loss() -> None:
    ledger = _replaying()
    _receive(ledger, S1, 1, [1, 2, 3], at_ns=100)
    gap = events.ExchangeGap(
        session=S1,
        connection=1,
        at_ns=150,
        gap_no=1,
        key="sid:1",
        after_seq=4,
        next_seq=9,
        missing_count=4,
        frame_no=3,
    )
    assert ledger.event(gap, 151) == []
    assert ledger.event(_closed("peer_closed", 3, 3), 301) == []
    again = FrameLedger(*ledger.snapshot(), epoch=2)
    again.event(_started(S2, 400), 401)
    assert _receive(again, S2, 1, [1], at_ns=500) == []


def test_a_gap_told_by_a_replay_is_recorded_at_its_place_in_the_replay() -> None:
    ledger = _replaying()
    source = Gap(
        gap_id="1:3",
        layer=GapLayer.STREAM,
        cause="retention",
        status=GapStatus.OPEN,
        epoch=1,
        key="PROD_KALSHI:1",
        start_seq=3,
        end_seq=6,
        start_ns=7,
        missing_count=3,
        detected_ns=9,
    )
    (told,) = ledger.event(events.ReplayedGap(session=S1, at_ns=200, began_ns=180, gap=source), 201)
    expected = msgspec.structs.replace(
        source, gap_id=f"{S1}/1:3", epoch=2, start_ns=180, end_ns=None, detected_ns=201
    )
    assert told == expected
    ended = msgspec.structs.replace(source, status=GapStatus.PERMANENT, end_ns=11)
    (told,) = ledger.event(events.ReplayedGap(session=S1, at_ns=300, began_ns=290, gap=ended), 301)
    assert (told.start_ns, told.end_ns, told.status) == (180, 300, GapStatus.PERMANENT)


def test_a_replay_is_placed_by_the_time_of_storing_not_by_when_its_frames_were_received() -> None:
    ledger = _replaying()
    track, _ = ledger.locate(f"{S1}.1.1")
    assert track is not None
    ledger.frame(track, 1, 5, 1000)
    assert track.seen_ns == 1000
