from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import httpx
import pytest

from ssmd_common.archive.gaps import GapStatus
from ssmd_manifest_api.conftest import DAY, NOON_NS, Connect, at, stream_gap
from ssmd_manifest_api.testing import Message, SampleDay, SampleSegment

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


def links(page: str) -> list[str]:
    return re.findall(r'href="([^"]*)"', page)


async def test_the_feeds_lead_to_calendars_and_these_to_days(client: httpx.AsyncClient) -> None:
    assert "/feeds/kalshi" in links((await client.get("/")).text)
    assert "/feeds/kalshi/2026-11-23" in links((await client.get("/feeds/kalshi")).text)
    day = (await client.get("/feeds/kalshi/2026-11-23")).text
    assert "/files/kalshi/2026-11-23/0615.jsonl.gz" in links(day)
    assert "NATS dropped messages before they were archived" in day
    assert (await client.get("/feeds", follow_redirects=True)).status_code == 200


async def test_a_year_without_a_day_says_so_and_leads_back(client: httpx.AsyncClient) -> None:
    text = (await client.get("/feeds/kalshi?year=1999")).text
    assert "no day of that year" in text
    assert "/feeds/kalshi" in links(text)
    assert "no day of that year" not in (await client.get("/feeds/kalshi?year=2026")).text


async def test_every_link_of_a_page_leads_somewhere(client: httpx.AsyncClient) -> None:
    pages = ["/", "/feeds/kalshi", "/feeds/kalshi/2026-11-23", "/feeds/kraken/2026-11-23", "/docs"]
    for page in pages:
        text = (await client.get(page)).text
        for link in set(links(text)):
            path, _, fragment = link.partition("#")
            answer = await client.get(path or page, follow_redirects=True)
            pending = answer.status_code == 404 and answer.json()["type"] == "urn:ssmd:problem:pending"
            assert answer.status_code == 200 or pending, (page, link)
            if fragment:
                assert f'id="{fragment}"' in answer.text or f'id="{fragment}"' in text, (page, link)


async def test_a_page_loads_its_style_from_here_and_nothing_else(client: httpx.AsyncClient) -> None:
    for path in ("/", "/feeds/kalshi", "/feeds/kalshi/2026-11-23", "/docs"):
        answer = await client.get(path)
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'self'; img-src 'self';")
        assert not re.search(r"<script|<style|\sstyle=|\son[a-z]+=|src=", answer.text)
        assert re.findall(r'<link rel="stylesheet" href="(/static/[^"]+)"', answer.text)


async def test_the_style_sheet_is_kept_for_ever_under_a_name_of_its_bytes(client: httpx.AsyncClient) -> None:
    (name,) = re.findall(r'href="(/static/ssmd\.[0-9a-f]{12}\.css)"', (await client.get("/")).text)
    sheet = await client.get(name)
    assert sheet.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert sheet.headers["content-type"] == "text/css; charset=utf-8"
    assert not re.search(r"@import|url\(|https?:", sheet.text)
    assert (await client.get("/static/ssmd.css")).status_code == 404


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("/feeds/kalsi", 404, 'href="/feeds/kalshi"'),
        ("/feeds/kalshi/2026-11-20", 404, 'href="/feeds/kalshi/2026-11-23"'),
        ("/feeds/kalshi/2026-13-45", 422, "write it as 2026-11-23"),
        ("/feeds/kalshi/2026-11-23?gaps=none", 422, "gaps"),
        ("/files/kalshi/2026-11-23/0618.jsonl.gz", 404, 'href="/files/kalshi/2026-11-23/0615.jsonl.gz"'),
        ("/nowhere", 404, "Not Found"),
    ],
)
async def test_a_browser_gets_a_problem_as_a_page(
    client: httpx.AsyncClient, path: str, status: int, told: str
) -> None:
    answer = await client.get(path, headers=BROWSER)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert told in answer.text
    program = await client.get(path)
    assert program.headers["content-type"] == "application/problem+json"
    assert "Accept" in program.headers["vary"]


async def test_an_empty_archive_says_what_to_do_next(tmp_path: Path, connect: Connect) -> None:
    async with connect(tmp_path) as client:
        page = await client.get("/")
        assert page.status_code == 200
        assert "./ssmd up" in page.text


async def test_a_day_without_a_folder_between_others_is_a_page(archive: Path, connect: Connect) -> None:
    SampleDay(archive, "kalshi", DAY - dt.timedelta(days=2)).seal(SampleSegment("0000", 0, [Message(2, 10)]))
    SampleDay(archive, "kalshi", DAY - dt.timedelta(days=2)).write_manifest()
    async with connect(archive) as client:
        page = await client.get("/feeds/kalshi/2026-11-22")
        assert page.status_code == 200
        assert "nothing to download" in page.text
        assert {"/feeds/kalshi/2026-11-21", "/feeds/kalshi/2026-11-23"} <= set(links(page.text))


async def test_a_damaged_manifest_is_told_on_its_day_and_no_other(archive: Path, connect: Connect) -> None:
    (archive / "kalshi/2026-11-23/manifest.json").write_text("{}")
    async with connect(archive) as client:
        page = await client.get("/feeds/kalshi/2026-11-23")
        assert page.status_code == 200
        assert "Manifest damaged" in page.text
        assert "ssmd-archiver rebuild" in page.text
        assert "unverifiable" in (await client.get("/feeds/kalshi")).text


