"""The short way of a manifest answers what the application answers, over real sockets."""

from __future__ import annotations

import hashlib
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ssmd_common.service.telemetry import Metrics
from ssmd_manifest_api.app import SERVICE, create_app
from ssmd_manifest_api.auth import Guard, hash_token, new_token
from ssmd_manifest_api.cli_test import serving
from ssmd_manifest_api.config import ApiConfig, TokenEntry
from ssmd_manifest_api.conftest import DAY, at, write_sample
from ssmd_manifest_api.express import Express
from ssmd_manifest_api.measure import Traffic
from ssmd_manifest_api.testing import Message, SampleDay, SampleSegment

TARGET = b"/manifests/kalshi/2026-11-23"
DATE = [(b"date", b"Mon, 23 Nov 2026 12:00:00 GMT")]


class Socket:
    """One connection that reads whole answers."""

    def __init__(self, url: str) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._socket = socket.create_connection((host, int(port)), 120)
        self._rest = b""

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def answer(self, *, body: bool = True) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of the next answer."""
        while b"\r\n\r\n" not in self._rest:
            self._more()
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        length = int(headers.get("content-length", "0")) if body else 0
        while len(self._rest) < length:
            self._more()
        content, self._rest = self._rest[:length], self._rest[length:]
        return int(first.split(" ")[1]), headers, content

    def ask(self, target: bytes, *headers: bytes, method: bytes = b"GET") -> tuple[int, dict[str, str], bytes]:
        """Send a request and return its answer."""
        lines = [method + b" " + target + b" HTTP/1.1", b"host: test", *headers]
        self.send(b"\r\n".join(lines) + b"\r\n\r\n")
        return self.answer(body=method != b"HEAD")

    def at_end(self) -> bool:
        """Tell whether the server closed the connection."""
        return self._socket.recv(1) == b""

    def _more(self) -> None:
        data = self._socket.recv(1 << 16)
        assert data, "the server closed the connection"
        self._rest += data


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve a sample archive that nobody changes."""
    with serving(write_sample(tmp_path_factory.mktemp("express") / "archive")) as (_, address):
        yield address


def without_date(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in ("date", "connection")}


def test_both_ways_answer_the_same(url: str) -> None:
    status, headers, data = Socket(url).ask(TARGET)
    long = Socket(url).ask(TARGET, b"connection: close")
    assert (status, without_date(headers), data) == (long[0], without_date(long[1]), long[2])
    etag = headers["etag"].encode()
    assert hashlib.sha256(data).hexdigest() in headers["etag"]
    for form in (etag, b"W/" + etag, b"*", b'"other", ' + etag):
        status, headers, data = Socket(url).ask(TARGET, b"if-none-match: " + form)
        long = Socket(url).ask(TARGET, b"if-none-match: " + form, b"connection: close")
        assert (status, without_date(headers), data) == (304, without_date(long[1]), b"")
    for lines in (
        (b'if-none-match: "other"', b"if-none-match: " + etag),
        (b"if-none-match: " + etag, b'if-none-match: "x"'),
    ):
        assert Socket(url).ask(TARGET, *lines)[0] == 304
    assert Socket(url).ask(TARGET, b'if-none-match: "other"')[0] == 200


def test_a_manifest_the_system_cannot_read_is_told_by_the_application(tmp_path: Path) -> None:
    archive = write_sample(tmp_path / "archive")
    manifest = archive / "kalshi" / DAY.isoformat() / "manifest.json"
    manifest.unlink()
    manifest.symlink_to(manifest.name)
    with serving(archive) as (_, url):
        connection = Socket(url)
        for _ in range(2):  # the connection stays
            status, headers, data = connection.ask(TARGET)
            assert (status, headers["content-type"]) == (503, "application/problem+json")
            assert b"manifest.json" in data


def test_answers_of_both_ways_keep_the_order_of_their_requests(url: str) -> None:
    connection = Socket(url)
    requests = [b"/manifests", TARGET, b"/nothing", TARGET, TARGET, b"/gaps/kalshi"]
    connection.send(b"".join(b"GET " + target + b" HTTP/1.1\r\nhost: test\r\n\r\n" for target in requests))
    answers = [connection.answer() for _ in requests]
    assert [status for status, _, _ in answers] == [200, 200, 404, 200, 200, 200]
    assert answers[1][2] == answers[3][2] == answers[4][2]
    assert b'"feeds"' in answers[0][2]


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        (b"HEAD", [], 200),
        (b"POST", [b"content-length: 2", b"", b"{}"], 405),
        (b"GET", [b"content-length: 2", b"", b"{}"], 200),
        (b"GET", [b"range: bytes=0-1"], 200),
        (b"GET", [b"upgrade: websocket", b"connection: upgrade"], 200),
    ],
)
def test_what_is_not_plain_is_answered_too(url: str, method: bytes, headers: list[bytes], status: int) -> None:
    connection = Socket(url)
    assert connection.ask(TARGET, *headers, method=method)[0] == status


