"""The server configuration shipped for production: each service works with exactly what it grants, and no more.

The server is a process here whatever ``SSMD_TEST_NATS`` says, since the file under test reads its environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nkeys  # type: ignore[import-untyped]
import pytest
import yaml

from integration.connector_bench import MARKETS, until
from ssmd_archiver.verify import verify_feed
from ssmd_common.config.nats import NatsSettings
from ssmd_common.errors import TransportError
from ssmd_common.nats.connection import NatsClient, close, connect
from ssmd_common.nats.program import nats_server_binary
from ssmd_common.nats.streams import api_request, stream_info
from ssmd_common.nats.testing import free_port, issued
from ssmd_common.service.lifecycle import Stop
from ssmd_connector.create_stream import create_stream, show_stream
from ssmd_simulator.keys import KEY_ID_FILE, PRIVATE_KEY_FILE, own_key
from ssmd_simulator.markets import listing
from ssmd_simulator.roads import GeneratedRoad
from ssmd_simulator.server import Simulator

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "deploy/nats/production.conf"
FEED = ROOT / "exchanges/feeds/kalshi.yaml"
ENVIRONMENT = ROOT / "exchanges/environments/kalshi-prod.yaml"
SERVICES = {"administrator": "_INBOX_admin", "connector": "_INBOX_conn", "archiver": "_INBOX_arch"}
FEEDS = ("kalshi", "kraken")
INBOXES = {f"{user}_{feed}": inbox for user, inbox in SERVICES.items() for feed in FEEDS}
USERS = ("system", *INBOXES)
STREAM_DEFINITION = ROOT / "deploy/nats/definitions/stream-prod-kalshi.json"
CONSUMER_DEFINITION = ROOT / "deploy/nats/definitions/consumer-archiver-kalshi.json"
STREAM = "PROD_KALSHI"
CONSUMER = "archiver-kalshi"
# Asked for by servers of a later protocol than the one that runs here.
OTHER_SERVERS = "$JS.ACK.*.*.PROD_KALSHI.archiver-kalshi.>"


def granted(user: str) -> list[str]:
    """Return the subjects the shipped configuration lets a user publish."""
    block = CONFIG.read_text("utf-8").partition(f"nkey: ${user.upper()}_NKEY")[2]
    listed = re.search(r"publish: \[(.*?)\]", block, re.DOTALL)
    assert listed is not None
    return re.findall(r'"([^"]+)"', listed[1])


@dataclass
class Server:
    """The production server and everybody's credentials."""

    folder: Path
    url: str

    def settings(self, user: str) -> dict[str, Any]:
        return {
            "url": self.url,
            "nkey_seed": f"file:{self.folder / user}.seed",
            "tls": {"ca": str(self.folder / "authority.pem")},
        }

    @contextlib.asynccontextmanager
    async def client(self, user: str, *, inbox: str = "") -> AsyncIterator[NatsClient]:
        settings = NatsSettings.model_validate(self.settings(user)).with_secrets()
        client = await connect(settings, name=user, inbox_prefix=inbox or INBOXES[user])
        try:
            yield client
        finally:
            await close(client)

    def environment(self, exchange: str) -> Path:
        """Write the environment shipped for production, with addresses and keys of this machine."""
        shipped = yaml.safe_load(ENVIRONMENT.read_text("utf-8"))
        del shipped["keys"]
        shipped["endpoint"] = exchange
        shipped["capture"] = {
            "channels": ["ticker", "trade"],
            "symbols": [listing(n).ticker for n in range(MARKETS)],
        }
        shipped["transport"] |= self.settings("connector_kalshi")
        shipped["limits"] |= {"spool_dir": str(self.folder / "spool"), "ack_timeout_s": 1}
        path = self.folder / "environment.yaml"
        path.write_text(yaml.safe_dump(shipped), "utf-8")
        return path

    def administrator(self) -> Path:
        path = self.folder / "administrator.yaml"
        path.write_text(yaml.safe_dump(self.settings("administrator_kalshi")), "utf-8")
        return path

    def archiver(self) -> Path:
        nats = self.settings("archiver_kalshi") | {
            "stream": STREAM,
            "consumer": CONSUMER,
            "filter": "prod.kalshi.json.>",
        }
        config = {"nats": nats, "storage": {"path": str(self.folder / "archive")}, "rotation": {"interval": "1h"}}
        path = self.folder / "archiver.yaml"
        path.write_text(yaml.safe_dump(config | {"flush_interval": "1s"}), "utf-8")
        return path

    @property
    def log_of_archiver(self) -> Path:
        return self.folder / "ssmd_archiver.log"

    @property
    def log_of_connector(self) -> Path:
        return self.folder / "ssmd_connector.log"


