from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from ssmd_common.archive.times import from_rfc3339
from ssmd_common.config.calendar import Calendar
from ssmd_common.service.telemetry import Metrics
from ssmd_connector.backoff import Backoff
from ssmd_connector.calendar_watch import CalendarWatch
from ssmd_connector.causes import Cause
from ssmd_connector.metrics import ConnectorMetrics
from ssmd_connector.websocket import Ended

KALSHI = {"timezone": "America/New_York", "maintenance": [{"day": "thursday", "start": "03:00", "end": "05:00"}]}
HOURS = {"timezone": "America/New_York", "open_time": "09:30", "close_time": "16:00"}
BEFORE, WITHIN, AFTER = (f"2026-07-16T{time}Z" for time in ("06:59:59", "08:00:00", "09:00:00"))


class Watched:
    """A watch whose clock a test sets."""

    def __init__(self, calendar: dict[str, Any] | None) -> None:
        self.metrics = Metrics("test")
        self.now = BEFORE
        self.watch = CalendarWatch(
            None if calendar is None else Calendar.model_validate(calendar),
            ConnectorMetrics(self.metrics),
            clock=lambda: from_rfc3339(self.now),
        )

    def at(self, time: str) -> CalendarWatch:
        self.now = time
        return self.watch

    def gauge(self) -> float:
        families = text_string_to_metric_families(self.metrics.exposition().decode())
        (sample,) = [
            sample
            for family in families
            for sample in family.samples
            if sample.name.startswith("ssmd_connector_expected_silence")
        ]
        return sample.value


def test_maintenance_is_told_once_when_it_begins_and_once_when_it_is_over() -> None:
    watched = Watched(KALSHI)
    with capture_logs() as logs:
        for time in (BEFORE, BEFORE, WITHIN, WITHIN, "2026-07-16T08:59:59.999Z", AFTER, AFTER):
            watched.at(time).silence()
            assert watched.gauge() == (BEFORE < time < AFTER)
    assert [(line["event"], line.get("reason"), line.get("until")) for line in logs] == [
        ("expected_silence", "maintenance", "2026-07-16T09:00:00Z"),
        ("expected_silence_over", None, None),
    ]


def test_a_clock_that_is_put_back_asks_anew() -> None:
    watched = Watched(KALSHI)
    assert watched.at(WITHIN).silence() is not None
    assert watched.at(BEFORE).silence() is None


def test_why_there_is_no_connection_begins_with_the_calendar() -> None:
    watched = Watched(KALSHI)
    assert watched.at(BEFORE).explained("refused") == "refused"
    assert watched.at(WITHIN).explained("refused") == "maintenance until 2026-07-16T09:00:00Z: refused"
    assert Watched(HOURS).at("2026-07-18T12:00:00Z").explained("x").startswith("closed until 2026-07-18T13:30:00Z")


@pytest.mark.parametrize(
    ("calendar", "time", "cause", "expected"),
    [
        (KALSHI, WITHIN, Cause.PEER_CLOSED, Ended(Cause.MAINTENANCE, 1001, "peer_closed bye")),
        (KALSHI, WITHIN, Cause.CONNECTION_LOST, Ended(Cause.MAINTENANCE, 1001, "connection_lost bye")),
        (HOURS, WITHIN, Cause.PEER_CLOSED, Ended(Cause.EXCHANGE_CLOSED, 1001, "peer_closed bye")),
        # What the exchange did not do has its own cause at any time.
        (KALSHI, WITHIN, Cause.STOPPED, Ended(Cause.STOPPED, 1001, "bye")),
        (KALSHI, WITHIN, Cause.BACKLOG_FULL, Ended(Cause.BACKLOG_FULL, 1001, "bye")),
        (KALSHI, AFTER, Cause.PEER_CLOSED, Ended(Cause.PEER_CLOSED, 1001, "bye")),
        (None, WITHIN, Cause.PEER_CLOSED, Ended(Cause.PEER_CLOSED, 1001, "bye")),
    ],
)
def test_an_end_the_calendar_expects_has_it_as_its_cause(
    calendar: dict[str, Any] | None, time: str, cause: Cause, expected: Ended
) -> None:
    assert Watched(calendar).at(time).ended(Ended(cause, 1001, "bye")) == expected


def test_attempts_are_calm_in_maintenance_and_back_soon_after_it() -> None:
    backoff = Backoff(base_s=1, cap_s=60, uniform=lambda _low, high: high)
    watched = Watched(KALSHI)
    assert [watched.at(WITHIN).delay_s(backoff, at_least_s=0) for _ in range(3)] == [60, 60, 60]
    assert watched.at("2026-07-16T08:59:40Z").delay_s(backoff, at_least_s=0) == 21
    assert watched.at("2026-07-16T08:59:40Z").delay_s(backoff, at_least_s=90) == 90
    assert [watched.at(AFTER).delay_s(backoff, at_least_s=0) for _ in range(3)] == [1, 2, 4]
