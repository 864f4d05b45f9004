"""No secret shows: not in what a program prints, logs, counts, publishes or archives, nor when things go wrong."""

from __future__ import annotations

import asyncio
import base64
import gzip
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import nkeys  # type: ignore[import-untyped]
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from integration.connector_bench import FEED, STREAM, Bench, until
from integration.nats_server import NatsServer, running_nats
from integration.replay_bench import environment
from ssmd_common.config.archiver import ArchiverConfig
from ssmd_common.config.environment import Environment
from ssmd_common.config.nats import NatsSettings
from ssmd_common.nats.testing import free_port
from ssmd_common.service.lifecycle import Stop
from ssmd_connector import feedloop
from ssmd_connector.backoff import Backoff
from ssmd_simulator.keys import KEY_ID_FILE, PRIVATE_KEY_FILE, own_key
from ssmd_simulator.roads import GeneratedRoad
from ssmd_simulator.server import Simulator

ADMINISTRATOR = {"user": "administrator", "password": "an-open-secret"}


def secret(name: str) -> str:
    """Return a value found nowhere else."""
    return f"{name}{secrets.token_hex(12)}"


def nkey() -> tuple[str, str]:
    """Return a user's seed and public key."""
    pair = nkeys.from_seed(bytearray(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)))
    return pair.seed.decode(), pair.public_key.decode()


def lines_of(pem: str) -> list[str]:
    """Return what is secret in a PEM file."""
    return [line for line in pem.splitlines() if line and "----" not in line]


def traces(text: str, hidden: list[str]) -> list[str]:
    """Return which secrets a text shows, as they are or in base64."""
    forms = {value: (value, base64.b64encode(value.encode()).decode().rstrip("=")) for value in hidden}
    return [value for value, spelt in forms.items() if any(form in text for form in spelt)]


@dataclass
class Programs:
    """Programs of a pipeline, and everything they say."""

    folder: Path
    variables: dict[str, str]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, *arguments: object) -> None:
        code = f"from {name.replace('-', '_')}.cli import main; main()"
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(  # noqa: S603 - our own programs
                [sys.executable, "-c", code, *map(str, arguments)],
                env=environment() | self.variables,
                stdout=log,
                stderr=log,
            )

    def stop(self) -> None:
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            process.wait(120)

    def said(self) -> str:
        return "\n".join(path.read_text("utf-8", "replace") for path in self.folder.glob("*.log"))


@contextmanager
def programs(folder: Path, variables: dict[str, str]) -> Iterator[Programs]:
    folder.mkdir()
    made = Programs(folder, variables)
    try:
        yield made
    finally:
        for process in made.running.values():
            if process.poll() is None:
                process.kill()
                process.wait(60)


async def told(urls: list[str], headers: dict[str, str]) -> str:
    """Return what health servers and the API answer."""
    async with httpx.AsyncClient(trust_env=False, headers=headers) as client:
        answers = [await client.get(url) for url in urls]
    return "\n".join(f"{answer.headers}\n{answer.text}" for answer in answers)


async def is_ready(url: str) -> bool:
    async with httpx.AsyncClient(trust_env=False) as client:
        try:
            return (await client.get(url)).status_code == HTTPStatus.OK
        except httpx.HTTPError:
            return False


