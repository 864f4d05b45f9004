from __future__ import annotations

import datetime as dt
import gzip
import hashlib
from pathlib import Path

import httpx
import pytest

from ssmd_common.archive.manifest import parse_manifest
from ssmd_manifest_api.conftest import DAY, NOON_NS, Connect, at
from ssmd_manifest_api.testing import Message, SampleDay, SampleSegment

PROBLEM = "application/problem+json"


async def test_the_feeds_are_listed_with_their_totals(client: httpx.AsyncClient) -> None:
    feeds = (await client.get("/manifests")).json()["feeds"]
    assert [(feed["feed"], feed["records"], feed["days"]) for feed in feeds] == [("kalshi", 4, 1), ("kraken", 0, 1)]


async def test_an_archive_that_does_not_exist_yet_is_empty_and_not_ready(tmp_path: Path, connect: Connect) -> None:
    async with connect(tmp_path / "later") as client:
        assert (await client.get("/manifests")).json() == {"feeds": []}
        assert (await client.get("/health")).status_code == 200
        ready = await client.get("/ready")
        assert ready.status_code == 503
        assert "the archiver creates it" in ready.json()["checks"]["archive"]["reason"]
        assert "no folder (yet)" in (await client.get("/")).text
        (tmp_path / "later").mkdir()
        assert (await client.get("/ready")).status_code == 200


async def test_a_manifest_is_served_as_the_bytes_of_its_file(client: httpx.AsyncClient, archive: Path) -> None:
    answer = await client.get("/manifests/kalshi/2026-11-23")
    file = archive / "kalshi/2026-11-23/manifest.json"
    assert answer.status_code == 200
    assert answer.content == file.read_bytes()
    assert answer.headers["etag"] == f'"{hashlib.sha256(file.read_bytes()).hexdigest()}"'
    assert parse_manifest(answer.content, where="answer").feed == "kalshi"


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
async def test_a_known_manifest_is_not_sent_again(client: httpx.AsyncClient, form: str) -> None:
    etag = (await client.get("/manifests/kalshi/2026-11-23")).headers["etag"]
    answer = await client.get("/manifests/kalshi/2026-11-23", headers={"If-None-Match": form.format(etag)})
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == etag


async def test_a_fresh_manifest_is_seen_at_once(client: httpx.AsyncClient, archive: Path) -> None:
    before = await client.get("/manifests/kalshi/2026-11-23")
    day = SampleDay(archive, "kalshi", DAY)
    day.seal(SampleSegment("0617", at(6, 17), [Message(10, at(6, 17))]))
    day.write_manifest()
    after = await client.get("/manifests/kalshi/2026-11-23", headers={"If-None-Match": before.headers["etag"]})
    assert after.status_code == 200
    assert [file["name"] for file in after.json()["files"]] == ["0615.jsonl.gz", "0616.jsonl.gz", "0617.jsonl.gz"]
    assert (await client.get("/manifests/kalshi")).json()["days"][0]["records"] == 5


async def test_a_day_before_its_first_seal_is_pending_and_tells_what_is_durable(client: httpx.AsyncClient) -> None:
    days = (await client.get("/manifests/kraken")).json()["days"]
    assert [(day["date"], day["condition"]) for day in days] == [("2026-11-23", "pending")]
    answer = await client.get("/manifests/kraken/2026-11-23")
    assert (answer.status_code, answer.headers["content-type"]) == (404, PROBLEM)
    problem = answer.json()
    assert problem["type"] == "urn:ssmd:problem:pending"
    assert [(part["name"], part["records"], part["nats_end_seq"]) for part in problem["open"]] == [
        ("0617.jsonl.gz", 2, 3)
    ]


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("/manifests/kalsi", ["kalshi"]),
        ("/manifests/kalsi/2026-11-23", ["kalshi"]),
        ("/manifests/KRAKEN", ["kraken"]),
        ("/manifests/kalshi/2026-11-20", ["2026-11-23"]),
        ("/files/kalshi/2026-11-20", ["2026-11-23"]),
        ("/gaps/kalshi/2026-11-20", ["2026-11-23"]),
        ("/gaps/zz", ["kalshi", "kraken"]),
        ("/conditions/zz", ["kalshi", "kraken"]),
    ],
)
async def test_what_is_unknown_is_404_with_the_nearest_there_is(
    client: httpx.AsyncClient, path: str, nearest: list[str]
) -> None:
    answer = await client.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (404, PROBLEM)
    assert answer.json()["nearest"] == nearest


