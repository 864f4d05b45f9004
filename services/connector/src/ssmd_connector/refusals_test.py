from __future__ import annotations

import time

import pytest
from structlog.testing import capture_logs

from ssmd_common.service.telemetry import Metrics
from ssmd_connector.answers import Verdict
from ssmd_connector.metrics import ConnectorMetrics
from ssmd_connector.refusals import Refusals


def refusals() -> Refusals:
    return Refusals(ConnectorMetrics(Metrics("test")))


def told(made: Refusals, token: int, verdict: Verdict = Verdict.FULL) -> None:
    made.take(token, verdict, "no", unacknowledged=1)


def test_a_stream_that_takes_some_and_refuses_others_is_told_of_once() -> None:
    made = refusals()
    with capture_logs() as said:
        for token in range(100, 200):
            told(made, 1)
            told(made, 2, Verdict.BUSY)
            made.settled(token)
        assert [entry["event"] for entry in said] == ["publish_stream_full", "publish_busy"]
        made.settled(1)
        made.settled(2)
    assert said[-1]["event"] == "publish_accepted_again"
    assert made.latest is None


def test_frames_that_are_too_large_are_told_of_at_times_and_are_no_state_that_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    made = refusals()
    with capture_logs() as said:
        for token in range(1, 40):
            told(made, token, Verdict.TOO_LARGE)
            assert made.latest is None
            made.settled(token)
            now += 0.5
    assert [entry["event"] for entry in said] == ["publish_too_large"] * 2


def test_whatever_was_refused_before_the_end_is_told_of_again_after_it() -> None:
    made = refusals()
    with capture_logs() as said:
        for verdicts in ((Verdict.NO_STREAM, Verdict.FULL), (Verdict.NO_STREAM,)):
            for verdict in verdicts:
                told(made, 1, verdict)
            made.settled(1)
    missing, full, again = "publish_no_stream", "publish_stream_full", "publish_accepted_again"
    assert [entry["event"] for entry in said] == [missing, full, again, missing, again]


def test_it_begins_anew_with_a_line_once_it_is_over() -> None:
    made = refusals()
    with capture_logs() as said:
        for token in (1, 2):
            told(made, token)
            made.settled(token)
        told(made, 3)
        made.recalled()
        made.settled(4)
    assert [entry["event"] for entry in said] == ["publish_stream_full", "publish_accepted_again"] * 3
