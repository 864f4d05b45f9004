from __future__ import annotations

import re

import httpx

from ssmd_common.archive.certificate import Certificate
from ssmd_manifest_api.view_certificate import certificate_view

ZERO = {
    "received": 0,
    "carried_in": 0,
    "archived": 0,
    "lost": {},
    "unverifiable": 0,
    "carried_out": 0,
    "unaccounted": 0,
}


def certificate(*, balanced: bool = True, without_frame: int = 0, **frames: object) -> Certificate:
    return Certificate.model_validate(
        {
            "certificate_version": 1,
            "feed": "kalshi",
            "env": "test",
            "stream": "S",
            "date": "2026-11-23",
            "state": "final",
            "complete_through": None,
            "epochs": [],
            "records": 0,
            "records_without_frame": without_frame,
            "capture_events": 0,
            "rejects": 0,
            "balanced": balanced,
            "published": 0,
            "frames": {**ZERO, **frames},
            "connections": [],
            "gaps": {},
            "files": [],
            "root": "0" * 64,
        }
    )


def test_a_day_is_a_sum_with_only_the_lines_that_count() -> None:
    view = certificate_view(
        certificate(received=1_200, carried_in=3, archived=1_196, lost={"stream": 4, "archive": 3})
    )
    assert [(row.sign, row.frames, row.name) for row in view.came + view.became] == [
        ("", "1,200", "received by the connectors"),
        ("+", "3", "under way from before"),
        ("=", "1,196", "archived"),
        ("+", "4", "lost in recorded gaps: stream"),
        ("+", "3", "lost in recorded gaps: archive"),
    ]


def test_an_empty_day_still_says_what_was_received_and_archived() -> None:
    view = certificate_view(certificate(without_frame=1_500))
    assert [row.name for row in view.came + view.became] == ["received by the connectors", "archived"]
    assert view.unnumbered == "1,500"


def test_what_does_not_add_up_is_shown() -> None:
    view = certificate_view(certificate(balanced=False, received=5, archived=4, unaccounted=1))
    assert view.became[-1].name == "unaccounted for"
    assert not view.balanced


async def test_the_page_shows_the_certificate_the_api_gives(client: httpx.AsyncClient) -> None:
    page = (await client.get("/feeds/kalshi/2026-11-23")).text
    document = (await client.get("/manifests/kalshi/2026-11-23/certificate")).json()
    assert re.findall(r'<code class="root">([0-9a-f]{64})</code>', page) == [document["root"]]
    assert ("not balanced" not in page) == document["balanced"]


def test_a_publisher_that_numbers_no_frames_balances_nothing() -> None:
    assert not certificate_view(certificate(without_frame=7)).counted
    assert certificate_view(certificate()).counted
    assert certificate_view(certificate(received=1, archived=1, without_frame=7)).counted
