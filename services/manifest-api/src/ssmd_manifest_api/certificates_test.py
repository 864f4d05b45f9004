"""Certificates over HTTP."""

from __future__ import annotations

import datetime as dt
import hashlib
from pathlib import Path

import httpx
import pytest

from ssmd_common.archive.certificate import contradictions, parse_certificate
from ssmd_manifest_api.conftest import DAY, at
from ssmd_manifest_api.testing import Message, SampleDay, SampleSegment

PATH = "/manifests/kalshi/2026-11-23/certificate"


async def test_a_day_is_certified_by_the_files_that_lie_there(client: httpx.AsyncClient, archive: Path) -> None:
    answer = await client.get(PATH)
    certificate = parse_certificate(answer.content, where="answer")
    folder = archive / "kalshi/2026-11-23"
    assert contradictions(certificate) == []
    assert [file.path for file in certificate.files] == [
        "0615.jsonl.gz",
        "0616.jsonl.gz",
        "_evidence/0615.index.jsonl",
        "_evidence/0615.meta.jsonl.gz",
        "_evidence/0616.index.jsonl",
        "_evidence/0616.meta.jsonl.gz",
        "manifest.json",
    ]
    for file in certificate.files:
        assert hashlib.sha256((folder / file.path).read_bytes()).hexdigest() == file.sha256
    assert (certificate.records, certificate.frames.archived, certificate.state) == (4, 4, "pending")
    assert (certificate.gaps["stream"].gaps, certificate.gaps["stream"].missing) == (1, 3)


async def test_the_list_alone_is_what_sha256sum_reads(client: httpx.AsyncClient) -> None:
    root = (await client.get(PATH)).json()["root"]
    for listed in (
        await client.get(f"{PATH}?format=sha256sum"),
        await client.get(PATH, headers={"Accept": "text/plain"}),
    ):
        assert listed.headers["content-type"].startswith("text/plain")
        assert listed.headers["vary"] == "Accept"
        assert hashlib.sha256(listed.content).hexdigest() == root
        assert all(len(line.split("  ")) == 2 for line in listed.text.splitlines())
    both = await client.get(f"{PATH}?format=json", headers={"Accept": "text/plain"})
    assert both.headers["content-type"] == "application/json"


@pytest.mark.parametrize("query", ["", "?format=sha256sum"])
async def test_a_known_certificate_is_not_sent_again_until_the_day_grows(
    client: httpx.AsyncClient, archive: Path, query: str
) -> None:
    first = await client.get(PATH + query)
    assert first.headers["etag"] == f'"{hashlib.sha256(first.content).hexdigest()}"'
    assert first.headers["cache-control"] == "no-cache"
    known = {"If-None-Match": first.headers["etag"]}
    assert (await client.get(PATH + query, headers=known)).status_code == 304
    assert (await client.head(PATH + query)).headers["etag"] == first.headers["etag"]
    day = SampleDay(archive, "kalshi", DAY)
    day.seal(SampleSegment("0617", at(6, 17), [Message(10, at(6, 17))]))
    day.write_manifest()
    grown = await client.get(PATH + query, headers=known)
    assert grown.status_code == 200
    assert "0617.jsonl.gz" in grown.text


async def test_a_day_is_final_once_nothing_is_open_and_a_later_day_has_begun(
    client: httpx.AsyncClient, archive: Path
) -> None:
    SampleDay(archive, "kalshi", DAY + dt.timedelta(days=1)).open(SampleSegment("0000", 0, [Message(20, 5)]))
    assert (await client.get(PATH)).json()["state"] == "pending", "a segment of the day is open"
    for path in (archive / "kalshi/2026-11-23/_open").iterdir():
        path.unlink()
    assert (await client.get(PATH)).json()["state"] == "final"


async def test_a_day_without_a_sealed_segment_is_not_certified_yet(client: httpx.AsyncClient) -> None:
    answer = await client.get("/manifests/kraken/2026-11-23/certificate")
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:ssmd:problem:pending")
    unknown = await client.get("/manifests/kalshi/2026-11-20/certificate")
    assert (unknown.status_code, unknown.json()["nearest"]) == (404, ["2026-11-23"])
    malformed = await client.get(f"{PATH}?format=pdf")
    assert (malformed.status_code, malformed.json()["errors"][0]["parameter"]) == (422, "format")


async def test_an_index_the_manifest_does_not_list_is_not_certified(
    client: httpx.AsyncClient, archive: Path
) -> None:
    day = SampleDay(archive, "kalshi", DAY)
    day.seal(SampleSegment("0618", at(6, 18), [Message(4711, at(6, 18))]))
    day.write_manifest()  # one that no certificate was derived from before
    index = archive / "kalshi/2026-11-23/_evidence/0615.index.jsonl"
    index.write_bytes(index.read_bytes() + b" ")
    answer = await client.get(PATH)
    assert (answer.status_code, answer.json()["type"]) == (500, "urn:ssmd:problem:archive-damaged")
    assert "0615" in answer.json()["detail"]
