"""Ten thousand bad requests, over raw sockets so that nothing tidies their paths: no 5xx, nothing from outside."""

from __future__ import annotations

import random
import re
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from integration.api_server import Server, serving
from ssmd_manifest_api.conftest import write_sample

REQUESTS = 10_000
SEED = 20261123
SECRET = b"root:x:0:0:what nobody may read"

_GOOD = ("kalshi", "kraken", "2026-11-23", "2026-11-24", "0615.jsonl.gz", "0616.index.jsonl", "certificate")
_ROUTES = (
    "manifests",
    "files",
    "gaps",
    "records",
    "conditions",
    "feeds",
    "static",
    "health",
    "ready",
    "metrics",
    "docs",
    "",
)
_CLIMBS = (
    "..",
    ".",
    "%2e%2e",
    "%2E%2E%2F",
    "..%2f",
    "..%5c",
    "..\\",
    "%252e%252e%252f",
    "%c0%ae%c0%ae",
    "%c0%af",
    "%e0%80%ae",
    "%EF%BC%8E%EF%BC%8E",
    "%E2%80%A5",
    "%E2%88%95",
    "..;",
    "....//",
    "%00",
    "\0",
    "%0a",
    "%0d%0aX:%20y",
    "~",
    "%7e",
    "//",
    "%2f%2f",
    "C:\\",
    "file:///",
)
_TARGETS = (
    "secret",
    "etc/passwd",
    "%2fetc%2fpasswd",
    "outside/secret",
    "manifest.json",
    "_open",
    "_evidence",
    ".writer.lock",
    "link",
    "linked/2026-11-23",
    "0700.jsonl.gz",
    "0700.index.jsonl",
    "_open/0617.jsonl.gz",
    "proc/self/environ",
)
_ODD = (
    "",
    "0",
    "-1",
    "null",
    "NaN",
    "٠٦١٥",
    "ﬁ",
    "🦀",
    "%ff%fe",
    "%",
    "%zz",
    "a" * 300,
    "a" * 9_000,
    "{feed}",
    "'--",
    "<x>",
)
_NAMES = (
    "type",
    "ticker",
    "from",
    "to",
    "limit",
    "cursor",
    "layer",
    "status",
    "condition",
    "from_seq",
    "epoch",
    "clock",
)
_VALUES = (
    "2026-11-23",
    "2026-13-45",
    "99999999999999999999",
    "-1",
    "1e9",
    "inf",
    "true",
    "../../etc/passwd",
    "%00",
    "%ff",
    "2026-11-23T25:00:00Z",
    "0001-01-01",
    "9999-12-31T23:59:59.999999999Z",
    "d" + "f" * 16,
    "g",
    "1.1",
    "[]",
    "'",
    "",
)
_HEADERS = (
    "Range: bytes=0-",
    "Range: bytes=-0",
    "Range: bytes=9-1",
    "Range: bytes=0-1,3-4",
    "Range: lines=1",
    "Range: bytes=" + "9" * 40,
    "If-None-Match: *",
    "If-None-Match: " + '"' * 999,
    "If-Range: W/x",
    "Accept: text/html",
    "Accept: " + "*/*," * 500,
    "Authorization: Basic !!!",
    "Authorization: Bearer " + "x" * 5_000,
    "Host: [::",
    "Host: evil/../x",
    "Expect: 100-continue",
    "X-Forwarded-Prefix: /../..",
    "Content-Length: 0",
    "Accept-Encoding: gzip;q=\x00",
    "X: " + "y" * 20_000,
)
_METHODS = ("GET",) * 12 + ("HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "get", "GE T")


def bad_request(pick: random.Random) -> bytes:
    """Return a request that is wrong in one way or several; its connection ends with its answer."""
    kinds = pick.choices((_GOOD, _CLIMBS, _TARGETS, _ODD), (2, 2, 1, 1), k=pick.randrange(5))
    parts = [pick.choice(_ROUTES), *(pick.choice(kind) for kind in kinds)]
    target = pick.choice(("/", "/", "/", "//", "", "http://x/")) + "/".join(parts)
    if pick.random() < 0.3:
        pairs = [f"{pick.choice(_NAMES)}={pick.choice(_VALUES)}" for _ in range(pick.randrange(1, 4))]
        target += "?" + "&".join(pairs)
    if pick.random() < 0.1:
        at = pick.randrange(len(target) + 1)
        target = target[:at] + chr(pick.randrange(1, 256)) + target[at:]
    lines = [f"{pick.choice(_METHODS)} {target} HTTP/1.{pick.choice('0111119')}"]
    lines += [pick.choice(_HEADERS) for _ in range(pick.randrange(3))]
    request = ("\r\n".join([*lines, "Connection: close"]) + "\r\n\r\n").encode("utf-8", "surrogateescape")
    return request if pick.random() < 0.97 else request[: pick.randrange(len(request))]


def ask(server: Server, request: bytes) -> bytes:
    """Send a request and return all that comes back."""
    with socket.create_connection((server.host, server.port), 120) as connection:
        answer = b""
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(1 << 16):
                answer += part
        except ConnectionError:
            pass  # refused before all of it was sent: what came until then counts
        return answer


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write an archive beside a secret, and in it links of every kind that lead there."""
    folder = tmp_path_factory.mktemp("fuzz")
    base = write_sample(folder / "archive")
    outside = folder / "outside"
    (outside / "2026-11-23" / "_evidence").mkdir(parents=True)
    for name in (
        "secret",
        "2026-11-23/manifest.json",
        "2026-11-23/0615.jsonl.gz",
        "2026-11-23/_evidence/0615.index.jsonl",
    ):
        (outside / name).write_bytes(SECRET)
    (base / "secret").write_bytes(SECRET)
    (base / "linked").symlink_to(outside)
    day = base / "kalshi/2026-11-23"
    (day / "0700.jsonl.gz").symlink_to(outside / "secret")
    (day / "_evidence/0700.index.jsonl").symlink_to(outside / "secret")
    (base / "kalshi/2026-11-24").symlink_to(outside / "2026-11-23")
    return base


@pytest.fixture(scope="module")
def server(archive: Path) -> Iterator[Server]:
    """Serve it."""
    with serving(archive, archive.parent / "api.log") as running:
        yield running


def _state(base: Path) -> list[tuple[str, int, int]]:
    return [(str(path), path.lstat().st_ino, path.lstat().st_mtime_ns) for path in sorted(base.rglob("*"))]


def _statuses(answers: Sequence[bytes]) -> Counter[int]:
    return Counter(int(answer[9:12]) for answer in answers if answer.startswith(b"HTTP/1."))


def test_ten_thousand_bad_requests_break_nothing_and_reach_nothing_outside(server: Server, archive: Path) -> None:
    before = _state(archive.parent / "outside"), _state(archive)
    pick = random.Random(SEED)
    answers = []
    for _ in range(REQUESTS):
        request = bad_request(pick)
        answer = ask(server, request)
        answers.append(answer)
        assert SECRET not in answer, request
        assert not answer.startswith(b"HTTP/1.1 5"), (request, answer[:500])
    statuses = _statuses(answers)
    assert {200, 400, 404, 405, 422} <= statuses.keys()
    assert statuses[404] > REQUESTS // 4
    assert (_state(archive.parent / "outside"), _state(archive)) == before
    metrics = httpx.get(f"{server.url}/metrics", timeout=60).text
    for kind in ("path", "link"):
        counted = re.search(rf'ssmd_api_traversal_attempts_total{{kind="{kind}"}} (\d+)', metrics)
        assert counted is not None
        assert int(counted[1]) > 10
    assert httpx.get(f"{server.url}/manifests/kalshi/2026-11-23", timeout=60).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/manifests/linked",
        "/manifests/linked/2026-11-23",
        "/files/linked/2026-11-23",
        "/files/linked/2026-11-23/0615.jsonl.gz",
        "/manifests/kalshi/2026-11-24",
        "/files/kalshi/2026-11-24/0615.jsonl.gz",
        "/files/kalshi/2026-11-23/0700.jsonl.gz",
        "/files/kalshi/2026-11-23/0700.index.jsonl",
        "/manifests/secret",
        "/gaps/linked/2026-11-23",
        "/records/linked",
        "/feeds/linked/2026-11-23",
    ],
)
def test_a_link_out_of_the_archive_leads_nowhere(server: Server, path: str) -> None:
    for method in ("GET", "HEAD"):
        answer = httpx.request(method, server.url + path, timeout=60)
        assert answer.status_code == 404
        assert SECRET not in answer.content
