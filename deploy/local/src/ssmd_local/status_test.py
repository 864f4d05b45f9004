from __future__ import annotations

from ssmd_local.archive_summary import FeedSummary
from ssmd_local.counters import Counters, read_counters
from ssmd_local.recordings import recorded_markets
from ssmd_local.status import ProcessStatus, archive_lines, process_lines, status_line

CONNECTOR = """# TYPE ssmd_connector_frames_received_total counter
ssmd_connector_frames_received_total 1005.0
"""
ARCHIVER = """# TYPE ssmd_archiver_messages_total counter
ssmd_archiver_messages_total{kind="record"} 1000.0
ssmd_archiver_messages_total{kind="event"} 7.0
# TYPE ssmd_archiver_segments_sealed_total counter
ssmd_archiver_segments_sealed_total{reason="window"} 2.0
ssmd_archiver_segments_sealed_total{reason="exit"} 1.0
# TYPE ssmd_archiver_gaps_total counter
ssmd_archiver_gaps_total{layer="stream"} 0.0
# TYPE ssmd_archiver_lag gauge
ssmd_archiver_lag 3.0
"""


def test_counters_are_summed_over_their_labels() -> None:
    assert read_counters(CONNECTOR, ARCHIVER) == Counters(received=1005, archived=1000, sealed=3, gaps=0, lag=3)


def test_a_service_that_does_not_answer_is_unknown_not_zero() -> None:
    assert read_counters("", "") == Counters()
    line = status_line(Counters(received=5), running_s=3, left_s=None)
    assert "received 5" in line
    assert "archived ?" in line


def test_the_line_tells_how_long_it_runs_and_how_much_is_left() -> None:
    assert status_line(Counters(), running_s=75, left_s=15.2).startswith("1:15 min, 15 s left · ")
    assert status_line(Counters(), running_s=3725, left_s=None).startswith("1:02 h · ")


def test_a_process_that_is_not_ready_says_why() -> None:
    lines = process_lines(
        [ProcessStatus("a", 1, "ready", {}), ProcessStatus("bbb", 22, "not ready", {"nats": "disconnected"})]
    )
    assert lines == ["a          1  ready", "bbb       22  not ready; nats: disconnected"]


def test_the_archive_is_told_feed_by_feed() -> None:
    feed = FeedSummary("kalshi", 1, 2, 1500, 1, "2026-11-23/0615.jsonl.gz", "2026-11-23T06:16:05Z")
    (line,) = archive_lines([feed])
    assert line.startswith("kalshi: 1,500 records in 2 sealed segments of 1 day, 1 gap; ")
    assert line.endswith("last sealed 2026-11-23/0615.jsonl.gz at 2026-11-23T06:16:05Z")
    assert archive_lines([]) == ["the archive holds no day yet"]


def test_a_recordings_markets_are_found_with_and_without_receive_times() -> None:
    frames = [
        b'{"type":"subscribed","msg":{"channel":"trade","sid":1}}',
        b'{"type":"trade","msg":{"market_ticker":"KXA-B5.5"}}',
        b'{"received_ms":1,"frame":{"type":"trade","msg":{"market_ticker":"KXB"}}}',
        b'{"type":"trade","msg":{"market_ticker":"KXA-B5.5"}}',
        b"PONG",
        b'[{"event_type":"book"}]',
        b'{"msg":[1]}',
        b"",
    ]
    assert recorded_markets(frames) == ("KXA-B5.5", "KXB")
    assert recorded_markets([b'{"type":"ticker","product_id":"BTC-USD"}']) == ()