async def test_a_damaged_index_leaves_the_page_its_gaps_and_files(archive: Path, connect: Connect) -> None:
    (archive / "kalshi/2026-11-23/_evidence/0615.index.jsonl").write_text("{}\n{}\n")
    async with connect(archive) as client:
        page = await client.get("/feeds/kalshi/2026-11-23")
        assert page.status_code == 200
        assert "/files/kalshi/2026-11-23/0615.jsonl.gz" in links(page.text)
        assert "NATS dropped messages" in page.text


async def test_names_from_the_archive_are_text_and_never_markup(tmp_path: Path, connect: Connect) -> None:
    day = SampleDay(tmp_path, "kalshi", DAY)
    day.seal(SampleSegment("0000", 0, [Message(2, 10, "<b>type</b>", "<script>alert(1)</script>&\"'")]))
    day.write_manifest()
    async with connect(tmp_path) as client:
        page = (await client.get("/feeds/kalshi/2026-11-23")).text
        assert "<script" not in page
        assert "<b>type" not in page
        (link,) = [link for link in links(page) if "ticker=" in link]
        assert [file["name"] for file in (await client.get(link)).json()["files"]] == ["0000.jsonl.gz"]


async def test_many_gaps_and_files_come_in_pages(tmp_path: Path, connect: Connect) -> None:
    day = SampleDay(tmp_path, "kalshi", DAY)
    gaps = [stream_gap(f"stream:{n}", at(1) + n, status=GapStatus.PERMANENT) for n in range(120)]
    for n in range(100):
        stem = f"{n // 60:02d}{n % 60:02d}"
        day.seal(SampleSegment(stem, n * 60, [Message(n * 10 + 2, n * 60)], gaps if n == 99 else ()))
    day.write_manifest()
    async with connect(tmp_path) as client:
        first = (await client.get("/feeds/kalshi/2026-11-23")).text
        assert re.findall(r'id="gap-(\d+)"', first) == [str(n) for n in range(1, 51)]
        assert "1 to 96 of 100 files" in first
        last = (await client.get("/feeds/kalshi/2026-11-23?gaps=3&files=2")).text
        assert re.findall(r'id="gap-(\d+)"', last) == [str(n) for n in range(101, 121)]
        assert "97 to 100 of 100 files" in last
        assert "/feeds/kalshi/2026-11-23?gaps=2&amp;files=2#gaps" in links(last)
        assert (
            re.findall(r'id="gap-(\d+)"', (await client.get("/feeds/kalshi/2026-11-23?gaps=99")).text)[0] == "101"
        )


async def test_only_a_day_being_written_loads_again_and_only_when_asked(archive: Path, connect: Connect) -> None:
    async with connect(archive) as client:
        assert "http-equiv" not in (await client.get("/feeds/kalshi/2026-11-23")).text
        assert 'http-equiv="refresh"' in (await client.get("/feeds/kraken/2026-11-23?live=1")).text


async def test_the_examples_of_the_docs_work_on_this_archive(client: httpx.AsyncClient) -> None:
    page = (await client.get("/docs")).text
    assert "curl -O http://test/files/kalshi/2026-11-23/0615.jsonl.gz" in page
    assert "`" not in re.sub(r"<[^>]*>", "", page)


async def test_a_feed_that_is_written_now_is_live_and_one_that_is_not_is_quiet(
    archive: Path, connect: Connect
) -> None:
    async with connect(archive, now_ns=NOON_NS) as client:
        assert "Quiet, " in (await client.get("/feeds/kalshi")).text
    async with connect(archive, now_ns=NOON_NS - (at(12) - at(6, 17) - 20) * 1_000_000_000) as client:
        assert "Live, " in (await client.get("/feeds/kalshi")).text


async def test_the_calendar_names_a_days_gaps_as_the_page_of_the_day_does(archive: Path, connect: Connect) -> None:
    later = SampleDay(archive, "kalshi", DAY + dt.timedelta(days=2))
    later.seal(SampleSegment("0000", 0, [Message(20, 5)]))
    later.write_manifest()
    async with connect(archive, now_ns=NOON_NS + 5 * 86_400 * 10**9) as client:
        page = (await client.get("/feeds/kalshi")).text
        reason = (await client.get("/conditions/kalshi")).json()["conditions"][0]["reasons"][0]
    (look,) = re.findall(r'aria-labelledby="look">.*?</section>', page, re.DOTALL)
    assert "NATS dropped messages before they were archived: 3 messages missing" in look
    assert "retention" not in look
    assert (reason["code"], reason["gap_id"]) == ("gap", "stream:100")


async def test_how_often_a_segment_begins_is_told_as_people_say_it(tmp_path: Path, connect: Connect) -> None:
    day = SampleDay(tmp_path, "kalshi", DAY)
    day.seal(SampleSegment("0600", at(6), [Message(2, at(6, 15))], minutes=120))
    manifest = day.write_manifest()
    assert manifest.rotation_interval == "120m"
    async with connect(tmp_path) as client:
        page = (await client.get("/feeds/kalshi/2026-11-23")).text
    assert "a new one every 2 h" in page
    assert "120m" not in page
