from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from structlog.testing import capture_logs

from ssmd_common.errors import ConfigError
from ssmd_common.service.telemetry import Metrics
from ssmd_connector import discovery
from ssmd_connector.backoff import Backoff
from ssmd_connector.discovery import MarketSource
from ssmd_connector.metrics import ConnectorMetrics
from ssmd_connector.paging import Chain

if TYPE_CHECKING:
    from collections.abc import Iterator

    Answers = list[tuple[int, bytes, dict[str, str]]]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Make every delay short, and note how long each would have been at least."""
    asked: list[float] = []

    class Quick(Backoff):
        def next_delay_s(self, *, at_least_s: float = 0.0, calm_for_s: float | None = None) -> float:
            asked.append(at_least_s)
            return super().next_delay_s(calm_for_s=calm_for_s) / 1000

    monkeypatch.setattr(discovery, "Backoff", Quick)
    return asked


@contextmanager
def rest(answers: Answers) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Give these answers in turn, on a real socket; yields the address and the queries as they come."""
    queries: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            assert parts.path == "/trade-api/v2/markets"
            queries.append(dict(parse_qsl(parts.query)))
            status, body, headers = answers[len(queries) - 1]
            if status == 0:
                self.connection.close()
                return
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/trade-api/v2", queries
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def page(cursor: str, *tickers: str) -> tuple[int, bytes, dict[str, str]]:
    return 200, json.dumps({"markets": [{"ticker": t} for t in tickers], "cursor": cursor}).encode(), {}


async def found(url: str, **query: str) -> tuple[list[str], MarketSource]:
    metrics = ConnectorMetrics(Metrics("test"))
    async with MarketSource(url, per_s=1000, metrics=metrics) as source:
        pages = [one async for one in source.pages(Chain(query))]
        return [listing.ticker for one in pages for listing in one.listings], source


async def test_all_pages_are_taken_in_turn() -> None:
    with rest([page("x=&1", "A.5", "B"), page("y", "C"), page("", "D")]) as (url, queries):
        tickers, _ = await found(url, status="open", limit="1000")
    assert tickers == ["A.5", "B", "C", "D"]
    common = {"status": "open", "limit": "1000"}
    assert queries == [common, common | {"cursor": "x=&1"}, common | {"cursor": "y"}]


async def test_a_listing_whose_cursor_comes_again_ends_and_is_told_of() -> None:
    with rest([page("x", "A"), page("y"), page("x", "B")]) as (url, _), capture_logs() as logs:
        tickers, _ = await found(url)
    assert tickers == ["A", "B"]
    assert [(line["event"], line["pages"]) for line in logs] == [("listing_cut_short", 3)]


async def test_what_may_heal_is_asked_again_until_it_does(waits: list[float]) -> None:
    troubles: Answers = [
        (429, b"slow down", {}),
        (429, b"", {"Retry-After": "7"}),
        (503, b"", {}),
        (500, b"", {}),
        (0, b"", {}),
        (200, b"<html>maintenance</html>", {}),
        (200, b'{"markets":[{"ti', {}),
    ]
    with rest([*troubles, page("c", "A"), (502, b"", {}), page("", "B")]) as (url, queries):
        tickers, source = await found(url)
    assert tickers == ["A", "B"]
    assert waits == [0.0, 7.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert [query.get("cursor") for query in queries] == [None] * 8 + ["c"] * 2
    assert source.trouble == ""


@pytest.mark.parametrize(
    ("status", "remedy"),
    [(400, "see what discover asks for"), (403, "may refuse this address or region"), (404, "check rest_endpoint")],
)
async def test_what_cannot_heal_is_a_configuration_error_with_the_exchanges_words(status: int, remedy: str) -> None:
    with (
        rest([(status, b'{"error":"no such series"}', {})]) as (url, _),
        pytest.raises(ConfigError, match=rf"answered {status} .*no such series.*{remedy}"),
    ):
        await found(url)


async def test_a_redirect_is_not_followed() -> None:
    with (
        rest([(302, b"", {"Location": "http://127.0.0.1:1/"})]) as (url, _),
        pytest.raises(ConfigError, match="302"),
    ):
        await found(url)


async def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch, waits: list[float]) -> None:
    monkeypatch.setattr(discovery, "_MAX_BODY_BYTES", 1000)
    with rest([(200, b" " * 5000, {}), page("", "A")]) as (url, _):
        tickers, _ = await found(url)
    assert (tickers, len(waits)) == (["A"], 1)
