from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_common.archive.manifest import FileEntry, SessionEntry
from ssmd_common.archive.times import DAY_NS, SECOND_NS, to_rfc3339
from ssmd_manifest_api.explanations import LAYERS
from ssmd_manifest_api.view_gaps import gap_view
from ssmd_manifest_api.view_gaps_test import entry
from ssmd_manifest_api.view_rate import file_slices
from ssmd_manifest_api.view_timeline import Timeline, timeline

DAY = 20_000 * DAY_NS
MINUTE_NS = 60 * SECOND_NS
SHA = "0" * 64


def file(start_s: float, end_s: float, first_seq: int, records: int = 10) -> FileEntry:
    return FileEntry(
        name="0000.jsonl.gz",
        start=to_rfc3339(DAY + int(start_s * SECOND_NS)),
        end=to_rfc3339(DAY + int(end_s * SECOND_NS)),
        records=records,
        bytes=records,
        nats_start_seq=first_seq,
        nats_end_seq=first_seq + records - 1,
        epoch=1,
        compressed_bytes=1,
        sha256=SHA,
        sha256_raw=SHA,
        meta_sha256=SHA,
        index_sha256=SHA,
        records_by_type={"trade": records},
        capture_events=0,
        rejects=0,
        duplicates=0,
        filtered=0,
        sealed_at=to_rfc3339(DAY),
        seal_reason="window",
    )


def draw(files: list[FileEntry], **changes: Any) -> Timeline:
    arguments: dict[str, Any] = {
        "open_spans": [],
        "sessions": [],
        "gaps": [],
        "slices": file_slices(files),
        "interval_ns": 15 * MINUTE_NS,
        "now_ns": DAY + DAY_NS,
        "whole": True,
    }
    return timeline(DAY, files=files, **{**arguments, **changes})


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 86_399), st.integers(0, 100_000)), max_size=40),
    st.lists(st.tuples(st.integers(-90_000, 86_399), st.none() | st.integers(0, 200_000)), max_size=90),
    st.booleans(),
)
def test_nothing_is_drawn_beside_the_day(
    files: list[tuple[int, int]],
    losses: list[tuple[int, int | None]],
    whole: bool,  # noqa: FBT001 - hypothesis passes it by name
) -> None:
    entries = [
        file(at, min(at + lasted, 86_399), place * 10 + 1) for place, (at, lasted) in enumerate(sorted(files))
    ]
    gaps = [
        gap_view(
            entry(
                layer=list(LAYERS)[place % 4],
                start=to_rfc3339(DAY + at * SECOND_NS),
                end=None if lasted is None else to_rfc3339(DAY + (at + lasted) * SECOND_NS),
            ),
            place + 1,
            [],
            page=1,
        )
        for place, (at, lasted) in enumerate(losses)
    ]
    drawn = draw(entries, gaps=gaps, whole=whole)
    boxes = [(mark.x, mark.width) for lane in drawn.lanes for mark in lane.marks]
    boxes += [(column.x, column.width) for column in drawn.columns]
    assert all(x >= 0 and width >= 0 and x + width <= 100.002 for x, width in boxes)
    assert all(0 < column.height <= 100 for column in drawn.columns)
    assert 2 <= len(drawn.ticks) <= 9


def test_a_segment_reaches_to_its_window_where_the_stream_goes_on_unbroken() -> None:
    files = [file(5, 890, 1), file(910, 1_700, 11), file(1_900, 2_600, 50)]
    marks = draw(files).lanes[0].marks
    starts = [round(mark.x * 864) for mark in marks]
    ends = [round((mark.x + mark.width) * 864) for mark in marks]
    # The second begins with its window; the third follows a break in the sequence: it begins where its messages do.
    assert starts == pytest.approx([5, 900, 1_900], abs=1)
    assert ends == pytest.approx([900, 1_700, 2_600], abs=1)


def test_a_short_capture_fills_the_drawing_unless_the_whole_day_is_asked_for() -> None:
    files = [file(27_400, 27_460, 1)]
    near, whole = draw(files, whole=False), draw(files)
    assert (near.zoomed, near.zoomable, whole.zoomed, whole.zoomable) == (True, True, False, True)
    assert near.lanes[0].marks[0].width > 10
    assert near.scale.end_ns - near.scale.start_ns <= 8 * MINUTE_NS


def test_a_day_full_of_segments_or_gaps_is_drawn_with_few_marks() -> None:
    files = [file(at * 60, at * 60 + 59.9, at * 10 + 1) for at in range(1_440)]
    gaps = [
        gap_view(
            entry(start=to_rfc3339(DAY + at * 80 * SECOND_NS), end=to_rfc3339(DAY + (at * 80 + 1) * SECOND_NS)),
            at,
            [],
            page=1,
        )
        for at in range(1, 1_000)
    ]
    drawn = draw(files, gaps=gaps, interval_ns=MINUTE_NS)
    assert len(drawn.lanes[0].marks) == 1
    assert not any(mark.url for lane in drawn.lanes for mark in lane.marks)
    assert drawn.lanes[4].summary == "999 gaps"
    assert len(drawn.table) == 24


def test_a_connection_without_ends_is_drawn_as_far_as_it_is_known() -> None:
    session = SessionEntry.model_validate(
        {
            "session": "a-1",
            "connection": 1,
            "first_frame": 1,
            "last_frame": 2,
            "received": 2,
            "opened_at": None,
            "closed_at": None,
            "cause": None,
        }
    )
    (mark,) = draw([file(0, 43_200, 1)], sessions=[session]).lanes[1].marks
    assert (mark.x, mark.width) == (0, 50)
    assert "not closed" in mark.title
