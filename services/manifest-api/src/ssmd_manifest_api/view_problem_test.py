from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_manifest_api.view_problem import nearest_links, prefers_html

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "wants"),
    [
        (BROWSER, True),
        ("text/html", True),
        (None, False),
        ("*/*", False),
        ("application/json", False),
        ("application/json, text/html;q=0.5", False),
        ("application/problem+json;q=0.1, text/html;q=0.5", True),
        ("text/html;q=0", False),
        ("text/html;q=nonsense", False),
    ],
)
def test_only_who_names_html_and_wants_it_most_gets_a_page(accept: str | None, *, wants: bool) -> None:
    assert prefers_html(accept) is wants


@settings(deadline=None)
@given(st.text())
def test_no_header_is_too_odd(accept: str) -> None:
    assert prefers_html(accept) in (True, False)


@pytest.mark.parametrize(
    ("path", "name", "url"),
    [
        ("/manifests/kalsi", "kalshi", "/feeds/kalshi"),
        ("/feeds/kalsi/2026-11-23", "kalshi", "/feeds/kalshi"),
        ("/files/kalshi/2026-11-20", "2026-11-23", "/feeds/kalshi/2026-11-23"),
        ("/files/kalshi/2026-11-23/0618.jsonl.gz", "0615.jsonl.gz", "/files/kalshi/2026-11-23/0615.jsonl.gz"),
    ],
)
def test_what_is_nearest_is_a_link_to_its_page(path: str, name: str, url: str) -> None:
    assert nearest_links(path, [name]) == [(name, url)]


@settings(deadline=None)
@given(st.text(), st.lists(st.text()))
def test_links_stay_on_this_server(path: str, names: list[str]) -> None:
    assert all(url.startswith("/") and not url.startswith("//") for _, url in nearest_links(path, names))
