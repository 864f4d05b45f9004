"""The images, as ``deploy/compose`` puts them together: nothing of this checkout is in them or mounted into them.

Containers are made from the compose file itself, with folders in place of its volumes. They need the images of
``./pants package deploy/images::``; ``SSMD_TEST_IMAGES=1`` says that they are there.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, cast

import docker
import pytest
import yaml
from docker.client import DockerClient
from docker.models.containers import Container
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

from integration.connector_bench import sent_frames
from ssmd_common import load
from ssmd_common.archive.manifest import parse_manifest
from ssmd_common.nats.testing import free_port

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "deploy/compose/compose.yaml"
SERVICES = ("connector", "archiver", "manifest-api", "simulator")
USER = 10001

pytestmark = pytest.mark.skipif(
    os.environ.get("SSMD_TEST_IMAGES") != "1",
    reason="needs the images: ./pants package deploy/images:: and SSMD_TEST_IMAGES=1",
)


@cache
def docker_client() -> DockerClient:
    return docker.from_env()


def until(condition: Callable[[], bool], *, within_s: float = 180.0, what: str) -> None:
    """Wait until something is so.

    Raises:
        AssertionError: It never was.
    """
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


@dataclass
class Stack:
    """The containers of the compose file, by its names for them."""

    folder: Path
    told: dict[str, Any] = field(default_factory=lambda: yaml.safe_load(COMPOSE.read_text("utf-8")))
    networks: dict[str, Network] = field(default_factory=dict)
    containers: dict[str, Container] = field(default_factory=dict)
    api_port: int = field(default_factory=free_port)

    @property
    def archive(self) -> Path:
        return self.folder / "archive"

    @property
    def sent_log(self) -> Path:
        return self.folder / "sent/sent.jsonl"

    def start(self, stack: contextlib.ExitStack) -> None:
        for name in self.told["networks"]:
            self.networks[name] = stack.enter_context(Network())
        for name in ("nats", *SERVICES):
            self._create(stack, name)

    def _create(self, stack: contextlib.ExitStack, name: str) -> None:
        told = self.told["services"][name]
        container = DockerContainer(told["image"])
        command = list(told.get("command", ()))
        if name == "simulator":
            # What it sent is compared with what was archived.
            command += ["--sent-log", "/sent/sent.jsonl"]
            container.with_volume_mapping(self._folder("sent"), "/sent", "rw")
        if command:
            container.with_command(command)
        options = {key: told[key] for key in ("read_only", "cap_drop", "security_opt")}
        for entry in told["tmpfs"]:
            container.with_tmpfs_mount(*entry.split(":", 1))
        if name == "nats":
            options["user"] = told["user"]
        container.with_kwargs(**options)
        for volume in told.get("volumes", ()):
            source, target, mode = (*volume.split(":"), "rw")[:3]
            path = (COMPOSE.parent / source).resolve() if source.startswith(".") else self._folder(source)
            container.with_volume_mapping(path, target, mode)
        if name == "manifest-api":
            # A port at the loopback alone; the types know no address.
            container.ports = {"8080/tcp": cast("int", ("127.0.0.1", self.api_port))}
        first, *others = told["networks"]
        container.with_network(self.networks[first]).with_network_aliases(name)
        stack.callback(container.stop)
        container.start()
        wrapped = container.get_wrapped_container()
        self.containers[name] = wrapped
        for network in others:
            self.connect(name, network)

    def _folder(self, name: str) -> Path:
        path = self.folder / name
        path.mkdir(exist_ok=True)
        os.chown(path, USER, USER)
        return path

    def connect(self, name: str, network: str) -> None:
        self._network(network).connect(self.containers[name], aliases=[name])

    def disconnect(self, name: str, network: str) -> None:
        self._network(network).disconnect(self.containers[name])

    def _network(self, name: str) -> Any:
        return docker_client().networks.get(self.networks[name].id)

    def get(self, path: str) -> tuple[int, bytes]:
        """Ask the API."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.api_port}{path}", timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError:
            return 0, b""

    def archived(self) -> int:
        """Count the durable records, by the API."""
        status, body = self.get("/manifests/kalshi")
        if status != 200:
            return 0
        dates = [day["date"] for day in json.loads(body)["days"]]
        total = 0
        for date in dates:
            status, body = self.get(f"/files/kalshi/{date}")
            if status != 200:
                return 0
            listed = json.loads(body)
            total += sum(file["records"] for file in [*listed["files"], *listed["open"]])
        return total

    def logs(self, name: str) -> str:
        return str(self.containers[name].logs().decode("utf-8", "replace"))

    def ended(self, name: str) -> int:
        """End a container as an orchestrator does; return its exit code, which is 137 past its grace."""
        grace_s = int(self.told["services"][name]["stop_grace_period"].removesuffix("s"))
        self.containers[name].stop(timeout=grace_s)
        self.containers[name].reload()
        return int(self.containers[name].attrs["State"]["ExitCode"])

    def archiver(self, command: str, *, mode: str) -> tuple[int, str]:
        """Run a command of the archiver's image over the archive, without a network."""
        running = docker_client().containers.run(
            "ssmd-archiver:latest",
            [command, "--data", "/data"],
            volumes={str(self.archive): {"bind": "/data", "mode": mode}},
            read_only=True,
            network_mode="none",
            detach=True,
        )
        try:
            code = int(running.wait(timeout=120)["StatusCode"])
            return code, running.logs().decode("utf-8", "replace")
        finally:
            running.remove(force=True)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    made = Stack(tmp_path)
    with contextlib.ExitStack() as containers:
        made.start(containers)
        yield made


