"""The client of the manifest API, against a real server."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from integration.api_server import Server, serving
from ssmd_common.archive.manifest import GapEntry
from ssmd_common.client import Client
from ssmd_common.errors import ApiError
from ssmd_local.archive_summary import ask_archive, summarise_archive
from ssmd_manifest_api.auth import hash_token, new_token
from ssmd_manifest_api.conftest import write_sample

DATE = dt.date(2026, 11, 23)
TOKEN = new_token()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the sample archive."""
    return write_sample(tmp_path_factory.mktemp("client") / "archive")


@pytest.fixture(scope="module")
def server(archive: Path) -> Iterator[Server]:
    """Serve it to who has a token for kalshi."""
    config = archive.parent / "api.yaml"
    config.write_text(f"tokens: [{{name: test, sha256: {hash_token(TOKEN)}, feeds: [kalshi]}}]\n")
    with serving(archive, archive.parent / "api.log", "--config", str(config)) as running:
        yield running


@pytest.fixture
def api(server: Server) -> Iterator[Client]:
    """Give a client that has it."""
    with Client(server.url, token=TOKEN) as client:
        yield client


def test_it_tells_what_is_there(api: Client) -> None:
    (feed,) = api.feeds()
    assert (feed.feed, feed.records, feed.last_date) == ("kalshi", 4, DATE)
    (day,) = api.days("kalshi")
    assert (day.date, day.condition, day.reasons[0].gap_id) == (DATE, "degraded", "stream:100")
    assert list(api.days("kalshi", conditions=["available"])) == []
    manifest = api.manifest("kalshi", DATE)
    assert manifest == api.manifest("kalshi", "2026-11-23")
    assert [file.name for file in manifest.files] == [file.name for file in api.files("kalshi", DATE)]
    assert [file.name for file in api.files("kalshi", DATE, types=["ticker"])] == ["0615.jsonl.gz"]
    (gap,) = api.gaps("kalshi", layers=["stream"], from_=DATE, to=dt.datetime(2026, 11, 24, tzinfo=dt.UTC))
    assert gap == manifest.gaps[0]
    assert api.certificate("kalshi", DATE).date == DATE


def test_a_day_whose_gaps_cannot_be_read_is_told_of_or_refused(tmp_path: Path) -> None:
    archive = write_sample(tmp_path / "archive")
    broken = archive / "kalshi" / "2026-11-20"
    broken.mkdir()
    (broken / "manifest.json").write_bytes(b"{]")
    told: list[dt.date] = []
    with serving(archive, tmp_path / "api.log") as running, Client(running.url) as client:
        gaps = list(client.gaps("kalshi", on_unreadable=lambda date, _problem: told.append(date)))
        with pytest.raises(ApiError, match="2026-11-20"):
            list(client.gaps("kalshi"))
    assert [gap.gap_id for gap in gaps] == ["stream:100"]
    assert told == [dt.date(2026, 11, 20)]


def test_status_tells_the_same_of_the_api_and_of_the_manifests(api: Client, archive: Path) -> None:
    (from_manifests, _) = summarise_archive(archive)
    assert ask_archive(api) == [from_manifests]


def test_records_come_with_their_times_and_the_gaps_among_them(api: Client) -> None:
    gaps: list[GapEntry] = []
    records = list(api.records("kalshi", on_gap=gaps.append))
    assert [record.seq for record in records] == [2, 3, 6, 7, 10]
    assert [(record.type, record.ticker) for record in records][1] == ("ticker", "KX.B")
    assert bytes(records[0].data) == b'{"type": "trade", "msg": {"market_ticker": "KXA", "n": 2}}'
    assert [gap.gap_id for gap in gaps] == ["stream:100"]
    assert [record.seq for record in api.records("kalshi", from_seq=3, to_seq=7)] == [3, 6]
    assert [record.seq for record in api.records("kalshi", tickers=["KXC"], limit=5)] == [6]


def test_a_file_is_downloaded_checked_and_complete(api: Client, archive: Path, tmp_path: Path) -> None:
    for name in ("0615.jsonl.gz", "0615.index.jsonl", "0615.meta.jsonl.gz"):
        path = api.download("kalshi", DATE, name, tmp_path / "copy")
        (stored,) = (archive / "kalshi/2026-11-23").rglob(name)
        assert path.read_bytes() == stored.read_bytes()
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == [
        "0615.index.jsonl",
        "0615.jsonl.gz",
        "0615.meta.jsonl.gz",
    ]


