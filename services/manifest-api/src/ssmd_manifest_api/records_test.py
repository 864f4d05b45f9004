"""Records over HTTP: lines, envelopes, what is wanted, and what is malformed."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import httpx
import pytest

from ssmd_common.archive.times import SECOND_NS, day_start_ns
from ssmd_manifest_api.conftest import DAY, Connect, at
from ssmd_manifest_api.testing import Message, SampleDay, SampleSegment

START_NS = day_start_ns(DAY)


def shown(answer: httpx.Response) -> list[int | str]:
    """Return the sequences of an enveloped answer, and the gap's id where a gap stands."""
    assert answer.status_code == 200, answer.text
    lines = [json.loads(line) for line in answer.content.splitlines()]
    return [line["seq"] if "seq" in line else line["gap"]["gap_id"] for line in lines]


async def test_raw_lines_are_the_archives_own_the_open_segments_too(
    client: httpx.AsyncClient, archive: Path
) -> None:
    answer = await client.get("/records/kalshi")
    folder = archive / "kalshi/2026-11-23"
    files = [folder / "0615.jsonl.gz", folder / "0616.jsonl.gz", folder / "_open/0617.jsonl.gz"]
    assert answer.content == b"".join(gzip.decompress(file.read_bytes()) for file in files)
    assert answer.headers["content-type"] == "application/x-ndjson"


async def test_an_envelope_splices_the_payload_in_as_it_is(client: httpx.AsyncClient) -> None:
    answer = await client.get("/records/kalshi?to_seq=3&envelope=true")
    ns = START_NS + at(6, 15) * SECOND_NS
    payload = b'{"type": "trade", "msg": {"market_ticker": "KXA", "n": 2}}'
    head = f'{{"seq":2,"stored_ns":{ns},"received_ns":{ns - 1_000_000},"type":"trade","ticker":"KXA","data":'
    assert answer.content == head.encode() + payload + b"}\n"


@pytest.mark.parametrize(
    ("query", "seqs"),
    [
        ("", [2, 3, 6, 7, 10]),
        ("from_seq=3&to_seq=7", [3, 6]),
        ("from_seq=4&to_seq=4", []),
        ("from_seq=5&to_seq=4", []),
        ("from=2026-11-24&to=2026-11-23", []),
        ("epoch=1&from_seq=7", [7, 10]),
        ("epoch=2", []),
        ("from_seq=11", []),
        ("type=trade", [2, 6, 7, 10]),
        ("type=trade&type=ticker&ticker=KX.B", [3]),
        ("ticker=KXC&ticker=KX.B", [3, 6]),
        ("ticker=NONE", []),
        ("from=2026-11-23T06:15:30Z&to=2026-11-23T06:16:05Z", [3]),
        ("from=2026-11-23T06:15:30Z&to=2026-11-23T06:16:05Z&clock=received", [6]),
        ("from=2026-11-24", []),
        ("from_seq=3&to=2026-11-23T06:16:50Z&type=trade", [6]),
        ("cursor=1.7", [7, 10]),
        ("cursor=2.0", []),
    ],
)
async def test_conditions_are_half_open_and_compose(client: httpx.AsyncClient, query: str, seqs: list[int]) -> None:
    found = shown(await client.get(f"/records/kalshi?envelope=true&{query}"))
    assert [item for item in found if isinstance(item, int)] == seqs


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("from_seq=-1", "from_seq"),
        ("from_seq=x", "from_seq"),
        ("to_seq=99999999999999999999", "to_seq"),
        ("limit=0", "limit"),
        ("limit=100001", "limit"),
        ("cursor=7", "cursor"),
        ("cursor=1.-2", "cursor"),
        ("cursor=\u0661.\u0662", "cursor"),
        ("clock=mars", "clock"),
        ("epoch=0", "epoch"),
        ("envelope=perhaps", "envelope"),
        ("from=noon", "from"),
        ("form_seq=5", "form_seq"),
    ],
)
async def test_a_malformed_condition_is_422_and_named(
    client: httpx.AsyncClient, query: str, parameter: str
) -> None:
    answer = await client.get(f"/records/kalshi?{query}")
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert [error["parameter"] for error in answer.json()["errors"]] == [parameter]


@pytest.mark.parametrize("cursor", ["7", "1.-2", "1.2%0A", "d00000000000b"])
async def test_a_malformed_cursor_says_where_to_take_one_from(client: httpx.AsyncClient, cursor: str) -> None:
    (error,) = (await client.get(f"/records/kalshi?cursor={cursor}")).json()["errors"]
    assert error["message"] == "not a cursor of records: take it from the `next` link of the page before"


async def test_an_unknown_feed_is_404_with_the_nearest(client: httpx.AsyncClient) -> None:
    answer = await client.get("/records/kalsi")
    assert (answer.status_code, answer.json()["nearest"]) == (404, ["kalshi"])


async def test_sequences_of_several_epochs_need_one_named(tmp_path: Path, connect: Connect) -> None:
    day = SampleDay(tmp_path, "kalshi", DAY)
    day.seal(SampleSegment("0000", 0, [Message(2, 10), Message(3, 20)]))
    day.seal(SampleSegment("0001", 60, [Message(2, 70), Message(3, 80)], epoch=2))
    day.write_manifest()
    async with connect(tmp_path) as client:
        unnamed = await client.get("/records/kalshi?from_seq=3")
        assert unnamed.status_code == 422
        assert unnamed.json()["errors"][0]["parameter"] == "epoch"
        assert "1, 2" in unnamed.json()["errors"][0]["message"]
        assert shown(await client.get("/records/kalshi?from_seq=3&epoch=2&envelope=true")) == [3]
        assert shown(await client.get("/records/kalshi?envelope=true")) == [2, 3, 2, 3]
        page = await client.get("/records/kalshi?limit=3&envelope=true")
        assert (shown(page), page.headers["ssmd-next-epoch"], page.headers["ssmd-next-seq"]) == (
            [2, 3, 2],
            "2",
            "3",
        )
        assert shown(await client.get(page.links["next"]["url"])) == [3]