def contents(folder: Path) -> str:
    """Return everything that lies in a folder, unpacked."""
    parts = []
    for path in (path for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        parts.append((gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8", "replace"))
    return "\n".join(parts)


async def test_a_pipeline_at_work_shows_no_secret_anywhere(tmp_path: Path) -> None:
    seed, public = nkey()
    password, api_token, query = secret("password"), secret("ssmd_"), secret("query")
    users = (
        f"authorization {{ users: [ {{ user: administrator, password: an-open-secret }}, {{ nkey: {public} }}, "
        f'{{ user: arch, password: "{password}" }} ] }}'
    )
    data, keys = tmp_path / "archive", tmp_path / "keys"
    key_id, public_key = own_key(keys)
    private = (keys / PRIVATE_KEY_FILE).read_text()
    hidden = [
        seed,
        password,
        api_token,
        query,
        key_id,
        *lines_of(private),
    ]
    seed_file = tmp_path / "seed"
    seed_file.write_text(seed)
    ports = [free_port() for _ in range(3)]
    with (
        running_nats(tmp_path / "nats", config=users) as server,
        programs(tmp_path / "logs", {"ARCHIVER_PASSWORD": password}) as made,
    ):
        bench = Bench(server, tmp_path, keys=keys, administrator=ADMINISTRATOR)
        transport = {"type": "nats", "url": server.url, "stream": STREAM, "nkey_seed": f"file:{seed_file}"}
        async with Simulator(GeneratedRoad(seed=1, markets=8, rate=300.0), keys={key_id: public_key}) as simulator:
            file = bench.write(f"{simulator.url}?access_token={query}", transport=transport)
            made.start(
                *("ssmd-connector", "--feed", FEED, "--env", file),
                *("--health-addr", f"127.0.0.1:{ports[0]}", "--log-level", "debug"),
            )
            (tmp_path / "archiver.yaml").write_text(
                f"nats: {{url: '{server.url}', stream: {STREAM}, consumer: arch, filter: dev.kalshi.json.>,"
                f" user: arch, password: 'env:ARCHIVER_PASSWORD'}}\n"
                f"storage: {{path: {data}}}\nrotation: {{interval: 1s}}\nflush_interval: 1s\n"
            )
            await asyncio.wait_for(_until_ready(f"http://127.0.0.1:{ports[0]}/ready"), 120)
            made.start(
                "ssmd-archiver", "--config", tmp_path / "archiver.yaml", "--health-addr", f"127.0.0.1:{ports[1]}"
            )
            (tmp_path / "api.yaml").write_text(_api_config(api_token))
            made.start(
                *("ssmd-manifest-api", "--data", data, "--port", ports[2]),
                *("--config", tmp_path / "api.yaml", "--log-level", "debug"),
            )
            for port in ports[1:]:
                await asyncio.wait_for(_until_ready(f"http://127.0.0.1:{port}/ready"), 120)
            # NATS goes away and a key file is wrong for a while; both are met by an error and got over.
            seed_file.write_text(f"S{seed}")
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            await until(lambda: "not an nkey seed" in made.said())
            seed_file.write_text(seed)
            await asyncio.wait_for(_until_ready(f"http://127.0.0.1:{ports[0]}/ready"), 120)
            base = f"http://127.0.0.1:{ports[2]}"
            asked = [f"http://127.0.0.1:{port}/{page}" for port in ports for page in ("health", "ready", "metrics")]
            asked += [
                f"{base}/{page}" for page in ("", "manifests", "files/kalshi/2026-01-01", f"?token={api_token}x")
            ]
            answers = await told(asked, {"Authorization": f"Bearer {api_token}"})
            answers += await told([f"{base}/manifests"], {"Authorization": f"Bearer {api_token}x"})
            await asyncio.to_thread(made.stop)
        recorded = await bench.recorded()
    stream = "\n".join(f"{m.subject} {m.headers} {m.data.decode('utf-8', 'replace')}" for m in recorded.messages)
    assert len(recorded.messages) > 100
    assert "connection_opened" in stream
    assert "ssmd_connector_frames_received_total" in answers
    assert "segment_sealed" in made.said()
    shown = {
        "logs": made.said(),
        "answers": answers,
        "stream": stream,
        "archive": contents(data),
        "spool": contents(bench.spool),
    }
    assert {place: traces(text, hidden) for place, text in shown.items()} == {place: [] for place in shown}
    assert "Traceback" not in made.said()


def _api_config(token: str) -> str:
    from ssmd_manifest_api.auth import hash_token  # noqa: PLC0415 - beside its one use

    return f"tokens:\n  - {{name: somebody, sha256: {hash_token(token)}, feeds: all}}\n"


async def _until_ready(url: str) -> None:
    while not await is_ready(url):  # noqa: ASYNC110 - another process tells it
        await asyncio.sleep(0.1)


@dataclass(frozen=True)
class Mistake:
    """An environment or archiver file that is wrong, and what the error must say.

    Attributes:
        transport: The lines of the transport, or of the archiver's ``nats``.
        words: Part of the error.
    """

    transport: str
    words: str


HIDDEN = secret("hidden")
OTHER_SEED, _ = nkey()
MISTAKES = {
    "a wrong password": Mistake(f"user: u, password: {HIDDEN}", "NATS refused the credentials"),
    "a password in the address": Mistake(f"url: 'nats://u:{HIDDEN}@HOST'", "NATS refused the credentials"),
    "a token in the address": Mistake(f"url: 'nats://{HIDDEN}@HOST'", "NATS refused the credentials"),
    "an address that is none": Mistake(f"url: 'nats://u:{HIDDEN}@HOST:99999'", "is no address of a NATS server"),
    "a wrong token": Mistake(f"token: {HIDDEN}", "NATS refused the credentials"),
    "an unknown nkey": Mistake(f"nkey_seed: {OTHER_SEED}", "NATS refused the credentials"),
    "a seed that is none": Mistake(f"nkey_seed: SU{HIDDEN}", "not an nkey seed"),
    "a creds file that is none": Mistake("creds: FOLDER/creds", "holds no user JWT with its seed"),
    "a misspelt key": Mistake(f"pasword: {HIDDEN}", "pasword: unknown key"),
    "a list in place of a text": Mistake(f"token: [{HIDDEN}]", "token: must be text"),
    "a mapping in place of a text": Mistake(f"password: {{is: {HIDDEN}}}", "must be text"),
    "a quote that does not end": Mistake(f'password: "{HIDDEN}', "line "),
    "two secrets at once": Mistake(f"user: u, password: {HIDDEN}, token: {HIDDEN}", "exclude one another"),
    "a place that is none": Mistake(f"token: 'env:{HIDDEN} x'", "is no key source"),
}


@pytest.fixture(scope="module")
def closed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server that lets nobody in."""
    folder = tmp_path_factory.mktemp("closed")
    with running_nats(folder, config='authorization { user: "nobody", password: "knows" }') as server:
        yield server


def _failing(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own programs
        command, env=environment(), cwd=folder, capture_output=True, text=True, timeout=180, check=False
    )


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_of_without_the_secret(
    closed_server: NatsServer, tmp_path: Path, mistake: Mistake
) -> None:
    (tmp_path / "creds").write_text(f"-----BEGIN USER NKEY SEED-----\n{HIDDEN}\n")
    host = urlsplit(closed_server.url).netloc
    written = mistake.transport.replace("FOLDER", str(tmp_path)).replace(
        "@HOST:99999", f"@{host.split(':')[0]}:99999"
    )
    written = written.replace("HOST", host)
    url = "" if "url:" in written else f"url: '{closed_server.url}', "
    (tmp_path / "archiver.yaml").write_text(
        f"nats: {{{url}stream: S, consumer: c, filter: dev.kalshi.json.>, {written}}}\nstorage: {{path: data}}\n"
    )
    (tmp_path / "env.yaml").write_text(
        f"name: e\nfeed: kalshi\nkeys: {{kalshi: {{fields: [api_key, private_key], source: 'file:id,pem'}}}}\n"
        f"transport: {{type: nats, {url}{written}}}\n"
    )
    own_key(tmp_path / "keys")
    shutil.copy(tmp_path / "keys" / KEY_ID_FILE, tmp_path / "id")
    shutil.copy(tmp_path / "keys" / PRIVATE_KEY_FILE, tmp_path / "pem")
    run = [sys.executable, "-c"]
    archiver = [*run, "from ssmd_archiver.cli import main; main()", "--config", "archiver.yaml"]
    connector = [*run, "from ssmd_connector.cli import main; main()", "--feed", str(FEED), "--env", "env.yaml"]
    with ThreadPoolExecutor() as both:
        ended = list(both.map(lambda command: _failing(command, tmp_path), (archiver, connector)))
    for done in ended:
        said = done.stdout + done.stderr
        assert (done.returncode, "Traceback" in said) == (2, False), said
        assert mistake.words in said
        assert traces(said, [HIDDEN, OTHER_SEED]) == []


@pytest.mark.parametrize("wrong", ["a key that is none", "a key in place of where it lies", "a refused handshake"])
async def test_a_wrong_key_of_the_exchange_is_told_of_without_it(
    closed_server: NatsServer, tmp_path: Path, wrong: str
) -> None:
    own_key(tmp_path / "keys")
    key_id, pem = tmp_path / "keys" / KEY_ID_FILE, tmp_path / "keys" / PRIVATE_KEY_FILE
    source = f"file:{key_id},{pem}"
    hidden = [HIDDEN, key_id.read_text(), *lines_of(pem.read_text())]
    if wrong == "a key that is none":
        pem.write_text(f"-----BEGIN PRIVATE KEY-----\n{HIDDEN}\n-----END PRIVATE KEY-----\n")
    elif wrong == "a key in place of where it lies":
        source = HIDDEN
    with ExitStack() as stack:
        server = closed_server
        if wrong == "a refused handshake":
            server = stack.enter_context(running_nats(tmp_path / "nats"))
        async with parrot() as endpoint:
            (tmp_path / "env.yaml").write_text(
                f"name: e\nfeed: kalshi\nendpoint: '{endpoint}'\ncapture: {{symbols: [A]}}\n"
                f"keys: {{kalshi: {{fields: [api_key, private_key], source: '{source}'}}}}\n"
                f"transport: {{type: nats, url: '{server.url}', stream: S}}\n"
            )
            command = [sys.executable, "-c", "from ssmd_connector.cli import main; main()"]
            done = await asyncio.to_thread(
                _failing, [*command, "--feed", str(FEED), "--env", str(tmp_path / "env.yaml")], tmp_path
            )
    said = done.stdout + done.stderr
    assert (done.returncode, traces(said, hidden)) == (2, []), said
    assert ("refused the handshake with 401" in said) == (wrong == "a refused handshake")


@asynccontextmanager
async def parrot() -> AsyncIterator[str]:
    """An exchange that refuses everybody and repeats what it was shown."""

    async def nothing(_connection: ServerConnection) -> None:
        """Never reached."""

    def refuse(connection: ServerConnection, request: Request) -> Response:
        shown = "; ".join(
            f"{name}={value}" for name, value in request.headers.raw_items() if name.startswith("KALSHI")
        )
        return connection.respond(HTTPStatus.UNAUTHORIZED, f"unknown: {shown}")

    async with serve(nothing, "127.0.0.1", 0, process_request=refuse) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/trade-api/ws/v2"


def test_no_model_shows_a_secret_when_it_is_printed() -> None:
    url = f"nats://u:{HIDDEN}@host:4222"
    nats = {"url": url, "user": "u", "password": HIDDEN}
    models = [
        NatsSettings.model_validate(nats),
        NatsSettings.model_validate({"url": url, "token": HIDDEN}),
        NatsSettings.model_validate({"nkey_seed": OTHER_SEED}),
        Environment.model_validate(
            {
                "name": "e",
                "feed": "kalshi",
                "endpoint": f"wss://u:{HIDDEN}@host/ws?access_token={HIDDEN}",
                "transport": {"type": "nats", **nats},
            }
        ),
        ArchiverConfig.model_validate(
            {
                "nats": {"stream": "S", "consumer": "c", "filter": "dev.kalshi.json.>", **nats},
                "storage": {"path": "data"},
            }
        ),
    ]
    assert [traces(f"{model!r} {model}", [HIDDEN, OTHER_SEED]) for model in models] == [[]] * len(models)


async def test_a_key_replaced_in_its_files_signs_the_next_connection(
    nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedloop, "Backoff", lambda: Backoff(base_s=0.05, cap_s=0.1))
    road = GeneratedRoad(seed=1, markets=8, rate=500.0)
    old, new = (dict([own_key(tmp_path / name)]) for name in ("old", "new"))
    bench = Bench(nats_server, tmp_path, keys=tmp_path / "old")
    port = free_port()
    async with Simulator(road, keys=old, port=port) as simulator:
        capturing = bench.capturing(simulator.url)
        stop: Stop = await capturing.__aenter__()
        await until(lambda: simulator.frames >= 100)
        shutil.copy(tmp_path / "new" / KEY_ID_FILE, tmp_path / "key-id")
        shutil.copy(tmp_path / "new" / PRIVATE_KEY_FILE, tmp_path / "key.pem")
    async with Simulator(road, keys=new, port=port) as simulator:
        await until(lambda: simulator.frames >= 100)
        assert not stop.is_set()
        await capturing.__aexit__(None, None, None)
    assert len((await bench.recorded()).connections()) == 2