async def test_an_unknown_file_names_those_alike(client: httpx.AsyncClient) -> None:
    answer = await client.get("/files/kalshi/2026-11-23/0618.jsonl.gz")
    assert answer.status_code == 404
    assert {"0615.jsonl.gz", "0616.jsonl.gz"} <= set(answer.json()["nearest"])


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        ("/manifests/kalshi/yesterday", "date"),
        ("/manifests/kalshi/2026-13-45", "date"),
        ("/manifests/kalshi/1700000000", "date"),
        ("/files/kalshi/2026-11-23?from=noon", "from"),
        ("/gaps/kalshi?to=2026-11-23T99:00:00Z", "to"),
        ("/gaps/kalshi?layer=cellar", "layer"),
        ("/gaps/kalshi/2026-11-23?status=fine", "status"),
    ],
)
async def test_a_malformed_parameter_is_422_and_named(client: httpx.AsyncClient, path: str, parameter: str) -> None:
    answer = await client.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (422, PROBLEM)
    assert [error["parameter"] for error in answer.json()["errors"]] == [parameter]


async def test_a_listing_shows_the_open_segment_beside_the_sealed_files(client: httpx.AsyncClient) -> None:
    listing = (await client.get("/files/kalshi/2026-11-23")).json()
    assert [(part["name"], part["records"]) for part in listing["open"]] == [("0617.jsonl.gz", 1)]
    assert listing["files"][0]["url"] == "/files/kalshi/2026-11-23/0615.jsonl.gz"


async def test_a_segment_is_downloaded_as_it_is_stored(client: httpx.AsyncClient, archive: Path) -> None:
    answer = await client.get("/files/kalshi/2026-11-23/0615.jsonl.gz")
    stored = (archive / "kalshi/2026-11-23/0615.jsonl.gz").read_bytes()
    assert answer.headers["content-type"] == "application/gzip"
    assert "content-encoding" not in answer.headers
    assert answer.content == stored
    assert answer.headers["etag"] == f'"{hashlib.sha256(stored).hexdigest()}"'
    assert "immutable" in answer.headers["cache-control"]
    assert len(gzip.decompress(answer.content).splitlines()) == 2


async def test_head_tells_of_the_whole_file_whatever_range_is_named(client: httpx.AsyncClient) -> None:
    path = "/files/kalshi/2026-11-23/0615.jsonl.gz"
    whole = await client.head(path)
    for form in ("bytes=0-1", "bytes=99999999-"):
        head = await client.head(path, headers={"Range": form})
        assert (head.status_code, head.headers["content-length"]) == (200, whole.headers["content-length"])


async def test_a_range_of_a_segment_is_sent(client: httpx.AsyncClient, archive: Path) -> None:
    path = "/files/kalshi/2026-11-23/0615.jsonl.gz"
    stored = (archive / "kalshi/2026-11-23/0615.jsonl.gz").read_bytes()
    etag = f'"{hashlib.sha256(stored).hexdigest()}"'
    part = await client.get(path, headers={"Range": "bytes=5-9", "If-Range": etag})
    assert (part.status_code, part.content) == (206, stored[5:10])
    assert part.headers["content-range"] == f"bytes 5-9/{len(stored)}"
    whole = await client.get(path, headers={"Range": "bytes=5-9", "If-Range": '"older"'})
    assert (whole.status_code, whole.content) == (200, stored)
    assert (await client.get(path, headers={"Range": "bytes=99999999-"})).status_code == 416
    assert (await client.get(path, headers={"If-None-Match": etag})).status_code == 304


@pytest.mark.parametrize("name", ["0615.meta.jsonl.gz", "0615.index.jsonl"])
async def test_a_segments_evidence_is_downloaded_too(client: httpx.AsyncClient, archive: Path, name: str) -> None:
    answer = await client.get(f"/files/kalshi/2026-11-23/{name}")
    stored = (archive / "kalshi/2026-11-23/_evidence" / name).read_bytes()
    assert answer.content == stored
    assert answer.headers["etag"] == f'"{hashlib.sha256(stored).hexdigest()}"'