def test_the_images_capture_through_kills_and_cuts_and_the_archive_verifies(stack: Stack) -> None:
    until(lambda: stack.archived() > 500, what="nothing was archived")

    stack.containers["connector"].kill()
    stack.containers["connector"].start()
    before = stack.archived()
    until(lambda: stack.archived() > before + 500, what="nothing was archived after the connector's death")

    stack.containers["archiver"].kill()
    stack.containers["archiver"].start()
    before = stack.archived()
    until(lambda: stack.archived() > before + 500, what="nothing was archived after the archiver's death")

    # The connector is cut off from NATS: what comes meanwhile is held and published afterwards.
    stack.disconnect("connector", "stream")
    time.sleep(8)
    stack.connect("connector", "stream")
    stack.disconnect("archiver", "stream")
    time.sleep(4)
    stack.connect("archiver", "stream")
    before = stack.archived()
    until(lambda: stack.archived() > before + 1500, what="nothing was archived after the cuts")

    codes = {name: stack.ended(name) for name in ("connector", "archiver", "manifest-api", "simulator", "nats")}
    assert codes == dict.fromkeys(codes, 0) | {"nats": codes["nats"]}, stack.logs("connector")[-2000:]
    # The stack's archiver leaves its segment open, to be resumed.
    for command, mode in (("seal", "rw"), ("verify", "ro")):
        code, said = stack.archiver(command, mode=mode)
        assert code == 0, said

    # Every frame the simulator sent is archived once, or was on its way into the connector that was killed.
    sent = sent_frames(stack.sent_log)
    kept: dict[str, dict[int, bytes]] = {}
    for day in sorted((stack.archive / "kalshi").glob("20*")):
        for record in load("kalshi", dt.date.fromisoformat(day.name), data=stack.archive):
            assert record.connection is not None
            assert record.frame_no is not None
            frames = kept.setdefault(record.connection, {})
            assert record.frame_no not in frames
            frames[record.frame_no] = record.data
    assert len(kept) == len(sent) == 2
    days = [parse_manifest(path.read_bytes(), where=str(path)) for path in stack.archive.rglob("manifest.json")]
    gaps = {gap.gap_id: gap for day in days for gap in day.gaps}
    for connection, frames in zip(sent.values(), kept.values(), strict=True):
        for number, data in frames.items():
            assert data == connection[number - 1]
    [killed, ended] = [
        [number for number, frame in enumerate(connection, 1) if is_data(frame) and number not in frames]
        for connection, frames in zip(sent.values(), kept.values(), strict=True)
    ]
    assert ended == []
    assert all(number > max(next(iter(kept.values()))) for number in killed)
    assert [gap.layer for gap in gaps.values()] == ["connection"]


def is_data(frame: bytes) -> bool:
    return json.loads(frame)["type"] not in {"subscribed", "unsubscribed", "ok", "error"}


def test_the_api_serves_a_read_only_archive_and_no_container_is_root_or_writes_its_root(stack: Stack) -> None:
    until(lambda: stack.archived() > 0, what="nothing was archived")
    assert stack.get("/ready")[0] == 200
    for name in SERVICES:
        container = stack.containers[name]
        code, who = container.exec_run(["python", "-c", "import os; print(os.getuid())"])
        assert (code, who.strip()) == (0, b"10001"), name
        code, said = container.exec_run(["python", "-c", "open('/app/x', 'w')"])
        assert code == 1, name
        assert b"Read-only file system" in said, name
    code, said = stack.containers["manifest-api"].exec_run(["python", "-c", "open('/data/x', 'w')"])
    assert code == 1
    assert b"Read-only file system" in said


def test_every_image_says_what_it_is_and_how_it_is(stack: Stack) -> None:
    for name in SERVICES:
        image = docker_client().images.get(f"ssmd-{name}:latest").attrs
        labels = image["Config"]["Labels"]
        assert labels["org.opencontainers.image.title"] == f"ssmd-{name}"
        assert labels["org.opencontainers.image.licenses"] == "MIT"
        for label in ("version", "revision", "created"):
            assert labels[f"org.opencontainers.image.{label}"] not in ("", "unknown"), (name, label)
        assert image["Config"]["User"] == "10001:10001"
        assert image["Config"]["Healthcheck"]["Test"][0] == "CMD"

    def healthy() -> bool:
        for name in SERVICES:
            stack.containers[name].reload()
        return all(stack.containers[name].attrs["State"]["Health"]["Status"] == "healthy" for name in SERVICES)

    until(healthy, what="a container is not healthy")


def test_compose_names_every_image_locked_down() -> None:
    told = yaml.safe_load(COMPOSE.read_text("utf-8"))
    for name, service in told["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), name
