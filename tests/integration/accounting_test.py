"""The comparison of sent and captured is itself tested: it finds what it is for."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from integration.accounting import SentConnection, matched, read_sent
from ssmd_simulator.records import SentLog

FIRST = [b"%d" % number for number in range(5)]
SECOND = [b"other %d" % number for number in range(5)]


@pytest.fixture
def sent(tmp_path: Path) -> dict[int, SentConnection]:
    with closing(SentLog(tmp_path / "sent.jsonl")) as log:
        log.write(1, 1, FIRST)
        log.withhold(1, "missing-seq", [b"\xff"])
        log.end(1, frames=5, code=1001, by="exchange", whole=True)
        log.write(2, 1, [b"never captured"])
        log.end(2, frames=1, code=None, by="nobody", whole=False)
        log.write(3, 1, SECOND)
        log.end(3, frames=5, code=None, by="nobody", whole=False)
    return read_sent(tmp_path / "sent.jsonl")


def test_a_sent_log_reads_as_it_was_written(sent: dict[int, SentConnection]) -> None:
    (withheld,) = sent[1].withheld
    assert (sent[1].frames, withheld.fault, withheld.frame, sent[1].whole) == (FIRST, "missing-seq", b"\xff", True)
    assert 0 < sent[1].sent_ns <= withheld.at_ns
    assert (sent[3].frames, sent[3].whole) == (SECOND, False)


def test_what_was_on_its_way_at_the_end_is_counted_and_an_unread_connection_passed_over(
    sent: dict[int, SentConnection],
) -> None:
    assert matched([FIRST, SECOND[:3]], sent) == [(sent[1], 0), (sent[3], 2)]


@pytest.mark.parametrize(
    ("captured", "said"),
    [
        ([FIRST[:4], SECOND], "was read whole, and 1 are missing"),
        ([FIRST[:2] + FIRST[3:], SECOND], "only 2 of its 4 frames are in their place"),
        ([FIRST, [*SECOND[:2], SECOND[1], *SECOND[2:]]], "only 2 of its 6 frames are in their place"),
        ([FIRST, [b"changed", *SECOND[1:]]], "only 4 of its 5 frames are in their place"),
        ([FIRST, SECOND, [b"made up"]], "was never sent"),
        ([SECOND, FIRST], "was never sent"),
    ],
)
def test_a_frame_missing_doubled_changed_or_made_up_is_found(
    sent: dict[int, SentConnection], captured: list[list[bytes]], said: str
) -> None:
    with pytest.raises(AssertionError, match=said):
        matched(captured, sent)
