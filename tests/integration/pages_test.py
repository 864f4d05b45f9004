"""The pages as people use them: a server as a process, a real browser, mouse, keyboard, a phone's width."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from integration.pages_archive import GAPPY, MISSING, write_archive
from integration.pages_checks import faults_of
from ssmd_common.archive.times import SECOND_NS, date_of, from_rfc3339
from ssmd_connector.causes import Cause
from ssmd_manifest_api.explanations import CAUSES

ROOT = Path(__file__).parents[2]
FOLDER_VARIABLE = "SSMD_SCREENSHOTS"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NEEDS_CHROMIUM = pytest.mark.skipif(CHROMIUM is None, reason="no chromium in PATH: apt-get install chromium")

DESK, PHONE = (1280, 900), (390, 844)
SCREENS = [(DESK, "light"), (DESK, "dark"), (PHONE, "light"), (PHONE, "dark")]
START_S = 180.0
NOW_NS = from_rfc3339("2026-11-23T17:42:00Z")


@dataclass(frozen=True, slots=True)
class Site:
    """A running server over an archive."""

    url: str
    archive: Path

    def day(self, ago: int) -> str:
        return f"/feeds/kalshi/{date_of(NOW_NS - ago * 86_400 * SECOND_NS).isoformat()}"


@contextmanager
def serving(archive: Path) -> Iterator[str]:
    """Run the manifest API over an archive and give its address; its clock stands, so a page is always the same."""
    program = f"import time; time.time_ns = lambda: {NOW_NS}; from ssmd_manifest_api.cli import main; main()"
    process = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-c", program, "--data", str(archive), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    too_long = threading.Timer(START_S, process.kill)
    too_long.start()
    try:
        assert process.stdout is not None
        said: list[str] = []
        for line in process.stdout:
            said.append(line)
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
            if found is not None:
                too_long.cancel()
                yield found[0]
                return
        raise AssertionError(f"the server did not start: {said}")
    finally:
        too_long.cancel()
        process.terminate()
        process.communicate(timeout=START_S)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    archive = tmp_path_factory.mktemp("archive")
    write_archive(archive, NOW_NS, days=14, minutes=120, records=60)
    with serving(archive) as url:
        yield Site(url, archive)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, timeout=180_000)
        yield browser
        browser.close()


Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, site: Site) -> Iterator[Open]:
    """Give a page of a screen's size and colours; whatever is shown, nothing may be loaded from outside or fail."""
    contexts: list[BrowserContext] = []
    outside: list[str] = []
    errors: list[str] = []

    def opened(screen: tuple[int, int] = DESK, colours: str = "light", *, server: str = site.url) -> Page:
        context = browser.new_context(
            base_url=server,
            viewport={"width": screen[0], "height": screen[1]},
            color_scheme="dark" if colours == "dark" else "light",
            accept_downloads=True,
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.on("request", lambda request: None if request.url.startswith(server) else outside.append(request.url))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        return page

    yield opened
    for context in contexts:
        context.close()
    assert outside == []
    # A browser reports the status of a page that is a problem; that page is asked for on purpose.
    assert [error for error in errors if "404 (Not Found)" not in error] == []


@pytest.fixture
def screenshot(tmp_path: Path) -> Callable[[Page, str], None]:
    """Keep what a page looks like, in the folder the environment names."""
    folder = Path(os.environ.get(FOLDER_VARIABLE) or tmp_path)

    def taken(page: Page, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        size = page.viewport_size
        assert size is not None
        page.screenshot(path=folder / f"{name}-{size['width']}.png", full_page=True)

    return taken


@NEEDS_CHROMIUM
@pytest.mark.parametrize("screen", [DESK, PHONE], ids=["desk", "phone"])
def test_a_person_walks_from_the_feeds_to_a_file(site: Site, open_page: Open, screen: tuple[int, int]) -> None:
    page = open_page(screen)
    page.goto("/")
    page.get_by_role("link", name="kalshi", exact=True).click()
    page.wait_for_url("**/feeds/kalshi")
    page.locator(f"a.day[href='{site.day(GAPPY)}']").click()
    page.wait_for_url(f"**{site.day(GAPPY)}")
    assert page.locator(".verdict").inner_text().startswith("degraded")
    page.get_by_role("link", name=re.compile("^stream gap from 13:20:00 .* dropped messages")).click()
    gap = page.locator("article.gap:target")
    assert "The stream's limits removed these messages" in gap.inner_text()
    assert "5,812 messages missing" in gap.inner_text()
    with page.expect_download() as download:
        gap.locator(".beside a").first.click()
    name = download.value.suggested_filename
    stored = download.value.path().read_bytes()
    row = page.locator("table.files tr").filter(has=page.get_by_role("link", name=name, exact=True))
    assert hashlib.sha256(stored).hexdigest() == row.locator(".sha").inner_text()
    assert stored == (site.archive / site.day(GAPPY).removeprefix("/feeds/") / name).read_bytes()


@NEEDS_CHROMIUM
def test_the_keyboard_alone_gets_from_the_feeds_to_a_gap_and_its_file(site: Site, open_page: Open) -> None:
    page = open_page()

    def tab_to(href: str) -> None:
        for _ in range(300):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.getAttribute('href')") == href:
                return
        raise AssertionError(f"the keyboard does not reach {href}")

    page.goto("/")
    page.keyboard.press("Tab")
    assert page.locator(":focus").inner_text() == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    tab_to("/feeds/kalshi")
    page.keyboard.press("Enter")
    page.wait_for_url("**/feeds/kalshi")
    tab_to(site.day(GAPPY))
    assert page.locator(":focus").evaluate("el => getComputedStyle(el).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{site.day(GAPPY)}")
    tab_to("#gap-1")
    page.keyboard.press("Enter")
    page.wait_for_url("**#gap-1")
    page.keyboard.press("Tab")
    assert page.locator(":focus").inner_text() == "Evidence"
    page.keyboard.press("Enter")
    assert page.locator("#gap-1 details").get_attribute("open") is not None
    page.keyboard.press("Tab")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert download.value.suggested_filename.endswith(".jsonl.gz")


@NEEDS_CHROMIUM
@pytest.mark.parametrize(("screen", "colours"), SCREENS, ids=str)
def test_every_page_is_readable_on_every_screen(
    site: Site, open_page: Open, screenshot: Callable[[Page, str], None], screen: tuple[int, int], colours: str
) -> None:
    page = open_page(screen, colours)
    paths = {
        "feeds": "/",
        "calendar": "/feeds/kalshi",
        "unverifiable": "/feeds/kraken",
        "day": site.day(GAPPY),
        "day-missing": site.day(MISSING),
        "day-open": site.day(0),
        "api": "/docs",
        "problem": "/feeds/kalsi",
    }
    for name, path in paths.items():
        page.goto(path)
        page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
        assert (path, faults_of(page)) == (path, [])
        page.reload()
        screenshot(page, f"{name}-{colours}")


@NEEDS_CHROMIUM
def test_an_empty_archive_says_what_to_do_next(
    tmp_path: Path, open_page: Open, screenshot: Callable[[Page, str], None]
) -> None:
    with serving(tmp_path / "later") as url:
        for screen, colours in SCREENS:
            page = open_page(screen, colours, server=url)
            page.goto("/")
            assert "./ssmd up" in page.locator("main").inner_text()
            assert faults_of(page) == []
            screenshot(page, f"empty-{colours}")


@NEEDS_CHROMIUM
def test_the_calendar_tells_every_condition_without_its_colour(site: Site, open_page: Open) -> None:
    page = open_page()
    page.goto("/feeds/kalshi")
    conditions = json.loads(page.request.get("/conditions/kalshi").text())["conditions"]
    for day in conditions:
        cell = page.locator(f"a.day[href='/feeds/kalshi/{day['date']}']")
        assert day["condition"] in (cell.get_attribute("aria-label") or "")
        assert cell.locator("use").get_attribute("href") == f"#i-{day['condition']}"
    assert {day["condition"] for day in conditions} >= {"available", "degraded", "missing", "pending"}
    assert site.day(MISSING).endswith(next(day["date"] for day in conditions if day["condition"] == "missing"))


def test_every_cause_the_documents_and_the_connector_know_is_explained() -> None:
    formats = (ROOT / "docs/formats.md").read_text("utf-8")
    rows = re.findall(r"^\| `(exchange|connection|stream|archive)` \| ([^|]*) \|", formats, re.MULTILINE)
    told = {(layer, cause) for layer, causes in rows for cause in re.findall(r"`(\w+)`", causes)}
    told.discard(("connection", "connection_closed"))  # its causes are the connector's
    told |= {("connection", cause.value) for cause in Cause} | {("connection", "crashed")}

    assert {("stream", "retention"), ("exchange", "sequence_skipped")} <= told
    assert sorted(told - set(CAUSES)) == []
    assert sorted(set(CAUSES) - told) == []