def with_another_feed(config: str) -> str:
    """Copy the feed's account and change the names, as the file says; each account then has half of the server."""
    halved = config.replace("max_file: 500GB", "max_file: 250GB").replace("max_mem: 256MB", "max_mem: 128MB")
    account = re.search(r"^  KALSHI \{.*?^  \}\n", halved, re.DOTALL | re.MULTILINE)
    assert account is not None
    return halved.replace(
        account[0], account[0] + account[0].replace("KALSHI", "KRAKEN").replace("kalshi", "kraken")
    )


@contextlib.contextmanager
def serving(folder: Path, *, without: str = "", feeds: int = 1) -> Iterator[Server]:
    """Run the shipped configuration; ``without`` takes one grant out of it, a second feed is made as it says."""
    folder.mkdir(exist_ok=True)
    authority = issued(folder, "authority")
    certificate = issued(folder, "server", authority)
    variables = {"TLS_CERT": str(certificate.cert_file), "TLS_KEY": str(certificate.key_file)}
    variables["STORE_DIR"] = str(folder / "store")
    for user in USERS:
        seed = folder / f"{user}.seed"
        if not seed.exists():
            seed.write_bytes(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER))
        variables[f"{user.upper()}_NKEY"] = nkeys.from_seed(bytearray(seed.read_bytes())).public_key.decode()
    text = CONFIG.read_text("utf-8")
    config = folder / "production.conf"
    text = with_another_feed(text) if feeds == len(FEEDS) else text
    config.write_text(text.replace(f'"{without}"', '"nothing"') if without else text, "utf-8")
    port = free_port()
    log = folder / "nats.log"
    command = [
        str(nats_server_binary()),
        "-c",
        str(config),
        "-a",
        "127.0.0.1",
        "-p",
        str(port),
        "-m",
        str(free_port()),
    ]
    with log.open("wb") as said:
        process = subprocess.Popen(command, env=os.environ | variables, stdout=said, stderr=said)  # noqa: S603 - our own program
    try:
        deadline = time.monotonic() + 60
        while b"Server is ready" not in log.read_bytes():
            assert process.poll() is None, log.read_text("utf-8")
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield Server(folder, f"tls://127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait(60)


@contextlib.contextmanager
def service(server: Server, package: str, *arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a service; its log grows in the server's folder."""
    command = [sys.executable, "-c", f"from {package}.cli import main; main()", *map(str, arguments)]
    path = os.pathsep.join(str(Path(part).absolute()) for part in sys.path if part)
    with (server.folder / f"{package}.log").open("ab") as log:
        process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, stderr=log)  # noqa: S603 - our own program
    try:
        yield process
    finally:
        process.kill()
        process.wait(60)


def connector(server: Server, exchange: str) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    environment = server.environment(exchange)
    return service(server, "ssmd_connector", "--feed", FEED, "--env", environment)


def archiver(server: Server) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    return service(server, "ssmd_archiver", "--config", server.archiver())


@contextlib.asynccontextmanager
async def exchange() -> AsyncIterator[str]:
    async with Simulator(GeneratedRoad(seed=1, markets=MARKETS, rate=200), keys=None) as simulator:
        yield simulator.url


async def make_stream(server: Server) -> None:
    assert await create_stream(server.environment("ws://127.0.0.1:1"), server.administrator(), Stop()) == 0


async def stored(server: Server) -> int:
    async with server.client("administrator_kalshi") as client:
        return (await stream_info(client, STREAM)).messages


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The exchange of these tests checks no key, and the connector signs all the same."""
    folder = tmp_path / "exchange"
    own_key(folder)
    monkeypatch.setenv("KALSHI_API_KEY", (folder / KEY_ID_FILE).read_text("utf-8").strip())
    monkeypatch.setenv("KALSHI_PRIVATE_KEY", (folder / PRIVATE_KEY_FILE).read_text("utf-8"))


async def test_connector_and_archiver_work_with_exactly_what_is_granted(tmp_path: Path) -> None:
    with serving(tmp_path / "nats") as server:
        await make_stream(server)
        async with exchange() as url:
            with archiver(server) as reading:
                with connector(server, url) as capturing:
                    async with asyncio.timeout(120):
                        while await stored(server) < 300:  # noqa: ASYNC110 - the server sets no event
                            await asyncio.sleep(0.2)
                    capturing.terminate()
                    assert await asyncio.to_thread(capturing.wait, 120) == 0
                await until(lambda: _blocks(server.folder / "archive") > 0)
                reading.terminate()
                assert await asyncio.to_thread(reading.wait, 120) == 0
        said = server.log_of_archiver.read_text("utf-8") + server.log_of_connector.read_text("utf-8")
        messages = await stored(server)
    assert "ermissions" not in said
    report = verify_feed(server.folder / "archive", "kalshi")
    assert report.findings == []
    manifests = list((server.folder / "archive").rglob("manifest.json"))
    files = [file for manifest in manifests for file in yaml.safe_load(manifest.read_text("utf-8"))["files"]]
    assert sum(file["records"] + file["capture_events"] for file in files) == messages


def test_the_stream_definition_is_what_the_environment_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert show_stream(ENVIRONMENT) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(STREAM_DEFINITION.read_text("utf-8"))


async def test_the_consumer_definition_is_what_the_archiver_makes(tmp_path: Path) -> None:
    definition = json.loads(CONSUMER_DEFINITION.read_text("utf-8"))
    # The archiver says itself where to begin: behind what it holds.
    assert definition.pop("deliver_policy") == "all"
    with serving(tmp_path / "nats") as server:
        await make_stream(server)
        with archiver(server):
            await until(lambda: "consumer_created" in server.log_of_archiver.read_text("utf-8"))
        async with server.client("administrator_kalshi") as client:
            made = (await api_request(client, f"CONSUMER.INFO.{STREAM}.{CONSUMER}"))["config"]
    assert {name: made.get(name) for name in definition} == definition
    assert not {"filter_subject", "filter_subjects"} & made.keys()


FORBIDDEN_REQUESTS = [
    ("connector_kalshi", f"STREAM.DELETE.{STREAM}"),
    ("connector_kalshi", f"STREAM.PURGE.{STREAM}"),
    ("connector_kalshi", f"STREAM.UPDATE.{STREAM}"),
    ("connector_kalshi", "STREAM.CREATE.MINE"),
    ("connector_kalshi", "STREAM.INFO.PROD_KRAKEN"),
    ("connector_kalshi", f"STREAM.MSG.DELETE.{STREAM}"),
    ("connector_kalshi", f"DIRECT.GET.{STREAM}"),
    ("connector_kalshi", f"CONSUMER.CREATE.{STREAM}.{CONSUMER}"),
    ("connector_kalshi", f"CONSUMER.MSG.NEXT.{STREAM}.{CONSUMER}"),
    ("archiver_kalshi", f"STREAM.DELETE.{STREAM}"),
    ("archiver_kalshi", f"STREAM.PURGE.{STREAM}"),
    ("archiver_kalshi", f"STREAM.MSG.DELETE.{STREAM}"),
    ("archiver_kalshi", "STREAM.INFO.PROD_KRAKEN"),
    ("archiver_kalshi", "DIRECT.GET.PROD_KRAKEN"),
    ("archiver_kalshi", f"CONSUMER.DELETE.{STREAM}.archiver-of-others"),
    ("archiver_kalshi", "CONSUMER.CREATE.PROD_KRAKEN.archiver-kalshi"),
    ("administrator_kalshi", f"STREAM.DELETE.{STREAM}"),
    ("administrator_kalshi", f"STREAM.PURGE.{STREAM}"),
    ("administrator_kalshi", f"STREAM.MSG.GET.{STREAM}"),
]
FORBIDDEN_PUBLISHES = [
    ("connector_kalshi", "prod.kraken.json.trade.X"),
    ("connector_kalshi", "dev.kalshi.json.trade.X"),
    ("connector_kalshi", f"$JS.ACK.{STREAM}.{CONSUMER}.1.1.1.1.0"),
    ("archiver_kalshi", "prod.kalshi.json.trade.X"),
    ("archiver_kalshi", "prod.kalshi.capture.heartbeat"),
    ("archiver_kalshi", "$JS.ACK.PROD_KRAKEN.archiver-kalshi.1.1.1.1.0"),
    ("administrator_kalshi", "prod.kalshi.json.trade.X"),
]
FORBIDDEN_SUBSCRIPTIONS = [
    ("connector_kalshi", "prod.kalshi.json.>"),
    ("connector_kalshi", "_INBOX_arch.>"),
    ("archiver_kalshi", "prod.kalshi.json.>"),
    ("archiver_kalshi", "_INBOX_conn.>"),
    ("archiver_kalshi", "$JS.EVENT.>"),
]


async def test_every_forbidden_act_is_denied_and_the_error_names_the_permission(tmp_path: Path) -> None:
    with serving(tmp_path / "nats") as server:
        await make_stream(server)
        for user, request in FORBIDDEN_REQUESTS:
            async with server.client(user) as client:
                # An error tells what the server has said by then.
                await client.publish(f"$JS.API.{request}", b"{}")
                await until(lambda client=client: bool(client.violation))  # type: ignore[misc]
                with pytest.raises(TransportError) as denied:
                    await api_request(client, request, {}, timeout_s=0.3)
            assert f"$JS.API.{request}" in denied.value.remedy, (user, request)
            assert "ermissions" in denied.value.remedy
        for user, subject in FORBIDDEN_PUBLISHES:
            async with server.client(user) as client:
                await client.publish(subject, b"x")
                await client.flush()
                await until(lambda client=client: bool(client.violation))  # type: ignore[misc]
                assert subject in client.violation, (user, subject)
        for user, subject in FORBIDDEN_SUBSCRIPTIONS:
            async with server.client(user) as client:
                await client.subscribe_raw(subject, lambda *_: None)
                await client.flush()
                await until(lambda client=client: bool(client.violation))  # type: ignore[misc]
                assert subject in client.violation, (user, subject)
        assert await stored(server) == 0


async def test_no_way_around_leads_into_another_feeds_stream(tmp_path: Path) -> None:
    """A message names where its answer goes, and no permission is asked for that."""
    definition = json.loads(STREAM_DEFINITION.read_text("utf-8"))
    theirs = definition | {"name": "PROD_KRAKEN", "subjects": ["prod.kraken.json.>", "prod.kraken.capture.>"]}
    with serving(tmp_path / "nats", feeds=2) as server:
        await make_stream(server)
        async with server.client("administrator_kraken") as client:
            await api_request(client, "STREAM.CREATE.PROD_KRAKEN", theirs)
        async with server.client("connector_kraken") as client:
            await client.request("prod.kraken.json.trade.X", b"{}", timeout=60)
        async with server.client("connector_kalshi") as client:
            await client.request("prod.kalshi.json.trade.X", b"{}", timeout=60)
            await client.publish("prod.kalshi.json.trade.X", b"{}", reply="prod.kraken.json.trade.X")
            await client.publish(f"$JS.API.STREAM.INFO.{STREAM}", reply="prod.kraken.json.trade.X")
            await client.flush()
        pushed = {"durable_name": CONSUMER, "deliver_subject": "prod.kraken.json.trade.X", "ack_policy": "none"}
        async with server.client("archiver_kalshi") as client:
            request = {"stream_name": STREAM, "config": pushed | {"deliver_policy": "all"}}
            await api_request(client, f"CONSUMER.CREATE.{STREAM}.{CONSUMER}", request)
        async with server.client("administrator_kraken") as client:
            assert (await stream_info(client, "PROD_KRAKEN")).messages == 1
        assert await stored(server) == 2


async def test_a_grant_taken_away_is_named_by_the_service_that_needs_it(tmp_path: Path) -> None:
    """Nothing granted is there in vain: without any one of them its service says which is missing."""
    archived = tmp_path / "archived"
    async with exchange() as url:
        with serving(archived) as server:
            await make_stream(server)
            with archiver(server), connector(server, url):
                await until(lambda: _blocks(server.folder / "archive") > 0)
        grants = [("connector_kalshi", subject) for subject in granted("connector_kalshi")]
        grants += [("archiver_kalshi", s) for s in granted("archiver_kalshi") if s != OTHER_SERVERS]
        assert len(grants) == 3 + 7
        at_once = asyncio.Semaphore(4)

        async def named(number: int, user: str, subject: str) -> None:
            async with at_once:
                await _is_named(tmp_path / str(number), archived, user, subject, url)

        await asyncio.gather(*(named(number, *grant) for number, grant in enumerate(grants)))


async def _is_named(folder: Path, archived: Path, user: str, subject: str, url: str) -> None:
    stem = subject.removesuffix(">")

    def named(log: Path) -> bool:
        return any("ermissions" in line and stem in line for line in log.read_text("utf-8").splitlines())

    # What is asked on a first start differs from what is asked where there is a position already.
    is_first = subject.startswith("$JS.API.CONSUMER.INFO")
    if not is_first:
        await asyncio.to_thread(_copied, archived, folder)
    with serving(folder, without=subject) as server:
        if is_first:
            await make_stream(server)
        elif user == "archiver_kalshi":
            # The archiver in peace may have acknowledged all there was: so there is something new to ask for.
            async with server.client("connector_kalshi") as client:
                await client.request("prod.kalshi.json.trade.X", b"{}", timeout=60)
        starting = connector(server, url) if user == "connector_kalshi" else archiver(server)
        log = server.log_of_connector if user == "connector_kalshi" else server.log_of_archiver
        log.write_bytes(b"")
        with starting:
            try:
                await until(lambda: named(log))
            except TimeoutError:
                pytest.fail(f"{user} does not miss {subject}: {log.read_text('utf-8')[-3000:]}")


def _blocks(archive: Path) -> int:
    """Count the blocks that lie durable in an archive; the first line of an index is no block."""
    return sum(len(path.read_bytes().splitlines()) - 1 for path in archive.rglob("*.index.jsonl"))


def _copied(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.lock", "lock"))