@pytest.mark.parametrize(
    "path",
    [
        "/manifests/..%2F..%2Fetc/2026-11-23",
        "/manifests/%2e%2e/2026-11-23",
        "/files/kalshi/2026-11-23/..%2F..%2F..%2Fsecret.jsonl.gz",
        "/files/kalshi/2026-11-23/%2e%2e%2fmanifest.json",
        "/files/kalshi/2026-11-23/0617.jsonl.gz",
        "/files/kalshi/2026-11-23/manifest.json",
        "/files/kalshi/2026-11-23/0615.jsonl.gz%00",
        "/files/kalshi/2026-11-23/٠٦١٥.jsonl.gz",
        "/files/kalshi%00/2026-11-23",
    ],
)
async def test_nothing_but_sealed_files_can_be_reached(client: httpx.AsyncClient, archive: Path, path: str) -> None:
    (archive.parent / "secret.jsonl.gz").write_bytes(b"secret")
    assert (await client.get(path)).status_code in {404, 422}


async def test_a_link_that_leaves_the_archive_leads_nowhere(
    client: httpx.AsyncClient, archive: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    (archive / "kalshi").rename(outside)
    (archive / "kalshi").symlink_to(outside)
    for path in (
        "/manifests/kalshi",
        "/manifests/kalshi/2026-11-23",
        "/files/kalshi/2026-11-23",
        "/files/kalshi/2026-11-23/0615.jsonl.gz",
    ):
        assert (await client.get(path)).status_code == 404


async def test_a_day_without_a_folder_between_two_days_is_missing(archive: Path, connect: Connect) -> None:
    later = SampleDay(archive, "kalshi", DAY + dt.timedelta(days=2))
    later.seal(SampleSegment("0000", 0, [Message(20, 5)]))
    later.write_manifest()
    async with connect(archive, now_ns=NOON_NS + 2 * 86_400 * 10**9) as client:
        conditions = (await client.get("/conditions/kalshi")).json()["conditions"]
    assert [entry["condition"] for entry in conditions] == ["degraded", "missing", "pending"]
    assert conditions[0]["reasons"][0]["gap_id"] == "stream:100"


async def test_a_damaged_manifest_spoils_its_own_day_alone(client: httpx.AsyncClient, archive: Path) -> None:
    folder = archive / "kalshi" / "2026-11-22"
    folder.mkdir()
    (folder / "manifest.json").write_bytes(b"{]")
    days = (await client.get("/manifests/kalshi")).json()["days"]
    assert [(day["date"], day["condition"]) for day in days] == [
        ("2026-11-22", "unverifiable"),
        ("2026-11-23", "degraded"),
    ]
    answer = await client.get("/gaps/kalshi/2026-11-22")
    assert answer.status_code == 500
    assert answer.json()["type"] == "urn:ssmd:problem:archive-damaged"
    assert str(archive) not in answer.text


@pytest.mark.parametrize("name", ["0001-01-01", "1969-12-31", "9999-12-31"])
async def test_a_folder_of_a_day_no_server_can_have_is_none(
    client: httpx.AsyncClient, archive: Path, name: str
) -> None:
    (archive / "kalshi" / name).mkdir()
    for path in ("/manifests/kalshi", "/conditions/kalshi", "/", "/feeds/kalshi"):
        answer = await client.get(path)
        assert answer.status_code == 200, path
        assert name not in answer.text


@pytest.mark.parametrize(
    ("told", "damaged"),
    [
        ('"start": "2026-11-23T06:15', '"start": "2026-11-31T06:15'),
        ('"sealed_at": "20', '"sealed_at": "2O'),
        ('"detected_at": "20', '"detected_at": "20x'),
        ('"complete_through": "2026-11', '"complete_through": "2026-99'),
        ('"name": "0615.jsonl.gz"', '"name": "../0615.jsonl.gz"'),
        ('"rotation_interval": "1m"', '"rotation_interval": "1x"'),
    ],
)
async def test_a_manifest_with_one_wrong_word_spoils_its_own_day_alone(
    client: httpx.AsyncClient, archive: Path, told: str, damaged: str
) -> None:
    manifest = archive / "kalshi" / "2026-11-23" / "manifest.json"
    text = manifest.read_text("utf-8")
    assert told in text
    manifest.write_text(text.replace(told, damaged, 1), "utf-8")
    for path in (
        "/manifests",
        "/manifests/kalshi",
        "/gaps/kalshi",
        "/",
        "/feeds/kalshi",
        "/feeds/kalshi/2026-11-23",
    ):
        assert (await client.get(path)).status_code == 200, path
    (day,) = (await client.get("/manifests/kalshi")).json()["days"]
    assert (day["condition"], day["reasons"][0]["code"]) == ("unverifiable", "damaged")
    answer = await client.get("/gaps/kalshi/2026-11-23")
    assert (answer.status_code, answer.json()["type"]) == (500, "urn:ssmd:problem:archive-damaged")


async def test_a_manifest_the_system_cannot_read_spoils_its_own_day_alone(
    client: httpx.AsyncClient, archive: Path
) -> None:
    manifest = archive / "kalshi" / "2026-11-22" / "manifest.json"
    manifest.parent.mkdir()
    manifest.symlink_to(manifest.name)  # leads round in a circle, which stops root too
    answer = await client.get("/manifests/kalshi/2026-11-22")
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:ssmd:problem:archive-unreadable")
    assert "kalshi/2026-11-22/manifest.json" in answer.json()["detail"]
    assert str(archive) not in answer.text
    for path in ("/manifests", "/manifests/kalshi", "/conditions/kalshi", "/gaps/kalshi", "/", "/feeds/kalshi"):
        assert (await client.get(path)).status_code == 200, path
    days = (await client.get("/manifests/kalshi")).json()["days"]
    assert [(day["date"], day["condition"]) for day in days] == [
        ("2026-11-22", "unverifiable"),
        ("2026-11-23", "degraded"),
    ]


async def test_an_unknown_path_and_a_writing_method_are_problems_too(client: httpx.AsyncClient) -> None:
    assert (await client.get("/nothing")).headers["content-type"] == PROBLEM
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        answer = await client.request(method, "/manifests/kalshi/2026-11-23")
        assert (answer.status_code, answer.headers["content-type"]) == (405, PROBLEM)
        assert answer.headers["allow"] == "GET, HEAD"


async def test_head_answers_wherever_get_does(client: httpx.AsyncClient) -> None:
    for path in (
        "/",
        "/manifests",
        "/manifests/kalshi/2026-11-23",
        "/files/kalshi/2026-11-23/0615.jsonl.gz",
        "/ready",
    ):
        got, head = await client.get(path), await client.head(path)
        assert head.status_code == 200
        assert head.headers.get("etag") == got.headers.get("etag")
        assert head.headers["content-length"] == got.headers["content-length"]


async def test_nothing_in_the_archive_changes_by_reading_it(client: httpx.AsyncClient, archive: Path) -> None:
    before = _tree(archive)
    for path in ("/", "/manifests", "/manifests/kalshi", "/files/kalshi/2026-11-23", "/conditions/kraken"):
        assert (await client.get(path)).status_code == 200
    assert _tree(archive) == before


def _tree(base: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in sorted(base.rglob("*"))}


async def test_requests_are_counted_by_route_never_by_what_was_asked_for(client: httpx.AsyncClient) -> None:
    await client.get("/manifests/kalshi/2026-11-23")
    await client.get("/manifests/nobody/2026-11-23")
    await client.get("/no/such/path")
    text = (await client.get("/metrics")).text
    assert 'ssmd_api_requests_total{route="/manifests/{feed}/{date}",status="200"} 1.0' in text
    assert 'ssmd_api_requests_total{route="/manifests/{feed}/{date}",status="404"} 1.0' in text
    assert "nobody" not in text
    assert "/no/such" not in text


async def test_the_openapi_document_describes_every_route_and_its_problems(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    assert {
        "/manifests",
        "/manifests/{feed}",
        "/manifests/{feed}/{date}",
        "/files/{feed}/{date}",
        "/files/{feed}/{date}/{name}",
        "/gaps/{feed}",
        "/gaps/{feed}/{date}",
        "/records/{feed}",
        "/manifests/{feed}/{date}/certificate",
        "/conditions/{feed}",
        "/health",
        "/ready",
        "/metrics",
    } == set(document["paths"])
    assert {method for methods in document["paths"].values() for method in methods} == {"get"}
    operation = document["paths"]["/manifests/{feed}/{date}"]["get"]
    assert {"200", "304", "404", "422"} == set(operation["responses"])
    assert set(operation["responses"]["404"]["content"]) == {PROBLEM}


async def test_the_pages_show_feeds_days_and_routes_and_take_nothing_from_outside(
    client: httpx.AsyncClient,
) -> None:
    page, docs = await client.get("/"), await client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "kalshi" in page.text
    assert "2026-11-23" in page.text
    assert "degraded" in page.text
    assert "/files/{feed}/{date}/{name}" in docs.text
    for text in (page.text, docs.text):
        assert "https://" not in text
        assert "<script" not in text