class Recorder(httpx.HTTPTransport):
    """The network, and what went over it; the first download ends early where it is told to."""

    def __init__(self, cut_after: int | None = None) -> None:
        super().__init__()
        self.ranges: list[str | None] = []
        self._cut_after = cut_after

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request on."""
        response = super().handle_request(request)
        if request.method == "GET":
            self.ranges.append(request.headers.get("range"))
            if self._cut_after is not None:
                cut, self._cut_after = self._cut_after, None
                data = response.read()
                return httpx.Response(response.status_code, headers=response.headers, stream=_Cut(data[:cut]))
        return response


class _Cut(httpx.SyncByteStream):
    def __init__(self, data: bytes) -> None:
        self._data = data

    def __iter__(self) -> Iterator[bytes]:
        yield self._data
        raise httpx.ReadError("the connection broke")


def test_a_download_that_breaks_off_goes_on_where_it_was(server: Server, archive: Path, tmp_path: Path) -> None:
    transport = Recorder(cut_after=10)
    with Client(server.url, token=TOKEN, transport=transport) as client:
        path = client.download("kalshi", DATE, "0615.jsonl.gz", tmp_path)
    assert transport.ranges == [None, "bytes=10-"]
    assert path.read_bytes() == (archive / "kalshi/2026-11-23/0615.jsonl.gz").read_bytes()


def test_a_download_left_whole_but_unchecked_is_finished(api: Client, archive: Path, tmp_path: Path) -> None:
    stored = (archive / "kalshi/2026-11-23/0615.jsonl.gz").read_bytes()
    (tmp_path / "0615.jsonl.gz.part").write_bytes(stored)
    assert api.download("kalshi", DATE, "0615.jsonl.gz", tmp_path).read_bytes() == stored


def test_bytes_that_are_not_the_files_are_thrown_away(api: Client, tmp_path: Path) -> None:
    (tmp_path / "0615.jsonl.gz.part").write_bytes(b"not its beginning")
    with pytest.raises(ApiError, match="sha256"):
        api.download("kalshi", DATE, "0615.jsonl.gz", tmp_path)
    assert list(tmp_path.iterdir()) == []
    digest = hashlib.sha256(api.download("kalshi", DATE, "0615.jsonl.gz", tmp_path).read_bytes()).hexdigest()
    assert digest == api.manifest("kalshi", DATE).files[0].sha256


def test_what_is_refused_carries_its_problem_document(api: Client, server: Server) -> None:
    with pytest.raises(ApiError) as caught:
        api.manifest("kalsi", DATE)
    assert (caught.value.status, caught.value.document["nearest"]) == (404, ["kalshi"])
    with pytest.raises(ApiError, match="malformed: from") as caught:
        list(api.gaps("kalshi", from_="noon"))
    assert caught.value.status == 422
    with Client(server.url) as stranger, pytest.raises(ApiError) as caught:
        stranger.feeds()
    assert caught.value.status == 401
    with pytest.raises(ApiError) as caught:
        list(api.records("kraken"))
    assert caught.value.status == 404
    with pytest.raises(ApiError, match="no name of a file"):
        api.download("kalshi", DATE, "../secret", Path("nowhere"))


def test_no_answer_is_an_error_that_shows_no_token() -> None:
    with Client("http://127.0.0.1:9", token=TOKEN) as client, pytest.raises(ApiError) as caught:
        client.feeds()
    assert caught.value.status is None
    assert TOKEN not in repr(caught.value) + str(caught.value)


def test_long_lists_come_page_by_page() -> None:
    asked: list[str] = []

    def pages(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url.params))
        number = len(asked)
        day = {
            "date": f"2026-11-0{number}",
            "condition": "available",
            "reasons": [],
            "records": 1,
            "bytes": 1,
            "compressed_bytes": 1,
            "files": 1,
            "gaps": 0,
            "complete_through": None,
            "last_modified": None,
            "url": "",
        }
        return httpx.Response(200, json={"feed": "kalshi", "days": [day], "next": "d0" if number < 3 else None})

    with Client("http://test", transport=httpx.MockTransport(pages)) as client:
        days = [day.date.day for day in client.days("kalshi", conditions=["available"])]
    assert days == [1, 2, 3]
    assert asked == ["condition=available", "condition=available&cursor=d0", "condition=available&cursor=d0"]