def test_a_head_without_end_is_refused(url: str) -> None:
    connection = Socket(url)
    connection.send(b"GET /manifests HTTP/1.1\r\nx: ")
    status = 0
    for _ in range(2400):
        try:
            connection.send(b"a" * 4096)
        except ConnectionError:
            break
    try:
        status = connection.answer()[0]
        assert connection.at_end()
    except ConnectionError:
        status = 431  # reset before the answer was read
    assert status == 431
    assert Socket(url).ask(TARGET)[0] == 200


def test_a_long_head_within_the_bound_is_answered(url: str) -> None:
    connection = Socket(url)
    for _ in range(5):
        assert connection.ask(TARGET, b"x: " + b"a" * 30_000)[0] == 200


def test_a_new_manifest_is_served_soon(archive: Path) -> None:
    with serving(archive) as (_, url):
        connection = Socket(url)
        old = connection.ask(TARGET)[1]["etag"]
        day = SampleDay(archive, "kalshi", DAY)
        day.seal(SampleSegment("0617", at(6, 17), [Message(10, at(6, 17))]))
        day.write_manifest()
        for _ in range(2400):
            if connection.ask(TARGET)[1]["etag"] != old:
                break
            time.sleep(0.05)
        assert day.paths.manifest.read_bytes() == connection.ask(TARGET)[2]


def count(connection: Socket, status: int) -> int:
    text = connection.ask(b"/metrics")[2].decode()
    found = re.search(
        rf'ssmd_api_requests_total{{route="/manifests/{{feed}}/{{date}}",status="{status}"}} (\d+)', text
    )
    assert found is not None
    return int(found[1])


def test_answers_from_memory_are_counted(url: str) -> None:
    connection = Socket(url)
    before = [count(connection, status) for status in (200, 304)]
    for _ in range(3):
        connection.ask(TARGET)
    connection.ask(TARGET, b"if-none-match: *")
    assert [count(connection, status) for status in (200, 304)] == [before[0] + 3, before[1] + 1]


def test_a_manifest_is_looked_at_once_in_a_while_and_again_when_that_is_over(archive: Path) -> None:
    seconds = [0.0]
    app = create_app(archive, metrics=Metrics(SERVICE))
    express = Express(app.state.catalog, Guard(), Traffic(Metrics("other")), clock_s=lambda: seconds[0])
    first = express.answer(TARGET, [], DATE)
    day = SampleDay(archive, "kalshi", DAY)
    day.seal(SampleSegment("0617", at(6, 17), [Message(10, at(6, 17))]))
    day.write_manifest()
    assert express.answer(TARGET, [], DATE) == first
    seconds[0] = 0.5
    assert express.answer(TARGET, [], DATE) != first
    day.paths.manifest.unlink()
    seconds[0] = 1.0
    assert express.answer(TARGET, [], DATE) is None


@pytest.mark.parametrize(
    "target",
    [
        b"/manifests/kalshi/2026-11-23?x=1",
        b"/manifests/kalshi/2026-13-45",
        b"/manifests/kalshi/2026-11-22",
        b"/manifests/kalshi/2026-11-23/",
        b"/manifests/%6balshi/2026-11-23",
        b"/manifests/../kalshi/2026-11-23",
        b"http://test/manifests/kalshi/2026-11-23",
        b"/manifests/kraken/2026-11-23",
        b"/",
    ],
)
def test_what_it_does_not_know_is_left_to_the_application(archive: Path, target: bytes) -> None:
    express: Express = create_app(archive, metrics=Metrics(SERVICE)).state.express
    assert express.answer(target, [], DATE) is None


def test_it_answers_nobody_who_may_not_read_the_feed(archive: Path) -> None:
    tokens = {feeds: new_token() for feeds in (("kalshi",), ("kraken",), "all")}
    config = ApiConfig(
        tokens=tuple(
            TokenEntry(name=f"t{number}", sha256=hash_token(token), feeds=feeds)
            for number, (feeds, token) in enumerate(tokens.items())
        )
    )
    express: Express = create_app(archive, metrics=Metrics(SERVICE), config=config).state.express
    assert express.answer(TARGET, [], DATE) is None
    assert express.answer(TARGET, [(b"authorization", b"Bearer wrong")], DATE) is None
    answered = {
        feeds: express.answer(TARGET, [(b"authorization", f"Bearer {token}".encode())], DATE) is not None
        for feeds, token in tokens.items()
    }
    assert answered == {("kalshi",): True, ("kraken",): False, "all": True}


def test_an_answer_from_memory_says_that_it_may_differ_by_site_and_token(archive: Path) -> None:
    token = new_token()
    known = (TokenEntry(name="ann", sha256=hash_token(token), feeds="all"),)
    for tokens, origins, varies in (
        ((), (), None),
        ((), ("https://charts.example.org",), b"vary: Origin\r\n"),
        (known, (), b"vary: Authorization\r\n"),
        (known, ("https://charts.example.org",), b"vary: Authorization, Origin\r\n"),
    ):
        config = ApiConfig(tokens=tokens, cors_origins=origins)
        express: Express = create_app(archive, metrics=Metrics(SERVICE), config=config).state.express
        answer = express.answer(TARGET, [(b"authorization", f"Bearer {token}".encode())], DATE)
        assert answer is not None
        assert answer.count(b"\r\nvary: ") == (0 if varies is None else 1)
        assert varies is None or varies in answer
