"""What callers and caches are told: strong ETags, 304, HEAD, and how long an answer may be kept."""

from __future__ import annotations

import hashlib
from pathlib import Path

import httpx
import pytest

from ssmd_manifest_api.conftest import DAY, at
from ssmd_manifest_api.testing import Message, SampleDay, SampleSegment

LISTS = (
    "/manifests",
    "/manifests/kalshi",
    "/files/kalshi/2026-11-23",
    "/files/kalshi/2026-11-23?type=trade",
    "/gaps/kalshi",
    "/gaps/kalshi/2026-11-23",
    "/conditions/kalshi",
)


@pytest.mark.parametrize("path", LISTS)
async def test_a_list_has_the_strong_etag_of_its_bytes_and_is_not_sent_again(
    client: httpx.AsyncClient, path: str
) -> None:
    first = await client.get(path)
    etag = f'"{hashlib.sha256(first.content).hexdigest()}"'
    assert (first.headers["etag"], first.headers["cache-control"]) == (etag, "no-cache")
    again = await client.get(path, headers={"If-None-Match": etag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    head = await client.head(path)
    assert (head.status_code, head.headers["etag"]) == (200, etag)
    assert (await client.head(path, headers={"If-None-Match": etag})).status_code == 304


async def test_a_list_that_grew_is_sent(client: httpx.AsyncClient, archive: Path) -> None:
    known = {"If-None-Match": (await client.get("/files/kalshi/2026-11-23")).headers["etag"]}
    day = SampleDay(archive, "kalshi", DAY)
    day.seal(SampleSegment("0617", at(6, 17), [Message(10, at(6, 17))]))
    day.write_manifest()
    assert (await client.get("/files/kalshi/2026-11-23", headers=known)).status_code == 200


async def test_a_problem_has_no_etag(client: httpx.AsyncClient) -> None:
    answer = await client.get("/manifests/nobody")
    assert (answer.status_code, "etag" in answer.headers) == (404, False)


async def test_only_what_is_sealed_may_be_kept_without_asking(client: httpx.AsyncClient) -> None:
    for path in (
        "/manifests/kalshi/2026-11-23",
        "/manifests/kalshi/2026-11-23/certificate",
        "/records/kalshi",
        *LISTS,
    ):
        assert (await client.get(path)).headers["cache-control"] == "no-cache", path
    for name in ("0615.jsonl.gz", "0615.meta.jsonl.gz", "0615.index.jsonl"):
        answer = await client.get(f"/files/kalshi/2026-11-23/{name}")
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"


async def test_a_download_of_several_ranges_is_the_whole_file_and_one_outside_says_its_size(
    client: httpx.AsyncClient, archive: Path
) -> None:
    path = "/files/kalshi/2026-11-23/0615.jsonl.gz"
    stored = (archive / "kalshi/2026-11-23/0615.jsonl.gz").read_bytes()
    several = await client.get(path, headers={"Range": "bytes=0-1,4-5"})
    assert (several.status_code, several.content) == (200, stored)
    last = await client.get(path, headers={"Range": "bytes=-4"})
    assert (last.status_code, last.content, last.headers["content-length"]) == (206, stored[-4:], "4")
    outside = await client.get(path, headers={"Range": f"bytes={len(stored)}-"})
    assert (outside.status_code, outside.headers["content-range"]) == (416, f"bytes */{len(stored)}")
    assert outside.headers["content-type"] == "application/problem+json"
