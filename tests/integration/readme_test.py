"""The README tells the truth: its ways to read a day work as they are written, and its links lead somewhere."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ssmd_archiver.testing import SESSION, SUBJECTS, Stream, archive
from ssmd_common.archive.times import SECOND_NS, day_start_ns

TICKER = "KXHIGHCHI-26APR20-B55.5"
_ADDRESS = "127.0.0.1:8080"
_FRAMES: list[tuple[str, str | None, str]] = [
    # Shapes that do not go together: a ts of both kinds; a msg that is an object, a list or absent; no object.
    ("ticker", TICKER, '{"type":"ticker","sid":1,"msg":{"market_ticker":"%s","ts":1732579880}}'),
    ("orderbook", TICKER, '{"type":"orderbook_delta","msg":{"market_ticker":"%s","ts":"2026-11-23T07:07:52Z"}}'),
    ("trade", TICKER, '{"type":"trade","sid":3,"msg":{"market_ticker":"%s","yes_price_dollars":"0.4600"}}'),
    ("trade", TICKER, '{"type":"trade","sid":3,"msg":{"market_ticker":"%s","price":46}}'),
    ("fills", None, '{"type":"fills","msg":[{"market_ticker":1}]}'),
    ("untyped", None, "{}"),
    ("untyped", None, "[1,[2]]"),
    ("untyped", None, '"text"'),
    ("untyped", None, "null"),
]


def _root() -> Path:
    """Return the repository, or the folder a build laid its files out in."""
    for folder in (Path.cwd(), *Path.cwd().parents, *Path(__file__).parents):
        if (folder / "README.md").is_file() and (folder / "docs").is_dir():
            return folder
    raise AssertionError("README.md is not beside the tests")


def _blocks() -> list[tuple[str, str]]:
    """Return the README's snippets of its chapter on reading: language and text."""
    text = (_root() / "README.md").read_text("utf-8")
    chapter = text.partition("## Reading a day\n")[2].partition("\n## ")[0]
    return [(found[1], found[2]) for found in re.finditer(r"```(python|sh)\n(.*?)```", chapter, re.DOTALL)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder whose ``data/`` holds today, and tomorrow in case midnight comes meanwhile."""
    base = tmp_path_factory.mktemp("readme")
    stream = Stream()
    today = dt.datetime.now(dt.UTC).date()
    for date in (today, today + dt.timedelta(days=1)):
        for number, (kind, ticker, frame) in enumerate(_FRAMES):
            stream.frames += 1
            at_ns = day_start_ns(date) + number * 3 * SECOND_NS
            payload = frame.replace("%s", TICKER).encode()
            stream.add(SUBJECTS.json(kind, ticker), payload, f"{SESSION}.1.{stream.frames}", at_ns)
    asyncio.run(archive(base / "data", stream))
    return base


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(part).absolute()) for part in sys.path if part)}


def _run(language: str, text: str, folder: Path) -> str:
    words = [sys.executable, "-c", text] if language == "python" else ["bash", "-eu", "-c", text]
    done = subprocess.run(  # noqa: S603 - the README's own words
        words, cwd=folder, env=_environment(), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("marker", "expected"),
    [
        ("ssmd_common.load", TICKER),
        ("duckdb.sql", "orderbook_delta"),
        ("pl.scan_lines", TICKER),
        ("zcat", '"yes_price_dollars":"0.4600"'),
    ],
)
def test_a_day_of_mixed_frames_is_read_as_the_readme_says(marker: str, expected: str, folder: Path) -> None:
    ((language, text),) = [block for block in _blocks() if marker in block[1] and "Client(" not in block[1]]
    assert expected in _run(language, text, folder)


@contextmanager
def _api(data: Path, log: Path) -> Iterator[str]:
    """Serve an archive on a free port; yield the address."""
    program = "from ssmd_manifest_api.cli import main; main()"
    words = [sys.executable, "-c", program, "--data", str(data), "--port", "0"]
    with log.open("wb") as errors:
        process = subprocess.Popen(words, env=_environment(), stdin=subprocess.DEVNULL, stderr=errors)  # noqa: S603 - our own program
    try:
        for _ in range(1800):
            found = re.search(r'"url": "http://([0-9.:]+)"', log.read_text("utf-8"))
            if found:
                yield found[1]
                return
            assert process.poll() is None, log.read_text("utf-8")
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.1)
        raise AssertionError("the API did not start")
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
def test_the_api_answers_what_the_readme_asks(folder: Path, tmp_path: Path) -> None:
    ((_, text),) = [block for block in _blocks() if "curl" in block[1]]
    commands = [line.split("  #")[0].strip() for line in text.splitlines() if line]
    with _api(folder / "data", tmp_path / "api.log") as address:
        *answers, records = [_run("sh", line.replace(_ADDRESS, address), folder) for line in commands]
    manifest, files, gaps, conditions = map(json.loads, answers)
    assert [json.loads(line)["ticker"] for line in records.splitlines()] == [TICKER] * 3
    assert (manifest["feed"], manifest["tickers"]) == ("kalshi", [TICKER])
    assert [file["name"] for file in files["files"]] == ["000000.jsonl.gz"]
    assert gaps["gaps"] == []
    assert len(conditions["conditions"]) == 2


def test_the_client_reads_a_day_by_its_manifest_as_the_readme_says(folder: Path, tmp_path: Path) -> None:
    ((language, text),) = [block for block in _blocks() if "ssmd_common.client" in block[1]]
    with _api(folder / "data", tmp_path / "api.log") as address:
        told = _run(language, text.replace(_ADDRESS, address), tmp_path)
    assert f'{TICKER} {{"type":"trade"' in told
    assert "orderbook_delta" in told
    downloaded = sorted(path.name for path in (tmp_path / "copy").iterdir())
    assert downloaded == ["000000.jsonl.gz", "000010.jsonl.gz", "000020.jsonl.gz"]


PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted((_root() / "docs").glob("*.md")))]


@pytest.mark.parametrize("page", PAGES)
def test_links_between_the_documents_lead_somewhere(page: str) -> None:
    path = _root() / page
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text("utf-8"))
    documents = [target for target in targets if target.endswith((".md", ".json"))]
    assert [target for target in documents if not (path.parent / target).is_file()] == []
