"""Records over HTTP: gaps stand where they lie, and pages leave none out."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssmd_common.archive.gaps import Gap, GapLayer, GapStatus
from ssmd_common.archive.times import SECOND_NS, day_start_ns
from ssmd_manifest_api.conftest import DAY, Connect
from ssmd_manifest_api.records_test import shown
from ssmd_manifest_api.testing import SESSION, Message, SampleDay, SampleSegment

START_NS = day_start_ns(DAY)


def gap(start_seq: int | None, end_seq: int | None, start_s: int, end_s: int | None, *, key: str = "") -> Gap:
    missing = None if start_seq is None or end_seq is None else end_seq - start_seq
    return Gap(
        gap_id=f"{key}:{start_seq}:{start_s}",
        layer=GapLayer.CONNECTION if key else GapLayer.STREAM,
        cause="peer_closed" if key else "retention",
        status=GapStatus.PERMANENT if end_s is not None else GapStatus.OPEN,
        epoch=1,
        key=key,
        start_seq=start_seq,
        end_seq=end_seq,
        start_ns=START_NS + start_s * SECOND_NS,
        end_ns=None if end_s is None else START_NS + end_s * SECOND_NS,
        missing_count=missing,
        detected_ns=START_NS + (end_s if end_s is not None else start_s) * SECOND_NS,
    )


@pytest.fixture
def gappy(tmp_path: Path) -> Path:
    """An archive with a gap of the stream, one of the connection, and one still open."""
    day = SampleDay(tmp_path, "kalshi", DAY)
    messages = [Message(2, 10), Message(3, 20), Message(6, 30), Message(7, 100), Message(8, 110)]
    lost = gap(4, 6, 20, 30)
    silent = gap(None, None, 40, 90, key=f"{SESSION}.1")
    day.seal(SampleSegment("0000", 0, messages[:3], [lost], opens=False))
    day.seal(SampleSegment("0001", 60, messages[3:], [silent], opens=False))
    day.write_manifest()
    day.open(SampleSegment("0002", 120, [Message(20, 130), Message(21, 140)], [gap(9, 20, 110, 130)], opens=False))
    return tmp_path


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [2, 3, ":4:20", 6, f"{SESSION}.1:None:40", 7, 8, ":9:110", 20, 21]),
        ("to_seq=4", [2, 3]),
        ("from_seq=3&to_seq=5", [3, ":4:20"]),
        ("from_seq=5&to_seq=7", [":4:20", 6]),
        ("from_seq=6&to_seq=7", [6]),
        ("from_seq=7&to_seq=9", [7, 8]),
        ("from_seq=9&to_seq=12", [":9:110"]),
        ("ticker=NONE", [":4:20", f"{SESSION}.1:None:40", ":9:110"]),
        ("from=2026-11-23T00:00:50Z&to=2026-11-23T00:01:00Z", [f"{SESSION}.1:None:40"]),
        ("from=2026-11-23T00:01:30Z&to=2026-11-23T00:01:50Z", [7]),
        ("from=2026-11-23T00:00:50Z&to=2026-11-23T00:00:50Z", []),
        ("from=2026-11-23T00:00:55Z&to=2026-11-23T00:00:50Z", []),
        ("from_seq=5&to_seq=5", []),
        ("to=2026-11-23T00:00:20Z", [2]),
        ("to=2026-11-23T00:00:21Z", [2, 3, ":4:20"]),
    ],
)
async def test_gaps_stand_where_they_lie_and_are_counted_in_the_header(
    gappy: Path, connect: Connect, query: str, found: list[int | str]
) -> None:
    async with connect(gappy) as client:
        enveloped = await client.get(f"/records/kalshi?envelope=true&{query}")
        raw = await client.get(f"/records/kalshi?{query}")
    assert shown(enveloped) == found
    gaps = [item for item in found if isinstance(item, str)]
    for answer in (enveloped, raw):
        assert answer.headers["ssmd-gaps"] == str(len(gaps))
        assert ("related" in answer.links) is bool(gaps)
    assert len(raw.content.splitlines()) == len(found) - len(gaps)


async def test_the_link_to_the_gaps_of_a_range_lists_them(gappy: Path, connect: Connect) -> None:
    async with connect(gappy) as client:
        answer = await client.get("/records/kalshi?from=2026-11-23T00:00:20Z&to=2026-11-23T00:00:50Z")
        gaps = (await client.get(answer.links["related"]["url"])).json()["gaps"]
    assert [entry["gap_id"] for entry in gaps] == [":4:20", f"{SESSION}.1:None:40"]
    assert answer.headers["ssmd-gaps"] == "2"


async def test_pages_follow_each_other_and_leave_no_record_and_no_gap_out(gappy: Path, connect: Connect) -> None:
    async with connect(gappy) as client:
        url, found, nexts = "/records/kalshi?envelope=true&limit=2", [], []
        while url:
            answer = await client.get(url)
            found.append(shown(answer))
            nexts.append(answer.headers.get("ssmd-next-seq"))
            url = answer.links.get("next", {}).get("url", "")
    assert [[seq for seq in page if isinstance(seq, int)] for page in found] == [[2, 3], [6, 7], [8, 20], [21]]
    assert nexts == ["6", "8", "21", None]
    assert {item for page in found for item in page if isinstance(item, str)} == {
        ":4:20",
        f"{SESSION}.1:None:40",
        ":9:110",
    }
