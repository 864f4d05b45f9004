from __future__ import annotations

import datetime as dt
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from ssmd_common.archive.times import DAY_NS
from ssmd_common.config.calendar import Calendar
from ssmd_manifest_api.auth import hash_token, new_token
from ssmd_manifest_api.config import ApiConfig, TokenEntry
from ssmd_manifest_api.conftest import DAY, NOON_NS, Connect, at
from ssmd_manifest_api.testing import Message, SampleDay, SampleSegment

PROBLEM = "application/problem+json"
KALSHI, ALL, NONE = new_token(), new_token(), new_token()
CONFIG = ApiConfig(
    tokens=(
        TokenEntry(name="ann", sha256=hash_token(KALSHI), feeds=("kalshi",)),
        TokenEntry(name="ben", sha256=hash_token(ALL), feeds="all"),
        TokenEntry(name="cleo", sha256=hash_token(NONE), feeds=("nothing-here",)),
    )
)
PATHS = [
    "/",
    "/docs",
    "/openapi.json",
    "/manifests",
    "/manifests/kalshi",
    "/manifests/kalshi/2026-11-23",
    "/manifests/kalshi/2026-11-23/certificate",
    "/files/kalshi/2026-11-23",
    "/files/kalshi/2026-11-23/0615.jsonl.gz",
    "/gaps/kalshi",
    "/gaps/kalshi/2026-11-23",
    "/records/kalshi",
    "/conditions/kalshi",
    "/feeds/kalshi",
    "/feeds/kalshi/2026-11-23",
    "/nothing",
]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
async def guarded(archive: Path, connect: Connect) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of the sample archive behind tokens: kalshi and kraken are there."""
    async with connect(archive, config=CONFIG) as client:
        yield client


@pytest.mark.parametrize("path", PATHS)
async def test_nothing_is_answered_without_a_token(guarded: httpx.AsyncClient, path: str) -> None:
    for headers in ({}, bearer("wrong"), bearer(hash_token(ALL))):
        for method in ("GET", "HEAD", "POST"):
            answer = await guarded.request(method, path, headers=headers)
            assert (answer.status_code, answer.headers["content-type"]) == (401, PROBLEM)
            assert answer.headers["www-authenticate"].startswith("Bearer ")
            assert "kalshi" not in answer.text.replace(path, "")


async def test_probes_and_metrics_need_no_token_and_name_no_feed(guarded: httpx.AsyncClient) -> None:
    await guarded.get("/manifests/kalshi", headers=bearer(KALSHI))
    for path in ("/health", "/ready", "/metrics"):
        answer = await guarded.get(path)
        assert answer.status_code == 200
        assert "kalshi" not in answer.text


async def test_the_page_that_asks_for_a_token_has_its_style(guarded: httpx.AsyncClient) -> None:
    page = await guarded.get("/", headers={"Accept": "text/html"})
    assert page.status_code == 401
    assert "`" not in page.text
    files = re.findall(r'href="(/static/[^"]+)"', page.text)
    assert len(files) == 2
    for path in files:
        assert (await guarded.get(path)).status_code == 200
    for path in ("/static", "/static/nothing.css", "/static/../manifests"):
        assert (await guarded.get(path)).status_code in (401, 404)


@pytest.mark.parametrize("path", [path for path in PATHS if "kalshi" in path])
async def test_a_feed_outside_of_the_tokens_scope_is_not_there(guarded: httpx.AsyncClient, path: str) -> None:
    if path != "/records/kalshi":
        assert (await guarded.get(path, headers=bearer(KALSHI))).status_code == 200
    answer = await guarded.get(path, headers=bearer(NONE))
    assert answer.status_code == 404
    assert answer.json()["nearest"] == []


@pytest.mark.parametrize("path", [path for path in PATHS if "kalshi" in path])
async def test_a_feed_out_of_scope_answers_as_one_that_does_not_exist(
    guarded: httpx.AsyncClient, path: str
) -> None:
    hidden = await guarded.get(path, headers=bearer(NONE))
    unknown = await guarded.get(path.replace("kalshi", "nobody"), headers=bearer(NONE))
    assert hidden.text.replace("kalshi", "nobody") == unknown.text


async def test_listings_and_pages_show_what_the_token_may_see(guarded: httpx.AsyncClient) -> None:
    for path in ("/manifests", "/", "/docs"):
        some = await guarded.get(path, headers=bearer(KALSHI))
        everything = await guarded.get(path, headers=bearer(ALL))
        assert some.status_code == everything.status_code == 200
        assert "kraken" not in some.text
        if path != "/docs":
            assert "kraken" in everything.text


async def test_a_browser_sends_the_token_as_a_password(guarded: httpx.AsyncClient) -> None:
    assert (await guarded.get("/", auth=("", KALSHI))).status_code == 200
    assert (await guarded.get("/", auth=(KALSHI, ""))).status_code == 401


async def test_no_shared_cache_may_keep_what_a_token_opened(guarded: httpx.AsyncClient) -> None:
    answer = await guarded.get("/files/kalshi/2026-11-23/0615.jsonl.gz", headers=bearer(KALSHI))
    assert "private" in answer.headers["cache-control"]
    assert "public" not in answer.headers["cache-control"]
    assert "Authorization" in answer.headers["vary"]


async def test_a_token_does_not_read_what_another_has_read_before(guarded: httpx.AsyncClient) -> None:
    path = "/manifests/kalshi/2026-11-23"
    etag = (await guarded.get(path, headers=bearer(ALL))).headers["etag"]
    assert (await guarded.get(path, headers={**bearer(NONE), "If-None-Match": etag})).status_code == 404
    assert (await guarded.get(path, headers={"If-None-Match": etag})).status_code == 401


@pytest.mark.parametrize(
    "path", ["/", "/manifests", "/manifests/kalshi/2026-11-23", "/nothing", "/manifests/x%2F..", "/metrics"]
)
async def test_every_answer_keeps_a_browser_careful(client: httpx.AsyncClient, path: str) -> None:
    for headers in ({}, {"Accept": "text/html"}):
        answer = await client.get(path, headers=headers)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "script-src" not in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] in ("no-referrer", "same-origin")
        assert "access-control-allow-origin" not in answer.headers
        assert "server" not in answer.headers


async def test_other_sites_may_ask_only_where_the_configuration_names_them(archive: Path, connect: Connect) -> None:
    site = "https://charts.example.org"
    config = CONFIG.model_copy(update={"cors_origins": (site,)})
    async with connect(archive, config=config) as client:
        asked = {
            "Origin": site,
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "authorization",
        }
        preflight = await client.options("/manifests", headers=asked)
        assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, site)
        answer = await client.get("/manifests", headers={**bearer(ALL), "Origin": site})
        assert answer.headers["access-control-allow-origin"] == site
        other = await client.get("/manifests", headers={**bearer(ALL), "Origin": "https://evil.example.org"})
        assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize("path", ["/", "/manifests", "/manifests/kalshi/2026-11-23", "/nothing", "/ready"])
@pytest.mark.parametrize("origin", [{}, {"Origin": "https://charts.example.org"}, {"Origin": "https://evil.test"}])
async def test_a_cache_keeps_apart_what_may_differ_by_site(
    archive: Path, connect: Connect, path: str, origin: dict[str, str]
) -> None:
    config = CONFIG.model_copy(update={"cors_origins": ("https://charts.example.org",)})
    async with connect(archive, config=config) as client:
        for headers in (bearer(ALL), {}):
            varies = (await client.get(path, headers={**headers, **origin})).headers["vary"]
            assert {"Authorization", "Origin"} <= set(varies.split(", "))


async def test_the_openapi_document_tells_of_tokens_where_there_are_some(
    guarded: httpx.AsyncClient, client: httpx.AsyncClient
) -> None:
    document = (await guarded.get("/openapi.json", headers=bearer(ALL))).json()
    assert {scheme["scheme"] for scheme in document["components"]["securitySchemes"].values()} == {
        "bearer",
        "basic",
    }
    for path, methods in document["paths"].items():
        needs_token = path not in ("/health", "/ready", "/metrics")
        assert ("401" in methods["get"]["responses"]) is needs_token
        assert ("security" in methods["get"]) is needs_token
    plain = (await client.get("/openapi.json")).json()
    assert "securitySchemes" not in plain["components"]
    assert not any("401" in methods["get"]["responses"] for methods in plain["paths"].values())


def attempts(metrics: str, kind: str) -> float:
    found = re.search(rf'ssmd_api_traversal_attempts_total{{kind="{kind}"}} ([0-9.]+)', metrics)
    assert found is not None
    return float(found[1])


async def test_an_attempt_to_leave_the_archive_is_404_and_counted(client: httpx.AsyncClient) -> None:
    for number, path in enumerate(
        ("/manifests/..%2Fetc", "/files/%2e%2e/2026-11-23", "/manifests/%c0%ae%c0%ae/x"), 1
    ):
        answer = await client.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (404, PROBLEM)
        assert attempts((await client.get("/metrics")).text, "path") == number


async def test_a_link_out_of_the_archive_is_counted_too(
    client: httpx.AsyncClient, archive: Path, tmp_path: Path
) -> None:
    segment = archive / "kalshi/2026-11-23/0615.jsonl.gz"
    outside = tmp_path / "outside"
    segment.rename(outside)
    segment.symlink_to(outside)
    for number, method in enumerate(("GET", "HEAD"), 1):
        answer = await client.request(method, "/files/kalshi/2026-11-23/0615.jsonl.gz")
        assert answer.status_code == 404
        assert attempts((await client.get("/metrics")).text, "link") == number


async def test_a_parameter_no_route_has_is_refused_by_name(client: httpx.AsyncClient) -> None:
    answer = await client.get("/gaps/kalshi?layers=stream&form=2026-11-23")
    assert answer.status_code == 422
    assert [error["parameter"] for error in answer.json()["errors"]] == ["layers", "form"]


async def test_a_parameter_that_counts_once_is_refused_where_it_comes_twice(client: httpx.AsyncClient) -> None:
    answer = await client.get("/gaps/kalshi?from=2026-11-23&from=2026-11-24&layer=stream&layer=archive")
    assert answer.status_code == 422
    assert [error["parameter"] for error in answer.json()["errors"]] == ["from"]


async def test_days_come_in_pages_that_new_days_do_not_move(archive: Path, connect: Connect) -> None:
    for number in range(1, 5):
        day = SampleDay(archive, "kalshi", DAY + dt.timedelta(days=number))
        day.seal(SampleSegment("0615", at(6, 15), [Message(2, at(6, 15))]))
        day.write_manifest()
    async with connect(archive, now_ns=NOON_NS + 10 * DAY_NS) as client:
        seen, cursor = [], ""
        while True:
            answer = await client.get(f"/manifests/kalshi?limit=2{cursor}")
            assert answer.status_code == 200, answer.text
            page = answer.json()
            seen += [day["date"] for day in page["days"]]
            if page["next"] is None:
                break
            cursor = f"&cursor={page['next']}"
            if len(seen) == 2:
                late = SampleDay(archive, "kalshi", DAY + dt.timedelta(days=5))
                late.seal(SampleSegment("0615", at(6, 15), [Message(2, at(6, 15))]))
                late.write_manifest()
        assert seen == [(DAY + dt.timedelta(days=number)).isoformat() for number in range(6)]
        filtered = (await client.get("/conditions/kalshi?condition=missing&from=2026-11-24&to=2026-11-26")).json()
        assert filtered == {"feed": "kalshi", "conditions": [], "next": None}
        refused = await client.get("/gaps/kalshi?" + cursor[1:])
        assert [error["parameter"] for error in refused.json()["errors"]] == ["cursor"]


async def test_a_calendar_expects_data_until_today(archive: Path, connect: Connect) -> None:
    now_ns = NOON_NS + 2 * DAY_NS
    async with connect(archive, now_ns=now_ns, calendars={"kalshi": Calendar()}) as client:
        conditions = (await client.get("/conditions/kalshi")).json()["conditions"]
    assert [entry["condition"] for entry in conditions] == ["degraded", "missing", "pending"]
    absent = conditions[1]["reasons"][0]
    assert (absent["start"], absent["end"]) == ("2026-11-24T00:00:00Z", "2026-11-25T00:00:00Z")
    async with connect(archive, now_ns=now_ns) as client:
        assert len((await client.get("/conditions/kalshi")).json()["conditions"]) == 1
